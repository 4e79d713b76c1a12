from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0021_product_labels"),
    ]
    operations = [
        migrations.AddField("category", "position", models.PositiveSmallIntegerField(default=0)),
    ]
