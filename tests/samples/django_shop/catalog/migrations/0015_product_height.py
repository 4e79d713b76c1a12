from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0014_product_width"),
    ]
    operations = [
        migrations.AddField("product", "height", models.PositiveIntegerField(default=0)),
    ]
