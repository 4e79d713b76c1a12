"""Django's ORM on the ring of a stage.

There is no project: importing this module configures Django in the process, and nothing undoes
that. So whoever needs it imports it late.
"""

from __future__ import annotations

import django
from django.conf import settings
from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from support.corpus.stage import Stage

#: Two connections of each thread to the same database.
ALIASES = ("default", "other")

settings.configure(
    DATABASES={each: {"ENGINE": "django.db.backends.sqlite3", "NAME": ""} for each in ALIASES},
    INSTALLED_APPS=["support.corpus"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()


class Customer(models.Model):  # type: ignore[misc]  # Django has no types
    """A customer of the golden database."""

    name = models.TextField()

    class Meta:
        """Where it is."""

        app_label, db_table, managed = "corpus", "customers", False


class Order(models.Model):  # type: ignore[misc]  # as above
    """An order of the golden database."""

    customer = models.ForeignKey(
        Customer, models.CASCADE, db_column="customer", related_name="orders"
    )
    total = models.FloatField()

    class Meta:
        """Where it is."""

        app_label, db_table, managed = "corpus", "orders", False


class Note(models.Model):  # type: ignore[misc]  # as above
    """A table that only a test makes."""

    text = models.TextField()

    class Meta:
        """Where it would be."""

        app_label, db_table = "corpus", "notes"


class Shop:
    """What a program needs of Django. Its connections stay open as long as the stage."""

    orders = Order.objects
    customers = Customer.objects
    order = Order
    note = Note

    def __init__(self, stage: Stage, name: str, options: dict[str, object]) -> None:
        self.stage = stage
        for alias in ALIASES:
            connections.settings[alias] |= {"NAME": name, "OPTIONS": options}
            connections[alias] = connections.create_connection(alias)
            # As Django never does with a database in memory.
            stage.cleanups.callback(BaseDatabaseWrapper.close, connections[alias])
        self.default, self.other = (connections[alias] for alias in ALIASES)
