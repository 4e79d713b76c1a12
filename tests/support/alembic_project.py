"""A project with migrations of Alembic: two version locations, each with a branch of its own."""

from __future__ import annotations

from pathlib import Path

from support.golden_project import write_files

INI = """
[alembic]
script_location = %(here)s/migrations
version_locations = %(here)s/migrations/catalog:%(here)s/migrations/sales
path_separator = os
prepend_sys_path = .
sqlalchemy.url = postgresql://nobody@localhost/shop
"""

ENV = """
from alembic import context
from sqlalchemy import engine_from_config, pool

from shop import metadata

config = context.config
engine = engine_from_config(
    config.get_section(config.config_ini_section), prefix="sqlalchemy.", poolclass=pool.NullPool
)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
"""

SHOP = """
import os

import sqlalchemy as sa

metadata = sa.MetaData()


def engine():
    return sa.create_engine(os.environ["FARM_SQLALCHEMY_URL"])
"""

#: The tables of a branch are changed in every other revision, so that batches copy them.
REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {before!r}
branch_labels = {labels!r}
depends_on = None


def upgrade():
    if {number} % 2:
        op.create_table(
            "{branch}_{number}",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", sa.String(40), nullable=False),
        )
        op.execute("INSERT INTO {branch}_{number} (name) VALUES ('from {revision}')")
    else:
        with op.batch_alter_table("{branch}_{last}") as batch:
            batch.add_column(sa.Column("price", sa.Integer, server_default="1"))
            batch.alter_column("name", existing_type=sa.String(40), type_=sa.String(80))
"""

FARM = """
[golden.default.alembic]
config = "alembic.ini"
"""


def write_revisions(root: Path, count: int = 40) -> None:
    """Write alembic.ini, env.py and `count` revisions, half of them in each of two branches."""
    files = {
        "alembic.ini": INI,
        "migrations/env.py": ENV,
        "migrations/script.py.mako": "",
        "shop.py": SHOP,
        "farm.toml": FARM,
    }
    for branch in ("catalog", "sales"):
        for number in range(1, count // 2 + 1):
            files[f"migrations/{branch}/{branch}_{number:04}.py"] = REVISION.format(
                branch=branch,
                number=number,
                last=number - 1,
                revision=f"{branch}{number:04}",
                before=f"{branch}{number - 1:04}" if number > 1 else None,
                labels=(branch,) if number == 1 else None,
            )
    write_files(root, files)


#: Each test sees one row in each table, and leaves other ones.
TESTS = """
import pytest
import sqlalchemy as sa

from shop import engine


@pytest.mark.parametrize("turn", range({count}))
def test_a_fresh_database(turn):
    table = f"{{('catalog', 'sales')[turn % 2]}}_{{1 + 2 * (turn % {tables})}}"
    with engine().begin() as conn:
        rows = conn.execute(sa.text(f"SELECT name, price FROM {{table}}")).all()
        assert [price for _, price in rows] == [1]
        conn.execute(sa.text(f"INSERT INTO {{table}} (name) VALUES ('left behind')"))
        conn.execute(sa.text(f"UPDATE {{table}} SET price = 2"))
    if turn == {fails}:
        raise AssertionError("fails for a reason of its own")
"""


def write_tests(root: Path, count: int, revisions: int = 40, *, fails: int | None = 7) -> None:
    """Write tests that each need a fresh database, one of which fails."""
    text = TESTS.format(count=count, tables=revisions // 4, fails=fails)
    write_files(root, {"test_shop.py": text})
