"""Suites in which order matters: polluters and victims, brittle tests, residue in databases."""

from __future__ import annotations

from flakes.model import FILLERS, HEAD, Case, Flake, brittle, node, polluted, tests_of
from snapfarm.flakes.verdict import Cause

_SHOP = """
class Shop:
    open = True
    instance = None
    def __init__(self):
        self.goods = []
    @classmethod
    def get(cls):
        if cls.instance is None:
            cls.instance = cls()
        return cls.instance
"""

VICTIMS = (
    polluted("module global", "STATE['x'] = 1", "assert 'x' not in STATE"),
    polluted(
        "global rebound", "global LIMIT; LIMIT = 3", "assert LIMIT == 2", before="LIMIT = 2\n"
    ),
    polluted(
        "environment", "os.environ['SHOP_MODE'] = 'x'", "assert 'SHOP_MODE' not in os.environ"
    ),
    polluted(
        "environment removed",
        "os.environ.pop('SHOP_HOME', None)",
        "assert os.environ['SHOP_HOME']",
        before="os.environ['SHOP_HOME'] = '/shop'\n",
    ),
    polluted(
        "working directory", "(tmp_path) os.chdir(tmp_path)", "assert os.path.exists('pytest.ini')"
    ),
    polluted(
        "patch left behind",
        "import json; json.dumps = lambda x: 'patched'",
        "import json; assert json.dumps(1) == '1'",
    ),
    polluted(
        "patched builtin",
        "import builtins; builtins.sorted = lambda x: list(x)",
        "assert sorted([2, 1]) == [1, 2]",
    ),
    polluted(
        "cache",
        "STATE['rate'] = 2; rate(); del STATE['rate']",
        "assert rate() == 1",
        before="import functools\n@functools.cache\ndef rate():\n    return STATE.get('rate', 1)\n",
    ),
    polluted(
        "warning filters",
        "import warnings; warnings.simplefilter('error')",
        "import warnings; warnings.warn('old')",
        files={"pytest.ini": "[pytest]\naddopts = -p no:warnings\n"},
    ),
    polluted("class attribute", "Shop.open = False", "assert Shop.open", before=_SHOP),
    polluted(
        "singleton", "Shop.get().goods.append('tea')", "assert Shop.get().goods == []", before=_SHOP
    ),
    polluted(
        "temporary file",
        "open(f'flake-{os.getpid()}', 'w').close()",
        "there = os.path.exists(f'flake-{os.getpid()}'); "
        "there and os.remove(f'flake-{os.getpid()}'); assert not there",
    ),
    polluted(
        "modules",
        "import types; sys.modules['colorsys'] = types.ModuleType('colorsys')",
        "import colorsys; assert colorsys.rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)",
    ),
    polluted(
        "import path",
        "sys.path.insert(0, '/no/such/folder')",
        "assert sys.path[0] != '/no/such/folder'",
    ),
    polluted(
        "logging",
        "import logging; logging.disable(logging.CRITICAL)",
        "(caplog) import logging; logging.getLogger('x').error('no'); assert 'no' in caplog.text",
    ),
    polluted(
        "decimal context",
        "import decimal; decimal.getcontext().prec = 3",
        "import decimal; assert str(decimal.Decimal(10) / 3).startswith('3.33333')",
    ),
    polluted(
        "signal handler",
        "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
        "import signal; assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL",
    ),
    polluted(
        "socket default timeout",
        "socket.setdefaulttimeout(0.1)",
        "assert socket.getdefaulttimeout() is None",
    ),
    polluted(
        "umask",
        "os.umask(0o077)",
        "(tmp_path) p = tmp_path / 'x'; p.touch(); assert p.stat().st_mode & 0o044",
    ),
    polluted(
        "context variable",
        "USER.set('root')",
        "assert USER.get() == 'nobody'",
        before="import contextvars\nUSER = contextvars.ContextVar('user', default='nobody')\n",
    ),
    polluted(
        "time zone set",
        "os.environ['TZ'] = 'UTC-5'; time.tzset()",
        "assert time.strftime('%H', time.localtime(0)) == '00'",
        before="os.environ['TZ'] = 'UTC'\ntime.tzset()\n",
    ),
    polluted(
        "fixture without teardown",
        "(lamp) assert STATE['lamp'] == 'on'",
        "assert STATE.get('lamp', 'off') == 'off'",
        before="@pytest.fixture(scope='module')\ndef lamp():\n    STATE['lamp'] = 'on'\n",
    ),
    Case(
        name="another file",
        files={
            "shop.py": "CART = []\n",
            "test_a.py": "import shop\ndef test_pollutes():\n    shop.CART.append(1)\n" + FILLERS,
            "test_b.py": "import shop\ndef test_suffers():\n    assert shop.CART == []\n" + FILLERS,
            "conftest.py": "import os, sys\nsys.path.insert(0, os.path.dirname(__file__))\n",
        },
        flakes={
            "test_b.py::test_suffers": Flake(
                cause=Cause.ORDER_DEPENDENT,
                culprits=(frozenset({"test_a.py::test_pollutes"}),),
                role="victim",
            )
        },
    ),
    Case(
        name="one parameter of several",
        files={
            "test_it.py": HEAD + "@pytest.mark.parametrize('n', range(6))\ndef test_n(n):\n"
            "    if n == 4:\n        STATE['n'] = n\n"
            + FILLERS
            + tests_of(("suffers", "assert 'n' not in STATE")).removeprefix(HEAD)
        },
        flakes={
            node("suffers"): Flake(
                cause=Cause.ORDER_DEPENDENT,
                culprits=(frozenset({"test_it.py::test_n[4]"}),),
                role="victim",
            )
        },
    ),
    Case(
        name="two polluters",
        files={
            "test_it.py": tests_of(
                ("one", "STATE['x'] = 1"),
                ("between", "pass"),
                ("two", "STATE['x'] = 2"),
                ("suffers", "assert 'x' not in STATE"),
                ("last", "pass"),
            )
        },
        flakes={
            node("suffers"): Flake(
                cause=Cause.ORDER_DEPENDENT,
                role="victim",
                culprits=(frozenset({node("one")}), frozenset({node("two")})),
            )
        },
    ),
    Case(
        name="a polluter that needs company",
        files={
            "test_it.py": tests_of(
                ("opens", "STATE['open'] = True"),
                ("between", "pass"),
                ("fills", "if STATE.get('open'): STATE['x'] = 1"),
                ("later", "pass"),
                ("suffers", "assert 'x' not in STATE"),
                ("last", "pass"),
            )
        },
        flakes={
            node("suffers"): Flake(
                cause=Cause.ORDER_DEPENDENT,
                role="victim",
                culprits=(frozenset({node("opens"), node("fills")}),),
            )
        },
    ),
    Case(
        name="a cleaner in between",
        files={
            "test_it.py": tests_of(
                ("pollutes", "STATE['x'] = 1"),
                ("cleans", "STATE.clear()"),
                ("between", "pass"),
                ("suffers", "assert 'x' not in STATE"),
                ("last", "pass"),
            )
        },
        flakes={
            node("suffers"): Flake(
                cause=Cause.ORDER_DEPENDENT,
                role="victim",
                culprits=(frozenset({node("pollutes")}),),
            )
        },
    ),
    Case(
        name="in one direction only",
        files={
            "test_it.py": tests_of(
                ("first", "pass"),
                ("reads", "assert STATE.get('rate', 1) == 1; STATE['read'] = True"),
                ("writes", "assert STATE.get('read', True); STATE['rate'] = 2"),
                ("last", "pass"),
            )
            + FILLERS
        },
        flakes={
            node("reads"): Flake(
                cause=Cause.ORDER_DEPENDENT,
                role="victim",
                culprits=(frozenset({node("writes")}),),
            )
        },
    ),
    Case(
        name="in both directions",
        files={
            "test_it.py": tests_of(
                ("left", "assert 'right' not in STATE; STATE['left'] = 1"),
                ("between", "pass"),
                ("right", "assert 'left' not in STATE; STATE['right'] = 1"),
            )
            + FILLERS
        },
        flakes={
            node(one): Flake(
                cause=Cause.ORDER_DEPENDENT,
                role="victim",
                culprits=(frozenset({node(other)}),),
            )
            for one, other in (("left", "right"), ("right", "left"))
        },
    ),
    Case(
        name="two victims",
        files={
            "test_it.py": tests_of(
                ("early", "assert 'x' not in STATE"),
                ("pollutes", "STATE['x'] = 1"),
                ("late", "assert STATE == {}"),
                ("last", "pass"),
            )
            + FILLERS
        },
        flakes={
            node(name): Flake(
                cause=Cause.ORDER_DEPENDENT,
                role="victim",
                culprits=(frozenset({node("pollutes")}),),
            )
            for name in ("early", "late")
        },
    ),
)

BRITTLE = (
    brittle("brittle global", "STATE['user'] = 'ada'", "assert STATE['user'] == 'ada'"),
    brittle("brittle environment", "os.environ['SHOP_KEY'] = '1'", "assert os.environ['SHOP_KEY']"),
    brittle("brittle import", "import xml.dom.minidom", "assert 'xml.dom.minidom' in sys.modules"),
    brittle(
        "brittle registry",
        "REGISTRY.append(list)",
        "assert REGISTRY",
        before="REGISTRY = []\n",
    ),
    brittle(
        "brittle directory",
        "os.makedirs(f'brittle-{os.getpid()}', exist_ok=True)",
        "os.rmdir(f'brittle-{os.getpid()}')",
    ),
)


def _residue(name: str, pollute: str, check: str, *, reset: str = "never") -> Case:
    return polluted(
        f"database: {name}",
        f"(farm_db) {pollute}; farm_db.commit()",
        f"(farm_db) {check}",
        cause=Cause.DATABASE_RESIDUE,
        files={
            "farm.toml": f"reset = '{reset}'\n[golden.default]\nschema = ['schema.sql']\n",
            "schema.sql": "CREATE TABLE bill (id INTEGER PRIMARY KEY AUTOINCREMENT, cents);\n"
            "INSERT INTO bill (cents) VALUES (500), (700);\n",
        },
    )


_COUNT = "farm_db.execute('SELECT count(*) FROM bill').fetchone()"
RESIDUE = (
    _residue(
        "rows", "farm_db.execute('INSERT INTO bill (cents) VALUES (1)')", f"assert {_COUNT} == (2,)"
    ),
    _residue(
        "rows deleted",
        "farm_db.execute('DELETE FROM bill WHERE id = 1')",
        f"assert {_COUNT} == (2,)",
    ),
    _residue(
        "rows changed",
        "farm_db.execute('UPDATE bill SET cents = 1')",
        "assert farm_db.execute('SELECT sum(cents) FROM bill').fetchone() == (1200,)",
    ),
    _residue(
        "sequence",
        "farm_db.execute('INSERT INTO bill (cents) VALUES (1)'); "
        "farm_db.execute('DELETE FROM bill WHERE cents = 1')",
        "assert farm_db.execute('SELECT seq FROM sqlite_sequence').fetchone() == (2,)",
    ),
    _residue(
        "table",
        "farm_db.execute('CREATE TABLE IF NOT EXISTS extra (id)')",
        "assert not farm_db.execute('SELECT 1 FROM pragma_table_info(\"extra\")').fetchall()",
    ),
    _residue(
        "reset by session",
        "farm_db.execute('INSERT INTO bill (cents) VALUES (1)')",
        f"assert {_COUNT} == (2,)",
        reset="session",
    ),
)
