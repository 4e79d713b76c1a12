from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0017_line_returned"),
    ]
    operations = [
        migrations.AddField("line", "position", models.PositiveSmallIntegerField(default=0)),
    ]
