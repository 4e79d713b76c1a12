from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0020_labels"),
    ]
    operations = [
        migrations.AddField(
            "product", "labels", models.ManyToManyField("catalog.label", blank=True)
        ),
    ]
