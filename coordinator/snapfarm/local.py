"""Golden databases in a pytest run without a farm: built or cached as ever, restored here.

Nothing happens until the first test, or until a conftest connects: collecting costs nothing.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

from snapfarm.config import FarmConfig
from snapfarm.config_golden import GoldenConfig, LayerConfig
from snapfarm.errors import UserError
from snapfarm_worker.anomaly import Level
from snapfarm_worker.databases import Databases
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind

if TYPE_CHECKING:
    from snapfarm.golden import GoldenResult
    from snapfarm_worker.snapshot import Snapshot


class LocalDatabases:
    """The rings of a project's golden databases in this process, each waiting for its first use."""

    def __init__(self, config: FarmConfig, *, rebuild: bool = False) -> None:
        self._config = config
        self._rebuild = rebuild
        #: Why a golden database can't be had, by name.
        self._failed: dict[str, str] = {}
        self.anomalies = config.anomaly_policy
        #: Golden databases that were obtained together with another, until they are needed.
        self._snapshots: dict[str, Snapshot] = {}
        self.databases = Databases(policy=ResetPolicy(config.reset), sensors=Level(config.sensors))
        #: Is told of each golden database that was obtained.
        self.told: Callable[[GoldenResult], None] | None = None
        self._layers: LocalLayers | None = None
        if config.layers or config.layer_modules:
            self._layers = LocalLayers(config, self._obtain, rebuild=rebuild)
            self.databases.declare(self._layers)
        for golden in config.golden:
            ring = Ring(
                golden.name,
                functools.partial(self._load, golden),
                kind=RingKind(golden.ring or config.ring),
            )
            self.databases.add(ring, policy=ResetPolicy(golden.reset or config.reset))

    def _load(self, golden: GoldenConfig) -> Snapshot:
        result = self._obtain(golden)
        if self._layers is not None:
            self._layers.goldens[golden.name] = result
        return result.snapshot

    def _obtain(self, golden: GoldenConfig) -> GoldenResult:
        """Obtain a golden database; one that can't be had is not tried again for each test."""
        # Most plain runs of most projects have no golden database.
        from snapfarm.golden import obtain_one

        if golden.name not in self._failed:
            try:
                result = obtain_one(self._config, golden, rebuild=self._rebuild)
            except UserError as error:
                self._failed[golden.name] = str(error)
            else:
                if self.told is not None:
                    self.told(result)
                return result
        pytest.fail(self._failed[golden.name], pytrace=False)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Add the databases of a Django project that asks for golden ones, whatever runs it."""
        if self._config.django.use != "on":
            return
        from snapfarm.databases import django_order, with_django_databases
        from snapfarm_worker.django_databases import DjangoDatabases

        try:
            config = with_django_databases(session.config, self._config, _silent)
        except UserError as error:
            raise pytest.UsageError(str(error)) from error
        orders = []
        for golden in config.golden:
            if golden.django is not None:
                load = functools.partial(self._load_together, config, golden)
                ring = Ring(golden.name, load, kind=RingKind.SHARED_CACHE)
                self.databases.add(ring, managed=True)
                orders.append((django_order(golden.django), ring))
        os.environ.update(self.environment())
        session.config.pluginmanager.register(DjangoDatabases(orders), "farm-django")

    def _load_together(self, config: FarmConfig, golden: GoldenConfig) -> Snapshot:
        from snapfarm.golden import family_of, obtain_together

        if golden.name not in self._snapshots:
            try:
                results = obtain_together(config, family_of(config, golden), rebuild=self._rebuild)
            except UserError as error:
                pytest.fail(str(error), pytrace=False)
            self._snapshots.update((result.name, result.snapshot) for result in results)
        return self._snapshots.pop(golden.name)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Restore all rings before the first test, as a farm's workers do.

        Until then a ring comes to life with its first `sqlite3.connect`; but a test may also ATTACH
        its URI, which SQLite does without asking. What can't be had fails the tests that need it.
        """
        if session.config.option.collectonly:
            return
        for name in (golden.name for golden in self._config.golden):
            with contextlib.suppress(pytest.fail.Exception):
                self.databases.get(name).ensure()

    def environment(self) -> dict[str, str]:
        """Return the variables that name the rings."""
        return self.databases.environment()

    def close(self) -> None:
        """Close the rings."""
        self.databases.close()


class LocalLayers:
    """The declared layers of a project in this process, each obtained when a test asks for it."""

    def __init__(
        self,
        config: FarmConfig,
        obtain: Callable[[GoldenConfig], GoldenResult],
        *,
        rebuild: bool = False,
    ) -> None:
        """Raises ConfigError where the declarations make no sense."""
        from snapfarm.golden.layers import declared_layers

        self._config = config
        self._obtain = obtain
        self._rebuild = rebuild
        self._layers = {layer.name: layer for layer in declared_layers(config)}
        self._results: dict[str, GoldenResult] = {}
        #: Why a layer can't be had, by name.
        self._failed: dict[str, str] = {}
        #: Golden databases that were obtained anyway.
        self.goldens: dict[str, GoldenResult] = {}

    @property
    def databases(self) -> Mapping[str, str]:
        """The database of each layer."""
        return {name: str(layer.database) for name, layer in self._layers.items()}

    def snapshot(self, layer: str) -> Snapshot:
        """Return what a layer holds; one that can't be had fails each test that asks for it."""
        return self._result(self._layers[layer]).snapshot

    def _result(self, layer: LayerConfig) -> GoldenResult:
        from snapfarm.golden.layers import obtain_layer

        if layer.name in self._results:
            return self._results[layer.name]
        if layer.name not in self._failed:
            below = (
                self._golden(layer) if layer.on is None else self._result(self._layers[layer.on])
            )
            try:
                result = obtain_layer(self._config, layer, below, rebuild=self._rebuild)
            except UserError as error:
                self._failed[layer.name] = str(error)
            else:
                return self._results.setdefault(layer.name, result)
        pytest.fail(self._failed[layer.name], pytrace=False)

    def _golden(self, layer: LayerConfig) -> GoldenResult:
        name = str(layer.database)
        if name not in self.goldens:
            golden = next(each for each in self._config.golden if each.name == name)
            self.goldens[name] = self._obtain(golden)
        return self.goldens[name]


def _silent(line: str) -> None:
    """Tell nobody: a run without a farm looks as if there were none."""
    del line
