from django.db import models


class Place(models.Model):
    code = models.CharField(max_length=5, unique=True)
    name = models.CharField(max_length=60)
    region = models.CharField(max_length=2, blank=True)
