from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0013_customer_phone"),
    ]
    operations = [
        migrations.AddField("customer", "vat", models.CharField(max_length=20, blank=True)),
    ]
