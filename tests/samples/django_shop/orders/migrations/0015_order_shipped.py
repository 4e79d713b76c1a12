from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0014_customer_vat"),
    ]
    operations = [
        migrations.AddField("order", "shipped", models.DateTimeField(null=True)),
    ]
