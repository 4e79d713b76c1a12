from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0013_entry_exported"),
    ]
    operations = [
        migrations.AlterField("entry", "action", models.CharField(max_length=60)),
    ]
