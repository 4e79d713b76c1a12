"""The fixtures and marks of pytest-django."""

import pytest
from audit.models import Entry
from catalog.models import Label, Product
from django.db import connection, transaction
from orders.models import Customer, Order


@pytest.mark.django_db
def test_rows_of_migrations():
    assert Product.objects.count() == 25


@pytest.mark.django_db
@pytest.mark.parametrize("turn", range(3))
def test_each_is_rolled_back(turn):
    assert not Label.objects.exists()
    Label.objects.create(text=f"turn {turn}")


@pytest.mark.django_db(databases=["default", "archive"])
def test_two_databases(client):
    assert client.post("/orders/2/pay/").json()["customer"] == "Grace"
    assert Entry.objects.count() == 41


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(3))
def test_transactions(turn):
    Customer.objects.create(name=f"turn {turn}")
    assert Customer.objects.filter(name__startswith="turn").count() == 1
    with pytest.raises(RuntimeError), transaction.atomic():
        Customer.objects.create(name="never")
        raise RuntimeError
    assert not Customer.objects.filter(name="never").exists()


@pytest.mark.parametrize("turn", range(2))
def test_rows_come_back_with_serialized_rollback(
    transactional_db, django_db_serialized_rollback, turn
):
    assert Order.objects.count() == 3
    Order.objects.all().delete()


def test_no_database_without_the_mark():
    with pytest.raises(RuntimeError, match="Database access not allowed"):
        connection.ensure_connection()


def test_an_admin(admin_client, admin_user):
    assert admin_user.is_superuser
    assert admin_client.get("/products/").status_code == 200
