from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0008_order_paid"),
    ]
    operations = [
        migrations.AddField("order", "discount", models.PositiveSmallIntegerField(default=0)),
    ]
