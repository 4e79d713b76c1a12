"""Which layers a configuration declares, in tables and in modules, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

import snapfarm
from snapfarm.config import load_config
from snapfarm.config_golden import LayerConfig
from snapfarm.errors import ConfigError
from snapfarm.golden.layers import declared_layers
from support.golden_project import write_files

FAR = "import snapfarm\n@snapfarm.layer('far', database='other')\ndef f(c): ..."
CIRCLE = "".join(f"[layers.{n}]\nseed=['a:b']\non='{on}'\n" for n, on in ("ab", "bc", "cb"))
TWO = "[golden.default]\n[golden.other]\n"


def declared(root: Path, toml: str, **modules: str) -> dict[str, LayerConfig]:
    write_files(root, {"farm.toml": toml, **{f"{name}.py": text for name, text in modules.items()}})
    layers = declared_layers(load_config(root, environ={}))
    return {layer.name: layer for layer in layers}


def test_tables_and_decorators_form_one_tree(tmp_path: Path) -> None:
    layers = declared(
        tmp_path,
        f"""layer_modules = ["shop", "package.more"]
        {TWO}
        [layers.last]
        on = "returns"
        seed = ["last.sql", "shop:fill"]
        timeout = 5
        [layers.reference]
        seed = ["sql/reference.sql"]
        inputs = ["data/*.csv"]
        env = ["SEED"]
        [layers.apart]
        database = "other"
        seed = ["shop:fill"]
        """,
        shop="""
from snapfarm import layer as state
import snapfarm as farm

raise SystemExit("nobody imports this")

@state("orders", on="reference", inputs=["orders.csv"], env=("DAY",), timeout=7)
def orders(conn): ...

@farm.layer(name="returns", on="orders", database=None)
async def returned(conn): ...

@other.layer("foreign")
@layer("foreign, too")
def foreign(conn): ...
""",
        **{"package/more": FAR},
    )
    # Each stands behind what it is built on.
    assert list(layers) == ["reference", "orders", "returns", "last", "apart", "far"]
    assert {name: layer.database for name, layer in layers.items()} == {
        "reference": "default", "orders": "default", "returns": "default", "last": "default",
        "apart": "other", "far": "other",
    }  # fmt: skip
    assert layers["last"].seed == (str(tmp_path / "last.sql"), "shop:fill")
    assert layers["last"].timeout == 5
    assert layers["reference"].inputs == (str(tmp_path / "data/*.csv"),)
    assert layers["reference"].env == ("SEED",)
    assert layers["orders"].seed == ("shop:orders",)
    assert layers["orders"].inputs == (str(tmp_path / "orders.csv"),)
    assert layers["orders"].env == ("DAY",)
    assert layers["orders"].timeout == 7
    assert layers["orders"].where == "shop.py:7: layer"
    assert layers["far"].seed == ("package.more:f",)


def test_the_only_database_is_a_layers_own(tmp_path: Path) -> None:
    layers = declared(tmp_path, "[golden.shop]\n[layers.a]\nseed = ['a:b']\n")
    assert layers["a"].database == "shop"


def test_a_project_without_layers_declares_none(tmp_path: Path) -> None:
    assert declared(tmp_path, "layer_modules = []\n") == {}


def test_in_pyproject_the_keys_have_their_prefix(tmp_path: Path) -> None:
    text = "[tool.farm.golden.default]\n[tool.farm.layers.a]\nsede = ['a:b']\n"
    write_files(tmp_path, {"pyproject.toml": text})
    with pytest.raises(
        ConfigError, match=r"tool\.farm\.layers\.a\.sede: unknown key; did you mean"
    ):
        load_config(tmp_path, environ={})


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[layers.a]\nseed = ['a:b']\n", "there is no golden database that a layer could be built"),
        (TWO + "[layers.a]\n", "layers.a: seed is missing"),
        (TWO + "[layers.a]\nseed = ['a']\n", r"layers.a.seed\[0\]: expected the path of an SQL"),
        (TWO + "[layers.a]\nseed = ['a:b']\non = 'z'\n", "layers.a: on = 'z' is no layer; known"),
        (TWO + "[layers.a]\nseed = ['a:b']\non = ''\n", "layers.a.on: expected a text that is not"),
        (TWO + "[layers.a]\nseed = ['a:b']\ndatabase = 'x'\n", "no golden database 'x'; known are"),
        (TWO + "[layers.base]\nseed = ['a:b']\n", "can't be named 'base'"),
        (TWO + "[layers.'a b']\nseed = ['a:b']\n", "can't be named 'a b'"),
        (TWO + "layers.a = 1\n", "layers.a: expected a table, got 1"),
        ("layers = 1\n" + TWO, r"layers: expected tables \[layers.<name>\], got 1"),
        ("layer_modules = ['nowhere']\n" + TWO, "layer_modules: there is no module 'nowhere'"),
        ("layer_modules = 1\n" + TWO, "layer_modules: expected a list"),
        (
            TWO + "[layers.a]\nseed = ['a:b']\n[layers.b]\nseed = ['a:b']\non = 'a'\n"
            "database = 'other'\n",
            "layers.b: database = 'other', but it is built on the layer 'a' of database 'default'",
        ),
        (
            TWO + CIRCLE,
            "layers.a: the layers are built on each other: 'a' on 'b' on 'c' on 'b'",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_in_tables(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        declared(tmp_path, toml.replace("[golden.other]\nlayers.a", "[golden.other]\n[layers]\na"))
    assert str(tmp_path / "farm.toml") in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("@snapfarm.layer\ndef f(c): ...", "m.py:2: layer: it has no name: write"),
        ("@snapfarm.layer()\ndef f(c): ...", "m.py:2: layer: expected one name"),
        ("@snapfarm.layer('a', 'b')\ndef f(c): ...", "expected one name"),
        ("@snapfarm.layer(NAME)\ndef f(c): ...", "its arguments are read, not run"),
        ("@snapfarm.layer('a', seed=['x'])\ndef f(c): ...", "seed is the function itself"),
        ("@snapfarm.layer('a', of='x')\ndef f(c): ...", "m.py:2: layer.of: unknown key"),
        ("@snapfarm.layer('a b')\ndef f(c): ...", "can't be named 'a b'"),
        ("class C:\n    @snapfarm.layer('a')\n    def f(c): ...", "f is no function at the top"),
        ("@snapfarm.layer('a')\nclass C: ...", "C is no function at the top level"),
        ("@snapfarm.layer('t')\ndef f(c): ...", "m.py:2: layer: the layer 't' is declared twice"),
        ("def f(:", "m.py is no valid Python"),
    ],
)
def test_what_is_wrong_in_modules(tmp_path: Path, source: str, message: str) -> None:
    toml = f"layer_modules = ['m']\n{TWO}[layers.t]\nseed = ['a:b']\n"
    with pytest.raises(ConfigError, match=message):
        declared(tmp_path, toml, m="import snapfarm\n" + source)


def test_the_decorator_returns_the_function() -> None:
    def fill() -> None: ...

    assert snapfarm.layer("some", on="other")(fill) is fill
    with pytest.raises(TypeError, match="a layer needs a name"):
        snapfarm.layer(fill)  # type: ignore[arg-type]  # on purpose
