from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0005_entry_severity"),
    ]
    operations = [
        migrations.AddField("entry", "host", models.CharField(max_length=60, blank=True)),
    ]
