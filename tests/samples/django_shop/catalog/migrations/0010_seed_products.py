from django.db import migrations


def seed(apps, schema_editor):
    if schema_editor.connection.alias != "default":
        return
    Category = apps.get_model("catalog", "Category")
    Product = apps.get_model("catalog", "Product")
    for category in Category.objects.order_by("name"):
        for number in range(1, 6):
            Product.objects.create(
                name=f"{category.name} {number}",
                category=category,
                cents=100 * number,
                stock=number,
            )


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0009_product_rating"),
    ]
    operations = [
        migrations.RunPython(seed, migrations.RunPython.noop),
    ]
