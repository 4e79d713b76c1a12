from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0001_categories"),
    ]
    operations = [
        migrations.CreateModel(
            "Product",
            [
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=80)),
                ("category", models.ForeignKey("catalog.category", models.CASCADE)),
                ("cents", models.PositiveIntegerField()),
            ],
        ),
    ]
