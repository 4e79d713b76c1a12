from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0023_category_active"),
    ]
    operations = [
        migrations.AddField(
            "category", "parent", models.ForeignKey("catalog.category", models.CASCADE, null=True)
        ),
    ]
