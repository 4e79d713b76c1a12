from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0009_order_discount"),
    ]
    operations = [
        migrations.AddField("line", "cents", models.PositiveIntegerField(default=0)),
    ]
