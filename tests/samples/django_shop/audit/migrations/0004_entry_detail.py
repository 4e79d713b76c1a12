from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0003_entry_subject"),
    ]
    operations = [
        migrations.AddField("entry", "detail", models.TextField(blank=True)),
    ]
