from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0022_category_order"),
    ]
    operations = [
        migrations.AddField("category", "active", models.BooleanField(default=True)),
    ]
