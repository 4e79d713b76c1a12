from django.db import migrations

NUMBER = 4_000


def seed(apps, schema_editor):
    if schema_editor.connection.alias != "default":
        return
    Place = apps.get_model("places", "Place")
    for number in range(NUMBER):
        Place.objects.create(code=f"{number:05}", name=f"Place {number}")


class Migration(migrations.Migration):
    dependencies = [
        ("places", "0001_places"),
    ]
    operations = [
        migrations.RunPython(seed, migrations.RunPython.noop),
    ]
