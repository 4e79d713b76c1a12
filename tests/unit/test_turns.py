"""When a test of a Django project may run."""

from __future__ import annotations

import sys

import django.test
import pytest

from snapfarm_worker.turns import Turn, turn_of


class Made(pytest.Item):
    """An item that has what a test says of itself, and runs nothing."""

    def runtest(self) -> None:
        """Do nothing."""


def item(
    request: pytest.FixtureRequest, *marks: pytest.MarkDecorator, **has: object
) -> pytest.Item:
    """Return an item with marks and attributes."""
    made = Made.from_parent(request.node.parent, name="made")
    for mark in marks:
        made.add_marker(mark)
    for name, value in has.items():
        setattr(made, name, value)
    return made


class Early(django.test.TestCase):  # type: ignore[misc]  # Django has no types
    """A test in a transaction."""


class Late(django.test.TransactionTestCase):  # type: ignore[misc]  # as above
    """A test that commits."""


DB = pytest.mark.django_db


@pytest.mark.parametrize(
    ("marks", "has", "turn"),
    [
        ((), {}, Turn.ANY),
        ((), {"cls": object}, Turn.ANY),
        ((), {"cls": Early}, Turn.EARLY),
        ((), {"cls": Late}, Turn.LATE),
        ((), {"cls": django.test.SimpleTestCase}, Turn.ANY),
        ((), {"cls": django.test.LiveServerTestCase}, Turn.LATE),
        ((DB,), {}, Turn.EARLY),
        ((DB(transaction=True),), {}, Turn.LATE),
        ((DB(True),), {}, Turn.LATE),
        ((DB(False, True),), {}, Turn.LATE),
        ((DB(reset_sequences=True),), {}, Turn.LATE),
        ((DB(databases=["default"]),), {}, Turn.EARLY),
        ((DB,), {"fixturenames": ["live_server"]}, Turn.LATE),
        ((), {"fixturenames": ["db", "admin_client"]}, Turn.EARLY),
        ((), {"fixturenames": ["db", "transactional_db"]}, Turn.LATE),
        ((), {"fixturenames": ["tmp_path"]}, Turn.ANY),
    ],
)
def test_it_is_what_pytest_django_sorts_by(
    request: pytest.FixtureRequest,
    marks: tuple[pytest.MarkDecorator, ...],
    has: dict[str, object],
    turn: Turn,
) -> None:
    assert turn_of(item(request, *marks, **has)) is turn


def test_without_django_there_is_no_order(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = item(request, DB(transaction=True))
    monkeypatch.delitem(sys.modules, "django.test")
    assert turn_of(made) is Turn.ANY
