from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0024_category_parent"),
    ]
    operations = [
        migrations.AddIndex("product", models.Index(fields=["cents"], name="product_by_price")),
    ]
