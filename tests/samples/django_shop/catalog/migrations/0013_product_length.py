from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0012_product_tax"),
    ]
    operations = [
        migrations.AddField("product", "length", models.PositiveIntegerField(default=0)),
    ]
