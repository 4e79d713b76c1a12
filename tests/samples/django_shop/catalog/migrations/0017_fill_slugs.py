from django.db import migrations


def fill(apps, schema_editor):
    if schema_editor.connection.alias != "default":
        return
    for product in apps.get_model("catalog", "Product").objects.all():
        product.slug = product.name.replace(" ", "-")
        product.save(update_fields=["slug"])


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0016_product_note"),
    ]
    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
