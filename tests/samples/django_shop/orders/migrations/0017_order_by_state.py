from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0016_customer_name_is_longer"),
    ]
    operations = [
        migrations.AddIndex("order", models.Index(fields=["state"], name="order_by_state")),
    ]
