from django.db import models


class Entry(models.Model):
    action = models.CharField(max_length=60)
    at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=60, blank=True)
    subject = models.CharField(max_length=60, blank=True)
    detail = models.TextField(blank=True)
    severity = models.PositiveSmallIntegerField(default=0)
    host = models.CharField(max_length=60, blank=True)
    request = models.CharField(max_length=36, blank=True)
    duration = models.PositiveIntegerField(default=0)
    version = models.PositiveSmallIntegerField(default=1)
    checked = models.BooleanField(default=False)
    checker = models.CharField(max_length=60, blank=True)
    exported = models.BooleanField(default=False)

    class Meta:
        indexes = [models.Index(fields=["severity"], name="entry_by_severity")]
