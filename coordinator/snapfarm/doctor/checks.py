"""Judges a machine and a project: facts in, findings out, nothing else is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from snapfarm.doctor.facts import Finding, Level, Machine, Project
from snapfarm.golden.wording import sized

#: SQLite has named memdb databases, which connections share, since then.
_MEMDB_SINCE = (3, 36)
#: No database from this size on can be serialized in one piece; a memdb is smaller by default.
_SERIALIZE_LIMIT = 2 << 30
_MEMDB_LIMIT = 1 << 30
#: Copies that a worker has of a golden database: its image, its ring, what fills it.
_COPIES = 3
#: Memory of a worker without databases and without the project's own modules.
_WORKER = 60 << 20
#: Open files that a coordinator takes for each worker, and a worker for itself, roughly.
_FILES_PER_WORKER = 12
_FILES = 64
_SHARED_MEMORY = 1 << 20

#: Plugins that do not go together with a farm, and why.
_CONFLICTS = {
    "pytest-parallel": "it runs tests in threads and processes of its own",
    "pytest-mp": "it runs tests in processes of its own",
    "pytest-forked": "a test that it forks runs in a process that has no ring: with --forked each "
    "test would see an empty database",
    "pytest-isolate": "a test that it isolates runs in a process that has no ring",
    "pytest-freethreaded": "it runs tests in threads, and the farm resets databases between tests",
    "pytest-run-parallel": "with --parallel-threads a test runs in several threads at once, which "
    "all see what the others have written",
}


def examine(machine: Machine, project: Project) -> list[Finding]:
    """Return the findings of all checks, in the order of the checks."""
    checks: Sequence[Callable[[Machine, Project], Iterator[Finding]]] = (
        _python, _sqlite, _threads, _serialize, _rings, _sizes, _memory, _files, _shared_memory,
        _temporary, _start_method, _plugins, _engines,
    )  # fmt: skip
    return [finding for check in checks for finding in check(machine, project)]


def _ok(check: str, message: str) -> Finding:
    return Finding(check=check, level=Level.OK, message=message)


def _warning(check: str, message: str, remedy: str) -> Finding:
    return Finding(check=check, level=Level.WARNING, message=message, remedy=remedy)


def _error(check: str, message: str, remedy: str) -> Finding:
    return Finding(check=check, level=Level.ERROR, message=message, remedy=remedy)


# ---------------------------------------------------------------- Python and SQLite


def _python(machine: Machine, _: Project) -> Iterator[Finding]:
    tested = "what is tested is CPython with its global lock, on Linux"
    if machine.implementation != "cpython":
        yield _warning("python", machine.python, f"{tested}: use that if something fails here")
    elif machine.free_threaded:
        yield _warning(
            "python", f"{machine.python}, free-threaded", f"{tested}: set PYTHON_GIL=1 if it fails"
        )
    elif machine.system != "Linux":
        yield _warning("python", f"{machine.python} on {machine.system}", tested)
    else:
        yield _ok("python", machine.python)


def _sqlite(machine: Machine, _: Project) -> Iterator[Finding]:
    yield _ok("sqlite", machine.sqlite)


def _threads(machine: Machine, _: Project) -> Iterator[Finding]:
    if machine.threadsafety == 3:
        yield _ok("thread safety", "serialized: threads may share a database")
    elif machine.threadsafety == 1:
        yield _warning(
            "thread safety",
            "SQLite is built so that threads may not share a connection",
            "give each thread a connection of its own, as farm_threads does; or use a Python whose "
            "SQLite is built with SQLITE_THREADSAFE=1",
        )
    else:
        yield _error(
            "thread safety",
            "SQLite is built for one thread only: two threads of a test would damage its memory",
            "use a Python whose SQLite is built with SQLITE_THREADSAFE=1",
        )


def _serialize(machine: Machine, _: Project) -> Iterator[Finding]:
    if machine.serialize:
        yield _ok("serialize", "databases can be taken and restored as bytes")
    else:
        yield _error(
            "serialize",
            "this Python's sqlite3 has no serialize() and deserialize()",
            "use a Python whose SQLite is built without SQLITE_OMIT_DESERIALIZE",
        )


def _rings(machine: Machine, project: Project) -> Iterator[Finding]:
    used = {golden.ring for golden in project.golden}
    fit = [kind for kind, fault in machine.rings.items() if not fault]
    for kind, fault in machine.rings.items():
        check = f"ring {kind}"
        if not fault:
            yield _ok(check, _RING_WORKS[kind])
            continue
        others = " or ".join(f'ring = "{each}"' for each in fit)
        old = tuple(map(int, machine.sqlite.split(".")[:2])) < _MEMDB_SINCE
        why = " (it came with SQLite 3.36)" if kind == "memdb" and old else ""
        message = f"connections would not share a database{why}: {fault}"
        if kind in used:
            yield _error(check, message, f"set {others}, or use a Python with another SQLite")
        else:
            yield _warning(check, message, "do not choose this kind here")


_RING_WORKS = {
    "shared-cache": "two connections see the same rows",
    "memdb": "two connections see the same rows",
    "private": "each connection has a copy of its own",
}


# ---------------------------------------------------------------- sizes and limits


def _sizes(_: Machine, project: Project) -> Iterator[Finding]:
    if project.django:
        yield _ok("golden", f"the SQLite databases of {project.django}: see farm golden show")
    elif not project.golden:
        yield _ok("golden", "none is configured: tests run without a database of the farm's")
    for golden in project.golden:
        check = f"golden {golden.name}"
        if golden.size is None:
            yield _ok(check, "not built here yet, so its size is unknown: see farm golden build")
        elif golden.size >= _SERIALIZE_LIMIT:
            yield _error(
                check,
                f"{sized(golden.size)}: SQLite can serialize less than 2 GiB in one piece",
                "seed fewer rows: what tests read of them is little, mostly",
            )
        elif golden.ring == "memdb" and golden.size >= _MEMDB_LIMIT:
            yield _error(
                check,
                f"{sized(golden.size)}: SQLite lets a memdb have 1 GiB, unless built otherwise",
                'set ring = "shared-cache" for it, or seed fewer rows',
            )
        else:
            yield _ok(check, sized(golden.size))


def _memory(machine: Machine, project: Project) -> Iterator[Finding]:
    databases = sum(golden.size or 0 for golden in project.golden)
    each = _WORKER + _COPIES * databases
    needed = project.workers * each
    plan = (
        f"{project.workers} {'worker' if project.workers == 1 else 'workers'} need about "
        f"{sized(needed)}"
    )
    if databases:
        plan += f", with {sized(databases)} of golden databases"
    if machine.memory is None:
        yield _ok("memory", f"{plan}; what is available is unknown here")
        return
    there = f"{sized(machine.memory)} are available to {machine.memory_source}"
    fitting = max(1, int(machine.memory * 0.8) // each)
    remedy = f"use fewer workers (-n {fitting}), or smaller golden databases"
    if needed > machine.memory:
        yield _error("memory", f"{plan}; {there}", remedy)
    elif needed > machine.memory * 0.8:
        yield _warning("memory", f"{plan}; {there}", remedy)
    else:
        yield _ok("memory", f"{plan}; {there}")


def _files(machine: Machine, project: Project) -> Iterator[Finding]:
    soft, hard = machine.descriptors
    needed = _FILES + _FILES_PER_WORKER * project.workers
    if soft is None:
        yield _ok("open files", "no limit")
    elif soft >= needed:
        yield _ok("open files", f"{soft} allowed, about {needed} needed")
    else:
        enough = hard is None or hard >= needed
        yield _error(
            "open files",
            f"{soft} allowed, about {needed} needed for {project.workers} workers",
            f"run `ulimit -n {needed}` before"
            if enough
            else f"use fewer workers (-n {max(1, (soft - _FILES) // _FILES_PER_WORKER)}), or have "
            f"the limit raised: it is {hard} for this user",
        )


def _shared_memory(machine: Machine, _: Project) -> Iterator[Finding]:
    if machine.system != "Linux":
        return
    if machine.shared_memory is None:
        yield _warning(
            "/dev/shm",
            "it is missing, or can't be written to",
            "the farm does not need it, but locks and queues of multiprocessing do: give the "
            "container one (docker run --shm-size)",
        )
    elif machine.shared_memory < _SHARED_MEMORY:
        yield _warning(
            "/dev/shm",
            f"it has {sized(machine.shared_memory)} left",
            "remove what lies there, or give the container more (docker run --shm-size)",
        )
    else:
        yield _ok("/dev/shm", f"{sized(machine.shared_memory)} are free")


def _temporary(machine: Machine, project: Project) -> Iterator[Finding]:
    needed = sum(golden.size or 0 for golden in project.golden) + _SHARED_MEMORY
    if machine.temporary_free is None:
        yield _error(
            "temporary files",
            f"{machine.temporary} can't be written to",
            "set TMPDIR to a folder of yours: sockets and black boxes of workers lie there",
        )
    elif machine.temporary_free < needed:
        yield _error(
            "temporary files",
            f"{machine.temporary} has {sized(machine.temporary_free)} left; building the golden "
            f"databases may take {sized(needed)}",
            "make room, or set TMPDIR to a folder with more",
        )
    else:
        yield _ok(
            "temporary files", f"{machine.temporary}, {sized(machine.temporary_free)} are free"
        )


def _start_method(machine: Machine, project: Project) -> Iterator[Finding]:
    method = project.start_method
    if method not in machine.start_methods:
        there = ", ".join(machine.start_methods)
        yield _error(
            "start method",
            f"{method!r} does not exist here",
            f"set start_method to one of {there}",
        )
    elif method == "fork":
        yield _warning(
            "start method",
            "'fork' copies the coordinator with all that plugins have started in it, without their "
            "threads",
            'set start_method = "spawn" or "forkserver" if workers hang at their start',
        )
    else:
        yield _ok("start method", method)


# ---------------------------------------------------------------- the project


def _plugins(_: Machine, project: Project) -> Iterator[Finding]:
    conflicts = [each for each in project.plugins if each.name in _CONFLICTS]
    for plugin in conflicts:
        yield _warning(
            "plugins",
            f"{plugin.name} {plugin.version} is installed: {_CONFLICTS[plugin.name]}",
            "do not use its options with the farm, or uninstall it",
        )
    if not conflicts:
        count = len(project.plugins)
        yield _ok("plugins", f"{count} installed for pytest, none known to conflict")


#: What becomes of a database in memory with each pool, where several connections are made.
_UNFIT = {
    "": "each thread gets a database of its own, which is empty",
    "SingletonThreadPool": "each thread gets a database of its own, which is empty",
    "NullPool": "each connection gets a new database, which is empty",
    "QueuePool": "each connection of the pool has a database of its own",
    "AsyncAdaptedQueuePool": "each connection of the pool has a database of its own",
    "AssertionPool": "each connection gets a new database, which is empty",
}


def _engines(_: Machine, project: Project) -> Iterator[Finding]:
    unfit = [
        engine
        for engine in project.engines
        # aiosqlite's dialect keeps one connection of itself.
        if engine.pool in _UNFIT
        and not (engine.function == "create_async_engine" and not engine.pool)
    ]
    for engine in unfit:
        pool = f" with poolclass={engine.pool}" if engine.pool else " without a poolclass"
        yield _warning(
            "engines",
            f"{engine.path}:{engine.line}: {engine.function}({engine.url!r}){pool}: "
            f"{_UNFIT[engine.pool]}",
            "use the fixture farm_engine (farm_async_engine) or the URL in FARM_SQLALCHEMY_URL; "
            "without the farm, poolclass=StaticPool",
        )
    if project.engines and not unfit:
        yield _ok("engines", f"{len(project.engines)} in memory, each with a fit pool")
