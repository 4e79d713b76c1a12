"""Suites whose flakes have other causes than order, and suites that only look suspicious."""

from __future__ import annotations

from flakes.model import FILLERS, HEAD, Case, Flake, chancy, clean, node, polluted, tests_of
from snapfarm.flakes.verdict import Cause

_THREAD = (
    "t = threading.Thread(target=lambda: STATE.update(done=not luck({}))); t.start(); t.join(); "
)

OTHERS = (
    # ------------------------------------------------------------ process state
    chancy(
        "registers twice", Cause.PROCESS_STATE, 1.0, "assert 'me' not in STATE; STATE['me'] = 1"
    ),
    chancy(
        "counts itself",
        Cause.PROCESS_STATE,
        1.0,
        "STATE['n'] = STATE.get('n', 0) + 1; assert STATE['n'] == 1",
    ),
    chancy(
        "warms up",
        Cause.PROCESS_STATE,
        1.0,
        "warm = STATE.setdefault('warm', 0); STATE['warm'] = 1; assert warm",
    ),
    chancy(
        "patches itself",
        Cause.PROCESS_STATE,
        1.0,
        "import json; assert json.dumps(1) == '1'; json.dumps = lambda x: 'patched'",
    ),
    Case(
        name="import of another file",
        files={
            "test_a.py": "import os\nos.environ['SHOP_MODE'] = 'x'\n" + FILLERS,
            "test_b.py": HEAD
            + tests_of(("suffers", "assert 'SHOP_MODE' not in os.environ")).removeprefix(HEAD)
            + FILLERS,
        },
        flakes={"test_b.py::test_suffers": Flake(cause=Cause.PROCESS_STATE)},
    ),
    # ------------------------------------------------------------ locks
    chancy(
        "lock met by chance",
        Cause.LOCK_CONTENTION,
        0.5,
        "(tmp_path) a = sqlite3.connect(tmp_path / 'a'); a.execute('CREATE TABLE t (x)'); "
        "a.execute('BEGIN IMMEDIATE') if luck(2) else None; "
        "b = sqlite3.connect(tmp_path / 'a', timeout=0); b.execute('INSERT INTO t VALUES (1)'); "
        "b.close(); a.close()",
    ),
    chancy(
        "lock of a thread",
        Cause.LOCK_CONTENTION,
        0.33,
        "(tmp_path) a = sqlite3.connect(tmp_path / 'a', check_same_thread=False); "
        "a.execute('CREATE TABLE t (x)'); "
        "t = threading.Thread(target=lambda: luck(3) and a.execute('BEGIN EXCLUSIVE')); "
        "t.start(); t.join(); b = sqlite3.connect(tmp_path / 'a', timeout=0); "
        "b.execute('INSERT INTO t VALUES (1)')",
    ),
    polluted(
        "lock leaked by another test",
        "if 'c' in STATE: return; STATE['c'] = sqlite3.connect(f'lock-{os.getpid()}'); "
        "STATE['c'].execute('BEGIN EXCLUSIVE')",
        "c = sqlite3.connect(f'lock-{os.getpid()}', timeout=0); "
        "c.execute('CREATE TABLE IF NOT EXISTS t (x)')",
        cause=Cause.LOCK_CONTENTION,
        role="",
    ),
    # ------------------------------------------------------------ threads
    *(
        chancy(f"race 1 in {n}", Cause.RACE, 1 / n, _THREAD.format(n) + "assert STATE['done']")
        for n in (2, 3, 5, 10)
    ),
    chancy(
        "race for an order",
        Cause.RACE,
        0.5,
        "seen = []; ts = [threading.Thread(target=seen.append, args=(n,)) for n in range(2)]; "
        "ts = ts[::-1] if luck(2) else ts; [t.start() for t in ts]; [t.join() for t in ts]; "
        "assert seen == [0, 1]",
    ),
    # ------------------------------------------------------------ timing
    *(
        chancy(
            f"deadline 1 in {n}", Cause.TIMING, 1 / n, f"time.sleep(0.001); assert not luck({n})"
        )
        for n in (2, 4)
    ),
    chancy(
        "timeout by chance",
        Cause.TIMING,
        0.33,
        "if luck(3): raise TimeoutError('no answer within 5 s')",
    ),
    chancy(
        "timed out in words",
        Cause.TIMING,
        0.25,
        "if luck(4): raise RuntimeError('operation timed out')",
    ),
    # ------------------------------------------------------------ chance
    *(
        chancy(f"random 1 in {n}", Cause.RANDOM, 1 / n, f"assert random.randrange({n})")
        for n in (2, 5, 10, 20)
    ),
    chancy("random choice", Cause.RANDOM, 0.33, "assert random.choice('abc') != 'a'"),
    chancy(
        "random shuffle", Cause.RANDOM, 0.66, "x = [1, 2, 3]; random.shuffle(x); assert x[0] == 1"
    ),
    chancy("random generator", Cause.RANDOM, 0.5, "assert random.Random().random() < 0.5"),
    chancy("random uuid", Cause.RANDOM, 0.5, "import uuid; assert uuid.uuid4().int % 2"),
    chancy("random secret", Cause.RANDOM, 0.25, "import secrets; assert secrets.randbelow(4)"),
    chancy("random bytes", Cause.RANDOM, 0.5, "assert os.urandom(1)[0] < 128"),
    chancy(
        "order of a set",
        Cause.RANDOM,
        1.0,
        "assert list({'ada', 'grace', 'barbara', 'jean'})[0] in ('ada', 'jean')",
    ),
    chancy("hash of a text", Cause.RANDOM, 1.0, "assert hash('shop') % 3"),
    # ------------------------------------------------------------ time
    *(
        chancy(
            f"not between {h} and {h + 8} o'clock",
            Cause.TIME,
            1.0,
            f"assert not {h} <= time.localtime().tm_hour < {h + 8}",
        )
        for h in (0, 8, 16)
    ),
    chancy("midnight is UTC's", Cause.TIME, 1.0, "assert time.localtime(86400 * 365).tm_hour == 0"),
    # ------------------------------------------------------------ leaks
    polluted(
        "descriptors",
        "STATE.get('f') or STATE.update(f=[open(os.devnull) for _ in range(200)])",
        "f = [open(os.devnull) for _ in range(100)]",
        cause=Cause.RESOURCE_LEAK,
        role="",
        before="import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n",
    ),
    polluted(
        "pipes",
        "STATE.get('p') or STATE.update(p=[os.pipe() for _ in range(100)])",
        "p = [os.pipe() for _ in range(60)]; [os.close(fd) for fd in sum(p, ())]",
        cause=Cause.RESOURCE_LEAK,
        role="",
        before="import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n",
    ),
    polluted(
        "port",
        "if 's' in STATE: return; STATE['s'] = socket.create_server(('127.0.0.1', PORT()))",
        "socket.create_server(('127.0.0.1', PORT())).close()",
        cause=Cause.RESOURCE_LEAK,
        role="",
        before="def PORT():\n    return 20000 + os.getpid() % 20000\n",
    ),
    polluted(
        "memory",
        "STATE.get('hoard') or STATE.update(hoard=bytearray(400 << 20))",
        "assert len(bytearray(300 << 20))",
        cause=Cause.RESOURCE_LEAK,
        role="",
        before="import resource\nSIZE = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (SIZE + (600 << 20),) * 2)\n",
    ),
    # ------------------------------------------------------------ crashes
    chancy("exits 1 in 3", Cause.CRASH, 0.33, "if luck(3): os._exit(3)"),
    chancy(
        "killed 1 in 3", Cause.CRASH, 0.33, "import signal; luck(3) and os.kill(os.getpid(), 9)"
    ),
    chancy("aborts 1 in 2", Cause.CRASH, 0.5, "if luck(2): os.abort()"),
    polluted(
        "crashes after another test",
        "STATE['x'] = 1",
        "if 'x' in STATE: os._exit(5)",
        cause=Cause.CRASH,
        role="",
    ),
    # ------------------------------------------------------------ outside
    chancy(
        "refused",
        Cause.INFRASTRUCTURE,
        0.5,
        "if luck(2): socket.create_connection(('127.0.0.1', 1))",
    ),
    chancy(
        "no such host",
        Cause.INFRASTRUCTURE,
        0.33,
        "if luck(3): raise socket.gaierror(-2, 'Name or service not known')",
    ),
    chancy(
        "disk full",
        Cause.INFRASTRUCTURE,
        0.33,
        "if luck(3): raise OSError(28, 'No space left on device')",
    ),
    # ------------------------------------------------------------ nothing that shows
    *(chancy(f"unknown 1 in {n}", Cause.UNKNOWN, 1 / n, f"assert not luck({n})") for n in (2, 3)),
    # ------------------------------------------------------------ always
    Case(
        name="always",
        files={"test_it.py": tests_of(("ok", "pass"), ("fails", "assert 1 == 2"))},
        flakes={node("fails"): Flake(cause=Cause.DETERMINISTIC)},
    ),
    Case(
        name="always in a fixture",
        files={
            "test_it.py": HEAD
            + "@pytest.fixture\ndef broken():\n    raise ValueError('no')\n"
            + tests_of(("fails", "(broken) pass"), ("ok", "pass")).removeprefix(HEAD)
        },
        flakes={node("fails"): Flake(cause=Cause.DETERMINISTIC)},
    ),
)

CLEAN = (
    clean(
        "clean: sleeps", ("sleeps", "time.sleep(0.005)"), ("waits", "threading.Event().wait(0.005)")
    ),
    clean(
        "clean: random with room",
        ("sum", "assert 0 <= random.random() < 1"),
        ("sample", "assert len(random.sample(range(9), 3)) == 3"),
    ),
    clean(
        "clean: threads",
        (
            "joined",
            "x = []; t = threading.Thread(target=x.append, args=(1,)); "
            "t.start(); t.join(); assert x == [1]",
        ),
    ),
    clean(
        "clean: monkeypatch",
        (
            "patches",
            "(monkeypatch) monkeypatch.setenv('SHOP', '1'); "
            "monkeypatch.setattr(os, 'getcwd', lambda: '/')",
        ),
        ("reads", "assert 'SHOP' not in os.environ and os.getcwd() != '/'"),
    ),
    clean(
        "clean: directory",
        ("moves", "(tmp_path, monkeypatch) monkeypatch.chdir(tmp_path)"),
        ("stays", "assert os.path.exists('pytest.ini')"),
    ),
    clean(
        "clean: leaves what nobody minds",
        ("leaves", "STATE['x'] = time.time()"),
        ("ignores", "assert isinstance(STATE, dict)"),
    ),
    clean("clean: sets", ("sorted", "assert sorted({'b', 'a'}) == ['a', 'b']")),
    clean(
        "clean: skips", ("skips", "pytest.skip('not here')"), ("xfails", "pytest.xfail('known')")
    ),
    clean(
        "clean: commits",
        ("writes", "(farm_db) farm_db.execute('DELETE FROM t'); farm_db.commit()"),
        ("counts", "(farm_db) assert farm_db.execute('SELECT count(*) FROM t').fetchone() == (1,)"),
        files={
            "farm.toml": "[golden.default]\nschema = ['s.sql']\n",
            "s.sql": "CREATE TABLE t (x); INSERT INTO t VALUES (1);\n",
        },
    ),
    clean(
        "clean: clocks",
        ("later", "a = time.monotonic(); assert time.monotonic() >= a"),
        ("utc", "assert time.gmtime(0).tm_year == 1970"),
    ),
)
