from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0006_product_color"),
    ]
    operations = [
        migrations.AddField("product", "maker", models.CharField(max_length=60, blank=True)),
    ]
