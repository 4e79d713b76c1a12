from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0003_lines"),
    ]
    operations = [
        migrations.AddField("customer", "email", models.EmailField(blank=True)),
    ]
