"""Makes a farm's golden databases ready to be sent: obtained, stored, announced.

Imported only where a project declares databases: a farm without any needs no builder and no store.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from snapfarm.broadcast import Broadcast
from snapfarm.config import FarmConfig
from snapfarm.config_golden import GoldenConfig, LayerConfig
from snapfarm.databases import django_order
from snapfarm.golden import GoldenResult, describe, obtain
from snapfarm.golden.layers import declared_layers, obtain_layers
from snapfarm.store import SnapshotStore
from snapfarm_worker.wire import Announce, DatabaseOrder


class Served(msgspec.Struct, frozen=True):
    """What there is to send, and what each worker shall do with it, in declared order."""

    goldens: tuple[GoldenResult, ...]
    broadcast: Broadcast
    orders: tuple[DatabaseOrder, ...]
    #: Of these, workers are told, and ask for those that they need.
    layers: tuple[Announce, ...] = ()
    layer_results: tuple[GoldenResult, ...] = ()


def serve(
    settings: FarmConfig,
    *,
    rebuild: bool,
    scratch: Path | None,
    say: Callable[[str], None],
) -> Served:
    """Obtain all golden databases of a configuration. Raises UserError.

    `scratch` is a folder for files of the builders; `say` gets a line of each build and result.
    """

    def on_start(golden: GoldenConfig) -> None:
        say(f"golden  {golden.name}   is being built")

    def on_layer_start(layer: LayerConfig) -> None:
        say(f"layer   {layer.name}   is being built")

    # First of all: what is wrong with them shows before anything is built.
    declared = declared_layers(settings)
    goldens = obtain(settings, rebuild=rebuild, on_start=on_start, scratch=scratch)
    layers = obtain_layers(
        settings,
        declared,
        {result.name: result for result in goldens},
        rebuild=rebuild,
        on_start=on_layer_start,
        scratch=scratch,
    )
    for result in (*goldens, *layers):
        say(describe(result))
        for note in result.notes:
            say(f"        {result.name}: {note}")
    store = SnapshotStore.sized_for(result.snapshot.manifest.size for result in (*goldens, *layers))
    broadcast = Broadcast(settings.chunk_size)
    orders = []
    for golden, result in zip(settings.golden, goldens, strict=True):
        store.put(result.snapshot)
        manifest = result.snapshot.manifest
        announce = broadcast.add(manifest, store.image(manifest.digest))
        orders.append(
            DatabaseOrder(
                announce,
                golden.ring or settings.ring,
                golden.reset or settings.reset,
                None if golden.django is None else django_order(golden.django),
            )
        )
    offers = []
    for result in layers:
        store.put(result.snapshot)
        manifest = result.snapshot.manifest
        offers.append(broadcast.add(manifest, store.image(manifest.digest), on_demand=True))
    return Served(goldens, broadcast, tuple(orders), tuple(offers), layers)
