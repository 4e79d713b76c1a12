"""Obtaining golden databases: cache or build, and what the user is told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from snapfarm.config import FarmConfig, load_config
from snapfarm.config_golden import GoldenConfig
from snapfarm.errors import ConfigError, GoldenBuildError
from snapfarm.golden import GoldenResult, describe, obtain
from snapfarm_worker.snapshot import digest_of
from support.golden_project import write_files

FARM = """
[golden.main]
schema = ["schema.sql"]
seed = ["seeds:fill"]

[golden.other]
schema = ["other.sql"]
"""


@pytest.fixture
def config(tmp_path: Path) -> FarmConfig:
    write_files(
        tmp_path,
        {
            "farm.toml": FARM,
            "schema.sql": "CREATE TABLE t(x);",
            "other.sql": "CREATE TABLE o(x);",
            "seeds.py": "import helper\ndef fill(conn):\n    helper.fill(conn)\n",
            "helper.py": "def fill(conn):\n    conn.execute('INSERT INTO t VALUES (1)')\n",
        },
    )
    return load_config(tmp_path, environ={})


def obtained(
    config: FarmConfig, *, rebuild: bool = False
) -> tuple[list[str], tuple[GoldenResult, ...]]:
    """Return the names of the databases that were built, and the results."""
    built: list[str] = []
    results = obtain(config, rebuild=rebuild, on_start=lambda golden: built.append(golden.name))
    return built, results


def test_the_second_time_it_comes_from_the_cache(config: FarmConfig) -> None:
    built, first = obtained(config)
    assert built == ["main", "other"]
    assert [result.name for result in first] == ["main", "other"]
    assert not any(result.cached for result in first)
    note = "callable seeds:fill left changes uncommitted: they were committed"
    assert first[0].notes == (note,)
    assert type(first[0].snapshot.data) is bytes

    built, second = obtained(config)
    assert built == []
    assert second == tuple(msgspec.structs.replace(result, cached=True) for result in first)
    assert describe(second[1]).startswith("golden  other   8.2 kB   1 table   built 0.")
    assert describe(second[1]).endswith(f" s (cached: {second[1].fingerprint[:6]})")

    # A change two imports away is seen, only its database is built, and the reason is given.
    with (config.root / "helper.py").open("a") as file:
        file.write("# changed\n")
    built, third = obtained(config)
    assert built == ["main"]
    assert third[0].notes == (note, "built again, because module helper.py changed")

    built, fourth = obtained(config, rebuild=True)
    assert built == ["main", "other"]
    assert not any(result.cached for result in fourth)
    assert obtained(config)[0] == []


def test_a_damaged_cache_costs_a_build_and_a_note(config: FarmConfig) -> None:
    config = msgspec.structs.replace(config, golden=config.golden[1:])
    (first,) = obtain(config)
    image = config.cache_path / "golden" / "other" / first.fingerprint / "image.sqlite"
    data = bytearray(image.read_bytes())
    data[4000] ^= 1
    image.write_bytes(data)
    built, (second,) = obtained(config)
    assert built == ["other"]
    assert second.snapshot == first.snapshot
    assert "is damaged: its image.sqlite differs from its digest" in second.notes[0]
    assert obtained(config)[0] == []


def test_without_a_usable_cache_it_is_built_each_time(config: FarmConfig) -> None:
    (config.root / "file").write_text("")
    config = msgspec.structs.replace(config, golden=config.golden[1:], cache_dir="file/cache")
    for _ in range(2):
        built, (result,) = obtained(config)
        assert built == ["other"]
        assert "not kept in the cache" in result.notes[-1]


def test_two_farms_may_build_the_same_at_once(config: FarmConfig) -> None:
    config = msgspec.structs.replace(config, golden=config.golden[1:])
    with ThreadPoolExecutor(2) as pool:
        results = [future.result() for future in [pool.submit(obtain, config) for _ in range(2)]]
    for (result,) in results:
        assert digest_of(result.snapshot.data) == result.snapshot.manifest.digest
        assert result.notes == ()
    assert obtained(config)[0] == []


def test_inputs_that_change_while_they_are_built_from_are_not_kept(config: FarmConfig) -> None:
    (config.root / "seeds.py").write_text(
        "from pathlib import Path\n"
        "def fill(conn):\n"
        "    Path('schema.sql').write_text('CREATE TABLE t(x, y);')\n"
    )
    config = msgspec.structs.replace(config, golden=config.golden[:1])
    (result,) = obtain(config)
    assert result.notes == ("not kept in the cache: its inputs changed while it was built",)
    assert not (config.cache_path / "golden" / "main" / result.fingerprint).exists()


def test_a_failed_build_keeps_nothing(config: FarmConfig) -> None:
    (config.root / "other.sql").write_text("CREATE TABLE o(x) NONSENSE;")
    config = msgspec.structs.replace(config, golden=config.golden[1:])
    for _ in range(2):
        with pytest.raises(GoldenBuildError, match=r"other\.sql, line 1: "):
            obtain(config)
    assert not (config.cache_path / "golden" / "other").exists()


def test_patterns_that_match_nothing_are_noted(config: FarmConfig) -> None:
    golden = GoldenConfig(name="a", inputs=("data/*.csv",))
    (result,) = obtain(msgspec.structs.replace(config, golden=(golden,)))
    assert result.notes == (
        "the golden database has no tables",
        "data/*.csv matches no file (key inputs)",
    )


def test_nothing_is_built_when_a_file_is_missing(config: FarmConfig) -> None:
    (config.root / "schema.sql").unlink()
    with pytest.raises(ConfigError, match=r"farm\.toml: golden\.main\.schema\[0\]: .*schema\.sql"):
        obtained(config)


def test_a_farm_without_databases_obtains_none(tmp_path: Path) -> None:
    assert obtain(FarmConfig(root=tmp_path)) == ()
    assert list(tmp_path.iterdir()) == []
