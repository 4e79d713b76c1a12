from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0014_line_returned"),
    ]
    operations = [
        migrations.AddField("line", "position", models.PositiveSmallIntegerField(default=0)),
    ]
