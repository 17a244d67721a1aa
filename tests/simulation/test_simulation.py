"""Some seconds of the simulator in every test run; `make simulate` and `make simulate-scopes` are the long ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.simulation.cloud import FAULTS, RECEIVER_FAULTS, simulated
from tests.simulation.histories import SCENARIOS, observed_history, planned, plans, random_history

SEEDS = 1_200
OBSERVED = 300
PARTS = 6


@pytest.fixture(autouse=True)
def edges() -> Iterator[None]:
    with simulated():
        yield


@pytest.mark.parametrize("part", range(PARTS))
def test_random_histories_keep_every_promise(part: int) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(part, SEEDS, PARTS):
        told = random_history(seed)
        assert told.broken is None, f"python -m tests.simulation --seed {seed}"
        kinds.update({fault.partition(" at ")[0]: n for fault, n in told.faults.items()})
    assert {*FAULTS, *RECEIVER_FAULTS} <= set(kinds), "a kind of fault that was never tried"


def test_histories_with_several_observers_keep_every_promise() -> None:
    for seed in range(OBSERVED):
        assert observed_history(seed).broken is None, f"python -m tests.simulation --observers --seed {seed}"


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(58_820, id="a failover whose answer was lost is overtaken by another before it is tried again"),
    ],
)
def test_a_history_that_once_broke_a_promise_keeps_it(seed: int) -> None:
    assert random_history(seed).broken is None


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_single_fault_in_a_small_scenario(scenario: str) -> None:
    told, seen = planned(scenario, ())
    assert told.broken is None
    assert told.requests >= 2
    assert len(seen) > 20
    for plan in plans(seen):
        told, _ = planned(scenario, plan)
        assert told.broken is None, plan
        assert told.faults.total() >= 1, f"{plan} was not reached"


def test_a_host_cannot_report_for_another_one() -> None:
    assert planned("host identity changed under way", ())[0].broken is None


def test_a_seed_is_the_same_history_every_time() -> None:
    first, second = random_history(3, traced=True), random_history(3, traced=True)
    assert first.trace == second.trace
    assert first.trace
