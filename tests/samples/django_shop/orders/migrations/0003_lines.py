from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0002_orders"),
        ("catalog", "0025_product_by_price"),
    ]
    operations = [
        migrations.CreateModel(
            "Line",
            [
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("order", models.ForeignKey("orders.order", models.CASCADE, related_name="lines")),
                ("product", models.ForeignKey("catalog.product", models.PROTECT)),
                ("pieces", models.PositiveIntegerField(default=1)),
            ],
        ),
    ]
