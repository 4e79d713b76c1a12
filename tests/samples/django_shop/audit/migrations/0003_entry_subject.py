from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0002_entry_actor"),
    ]
    operations = [
        migrations.AddField("entry", "subject", models.CharField(max_length=60, blank=True)),
    ]
