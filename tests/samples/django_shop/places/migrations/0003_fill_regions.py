from django.db import migrations


def fill(apps, schema_editor):
    if schema_editor.connection.alias != "default":
        return
    for place in apps.get_model("places", "Place").objects.all():
        place.region = place.code[:2]
        place.save(update_fields=["region"])


class Migration(migrations.Migration):
    dependencies = [
        ("places", "0002_seed_places"),
    ]
    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
