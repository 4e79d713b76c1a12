from django.db import migrations

NAMES = ["books", "tools", "toys", "garden", "kitchen"]


def seed(apps, schema_editor):
    if schema_editor.connection.alias != "default":
        return
    Category = apps.get_model("catalog", "Category")
    for name in NAMES:
        Category.objects.create(name=name)


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0002_products"),
    ]
    operations = [
        migrations.RunPython(seed, migrations.RunPython.noop),
    ]
