"""The public names of `snapfarm`: each leads somewhere, and none is imported before it is used."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import snapfarm
import snapfarm.flakes


@pytest.mark.parametrize(
    ("package", "name"),
    [(package, name) for package in (snapfarm, snapfarm.flakes) for name in package.__all__],
)
def test_a_public_name_leads_to_what_is_called_so(package: ModuleType, name: str) -> None:
    found = getattr(package, name)
    assert found.__name__ == name
    assert found.__doc__, "what is public is documented"
    assert name in dir(package)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'snapfarm' has no attribute 'Farm'"):
        snapfarm.Farm  # noqa: B018  # asking is what is tested
    with pytest.raises(AttributeError, match=r"module 'snapfarm\.flakes' has no attribute 'Farm'"):
        snapfarm.flakes.Farm  # noqa: B018  # asking is what is tested


@pytest.mark.parametrize(
    ("name", "imported"),
    [
        ("snapfarm", ["snapfarm", "snapfarm.lazily"]),
        ("snapfarm.flakes", ["snapfarm", "snapfarm.flakes", "snapfarm.lazily"]),
    ],
)
def test_importing_the_package_imports_nothing_else_of_it(name: str, imported: list[str]) -> None:
    code = f"import {name}, sys; print(*sorted(x for x in sys.modules if 'snapfarm' in x))"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.split() == imported
