import os
import threading

import pytest
import sqlalchemy as sa
from shop.models import Customer, db


@pytest.mark.parametrize(("customer", "left"), [(1, 2400), (2, 1999), (3, 4399)])
def test_a_customer_who_leaves_takes_the_orders_along(client, customer, left):
    assert client.delete(f"/customers/{customer}").status_code == 204
    assert client.get("/turnover").json == {"cents": left}


@pytest.mark.parametrize("turn", range(4))
def test_ids_begin_again(app, turn):
    with app.app_context():
        made = Customer(name=f"turn {turn}")
        db.session.add(made)
        db.session.commit()
        assert made.id == 4
        assert db.session.query(Customer).count() == 4


def test_orders_from_threads(app):
    codes = []

    def buy():
        answer = app.test_client().post("/orders", json={"customer": 2, "product": 4, "amount": 5})
        codes.append(answer.status_code)

    threads = [threading.Thread(target=buy) for _ in range(3)]
    for thread in threads:
        thread.start()
        thread.join()
    assert codes == [201] * 3
    assert app.test_client().get("/products/4").json["stock"] == 485


def test_an_engine_beside_the_application(app, client):
    engine = sa.create_engine(os.environ["FARM_SQLALCHEMY_URL"])
    with engine.begin() as conn:
        conn.execute(sa.text("DELETE FROM orders"))
    assert client.get("/turnover").json == {"cents": 0}


class TestInTransactions:
    def test_rollback(self, farm_session):
        farm_session.execute(sa.text("DELETE FROM product"))
        farm_session.rollback()
        assert farm_session.scalar(sa.text("SELECT count(*) FROM product")) == 4

    def test_no_commit(self, farm_session):
        farm_session.execute(sa.text("UPDATE product SET stock = 0"))

    @pytest.mark.xfail(raises=sa.exc.IntegrityError, strict=True)
    def test_constraint(self, farm_session):
        farm_session.execute(sa.text("UPDATE product SET stock = -1"))


def test_needs_a_printer():
    pytest.skip("no printer")
