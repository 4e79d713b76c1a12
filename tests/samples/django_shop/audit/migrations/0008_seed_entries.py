from django.db import migrations


def seed(apps, schema_editor):
    if schema_editor.connection.alias != "archive":
        return
    Entry = apps.get_model("audit", "Entry")
    for number in range(40):
        Entry.objects.using("archive").create(action=f"imported {number}", severity=number % 4)


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0007_entry_request"),
    ]
    operations = [
        migrations.RunPython(seed, migrations.RunPython.noop),
    ]
