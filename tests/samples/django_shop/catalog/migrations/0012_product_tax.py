from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0011_product_slug"),
    ]
    operations = [
        migrations.AddField("product", "tax", models.PositiveSmallIntegerField(default=19)),
    ]
