from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0010_line_cents"),
    ]
    operations = [
        migrations.AddField("line", "note", models.TextField(blank=True)),
    ]
