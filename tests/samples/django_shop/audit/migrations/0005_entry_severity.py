from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0004_entry_detail"),
    ]
    operations = [
        migrations.AddField("entry", "severity", models.PositiveSmallIntegerField(default=0)),
    ]
