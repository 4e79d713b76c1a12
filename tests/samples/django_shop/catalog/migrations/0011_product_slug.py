from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0010_seed_products"),
    ]
    operations = [
        migrations.AddField("product", "slug", models.SlugField(default="")),
    ]
