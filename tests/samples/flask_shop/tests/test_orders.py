import pytest

BEFORE = 1999 + 20 * 120


def order(client, customer=1, product=2, amount=1):
    return client.post("/orders", json={"customer": customer, "product": product, "amount": amount})


@pytest.mark.parametrize("amount", range(1, 11))
def test_an_order_takes_from_the_stock(client, amount):
    assert order(client, amount=amount).json == {"id": 3, "cents": 4950 * amount}
    assert client.get("/products/2").json["stock"] == 10 - amount
    assert client.get("/turnover").json == {"cents": BEFORE + 4950 * amount}


@pytest.mark.parametrize(("product", "amount"), [(1, 4), (2, 11), (3, 2), (4, 501)])
def test_no_more_than_there_is(client, product, amount):
    assert order(client, product=product, amount=amount).status_code == 409
    assert client.get("/turnover").json == {"cents": BEFORE}


def test_the_last_one_is_sold_once(client):
    assert [order(client, product=3).status_code for _ in range(3)] == [201, 409, 409]


@pytest.mark.parametrize("who", [{"customer": 9}, {"product": 9}])
def test_unknown(client, who):
    assert order(client, **who).status_code == 404
