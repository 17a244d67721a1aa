"""The simulator for some seconds, to find mutants."""

from __future__ import annotations

from tests.simulation.cloud import simulated
from tests.simulation.histories import SCENARIOS, planned, random_history


def test_some_histories() -> None:
    with simulated():
        for scenario in SCENARIOS:
            assert planned(scenario, ())[0].broken is None
        for seed in range(300):
            assert random_history(seed).broken is None
