from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0012_entry_checker"),
    ]
    operations = [
        migrations.AddField("entry", "exported", models.BooleanField(default=False)),
    ]
