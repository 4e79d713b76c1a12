from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0012_seed_customers"),
    ]
    operations = [
        migrations.AddField("order", "shipped", models.DateTimeField(null=True)),
    ]
