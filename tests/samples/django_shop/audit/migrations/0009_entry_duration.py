from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0008_seed_entries"),
    ]
    operations = [
        migrations.AddField("entry", "duration", models.PositiveIntegerField(default=0)),
    ]
