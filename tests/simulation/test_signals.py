"""Histories with AWS's signals, in the simulator; and that each guard of the signaller is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count
from typing import Any
from unittest import mock

import pytest

from link.election.state import Status
from link.signaller import Signaller
from link.signals import words
from link.signals.words import Observed, Word
from tests.simulation.cloud import simulated
from tests.simulation.signals import signalled_history

SEEDS = range(60)
_arrived = count(1)


@pytest.fixture(autouse=True)
def edges() -> Iterator[None]:
    with simulated():
        yield


def test_with_events_that_are_lost_doubled_and_disordered_every_promise_holds() -> None:
    assert [told.broken for seed in SEEDS if (told := signalled_history(seed)).broken] == []


def as_it_comes(at: int, version: int, status: Status | None) -> tuple[int, int, int]:
    """The order in which states are heard, in place of the one in which they were."""
    return (next(_arrived) if status else 0), 0, 0


def despite_its_end(word: Word, now: int) -> bool:
    return word.warned_at > 0 and now < word.warned_until


@pytest.mark.parametrize(
    ("without", "seed"),
    [
        pytest.param(lambda: mock.patch.object(Signaller, "look", lambda *_: {}), 0, id="no look"),
        pytest.param(lambda: mock.patch.object(Signaller, "_compared", lambda *_: {}), 2, id="no comparison"),
        pytest.param(lambda: mock.patch.object(Observed, "untold", property(lambda _: False)), 0, id="not told again"),
        pytest.param(lambda: mock.patch.object(Word, "warns", lambda *_: False), 7, id="no hold"),
        pytest.param(lambda: mock.patch.object(Word, "warns", despite_its_end), 4, id="a hold that does not end"),
        pytest.param(lambda: mock.patch.object(words, "_order", as_it_comes), 0, id="no order"),
    ],
)
def test_without_a_guard_a_word_is_not_the_truth(without: Callable[[], AbstractContextManager[Any]], seed: int) -> None:
    assert signalled_history(seed).broken is None
    with without():
        assert str(signalled_history(seed).broken).startswith("promise 6 at the end")
