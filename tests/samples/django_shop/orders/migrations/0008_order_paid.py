from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0007_order_state"),
    ]
    operations = [
        migrations.AddField("order", "paid", models.BooleanField(default=False)),
    ]
