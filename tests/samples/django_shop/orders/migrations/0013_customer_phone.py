from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0012_seed_customers"),
    ]
    operations = [
        migrations.AddField("customer", "phone", models.CharField(max_length=30, blank=True)),
    ]
