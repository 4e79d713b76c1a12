from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0019_name_is_longer"),
    ]
    operations = [
        migrations.CreateModel(
            "Label",
            [
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("text", models.CharField(max_length=30, unique=True)),
            ],
        ),
    ]
