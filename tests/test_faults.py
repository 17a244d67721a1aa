"""A fault before and after every external call: nothing is lost, and soon the receiver knows the truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest
from moto import mock_aws

from link.election.result import Result, ResultKind
from link.election.state import Observer
from tests.world import VISIBILITY_MS, World

Scenario = Callable[[World], None]


def handover(world: World) -> None:
    """Two hosts boot, the winner fails and comes back."""
    paris, london = world.register("paris"), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    world.report(paris, "FAILING")
    world.settle(2_000)
    world.report(paris, "ACTIVATED")


def failing_receiver(world: World) -> None:
    """The receiver fails while the lock changes hands."""
    paris, london = world.register("paris"), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    world.receiver.answers = [
        Result(ResultKind.ANSWERED, "status_503", 503),
        Result(ResultKind.MAYBE_RECEIVED, "timeout"),
    ]
    world.report(paris, "STANDBY")
    world.settle(10_000)


def operators(world: World) -> None:
    """A failover and the deletion of the new holder."""
    paris, london = world.register("paris"), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    world.settle(VISIBILITY_MS + 1_000)
    world.operator(lambda: unless_done(world, "london", lambda: world.control.commands.failover(paris, "failover-1")))
    world.settle(2_000)
    world.operator(lambda: unless_gone(world, "london", lambda: world.control.commands.delete(london, "delete-1")))


def leases(world: World) -> None:
    """The holder falls silent; its lease ends; the refresh of the next one comes."""
    paris, london = world.register("paris", lease_seconds=5), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    world.settle(10_000)
    world.settle(310_000)


def unless_done(world: World, holder: str, command: Callable[[], object]) -> None:
    if world.holder() != holder:
        command()


def unless_gone(world: World, host: str, command: Callable[[], object]) -> None:
    if any(world.name(i) == host and not e.deleting for i, e in world.resource().endpoints.items()):
        command()


def check(world: World) -> None:
    """What must be true at any quiet moment."""
    resource = world.resource()
    pending = {world.name(i): e.sequence for i, e in resource.endpoints.items() if e.pending}
    assert not pending, "every latest status was delivered"
    assert world.receiver.active() == resource.holder, "the receiver knows the truth"
    assert not [i for i, e in resource.endpoints.items() if e.deleting], "who was deleted is gone"
    assert world.registered() == {world.name(i) for i in resource.endpoints}, "registrations and entries go together"
    epochs = defaultdict(set)
    last: dict[str, int] = defaultdict(int)
    for r in world.receiver.requests:
        assert r.sequence >= last[r.endpoint_id], "nothing older after something newer"
        last[r.endpoint_id] = r.sequence
        if r.status == "ACTIVATED":
            epochs[r.epoch].add(r.endpoint_id)
    assert all(len(holders) == 1 for holders in epochs.values()), "no epoch twice"


def outcome(world: World) -> object:
    """What the end of a story may not depend on: who holds the lock may, a ready holder keeps it."""
    endpoints = world.resource().endpoints
    ready = {i for i, e in endpoints.items() if e.ready(world.clock.now())}
    holder = world.resource().holder
    assert holder in ready if ready else holder is None, "of those that are ready one is active"
    return {world.name(i): e.words[Observer.HOST].status for i, e in endpoints.items()}, world.registered()


SCENARIOS = [handover, failing_receiver, operators, leases]


def crash_at_every_point(scenario: Scenario, *, in_memory: bool, step: int = 1) -> int:
    """Plays the scenario once for every so many-th point, with a crash there; returns how many there were."""
    faultless = World(in_memory=in_memory)
    scenario(faultless)
    faultless.settle(75_000)
    check(faultless)

    points = range(0, len(faultless.points), step)
    for point in points:
        world = World(in_memory=in_memory, crash_at=point)
        try:
            scenario(world)
            world.settle(75_000)
        except Exception as error:
            raise AssertionError(f"crash at point {point}, {faultless.points[point]}") from error
        assert world.crash_at is None, f"point {point} was not passed"
        try:
            world.settle(75_000)
            check(world)
            world.settle(200_000)
            check(world)
            assert outcome(world) == outcome(faultless)
        except AssertionError as error:
            raise AssertionError(f"after a crash at point {point}, {faultless.points[point]}: {error}") from error
    return len(points)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_crash_at_any_external_call_loses_nothing(scenario: Scenario, record_property: Callable[..., None]) -> None:
    tried = crash_at_every_point(scenario, in_memory=True)
    assert tried > 40
    record_property("fault points, each tried", tried)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_crash_loses_nothing_through_boto3(scenario: Scenario) -> None:
    """The same at some points with real clients, so that the store in memory does not answer for itself alone."""
    with mock_aws():
        assert crash_at_every_point(scenario, in_memory=False, step=40) >= 2
