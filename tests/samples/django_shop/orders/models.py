from catalog.models import Product
from django.db import models


class Customer(models.Model):
    name = models.CharField(max_length=100)
    email = models.EmailField(blank=True)
    city = models.CharField(max_length=60, blank=True)
    country = models.CharField(max_length=2, default="DE")


class Order(models.Model):
    customer = models.ForeignKey(Customer, models.CASCADE)
    placed = models.DateTimeField(auto_now_add=True)
    state = models.CharField(max_length=10, default="new")
    paid = models.BooleanField(default=False)
    discount = models.PositiveSmallIntegerField(default=0)
    shipped = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["state"], name="order_by_state")]

    def total(self):
        return sum(line.cents * line.pieces for line in self.lines.all())


class Line(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, models.PROTECT)
    pieces = models.PositiveIntegerField(default=1)
    cents = models.PositiveIntegerField(default=0)
    note = models.TextField(blank=True)
    returned = models.BooleanField(default=False)
    position = models.PositiveSmallIntegerField(default=0)
