from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0004_customer_email"),
    ]
    operations = [
        migrations.AddField("customer", "city", models.CharField(max_length=60, blank=True)),
    ]
