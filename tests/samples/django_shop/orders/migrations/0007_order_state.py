from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0006_customer_country"),
    ]
    operations = [
        migrations.AddField("order", "state", models.CharField(max_length=10, default="new")),
    ]
