from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0014_action_is_longer"),
    ]
    operations = [
        migrations.AddIndex("entry", models.Index(fields=["severity"], name="entry_by_severity")),
    ]
