from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0017_fill_slugs"),
    ]
    operations = [
        migrations.AlterField("product", "slug", models.SlugField(unique=True)),
    ]
