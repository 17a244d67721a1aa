"""A table that is restored from a backup, in the simulator: the histories of `tests.simulation.restores`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from link.election import rules
from link.election.state import Endpoint, Resource, Status
from tests.simulation.cloud import simulated
from tests.simulation.restores import restore_history

SEEDS = range(120)


@pytest.fixture(autouse=True)
def edges() -> Iterator[None]:
    with simulated():
        yield


def broken() -> Iterator[str]:
    """What is broken in each history in which something is."""
    return (told.broken for seed in SEEDS if (told := restore_history(seed)).broken)


def test_after_a_restore_every_promise_holds_for_receivers_that_remember_later_numbers() -> None:
    assert list(broken()) == []


_restore = rules.restore


def with_old_epochs(current: Resource, backup: Resource, now: int, **options: Any) -> Resource:
    restored = _restore(current, backup, now, **options)
    below = restored.epoch - backup.epoch - 1
    endpoints = {i: replace(e, epoch=e.epoch - below) for i, e in restored.endpoints.items()}
    return replace(restored, epoch=restored.epoch - below, endpoints=endpoints)


def _changed(change: Callable[[Endpoint, Endpoint], Endpoint]) -> Callable[..., Resource]:
    """The rule with each entry changed: (entry in the backup, entry after the rule)."""

    def restore(current: Resource, backup: Resource, now: int, **options: Any) -> Resource:
        restored = _restore(current, backup, now, **options)
        changed = {i: change(backup.endpoints.get(i, Endpoint(joined=now)), e) for i, e in restored.endpoints.items()}
        return replace(restored, endpoints=changed)

    return restore


def with_old_versions(current: Resource, backup: Resource, now: int, **options: Any) -> Resource:
    return replace(_restore(current, backup, now, **options), version=backup.version)


@pytest.mark.parametrize(
    ("simpler", "seen"),
    [
        pytest.param(with_old_epochs, "promise 3", id="old epochs"),
        pytest.param(_changed(lambda old, e: replace(e, sequence=old.sequence + 1)), "promise 4", id="old sequences"),
        pytest.param(
            _changed(lambda old, e: replace(e, believed_until=old.believed_until)),
            "promise 5",
            id="believed_until of the backup",
        ),
        pytest.param(
            _changed(lambda old, e: e if e.status is Status.ACTIVATED else replace(e, delivered_sequence=e.sequence)),
            "promise 3",
            id="only the holder is told",
        ),
        pytest.param(with_old_versions, "audit", id="old versions"),
    ],
)
def test_a_simpler_restore_breaks_a_promise(simpler: Callable[..., Resource], seen: str) -> None:
    with mock.patch.object(rules, "restore", simpler):
        assert any(says.startswith(seen) for says in broken())
