from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0001_customers"),
    ]
    operations = [
        migrations.CreateModel(
            "Order",
            [
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("customer", models.ForeignKey("orders.customer", models.CASCADE)),
                ("placed", models.DateTimeField(auto_now_add=True)),
            ],
        ),
    ]
