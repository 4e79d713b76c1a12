from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0018_slug_is_unique"),
    ]
    operations = [
        migrations.AlterField("product", "name", models.CharField(max_length=120)),
    ]
