from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0005_product_stock"),
    ]
    operations = [
        migrations.AddField("product", "color", models.CharField(max_length=20, blank=True)),
    ]
