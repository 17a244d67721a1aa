"""Histories with probes, in the simulator; and that each guard of the prober is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from link.prober import Prober
from link.probing import states
from link.probing.states import Shard
from tests.simulation.cloud import simulated
from tests.simulation.probes import probed_history

SEEDS = range(60)


@pytest.fixture(autouse=True)
def edges() -> Iterator[None]:
    with simulated():
        yield


def broken(seeds: range = SEEDS) -> Iterator[str]:
    """What is broken in each history in which something is."""
    return (told.broken for seed in seeds if (told := probed_history(seed)).broken)


def test_with_a_prober_that_is_blind_late_or_cut_off_every_promise_holds() -> None:
    assert list(broken()) == []


_judge = states.judge


def judge_despite_lag(shard: Shard, reasons: Mapping[str, str], now: int, **_: Any) -> Any:
    return _judge(shard, reasons, now)


@pytest.mark.parametrize(
    ("without", "seed", "seen"),
    [
        pytest.param(
            lambda: mock.patch.object(Prober, "_blind", lambda *_: False), 65, "promise 6", id="no references"
        ),
        pytest.param(lambda: mock.patch.object(Prober, "_last", lambda *_: set()), 0, "promise 7", id="not the last"),
        pytest.param(
            lambda: mock.patch.object(states, "compared", lambda shard, _: shard), 6, "promise 6", id="no comparison"
        ),
        pytest.param(lambda: mock.patch.object(states, "judge", judge_despite_lag), 14, "promise 6", id="lag"),
    ],
)
def test_without_a_guard_a_promise_breaks(
    without: Callable[[], AbstractContextManager[Any]], seed: int, seen: str
) -> None:
    assert probed_history(seed).broken is None
    with without():
        assert str(probed_history(seed).broken).startswith(seen)
