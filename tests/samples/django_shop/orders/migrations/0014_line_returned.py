from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0013_order_shipped"),
    ]
    operations = [
        migrations.AddField("line", "returned", models.BooleanField(default=False)),
    ]
