"""Suites that were written after the rules of the verdict, and on which none of them was tuned.

Their figures stand apart from those of the corpus. A rule that is changed because of one of these
takes that suite into the corpus, and another one in its place.
"""

from __future__ import annotations

from flakes.model import HEAD, Case, Flake, brittle, chancy, clean, node, polluted
from snapfarm.flakes.verdict import Cause

_ORDERS = {
    "farm.toml": "reset = 'never'\n[golden.default]\nschema = ['schema.sql']\n",
    "schema.sql": "CREATE TABLE orders (id INTEGER PRIMARY KEY, state TEXT);\n",
}

HELD_OUT = (
    # ------------------------------------------------------------ order
    polluted("garbage collector", "import gc; gc.disable()", "import gc; assert gc.isenabled()"),
    polluted(
        "mock that was not stopped",
        "from unittest import mock; mock.patch('os.getlogin', return_value='root').start(); "
        "assert os.getlogin() == 'root'",
        "assert not hasattr(os.getlogin, 'return_value')",
    ),
    polluted(
        "setting of a fixture that another one needs off",
        "(shop) shop.update(currency='USD')",
        "(shop) assert shop['currency'] == 'EUR'",
        before="@pytest.fixture(scope='session')\ndef shop():\n    return {'currency': 'EUR'}\n",
    ),
    brittle(
        "table that another test makes",
        "(tmp_path_factory) p = tmp_path_factory.getbasetemp() / 'shop.db'; "
        "c = sqlite3.connect(p); c.execute('CREATE TABLE IF NOT EXISTS goods (x)'); c.close()",
        "(tmp_path_factory) c = sqlite3.connect(tmp_path_factory.getbasetemp() / 'shop.db'); "
        "n = c.execute('SELECT count(*) FROM goods').fetchone(); c.close(); assert n == (0,)",
    ),
    polluted(
        "state of an order",
        "(farm_db) farm_db.execute(\"INSERT INTO orders (state) VALUES ('open')\"); "
        "farm_db.commit()",
        "(farm_db) assert not farm_db.execute(\"SELECT 1 FROM orders WHERE state = 'open'\")"
        ".fetchall()",
        cause=Cause.DATABASE_RESIDUE,
        files=_ORDERS,
    ),
    # ------------------------------------------------------------ by itself
    chancy(
        "folder that is there already",
        Cause.PROCESS_STATE,
        1.0,
        "os.mkdir(FOLDER())",
        files={
            "conftest.py": "import atexit, os, shutil, builtins\n"
            "builtins.FOLDER = lambda: f'work-{os.getpid()}'\n"
        },
    ),
    chancy(
        "two threads that count",
        Cause.RACE,
        0.5,
        "STATE['n'] = 0; "
        "add = lambda: (lambda n: (time.sleep(0.0001), STATE.update(n=n + 1)))(STATE['n']); "
        "a, b = threading.Thread(target=add), threading.Thread(target=add); a.start(); "
        "a.join() if luck(2) else None; b.start(); a.join(); b.join(); assert STATE['n'] == 2",
    ),
    chancy(
        "slow command",
        Cause.TIMING,
        0.33,
        "import subprocess; "
        "subprocess.run(['sleep', '5' if luck(3) else '0'], timeout=0.3, check=True)",
    ),
    chancy(
        "dates around midnight",
        Cause.TIME,
        1.0,
        "import datetime as dt; now = dt.datetime.now(); "
        "assert now.date() == dt.datetime.now(dt.UTC).date()",
    ),
    chancy(
        "token that is sorted",
        Cause.RANDOM,
        0.5,
        "import secrets; a, b = secrets.token_hex(), secrets.token_hex(); assert a < b",
    ),
    Case(
        name="objects in a set",
        files={
            "test_it.py": HEAD
            + "class Good:\n    def __init__(self, name): self.name = name\n"
            + "    def __hash__(self): return hash(self.name)\n"
            + "def test_flips():\n    goods = {Good('tea'), Good('jam'), Good('rye')}\n"
            + "    assert [good.name for good in goods][0] != 'tea'\n"
            + "def test_ok():\n    assert len({Good('tea'), Good('jam')}) == 2\n"
        },
        flakes={node("flips"): Flake(cause=Cause.RANDOM)},
    ),
    chancy("null pointer", Cause.CRASH, 0.33, "import ctypes; luck(3) and ctypes.string_at(0)"),
    chancy(
        "service that is down",
        Cause.INFRASTRUCTURE,
        0.5,
        "import urllib.request; luck(2) and urllib.request.urlopen('http://127.0.0.1:1/')",
    ),
    chancy(
        "transaction of a reader",
        Cause.LOCK_CONTENTION,
        0.5,
        "(tmp_path) w, r = (sqlite3.connect(tmp_path / 'd', timeout=0) for _ in range(2)); "
        "w.execute('CREATE TABLE t (x)'); w.execute('INSERT INTO t VALUES (1)'); w.commit(); "
        "cursor = r.execute('SELECT x FROM t UNION ALL SELECT 2'); luck(2) or cursor.fetchall(); "
        "w.execute('DELETE FROM t'); w.commit(); r.close(); w.close()",
    ),
    # ------------------------------------------------------------ clean
    clean(
        "clean: asyncio",
        ("runs", "import asyncio; assert asyncio.run(asyncio.sleep(0.001, 7)) == 7"),
        ("again", "import asyncio; assert asyncio.run(asyncio.sleep(0, 8)) == 8"),
    ),
    clean(
        "clean: retries",
        (
            "retries",
            "tries = [1 for _ in range(200) if random.random() < 0.5]; assert tries",
        ),
        ("shuffles", "x = list(range(5)); random.shuffle(x); assert sorted(x) == [0, 1, 2, 3, 4]"),
    ),
    clean(
        "clean: undoes what it did",
        ("sets", "STATE['x'] = 1; os.environ['SHOP'] = '1'; del os.environ['SHOP'], STATE['x']"),
        ("reads", "assert 'x' not in STATE and 'SHOP' not in os.environ"),
    ),
    clean(
        "clean: children",
        (
            "child",
            "import subprocess; assert subprocess.run(['true'], check=True).returncode == 0",
        ),
        ("forks", "pid = os.fork(); pid or os._exit(3); assert os.waitpid(pid, 0)[1] >> 8 == 3"),
    ),
)
