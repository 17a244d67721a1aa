"""Two versions of the code at work on one item, as during a deployment and after a rollback.

The older one does not know the attributes about losses: to it they are what a newer version stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from link.election.state import Resource
from link.store import locks
from link.store.lock_item import from_item, to_item
from tests.simulation import cloud as simulation
from tests.simulation.cloud import Process, simulated
from tests.simulation.histories import random_history

LATER = ("n", "lo", "rd")
"""What the older version does not know, as the item has it: `losses`, `lost_at` and `ready_since`."""
FLAPPING = range(17, 400, 20)
"""Histories in which endpoints lose the lock again and again."""


@pytest.fixture(autouse=True)
def edges() -> Iterator[None]:
    with simulated():
        yield


def read_by_the_older(item: dict[str, Any]) -> Resource:
    """The resource as the older version reads it."""
    resource = from_item(item)
    for i, stored in item["endpoints"]["M"].items():
        unknown = {short: value for short, value in stored["M"].items() if short in LATER}
        resource = resource.having(
            i, replace(resource.endpoints[i], losses=0, lost_at=0, ready_since=0, unknown=unknown)
        )
    return resource


class Deployment:
    """Says which processes have the older version, and that they keep what the newer one stored."""

    def __init__(self, is_older: Any, keeps: bool = True) -> None:
        self._is_older, self._keeps = is_older, keeps
        self._versions: dict[int, bool] = {}
        self.written_by_the_older = 0
        self.lost: list[str] = []

    def from_item(self, item: dict[str, Any]) -> Resource:
        if not self._older():
            return from_item(item)
        resource = read_by_the_older(item)
        if self._keeps:
            return resource
        return replace(resource, endpoints={i: replace(e, unknown={}) for i, e in resource.endpoints.items()})

    def to_item(self, resource: Resource) -> dict[str, Any]:
        item = to_item(resource)
        if self._older():
            for i, entry in item["endpoints"]["M"].items():
                # It does not count losses; only what it read and did not know is left.
                kept = {short: value for short, value in entry["M"].items() if short not in LATER}
                entry["M"] = {**kept, **resource.endpoints[i].unknown}
            stored = simulation._clouds[0].promises.resource
            self.written_by_the_older += 1
            for i in stored.endpoints.keys() & resource.endpoints.keys():
                before, after = _losses(to_item(stored), i), _losses(item, i)
                # The write is refused when the item is another one by now.
                if stored.version == resource.version - 1 and before != after:
                    self.lost.append(f"{i}: {before} -> {after}")
        return item

    def _older(self) -> bool:
        cloud = simulation._clouds[0]
        # A process keeps its version for as long as it lives.
        return cloud.current is not None and self._versions.setdefault(
            id(cloud.current.process), bool(self._is_older(cloud.current.process))
        )


def _losses(item: dict[str, Any], endpoint_id: str) -> dict[str, Any]:
    return {short: value for short, value in item["endpoints"]["M"][endpoint_id]["M"].items() if short in LATER}


def every_other(process: Process) -> bool:
    """A deployment under way."""
    return int(process.name.rpartition("-")[2]) % 2 == 0


def after_half_a_minute(process: Process) -> bool:
    """A rollback: whatever starts from then on is the older version."""
    return process.cloud.now > simulation.START + 30_000


def play(deployment: Deployment) -> list[str]:
    """The histories with losses; returns what was broken."""
    broken = []
    with (
        mock.patch.object(locks, "from_item", deployment.from_item),
        mock.patch.object(locks, "to_item", deployment.to_item),
    ):
        for seed in FLAPPING:
            deployment._versions.clear()
            told = random_history(seed)
            if told.broken:
                broken.append(f"{seed}: {told.broken}")
    return broken


@pytest.mark.parametrize("older", [every_other, after_half_a_minute])
def test_an_older_version_keeps_what_a_newer_one_stored_and_every_promise_holds(older: Any) -> None:
    deployment = Deployment(older)
    assert play(deployment) == []
    assert deployment.written_by_the_older > 100
    assert deployment.lost == []


def test_a_version_that_erases_what_it_does_not_know_is_seen() -> None:
    deployment = Deployment(every_other, keeps=False)
    play(deployment)
    assert deployment.lost
