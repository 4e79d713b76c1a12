from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0009_entry_duration"),
    ]
    operations = [
        migrations.AddField("entry", "version", models.PositiveSmallIntegerField(default=1)),
    ]
