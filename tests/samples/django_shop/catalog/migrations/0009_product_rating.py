from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0008_product_active"),
    ]
    operations = [
        migrations.AddField("product", "rating", models.FloatField(null=True)),
    ]
