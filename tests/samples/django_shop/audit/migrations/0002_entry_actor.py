from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0001_entries"),
    ]
    operations = [
        migrations.AddField("entry", "actor", models.CharField(max_length=60, blank=True)),
    ]
