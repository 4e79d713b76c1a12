from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0013_product_length"),
    ]
    operations = [
        migrations.AddField("product", "width", models.PositiveIntegerField(default=0)),
    ]
