from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0015_product_height"),
    ]
    operations = [
        migrations.AddField("product", "note", models.TextField(blank=True)),
    ]
