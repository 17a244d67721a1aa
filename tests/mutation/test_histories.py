"""Some seconds of the simulator, for mutants."""

from __future__ import annotations

import json
from unittest import mock

from tests.simulation.cloud import simulated
from tests.simulation.histories import SCENARIOS, planned, random_history
from tests.simulation.store import Item, Store

_put = Store._put


def put(self: Store, write: Item) -> None:
    """As over a wire: what is read is equal to what was written, and never the same object."""
    if "endpoints" in write["Item"]:
        write = write | {"Item": json.loads(json.dumps(write["Item"]))}
    _put(self, write)


def test_some_histories() -> None:
    with simulated(), mock.patch.object(Store, "_put", put):
        for scenario in SCENARIOS:
            assert planned(scenario, ())[0].broken is None
        for seed in range(300):
            assert random_history(seed).broken is None
