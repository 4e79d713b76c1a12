from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0010_entry_version"),
    ]
    operations = [
        migrations.AddField("entry", "checked", models.BooleanField(default=False)),
    ]
