from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0011_entry_checked"),
    ]
    operations = [
        migrations.AddField("entry", "checker", models.CharField(max_length=60, blank=True)),
    ]
