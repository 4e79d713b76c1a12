"""Parameters of `Golden`: a mistake names the parameter, what was expected and what was given."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import re
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from snapfarm.config_alembic import AlembicConfig
from snapfarm.errors import ConfigError
from snapfarm.golden.arguments import Arguments, build_arguments, load_arguments
from snapfarm.golden.handle import Golden
from snapfarm_worker.errors import SnapshotCorrupt
from snapfarm_worker.snapshot import Snapshot
from support.golden import golden as sample

_ENTRY = "the path of an SQL script that ends in .sql, module:function, or a callable"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.sql").write_text("CREATE TABLE t(x);")
    return tmp_path


def refusal(call: Callable[..., object], *args: object, **given: object) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*args, **given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schema": 5}, f"schema: expected {_ENTRY}, or a list of such, got int"),
        ({"schema": None}, f"schema: expected {_ENTRY}, or a list of such, got NoneType"),
        ({"schema": {"a.sql"}}, f"schema: expected {_ENTRY}, or a list of such, got set"),
        ({"seed": ["a.sql", 5]}, f"seed[1]: expected {_ENTRY}, got 5"),
        ({"seed": ["a.txt"]}, f"seed[0]: expected {_ENTRY}, got 'a.txt'"),
        ({"seed": ""}, f"seed[0]: expected {_ENTRY}, got ''"),
        ({"seed": ["a:b:c"]}, f"seed[0]: expected {_ENTRY}, got 'a:b:c'"),
        ({"seed": ["a:<lambda>"]}, f"seed[0]: expected {_ENTRY}, got 'a:<lambda>'"),
        ({"seed": [Path("a:b")]}, f"seed[0]: expected {_ENTRY}, got PosixPath('a:b')"),
        ({"seed": [["a.sql"]]}, f"seed[0]: expected {_ENTRY}, got ['a.sql']"),
        ({"seed": "~nobody-here/a.sql"}, "seed[0]: there is no home folder for the '~' of "),
        ({"file": 5}, "file: expected a text that is not empty, got 5"),
        ({"file": ""}, "file: expected a text that is not empty, got ''"),
        ({"name": 5}, "name: expected a text, got 5"),
        ({"name": "my db"}, "name: the name 'my db' can't be part of a variable's name: expected"),
        ({"root": 5}, "root: expected a folder, got 5"),
        ({"root": "nowhere"}, "root: {here}/nowhere does not exist; expected a folder"),
        ({"root": "a.sql"}, "root: {here}/a.sql is a file; expected a folder"),
        ({"inputs": 5}, "inputs: expected a pattern of files, or a list of such, got int"),
        ({"inputs": ["a", 5]}, "inputs[1]: expected a text that is not empty, got 5"),
        ({"env": 5}, "env: expected the name of a variable, or a list of such, got int"),
        ({"env": "$HOME"}, "env[0]: expected the name of a variable, got '$HOME': write the bare"),
        ({"timeout": "soon"}, "timeout: expected a number of at least 0, got 'soon'"),
        ({"timeout": -1}, "timeout: expected a number of at least 0, got -1"),
        ({"timeout": float("nan")}, "timeout: expected a number of at least 0, got nan"),
        ({"timeout": True}, "timeout: expected a number of at least 0, got True"),
        ({"cache": None}, "cache: expected True, False or a folder, got None"),
        ({"cache": ""}, "cache: expected True, False or a folder, got ''"),
        ({"cache": 1}, "cache: expected True, False or a folder, got 1"),
        ({"rebuild": "yes"}, "rebuild: expected True or False, got 'yes'"),
        ({"schema": "b.sql"}, "schema[0]: {here}/b.sql does not exist; expected an SQL script"),
        ({"seed": ["a.sql", "b*.sql"]}, "seed[1]: no file matches {here}/b*.sql; expected at le"),
        ({"file": "app.db"}, "file: {here}/app.db does not exist; expected a SQLite database fi"),
    ],
)
def test_mistakes_in_building(folder: Path, given: dict[str, object], message: str) -> None:
    expected = "Golden.build: " + message.replace("{here}", str(folder))
    assert refusal(Golden.build, **given).startswith(expected)
    assert [path.name for path in folder.iterdir()] == ["a.sql"]


def test_what_can_not_travel_is_named(folder: Path) -> None:
    lock = sqlite3.connect(":memory:")
    try:
        text = refusal(Golden.build, seed=["a.sql", lambda conn: lock.backup(conn)])
    finally:
        lock.close()
    assert re.fullmatch(
        r"Golden\.build: seed\[1\]: test_what_can_not_travel_is_named\.<locals>\.<lambda> "
        r"\(test_golden_parameters\.py, line \d+\) can't travel to the builder process: it refers "
        r"to 'lock', a sqlite3\.Connection: TypeError: cannot pickle 'sqlite3\.Connection' object; "
        r"make it inside of the function, or move the function into a module and pass that",
        text,
    )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (5, "path: expected the path of a SQLite file, got 5"),
        (b"a.sql", "path: expected the path of a SQLite file, got b'a.sql'"),
        ("none.db", "path: {here}/none.db does not exist; expected a SQLite database file"),
        (".", "path: {here} is a folder; expected a SQLite database file"),
        ("/dev/null", "path: /dev/null is no file; expected a SQLite database file"),
        ("~nobody-here/a", "path: there is no home folder for the '~' of '~nobody-here/a'"),
    ],
)
def test_mistakes_in_loading(folder: Path, path: object, message: str) -> None:
    expected = "Golden.load: " + message.replace("{here}", str(folder))
    assert refusal(Golden.load, path).startswith(expected)


def test_more_mistakes_in_loading() -> None:
    assert refusal(Golden.load, "a.sql", name="1").startswith("Golden.load: name: the name '1' can")
    assert refusal(Golden.load, "a.sql", timeout=-1) == (
        "Golden.load: timeout: expected a number of at least 0, got -1"
    )


def test_mistakes_in_taking() -> None:
    assert refusal(Golden.of, "app.db") == (
        "Golden.of: connection: expected an open sqlite3.Connection, got str; SQLAlchemy has it as "
        "connection.connection.driver_connection"
    )
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        assert refusal(Golden.of, conn, name=5) == "Golden.of: name: expected a text, got 5"


def build_of(**given: object) -> Arguments:
    defaults: dict[str, object] = {
        "schema": (),
        "seed": (),
        "file": None,
        "alembic": None,
        "metadata": None,
        "name": "default",
        "root": None,
        "inputs": (),
        "env": (),
        "timeout": 600.0,
        "cache": True,
    }
    return build_arguments(**(defaults | given))


def test_migrations_and_models_are_named_as_in_a_configuration(folder: Path) -> None:
    golden = build_of(alembic=Path("alembic.ini"), metadata="app.models:Base").golden
    assert golden.alembic == AlembicConfig(config=f"{folder}/alembic.ini")
    assert golden.metadata == "app.models:Base"
    golden = build_of(alembic={"target": "head", "x": {"url": "{url}"}}).golden
    assert golden.alembic == AlembicConfig(
        config=f"{folder}/alembic.ini", target="head", x={"url": "{url}"}
    )
    with pytest.raises(ConfigError, match=r"^Golden\.build: alembic\.taget: unknown key; did you"):
        build_of(alembic={"taget": "head"})


def test_arguments_become_a_configuration(folder: Path) -> None:
    given = build_of(
        schema=Path("a.sql"), seed=["json:dumps", os.path.join], inputs="*.csv", env=["HOME"]
    )
    golden = given.golden
    assert (golden.schema, golden.seed) == ((f"{folder}/a.sql",), ("json:dumps", "posixpath:join"))
    assert (golden.inputs, golden.env) == ((f"{folder}/*.csv",), ("HOME",))
    assert given.config.cache_path == folder / ".farm"
    assert (given.hidden, given.keep, given.caller.shipped) == (None, True, {})
    shipped = build_of(seed=["a.sql", lambda conn: None], cache=False)
    assert list(shipped.caller.shipped) == [shipped.golden.seed[1]]
    assert shipped.hidden is not None
    assert not shipped.keep
    assert build_of(cache=Path("kept")).config.cache_path == folder / "kept"
    loaded = load_arguments(Path("a.sql"), name="b", timeout=1)
    assert (loaded.golden.name, loaded.golden.file) == ("b", f"{folder}/a.sql")


# ---------------------------------------------------------------- the handle itself


def test_a_golden_of_a_snapshot() -> None:
    snapshot = sample("shop")
    golden = Golden(snapshot)
    assert golden.snapshot is snapshot
    assert golden.manifest is snapshot.manifest
    assert (golden.name, golden.notes, golden.fingerprint) == ("shop", (), None)
    assert (golden.cached, golden.build_seconds) == (False, 0.0)
    digest = snapshot.manifest.digest[:12]
    assert repr(golden) == f"<Golden 'shop': 36.9 kB, 6 tables, 422 rows, digest {digest}>"
    assert ", cached, digest" in repr(Golden(snapshot, cached=True))


def test_a_golden_does_not_change() -> None:
    snapshot = sample()
    golden = Golden(snapshot)
    with pytest.raises(AttributeError, match="immutable type: 'Golden'"):
        golden.cached = True  # type: ignore[misc]  # the mistake
    with pytest.raises(AttributeError):
        golden.more = 1  # type: ignore[attr-defined]  # the mistake
    # An image that was received lies in a buffer of its own; nobody may write to ours.
    buffer = bytearray(snapshot.data)
    received = Golden(Snapshot(snapshot.manifest, buffer))
    buffer[100] ^= 1
    assert received.snapshot == snapshot
    assert type(received.snapshot.data) is bytes


def test_a_golden_is_itself_and_travels() -> None:
    golden = Golden(sample())
    assert golden == golden
    assert golden != Golden(golden.snapshot)
    assert len({golden, golden}) == 1
    for other in (pickle.loads(pickle.dumps(golden)), copy.deepcopy(golden)):
        assert other.snapshot == golden.snapshot


def test_what_is_no_snapshot_is_refused() -> None:
    assert refusal(Golden, "app.sqlite") == (
        "Golden: snapshot: expected a Snapshot, got str; Golden.load takes a file, Golden.of a "
        "connection"
    )
    snapshot = sample()
    damaged = msgspec.structs.replace(snapshot, data=bytes(snapshot.data)[:-1] + b"x")
    with pytest.raises(SnapshotCorrupt, match="the snapshot given to Golden is damaged"):
        Golden(damaged)


def test_threads_may_share_it() -> None:
    golden = Golden(sample())
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(repr(golden))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [repr(golden)] * 4
