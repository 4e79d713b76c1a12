from django.db import migrations


def seed(apps, schema_editor):
    if schema_editor.connection.alias != "default":
        return
    Customer = apps.get_model("orders", "Customer")
    Order = apps.get_model("orders", "Order")
    Product = apps.get_model("catalog", "Product")
    for name in ("Ada", "Grace", "Barbara"):
        order = Order.objects.create(customer=Customer.objects.create(name=name))
        for product in Product.objects.filter(cents__lte=200):
            order.lines.create(product=product, cents=product.cents)


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0011_line_note"),
    ]
    operations = [
        migrations.RunPython(seed, migrations.RunPython.noop),
    ]
