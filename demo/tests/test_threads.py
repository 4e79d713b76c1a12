"""Tests of code that several threads run at once, each with a connection of its own."""

from __future__ import annotations

import collections
import queue
import sqlite3
import threading

import pytest
from depot import shop as depot
from depot.connecting import connect

from snapfarm_worker.fixtures import FarmRing, ThreadRunner


def test_the_last_coupon_is_used_once(farm_threads: ThreadRunner) -> None:
    won = farm_threads(lambda conn: depot.redeem(conn, "LAST-ONE"))
    assert collections.Counter(won) == {True: 1, False: 3}


@pytest.mark.farm(threads=8)
def test_no_order_is_lost(farm_threads: ThreadRunner, farm_db: sqlite3.Connection) -> None:
    orders = farm_threads(lambda conn, index: depot.place_order(conn, index + 1, {30: 1}))
    assert sorted(orders) == list(range(601, 609))
    assert farm_db.execute("SELECT sum(change) FROM stock_move").fetchone() == (-8,)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_stock_is_never_sold_twice(farm_threads: ThreadRunner, threads: int) -> None:
    def buy(conn: sqlite3.Connection) -> int:
        """Buy until there is nothing left; return how much it was."""
        bought = 0
        try:
            while True:
                depot.place_order(conn, 1, {40: 10})
                bought += 10
        except depot.OutOfStock:
            return bought

    def there(conn: sqlite3.Connection) -> int:
        return depot.available(conn, 40)

    (before,) = farm_threads(there, threads=1)
    assert sum(farm_threads(buy, threads=threads)) == before - before % 10


def test_readers_beside_a_writer(farm_ring: FarmRing, farm_threads: ThreadRunner) -> None:
    def work(conn: sqlite3.Connection, index: int) -> int:
        if index == 0:
            for product in range(1, 11):
                depot.place_order(conn, 1, {product: 1})
            return 0
        return sum(depot.available(conn, product) > 0 for product in range(1, 11))

    assert farm_threads(work) == [0, 10, 10, 10]


def test_a_thread_of_the_application(shop: sqlite3.Connection) -> None:
    answers: queue.Queue[int] = queue.Queue()

    def work() -> None:
        own = connect()
        answers.put(depot.place_order(own, 7, {1: 1}))
        own.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert depot.status(shop, answers.get_nowait()) == "open"


def test_all_exceptions_come_together(farm_threads: ThreadRunner) -> None:
    with pytest.raises(ExceptionGroup, match="2 of 2 threads failed") as caught:
        farm_threads(lambda conn: depot.place_order(conn, 50, {1: 1}), threads=2)
    assert all(isinstance(error, depot.Blocked) for error in caught.value.exceptions)
