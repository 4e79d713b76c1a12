from django.db import models


class Category(models.Model):
    name = models.CharField(max_length=60, unique=True)
    position = models.PositiveSmallIntegerField(default=0)
    active = models.BooleanField(default=True)
    parent = models.ForeignKey("self", models.CASCADE, null=True)


class Label(models.Model):
    text = models.CharField(max_length=30, unique=True)


class Product(models.Model):
    name = models.CharField(max_length=120)
    category = models.ForeignKey(Category, models.CASCADE)
    cents = models.PositiveIntegerField()
    weight = models.PositiveIntegerField(default=0)
    stock = models.PositiveIntegerField(default=0)
    color = models.CharField(max_length=20, blank=True)
    maker = models.CharField(max_length=60, blank=True)
    active = models.BooleanField(default=True)
    rating = models.FloatField(null=True)
    slug = models.SlugField(unique=True)
    tax = models.PositiveSmallIntegerField(default=19)
    length = models.PositiveIntegerField(default=0)
    width = models.PositiveIntegerField(default=0)
    height = models.PositiveIntegerField(default=0)
    note = models.TextField(blank=True)
    labels = models.ManyToManyField(Label, blank=True)

    class Meta:
        indexes = [models.Index(fields=["cents"], name="product_by_price")]
