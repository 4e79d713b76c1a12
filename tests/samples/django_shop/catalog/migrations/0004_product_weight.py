from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0003_seed_categories"),
    ]
    operations = [
        migrations.AddField("product", "weight", models.PositiveIntegerField(default=0)),
    ]
