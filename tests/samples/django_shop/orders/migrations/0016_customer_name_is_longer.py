from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0015_line_position"),
    ]
    operations = [
        migrations.AlterField("customer", "name", models.CharField(max_length=100)),
    ]
