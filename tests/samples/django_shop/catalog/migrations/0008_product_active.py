from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0007_product_maker"),
    ]
    operations = [
        migrations.AddField("product", "active", models.BooleanField(default=True)),
    ]
