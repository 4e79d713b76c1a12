from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0004_product_weight"),
    ]
    operations = [
        migrations.AddField("product", "stock", models.PositiveIntegerField(default=0)),
    ]
