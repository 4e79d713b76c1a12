from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0015_order_shipped"),
    ]
    operations = [
        migrations.AddField("order", "carrier", models.CharField(max_length=20, blank=True)),
    ]
