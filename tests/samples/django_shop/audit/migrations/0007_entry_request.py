from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0006_entry_host"),
    ]
    operations = [
        migrations.AddField("entry", "request", models.CharField(max_length=36, blank=True)),
    ]
