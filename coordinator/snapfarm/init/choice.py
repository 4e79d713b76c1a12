"""Which golden database a project gets, by a stated rule, and what is said of the rest. Pure.

The rule: what is closest to the database that the application has in production comes first:
migrations of Alembic, then tables of SQLAlchemy, then SQL scripts, then an SQLite file. Of
several of a kind, the one with the most revisions, tables or statements; of equal ones the first by
path. A Django project needs none: its own settings say what its databases are.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from snapfarm.init.facts import AlembicFact, Facts, FileFact, MetadataFact, ScriptFact

#: The values of `dist` that the farm knows, of those that pytest-xdist has.
_DIST = {"load", "loadscope", "loadfile", "loadgroup", "worksteal"}


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A golden database that the project might have."""

    #: What it is made of, in a few words.
    what: str
    why: str
    #: The table `[golden.default]`, as TOML values.
    table: dict[str, object]
    #: What to look after if this is chosen.
    advice: tuple[str, ...] = ()


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was decided about a project."""

    #: Keys of the farm, with a comment each.
    keys: dict[str, tuple[object, str]]
    #: Golden databases that are possible, the first choice first; none where nothing was found.
    candidates: tuple[Candidate, ...]
    #: What was found, a line each, and what can't be a candidate, with the reason.
    found: tuple[str, ...]
    rejected: tuple[str, ...]
    #: What else to do, once it is written.
    advice: tuple[str, ...]


def choose(facts: Facts, *, knows_django: bool) -> Choice:
    """Decide; `knows_django` is whether the configuration has a key of that name."""
    candidates: list[Candidate] = []
    rejected: list[str] = []
    if facts.django is None or not facts.django.sqlite:
        candidates = [
            *_of_alembic(facts.alembic, rejected),
            *_of_metadata(facts.metadata, rejected),
            *_of_scripts(facts.scripts, rejected),
            *_of_files(facts.files),
        ]
    elif facts.alembic or facts.metadata or facts.scripts or facts.files:
        rejected.append("migrations, models, scripts and files: databases of Django come from it")
    return Choice(
        keys=_keys(facts, knows_django),
        candidates=tuple(candidates),
        found=tuple(_found(facts)),
        rejected=tuple(rejected),
        advice=tuple(_advice(facts)),
    )


def _keys(facts: Facts, knows_django: bool) -> dict[str, tuple[object, str]]:
    keys: dict[str, tuple[object, str]] = {}
    settings = facts.pytest
    if settings is not None and settings.workers:
        where = f"as -n in the addopts of {settings.path}"
        if settings.workers.isdecimal() and int(settings.workers) > 0:
            keys["workers"] = int(settings.workers), where
        elif settings.workers in {"auto", "logical"}:
            keys["workers"] = settings.workers, where
    if settings is not None and settings.dist in _DIST:
        keys["dist"] = settings.dist, f"as --dist in the addopts of {settings.path}"
    if facts.django is not None and knows_django:
        keys["django"] = "auto", f"databases come from {facts.django.settings}"
    return keys


# ---------------------------------------------------------------- candidates


def _of_alembic(found: tuple[AlembicFact, ...], rejected: list[str]) -> Iterator[Candidate]:
    rejected += [f"{fact.path}: {fact.fault}" for fact in found if fact.fault]
    usable = [fact for fact in found if not fact.fault]
    rejected += [f"{fact.path}: it has no revisions" for fact in usable if not fact.revisions]
    for fact in sorted(usable, key=lambda fact: (-fact.revisions, fact.path)):
        if fact.revisions:
            yield Candidate(
                what=f"the migrations of {fact.path}",
                why="migrations make the schema that production has, and the rows that they insert",
                table={"alembic": _alembic_table(fact)},
            )


def _alembic_table(fact: AlembicFact) -> object:
    """Return how env.py is told of its database: by a variable, by `-x`, or by sqlalchemy.url."""
    place = "{async_url}" if fact.asynchronous else "{url}"
    table: dict[str, object] = {"config": fact.path}
    if fact.variables:
        table["set_env"] = dict.fromkeys(fact.variables, place)
    keys = [key for key in fact.x_keys if key.lower() in {"url", "db_url", "database_url", "db"}]
    if keys:
        table["x"] = dict.fromkeys(keys, place)
    return table if len(table) > 1 else fact.path


def _of_metadata(found: tuple[MetadataFact, ...], rejected: list[str]) -> Iterator[Candidate]:
    for fact in found:
        if not fact.target:
            rejected.append(
                f"{fact.name} of {fact.path}: the file can't be imported from here: install the "
                f"project (python -m pip install -e .), and call farm init again"
            )
            continue
        advice = [
            f"{path} has tables that the import of {fact.target.partition(':')[0]} does not bring: "
            f"import it there"
            for path in fact.missing
        ]
        yield Candidate(
            what=f"the tables of {fact.target}",
            why=f"it holds {_counted(fact.tables, 'table')} of SQLAlchemy ({fact.kind})",
            table={"metadata": fact.target},
            advice=tuple(advice),
        )


def _of_scripts(found: tuple[ScriptFact, ...], rejected: list[str]) -> Iterator[Candidate]:
    """Scripts of one folder belong together: those that define things, then those with rows."""
    folders: dict[str, list[ScriptFact]] = {}
    for script in found:
        folders.setdefault(script.path.rpartition("/")[0], []).append(script)
    ranked = sorted(
        folders.items(), key=lambda item: (-sum(script.creates for script in item[1]), item[0])
    )
    for folder, scripts in ranked:
        schema = [script.path for script in scripts if script.defines]
        seed = [script.path for script in scripts if not script.defines and script.inserts]
        if not any(script.creates for script in scripts):
            rejected += [f"{path}: it inserts rows, and makes no table" for path in seed]
            continue
        count = sum(script.creates for script in scripts)
        yield Candidate(
            what=f"the SQL scripts in {folder or 'the project folder'}",
            why=f"they make {_counted(count, 'table')}",
            table={"schema": schema, **({"seed": seed} if seed else {})},
        )


def _of_files(found: tuple[FileFact, ...]) -> Iterator[Candidate]:
    for fact in sorted(found, key=lambda fact: (-fact.size, fact.path)):
        yield Candidate(
            what=f"the SQLite file {fact.path}",
            why="it is a database already; it is read, and never written",
            table={"file": fact.path},
        )


# ---------------------------------------------------------------- what is told


def _found(facts: Facts) -> Iterator[str]:
    if facts.pytest is not None:
        yield f"{facts.pytest.path}: settings of pytest"
    if facts.django is not None:
        kind = "SQLite" if facts.django.sqlite else "no SQLite database that could be seen"
        yield f"{facts.django.settings}: settings of Django ({facts.django.path}), {kind}"
    for alembic in facts.alembic:
        told = f"migrations of Alembic, {_counted(alembic.revisions, 'revision')}"
        yield f"{alembic.path}: {told}" if not alembic.fault else f"{alembic.path}: Alembic"
    for held in facts.metadata:
        tables = _counted(held.tables, "table")
        yield f"{held.path}:{held.line}: {held.name} ({held.kind}), {tables}"
    makers = [script for script in facts.scripts if script.creates]
    for script in makers:
        yield f"{script.path}: makes {_counted(script.creates, 'table')}"
    for script in facts.scripts:
        if not script.defines and script.inserts:
            yield f"{script.path}: inserts rows"
    for file in facts.files:
        yield f"{file.path}: an SQLite database of {file.size / 1e6:.1f} MB"
    for fixture in facts.fixtures:
        where = f"{fixture.path}:{fixture.line}"
        yield f"{where}: fixture {fixture.name} makes a database: {fixture.does}"


def _advice(facts: Facts) -> Iterator[str]:
    settings = facts.pytest
    if settings is not None and settings.workers not in {None, "0"}:
        yield (
            f"{settings.path}: take -n {settings.workers} out of addopts; farm run refuses it, and "
            f"plain pytest shall be plain"
        )
    if settings is not None and settings.dist is not None and settings.dist not in _DIST:
        yield f"{settings.path}: --dist {settings.dist} has no counterpart in the farm"
    for fixture in facts.fixtures:
        yield f"{fixture.path}:{fixture.line}: fixture {fixture.name}: {fixture.advice}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
