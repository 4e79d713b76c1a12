from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0016_order_carrier"),
    ]
    operations = [
        migrations.AddField("line", "returned", models.BooleanField(default=False)),
    ]
