"""Observers that disagree for a long time, and an operator's drain: told on the simulated cloud, with every promise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws

from link.election.state import Status
from tests.world import World

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000


@pytest.fixture(autouse=True)
def aws() -> Iterator[None]:
    with mock_aws():
        yield


def watched(ready_when: str) -> tuple[World, str, str]:
    """paris is active on the words of its host and its probe; london waits."""
    world = World()
    both: dict[str, Any] = {"observers": ["host", "probe"], "ready_when": ready_when}
    paris, london = world.register("paris", **both), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(paris, "ACTIVATED", source="link.probe")
    world.report(london, "ACTIVATED")
    world.settle(20 * SECOND)
    return world, paris, london


def heartbeats(world: World, endpoint_id: str, milliseconds: int) -> set[str | None]:
    """Everybody who held the lock while the host of an endpoint reported every 20 s."""
    holders = set()
    for _ in range(milliseconds // (20 * SECOND)):
        world.report(endpoint_id, "ACTIVATED")
        holders.add(world.resource().holder)
        world.settle(20 * SECOND)
    return holders | {world.resource().holder}


def changes(world: World) -> int:
    """How often a status changed so far."""
    return sum(e.sequence for e in world.resource().endpoints.values())


def test_ten_minutes_of_heartbeats_against_a_failing_probe_change_nothing_after_the_first_change() -> None:
    world, paris, london = watched("all")
    world.report(paris, "FAILING", source="link.probe")
    world.settle(SECOND)
    before = changes(world)
    assert heartbeats(world, paris, 10 * MINUTE) == {london}
    assert changes(world) == before
    assert world.resource().endpoints[paris].status is Status.FAILING


def test_with_any_a_failing_probe_changes_nothing_at_all() -> None:
    world, paris, _ = watched("any")
    before = changes(world)
    world.report(paris, "FAILING", source="link.probe")
    assert heartbeats(world, paris, 10 * MINUTE) == {paris}
    assert changes(world) == before


def test_an_hour_of_heartbeats_never_elects_a_drained_endpoint_and_an_undrain_pushes_nobody_out() -> None:
    world, paris, london = watched("any")
    world.control.commands.change(paris, {"drained": True}, "drain")
    world.settle(SECOND)
    assert heartbeats(world, paris, HOUR) == {london}
    world.control.commands.change(paris, {"drained": False}, "undrain")
    world.settle(SECOND)
    assert world.resource().holder == london
    world.report(london, "FAILING")
    assert world.resource().holder == paris, "it is a candidate at once"


def test_a_source_is_the_same_observer_under_both_names_of_a_host() -> None:
    world, paris, london = watched("all")
    at = world.clock.now()
    world.report(paris, "FAILING", source="link.host.paris", at=at)
    world.report(paris, "ACTIVATED", at=at - 1)
    assert world.resource().holder == london, "an older report does not win because it comes from another source"
