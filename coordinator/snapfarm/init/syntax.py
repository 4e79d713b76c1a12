"""What a Python file says of databases: its syntax is read, nothing of it runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import msgspec

from snapfarm.init.facts import EngineFact, FixtureFact, Holder

#: Calls by which a fixture makes a database, with what the farm has in their place.
_MAKING = {
    "create_all": "the golden database has the tables: use farm_engine or FARM_SQLALCHEMY_URL",
    "executescript": "the golden database is made of the scripts: use farm_db or FARM_URI",
    "command.upgrade": "the golden database is migrated: use farm_engine or FARM_SQLALCHEMY_URL",
    "flask_migrate.upgrade": "the golden database is migrated: use FARM_SQLALCHEMY_URL",
    "call_command": "the golden database is migrated",
}
_MEMORY = "a database of its own: use farm_db, or connect to FARM_URI"
_ENGINES = {"create_engine", "create_async_engine"}
#: URLs of databases that live in memory.
_IN_MEMORY = re.compile(r"sqlite(?:\+\w+)?://(?:$|/:memory:|.*mode=memory)")
#: Variables whose value is likely the URL of a database.
_URL = re.compile(r"(?i)(^|_)(DATABASE|DB|SQLALCHEMY|SQL|POSTGRES|PG)\w*(URL|URI|DSN)$|^DATABASE$")
#: A field of settings, pydantic's say, that is read from such a variable.
_FIELD = re.compile(r"(?i)^(database|db|sqlalchemy_database)_?(url|uri|dsn)$")


class Defined(msgspec.Struct, frozen=True):
    """A holder of tables that a file defines at its top level."""

    name: str
    kind: Holder
    line: int


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What one file says."""

    holders: tuple[Defined, ...] = ()
    #: Of each class that derives from something: its name, and the last part of the other's.
    bases: tuple[tuple[str, str], ...] = ()
    #: Names of classes and `Table()` that are tables; of the latter, `bases` has the metadata.
    tables: frozenset[str] = frozenset()
    #: Names that the file binds at its top level, imported ones too.
    names: frozenset[str] = frozenset()
    #: Of names that come from another module: that one, with dots before it where it is relative,
    #: and the name there.
    imported: dict[str, tuple[str, str]] = {}
    fixtures: tuple[FixtureFact, ...] = ()
    engines: tuple[EngineFact, ...] = ()
    variables: tuple[str, ...] = ()
    #: Names that stand for a variable of the environment if the file declares settings.
    fields: tuple[str, ...] = ()
    x_keys: tuple[str, ...] = ()
    asynchronous: bool = False
    #: DJANGO_SETTINGS_MODULE as `os.environ.setdefault` sets it.
    django_settings: str = ""


def read(text: str, path: str) -> Source:
    """Return what a file says. Raises SyntaxError, and ValueError for what is no source."""
    tree = ast.parse(text)
    belongs = tuple(_tables(tree))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return Source(
        holders=tuple(_holders(tree)),
        bases=tuple(dict.fromkeys((name, holder) for name, holder, _ in belongs)),
        tables=frozenset(name for name, _, is_table in belongs if is_table),
        names=frozenset(_names(tree)),
        imported=dict(_imported(tree)),
        fixtures=tuple(_fixtures(tree, path)),
        engines=tuple(filter(None, (_engine(call, path) for call in calls))),
        variables=tuple(dict.fromkeys(_variables(tree))),
        fields=tuple(_fields(tree)),
        x_keys=tuple(dict.fromkeys(_x_keys(tree))),
        asynchronous=any(_last(call.func).endswith(_ASYNC) for call in calls),
        django_settings=next(filter(None, map(_django_settings, calls)), ""),
    )


_ASYNC = ("async_engine_from_config", "create_async_engine", "AsyncEngine")


def _dotted(node: ast.expr) -> str:
    """Return a name as it is written, as `sa.orm.DeclarativeBase`; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return f"{before}.{node.attr}" if before else node.attr
    if isinstance(node, ast.Subscript):
        return _dotted(node.value)
    return ""


def _last(node: ast.expr) -> str:
    return _dotted(node).rpartition(".")[2]


# ---------------------------------------------------------------- SQLAlchemy


def _holders(tree: ast.Module) -> Iterator[Defined]:
    flask = any(
        isinstance(node, ast.ImportFrom | ast.Import) and "flask_sqlalchemy" in ast.unparse(node)
        for node in ast.walk(tree)
    )
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name, bases=bases):
                found = {_last(base) for base in bases}
                if found & {"DeclarativeBase", "DeclarativeBaseNoMeta"}:
                    yield Defined(name, "declarative base", node.lineno)
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=func))
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Call(func=func))
            ):
                called = _last(func)
                if called in {"declarative_base", "generate_base", "automap_base"}:
                    yield Defined(name, "declarative base", node.lineno)
                elif called == "MetaData":
                    yield Defined(name, "MetaData", node.lineno)
                elif called == "SQLAlchemy" and flask:
                    yield Defined(name, "Flask-SQLAlchemy", node.lineno)
            case _:
                pass


def _tables(tree: ast.Module) -> Iterator[tuple[str, str, bool]]:
    """Yield the name of each class or table, what it belongs to, and whether it is a table."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name, bases=bases, keywords=keywords):
                is_table = _has_columns(node)
                for word in keywords:
                    if word.arg == "table" and isinstance(word.value, ast.Constant):
                        is_table = is_table or bool(word.value.value)
                for base in bases:
                    # Of `db.Model` the first part tells which it is.
                    holder = _dotted(base).removesuffix(".Model").rpartition(".")[2]
                    if holder:
                        yield name, holder, is_table
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=func, args=[_, held, *_]),
            ) if _last(func) == "Table":
                yield name, _dotted(held).removesuffix(".metadata").rpartition(".")[2], True
            case _:
                pass


def _has_columns(node: ast.ClassDef) -> bool:
    """Whether a class maps a table of its own: it names it, or has columns and is not abstract."""
    columns = False
    for each in node.body:
        match each:
            case ast.Assign(targets=[ast.Name(id="__abstract__")]):
                return False
            case ast.Assign(targets=[ast.Name(id="__tablename__" | "__table__")]):
                columns = True
            case ast.Assign(value=ast.Call(func=func)) | ast.AnnAssign(value=ast.Call(func=func)):
                columns = columns or _last(func) in {"mapped_column", "Column"}
            case _:
                pass
    return columns


def _names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case _:
                pass


def _imported(tree: ast.Module) -> Iterator[tuple[str, tuple[str, str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                yield alias.asname or alias.name, (module, alias.name)


def _engine(call: ast.Call, path: str) -> EngineFact | None:
    """Return the engine that a call makes, if its database lives in memory."""
    function = _last(call.func)
    first = call.args[0] if call.args else None
    url = first.value if isinstance(first, ast.Constant) else None
    if function not in _ENGINES or not isinstance(url, str) or not _IN_MEMORY.match(url):
        return None
    words = {word.arg: word.value for word in call.keywords}
    if "creator" in words:
        return None  # which connects to whatever it likes
    pool = _last(words["poolclass"]) if "poolclass" in words else ""
    return EngineFact(path=path, line=call.lineno, function=function, url=url, pool=pool)


# ---------------------------------------------------------------- variables


def _variables(tree: ast.Module) -> Iterator[str]:
    """Yield variables of the environment that look like the URL of a database."""
    for node in ast.walk(tree):
        name: object = None
        match node:
            case ast.Call(func=func, args=[ast.Constant(value=name), *_]) if _dotted(func).endswith(
                ("environ.get", "getenv", "environ.setdefault")
            ) or _last(func) in {"env", "config", "Config"}:
                pass
            case ast.Subscript(value=held, slice=ast.Constant(value=name)) if _dotted(
                held
            ).endswith("environ"):
                pass
            case _:
                continue
        if isinstance(name, str) and _URL.search(name) and not name.startswith("FARM_"):
            yield name


def _fields(tree: ast.Module) -> Iterator[str]:
    """Yield the variables that fields of settings classes are read from, as far as names tell."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        if not any(_last(base).endswith("Settings") for base in node.bases):
            continue
        for each in node.body:
            if isinstance(each, ast.AnnAssign) and _FIELD.match(name := _dotted(each.target)):
                yield name.upper()


def _x_keys(tree: ast.Module) -> Iterator[str]:
    """Yield the keys that are taken from what `get_x_argument` returns."""
    holders = {
        node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and "get_x_argument" in ast.unparse(node.value)
    }
    for node in ast.walk(tree):
        match node:
            case (
                ast.Call(
                    func=ast.Attribute(value=held, attr="get"),
                    args=[ast.Constant(value=str(key)), *_],
                )
                | ast.Subscript(value=held, slice=ast.Constant(value=str(key)))
            ):
                if _dotted(held) in holders or "get_x_argument" in ast.unparse(held):
                    yield key
            case _:
                pass


def _django_settings(call: ast.Call) -> str:
    match call:
        case ast.Call(
            func=ast.Attribute(attr="setdefault"),
            args=[ast.Constant(value="DJANGO_SETTINGS_MODULE"), ast.Constant(value=str(module))],
        ):
            return module
    return ""


# ---------------------------------------------------------------- fixtures


def _fixtures(tree: ast.Module, path: str) -> Iterator[FixtureFact]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not any(_last(_called(each)) == "fixture" for each in node.decorator_list):
            continue
        made = next(filter(None, map(_making, ast.walk(node))), None)
        if made is not None:
            yield FixtureFact(path, node.lineno, node.name, *made)


def _called(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def _making(node: ast.AST) -> tuple[str, str] | None:
    """Return how a node makes a database, and what is to be used instead; None if it does not."""
    if isinstance(node, ast.Attribute) and node.attr == "create_all":
        # Also where it is only handed on, as to `run_sync`.
        return "create_all", _MAKING["create_all"]
    if not isinstance(node, ast.Call):
        return None
    called = _dotted(node.func)
    for name, advice in _MAKING.items():
        if called == name or called.endswith(f".{name}"):
            return name, advice
    first = node.args[0] if node.args else None
    address = first.value if isinstance(first, ast.Constant) else None
    function = called.rpartition(".")[2]
    if function == "connect" and address == ":memory:":
        return 'connect(":memory:")', _MEMORY
    if function in _ENGINES and isinstance(address, str) and _IN_MEMORY.match(address):
        return f"{function}({address!r})", "use farm_engine, or farm_async_engine"
    return None
