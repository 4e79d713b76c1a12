from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0005_customer_city"),
    ]
    operations = [
        migrations.AddField("customer", "country", models.CharField(max_length=2, default="DE")),
    ]
