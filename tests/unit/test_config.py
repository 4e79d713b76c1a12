"""Loading, precedence and checks of the configuration."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from snapfarm.config import FARM_KEYS, FarmConfig, load_config
from snapfarm.config_alembic import ALEMBIC_KEYS, AlembicConfig
from snapfarm.config_django import DJANGO_KEYS, DjangoConfig
from snapfarm.config_golden import GOLDEN_KEYS, LAYER_KEYS, GoldenConfig, LayerConfig, uri_variable
from snapfarm.errors import ConfigError
from snapfarm.golden.builders import builders_of
from snapfarm.golden.fingerprint import fingerprint
from snapfarm.golden_command import golden as golden_group

REPOSITORY = Path(__file__).parents[2]


def load(root: Path, text: str, **environ: str) -> FarmConfig:
    (root / "farm.toml").write_text(text, "utf-8")
    return load_config(root, environ=environ)


def refusal(root: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(root, text, **environ)
    return str(caught.value)


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    config = load_config(tmp_path, environ={})
    assert config == FarmConfig(root=tmp_path)
    assert config.golden == ()
    assert config.cache_path == tmp_path / ".farm"


def test_a_pyproject_without_a_farm_table_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert load_config(tmp_path, environ={}).source is None


def test_both_places_say_the_same(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (one / "farm.toml").write_text("workers = 3\n[golden.a]\nschema = ['m:f']\n")
    (two / "pyproject.toml").write_text(
        "[tool.farm]\nworkers = 3\n[tool.farm.golden.a]\nschema = ['m:f']\n"
    )
    first, second = (load_config(root, environ={}) for root in (one, two))
    assert (
        (first.workers, first.golden)
        == (second.workers, second.golden)
        == (
            3,
            (GoldenConfig(name="a", schema=("m:f",)),),
        )
    )
    assert second.source == two / "pyproject.toml"


def test_databases_keep_the_order_in_which_they_are_declared(tmp_path: Path) -> None:
    config = load(tmp_path, "[golden.z]\n[golden.a]\n[golden.m]\n")
    assert [golden.name for golden in config.golden] == ["z", "a", "m"]


def test_two_configurations_in_one_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.farm]\nworkers = 2\n")
    text = refusal(tmp_path, "workers = 3\n")
    assert str(tmp_path / "farm.toml") in text
    assert str(tmp_path / "pyproject.toml") in text
    named = load_config(tmp_path, explicit=tmp_path / "pyproject.toml", environ={})
    assert named.workers == 2


def test_a_broken_pyproject_does_not_matter_beside_farm_toml(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[broken")
    assert load(tmp_path, "workers = 3\n").workers == 3


def test_flag_beats_variable_beats_file(tmp_path: Path) -> None:
    (tmp_path / "farm.toml").write_text("workers = 2\ndist = 'loadfile'\nring = 'memdb'\n")
    config = load_config(
        tmp_path,
        environ={"FARM_WORKERS": "3", "FARM_DIST": "loadscope"},
        overrides={"workers": 4, "dist": None},
    )
    assert (config.workers, config.dist, config.ring) == (4, "loadscope", "memdb")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("workers", "7", 7),
        ("workers", "logical", "logical"),
        ("test_timeout", "1.5", 1.5),
        ("test_timeout", "2", 2.0),
        ("max_worker_restart", "0", 0),
        ("start_method", "fork", "fork"),
        ("sensors", "off", "off"),
    ],
)
def test_variables_and_flags_are_read_from_text(
    tmp_path: Path, key: str, text: str, value: object
) -> None:
    by_variable = load_config(tmp_path, environ={f"FARM_{key.upper()}": text})
    by_flag = load_config(tmp_path, environ={}, overrides={key: text})
    assert getattr(by_variable, key) == getattr(by_flag, key) == value


def test_empty_and_foreign_variables_are_ignored(tmp_path: Path) -> None:
    environ = {"FARM_WORKERS": "", "FARM_URI": "file:x", "FARM_URI_A": "y", "FARM_ANIMALS": "pig"}
    assert load_config(tmp_path, environ=environ) == FarmConfig(root=tmp_path)


def test_the_process_environment_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARM_WORKERS", "6")
    assert load_config(tmp_path).workers == 6


def test_paths_of_a_file_are_relative_to_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ci").mkdir()
    file = tmp_path / "ci" / "nightly.toml"
    file.write_text(
        "report = 'out.json'\ncache_dir = '../cache'\n[golden.a]\nfile = 'a.sqlite'\n"
        "schema = ['x.sql', 'pkg.mod:f']\ninputs = ['*.csv']\n"
    )
    monkeypatch.chdir(tmp_path)
    for config in (
        load_config(tmp_path, explicit=Path("ci/nightly.toml"), environ={}),
        load_config(tmp_path, environ={"FARM_CONFIG": "ci/nightly.toml"}),
    ):
        assert config.source == file
        assert config.report == str(tmp_path / "ci" / "out.json")
        assert config.cache_path == tmp_path / "cache"
        (golden,) = config.golden
        assert golden.file == str(tmp_path / "ci" / "a.sqlite")
        assert golden.schema == (str(tmp_path / "ci" / "x.sql"), "pkg.mod:f")
        assert golden.inputs == (str(tmp_path / "ci" / "*.csv"),)


def test_paths_of_variables_and_flags_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(
        tmp_path / "project", environ={"FARM_CACHE_DIR": "c"}, overrides={"report": "r.json"}
    )
    assert config.root == tmp_path / "project"
    assert config.cache_path == tmp_path / "c"
    assert config.report == str(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("worker = 4", "worker: unknown key", "did you mean 'workers'?"),
        ("qqqq = 4", "qqqq: unknown key", "known are: workers, dist"),
        ("root = '/'", "root: unknown key", "did you mean"),
        ("workers = true", "workers", "a whole number of at least 1 or one of"),
        ("workers = 0", "workers", "at least 1"),
        ("workers = 'many'", "workers", '"auto", "logical", got \'many\''),
        ("test_timeout = '3'", "test_timeout", "a number of at least 0, got '3'"),
        ("test_timeout = nan", "test_timeout", "a number"),
        ("test_timeout = inf", "test_timeout", "a number"),
        ("heartbeat_timeout = 0", "heartbeat_timeout", "a number above 0"),
        ("dist = 'loud'", "dist", 'one of "load", "loadscope"'),
        ("sensors = true", "sensors", 'one of "full", "light", "off", got True'),
        ("max_worker_restart = -1", "max_worker_restart", "at least 0"),
        ("chunk_size = 12", "chunk_size", "at least 4096"),
        ("report = 2020-01-01", "report", "a text"),
        ("golden = 3", "golden", "expected tables [golden.<name>]"),
        ("[golden]\nschema = []", "golden.schema", "settings belong into a table [golden.<name>]"),
        ("[golden.a]\nsed = []", "golden.a.sed: unknown key", "did you mean 'seed'?"),
        ("[golden.a]\nname = 'b'", "golden.a.name: unknown key", "known are: file, alembic"),
        ("[golden.a]\nschema = 'x.sql'", "golden.a.schema", "a list, each entry a text"),
        ("[golden.a]\nschema = ['x.sql', 3]", "golden.a.schema[1]", "that is not empty, got 3"),
        ("[golden.a]\nmetadata = 'app'", "golden.a.metadata", "app.models:Base, got 'app'"),
        ("[golden.a]\nalembic = 3", "golden.a.alembic", "the path of an alembic.ini, or a table"),
        ("[golden.a.alembic]\nconf = 'x'", "golden.a.alembic.conf", "did you mean 'config'?"),
        ("[golden.a.alembic]\ntarget = 1", "golden.a.alembic.target", "that is not empty, got 1"),
        ("[golden.a.alembic]\nx = 'a=b'", "golden.a.alembic.x", "a table of texts, got 'a=b'"),
        ("[golden.a.alembic.set_env]\nA = 1", "golden.a.alembic.set_env.A", "a text, got 1"),
        ("[golden.a]\nseed = ['x']", "golden.a.seed[0]", "ends in .sql, or a callable as"),
        ("[golden.a]\nseed = ['a b:c']", "golden.a.seed[0]", "module:function, got 'a b:c'"),
        ("[golden.a]\nfile = ''", "golden.a.file", "a text that is not empty"),
        ("[golden.a]\nring = 'memory'", "golden.a.ring", 'one of "shared-cache", "memdb"'),
        ("[golden.'a b']", 'golden."a b"', "expected a letter, then letters"),
        ("[golden.'ä']", 'golden."ä"', "expected a letter, then letters"),
        ("[golden.a]\nenv = ['A=B']", "golden.a.env[0]", "name of a variable, got 'A=B'"),
        ("[golden.a]\nenv = ['a', '$A']", "golden.a.env[1]", "without its '$'"),
        ("[golden.a]\nseed = ['~nobody-here/x.sql']", "golden.a.seed[0]", "no home folder"),
        ("[golden.a]\ninputs = ['~nobody-here/x']", "golden.a.inputs[0]", "no home folder"),
        ("[golden.a]\nfile = '~nobody-here/x.db'", "golden.a.file", "no home folder"),
        ("cache_dir = '~nobody-here/x'", "cache_dir", "no home folder"),
        ("[tool.farm]\nworkers = 2", "[tool.farm] is for pyproject.toml", "top level"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_key_and_what_was_expected(
    tmp_path: Path, text: str, place: str, expected: str
) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(f"{tmp_path / 'farm.toml'}: {place}")
    assert expected in message


def test_keys_in_pyproject_are_named_in_full(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.farm.golden.a]\ntimeout = 'x'\n")
    with pytest.raises(ConfigError, match=r"pyproject\.toml: tool\.farm\.golden\.a\.timeout: exp"):
        load_config(tmp_path, environ={})
    (tmp_path / "pyproject.toml").write_text("[tool]\nfarm = 3\n")
    with pytest.raises(ConfigError, match=r"tool\.farm: expected a table, got 3"):
        load_config(tmp_path, environ={})


def test_two_databases_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = refusal(tmp_path, "[golden.a]\n\n[golden.a]\n")
    assert str(tmp_path / "farm.toml") in twice
    assert "twice (at line 3" in twice
    alike = refusal(tmp_path, "[golden.my-db]\n[golden.My_DB]\n")
    assert "'my-db' and 'My_DB' would share the variable FARM_URI_MY_DB" in alike
    assert uri_variable("my-db") == "FARM_URI_MY_DB"


def test_mistakes_in_variables_and_flags_name_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"variable FARM_WORKERS: expected .*, got 'x'"):
        load_config(tmp_path, environ={"FARM_WORKERS": "x"})
    with pytest.raises(ConfigError, match=r"flag --test-timeout: expected a number"):
        load_config(tmp_path, environ={}, overrides={"test_timeout": "soon"})
    with pytest.raises(ConfigError, match=r"flag --wrkers: unknown key; did you mean 'workers'"):
        load_config(tmp_path, environ={}, overrides={"wrkers": 2})
    with pytest.raises(ConfigError, match=r"variable FARM_CACHE_DIR: there is no home folder"):
        load_config(tmp_path, environ={"FARM_CACHE_DIR": "~nobody-here/x"})
    with pytest.raises(ConfigError, match=r"variable FARM_CONFIG: there is no home folder"):
        load_config(tmp_path, environ={"FARM_CONFIG": "~nobody-here/farm.toml"})


def test_files_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: does not exist; --config expects"):
        load_config(tmp_path, explicit=tmp_path / "none.toml", environ={})
    with pytest.raises(ConfigError, match=r"is a folder; the variable FARM_CONFIG expects"):
        load_config(tmp_path, environ={"FARM_CONFIG": str(tmp_path)})
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(ConfigError, match=r"has no table \[tool\.farm\], yet --config names it"):
        load_config(tmp_path, explicit=tmp_path / "pyproject.toml", environ={})
    (tmp_path / "latin.toml").write_bytes(b"report = '\xe4'\n")
    with pytest.raises(ConfigError, match=r"latin\.toml: is not UTF-8 at byte 10"):
        load_config(tmp_path, explicit=tmp_path / "latin.toml", environ={})
    assert "is no valid TOML: " in refusal(tmp_path, "workers = \n")


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeffworkers = 5\r\ndist = 'loadfile'\r\n").workers == 5


@pytest.mark.parametrize("profile", sorted((REPOSITORY / "configs").glob("*.toml")), ids=str)
def test_every_profile_loads(profile: Path, tmp_path: Path) -> None:
    config = load_config(tmp_path, explicit=profile, environ={})
    assert config.golden
    # A profile is read by people who have no other documentation open.
    assert profile.read_text("utf-8").startswith("# ")


def test_there_are_the_promised_profiles() -> None:
    names = {profile.stem for profile in (REPOSITORY / "configs").glob("*.toml")}
    assert {"plain-sql", "python-callables", "ci", "stress"} <= names


def documented(table: str) -> dict[str, list[str]]:
    """Return the rows of a table of docs/configuration.md, by key."""
    text = (REPOSITORY / "docs" / "configuration.md").read_text("utf-8")
    body = text.split(f"<!-- {table} keys:", 1)[1].split("\n## ", 1)[0]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in body.splitlines() if "|" in line]
    return {row[0].strip("`"): row[1:] for row in rows if row[0].startswith("`")}


def test_the_reference_lists_every_flag_of_farm_golden() -> None:
    text = (REPOSITORY / "docs" / "configuration.md").read_text("utf-8")
    rows = re.findall(r"^\| `(--[a-z]+)[^|]*` \| ([^|]+) \|", text, re.MULTILINE)
    expected = {
        (parameter.opts[0], command.name)
        for command in golden_group.commands.values()
        for parameter in command.params
        if isinstance(parameter, click.Option)
    }
    listed = set()
    for flag, of in rows:
        commands = golden_group.commands if of == "all" else re.findall(r"`(\w+)`", of)
        listed |= {(flag, command) for command in commands}
    assert listed == expected


def in_toml(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, tuple):
        return "`[]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def test_the_reference_lists_every_key_with_its_variable_and_default() -> None:
    farm, golden = documented("farm"), documented("golden")
    assert list(farm) == list(FARM_KEYS)
    assert list(golden) == list(GOLDEN_KEYS)
    defaults = FarmConfig(root=Path("/"))
    for key, (variable, _, default, _) in farm.items():
        assert variable == f"`FARM_{key.upper()}`"
        assert default == in_toml(getattr(defaults, key))
    for key, (_, default, _) in golden.items():
        assert default == in_toml(getattr(GoldenConfig(name="a"), key))
    layer = documented("layer")
    assert tuple(layer) == LAYER_KEYS
    for key, (_, default, _) in layer.items():
        assert default == in_toml(getattr(LayerConfig(name="a", where=""), key))
    alembic = documented("alembic")
    assert tuple(alembic) == ALEMBIC_KEYS
    for key, (_, default, _) in alembic.items():
        assert default == in_toml(getattr(AlembicConfig(), key))
    django = documented("django")
    assert tuple(django) == DJANGO_KEYS
    for key, (_, default, _) in django.items():
        assert default == in_toml(getattr(DjangoConfig(), key))


def test_patterns_hold_in_a_folder_whose_name_looks_like_one(tmp_path: Path) -> None:
    root = tmp_path / "job[1]*"
    (root / "db").mkdir(parents=True)
    for name in ("b.sql", "a.sql", "[odd].sql"):
        (root / "db" / name).write_text("")
    config = load(
        root,
        "[golden.a]\nschema = ['db/?.sql', 'db/[odd].sql', 'db/a.sql']\n"
        "inputs = ['**/*.sql', 'db/b.sql']\n",
    )
    (golden,) = config.golden
    assert [builder.title for builder in builders_of(config, golden)] == [
        "db/a.sql",
        "db/b.sql",
        "db/[odd].sql",
        "db/a.sql",
    ]
    inputs = {part for part in fingerprint(config, golden).parts if part.startswith("input")}
    assert inputs == {"input db/a.sql", "input db/b.sql", "input db/[odd].sql"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("django = true", DjangoConfig(use="on")),
        ("django = false", DjangoConfig(use="off")),
        ("django = 'auto'", DjangoConfig(use="auto")),
        (
            "[django]\nrestore_migration_data = true",
            DjangoConfig(use="on", restore_migration_data=True),
        ),
        ("[django]\nuse = false\ntimeout = 5", DjangoConfig(use="off", timeout=5.0)),
        ("[django]\nuse = 'auto'\nenv = ['A']", DjangoConfig(use="auto", env=("A",))),
    ],
)
def test_what_is_said_of_django(tmp_path: Path, text: str, expected: DjangoConfig) -> None:
    assert load(tmp_path, text).django == expected


def test_a_variable_switches_django_and_leaves_the_rest(tmp_path: Path) -> None:
    text = "[django]\nrestore_migration_data = true\ninputs = ['data/*.csv']\n"
    found = load(tmp_path, text, FARM_DJANGO="off").django
    assert found == DjangoConfig(
        use="off", restore_migration_data=True, inputs=(str(tmp_path / "data/*.csv"),)
    )
    assert load_config(tmp_path / "none", environ={"FARM_DJANGO": "on"}).django.use == "on"
    with pytest.raises(ConfigError, match=r"^variable FARM_DJANGO: expected true, false, \"auto\""):
        load(tmp_path, text, FARM_DJANGO="perhaps")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("django = 3", "django: expected true, false"),
        ("[django]\nrestore = true", "django.restore: unknown key; known are: use, "),
        ("[django]\nrestore_migration_data = 'yes'", "expected true or false, got 'yes'"),
        ("[django]\ntimeout = -1", "django.timeout: expected a number of at least 0"),
    ],
)
def test_what_can_not_be_said_of_django(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(tmp_path, text)
