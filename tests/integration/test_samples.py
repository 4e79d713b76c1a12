"""The sample projects run on a farm, and `farm init` finds out what their databases are made of.

All combinations of runners, modes, orders and workers: `tests/samples/test_same_outcomes.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from snapfarm.init.choice import choose
from snapfarm.init.survey import survey
from support.samples import NAMES, SAMPLES, copied
from support.suite import Suite


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_runs_on_a_farm(name: str, tmp_path: Path) -> None:
    run = Suite(copied(name, tmp_path), settings={}).run("-q")
    assert run.exit_code == 0, run.output
    assert len(run.outcomes) >= 20
    assert run.counts.keys() <= {"passed", "skipped"}
    assert {item["worker"] for item in run.items} <= {"gw0", "gw1"}


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("fastapi_async", {"metadata": "booking.models:Base"}),
        ("flask_shop", {"metadata": "shop.models:db"}),
        (
            "alembic_library",
            {
                "alembic": {
                    "config": "alembic.ini",
                    "set_env": {"LIBRARY_DATABASE_URL": "{url}"},
                }
            },
        ),
    ],
)
def test_init_finds_what_a_sample_is_made_of(name: str, table: dict[str, object]) -> None:
    (first, *_) = choose(survey(SAMPLES / name), knows_django=False).candidates
    assert first.table == table
