"""The nine promises. `make prove WHAT=promises` breaks each one and requires that its test here fails."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
from moto import mock_aws

from link.election.result import Result, ResultKind
from link.election.state import Observer
from tests.support.ids import RESOURCE
from tests.world import START, World, tables

DOWN = Result(ResultKind.ANSWERED, "status_500", 500)
HANGS = Result(ResultKind.MAYBE_RECEIVED, "timeout")


@pytest.fixture(autouse=True)
def aws():
    with mock_aws():
        yield


def two(world: World) -> tuple[str, str]:
    return world.register("paris"), world.register("london")


def running(**settings: int) -> tuple[World, str, str]:
    """paris is active, london on standby, everything is delivered."""
    world = World(**settings)
    paris, london = two(world)
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    world.settle(20_000)
    return world, paris, london


def race(scenario, rival, *, in_memory: bool = True) -> Iterator[World]:
    """Yield the world after `scenario`, once per point in it: `rival` happens at that point."""
    probe = World(in_memory=in_memory)
    scenario(probe, two(probe))
    first = len(probe.points)
    start = World(in_memory=in_memory)
    two(start)
    assert first - len(start.points) > 10
    for number in range(len(start.points), first):
        world = World(in_memory=in_memory)
        ids = two(world)
        world.meanwhile[number] = lambda world=world, ids=ids: rival(world, ids)
        scenario(world, ids)
        assert not world.meanwhile, f"point {number} was not passed"
        world.settle(75_000)
        yield world


def one_reports(world: World, ids: tuple[str, str]) -> None:
    world.report(ids[0], "ACTIVATED")


def other_reports(world: World, ids: tuple[str, str]) -> None:
    world.invoke({"event": world.event(ids[1], "ACTIVATED")})


def other_takes_over(world: World, ids: tuple[str, str]) -> None:
    world.invoke({"event": world.event(ids[1], "ACTIVATED")})
    world.invoke({"event": world.event(ids[0], "FAILING", at=world.clock.now() + 1)})


def test_promise_1_one_holder() -> None:
    """However two reports interleave, the audit never shows two endpoints ACTIVATED."""
    for world in itertools.chain(race(one_reports, other_reports), race(one_reports, other_takes_over)):
        active: set[str] = set()
        for change in itertools.chain.from_iterable(world.changes()):
            (active.add if change["to"] == "ACTIVATED" else active.discard)(change["endpoint_id"])
            assert len(active) <= 1 or _same_commit(world, active)
        assert world.holder() is not None
        assert {world.name(i) for i in active} == {world.holder()}


def _same_commit(world: World, active: set[str]) -> bool:
    """Whether one commit made all these changes: then their order means nothing."""
    return any(active <= {c["endpoint_id"] for c in changes} for changes in world.changes())


def test_promise_2_fencing() -> None:
    """Every grant of the lock has its own epoch in every race, and deleting all endpoints does not reset the epoch."""
    # First on moto, which evaluates the write's condition itself.
    on_moto = race(one_reports, other_reports, in_memory=False)
    for world in itertools.chain(on_moto, race(one_reports, other_takes_over)):
        granted = [(r.epoch, r.endpoint_id) for r in world.receiver.requests if r.status == "ACTIVATED"]
        assert len({epoch for epoch, _ in granted}) == len(set(granted))
        epochs = [int(item["epoch"]["N"]) for item in world.transitions()]
        assert epochs == sorted(epochs)
        grants = [c for changes in world.changes() for c in changes if c["to"] == "ACTIVATED"]
        assert epochs[-1] == len(grants)

    world, paris, london = running()
    for endpoint_id in (london, paris):
        world.operator(lambda endpoint_id=endpoint_id: world.control.commands.delete(endpoint_id, "r"))
    assert world.registered() == set()
    world.report(world.register("paris"), "ACTIVATED")
    assert world.resource().epoch == 2


def test_promise_3_nothing_is_lost() -> None:
    """A receiver that was down gets what it missed, the STANDBY too; a superseded status is not sent again."""
    world, paris, _ = running()
    world.receiver.always = Result(ResultKind.NOT_SENT, "connect")
    world.report(paris, "FAILING")
    world.settle(300_000)
    assert world.receiver.active() == paris, "nothing arrived while it was down"
    assert world.holder() == "london"
    world.receiver.always = None
    world.settle(600_000)
    assert world.receiver.delivered()[2:4] == [("paris", "STANDBY", 1, 2), ("london", "ACTIVATED", 2, 2)]
    assert not any(e.pending for e in world.resource().endpoints.values())


def test_promise_4_order() -> None:
    """An endpoint has one attempt at a time, and no older status is sent after a newer one."""
    probe = World()
    probe.report(two(probe)[0], "ACTIVATED")
    sending = probe.points.index("post before")

    world = World()
    paris, _ = two(world)

    def while_it_is_in_flight() -> None:
        world.invoke({"event": world.event(paris, "FAILING", at=world.clock.now() + 1)})
        world.invoke({"resource_id": RESOURCE, "due_at": world.resource().due_at})
        assert world.resource().endpoints[paris].sequence == 2
        assert world.receiver.requests == [], "the STANDBY waits for the attempt under way"

    world.meanwhile[sending] = while_it_is_in_flight
    world.report(paris, "ACTIVATED")
    world.settle(20_000)
    assert [(r.status, r.sequence) for r in world.receiver.requests] == [("ACTIVATED", 1), ("STANDBY", 2)]

    # A sender that was stopped between its claim and its bytes sends nothing, because another one has sent.
    claimed = max(n for n in range(sending) if probe.points[n] == "dynamodb.transact_write_items after")
    assert sending - claimed >= 4, "it reads the registration and decrypts the secret"
    for stopped in range(claimed, sending + 1):
        world = World(in_memory=True)
        paris, _ = two(world)

        def another_sends(world: World = world, paris: str = paris) -> None:
            world.settle(16_000)
            world.report(paris, "FAILING")
            assert [r.status for r in world.receiver.requests][-1:] == ["STANDBY"]

        world.meanwhile[stopped] = another_sends
        world.report(paris, "ACTIVATED")
        world.settle(75_000)
        sequences = [r.sequence for r in world.receiver.requests]
        assert not world.meanwhile and sequences == sorted(sequences) and sequences[-1] == 2


def test_promise_5_break_before_make() -> None:
    """The new holder's ACTIVATED comes after the old one's STANDBY, or a second after the STANDBY's first attempt."""
    world, paris, _ = running()
    world.report(paris, "FAILING")
    world.settle(5_000)
    assert world.receiver.delivered()[2:] == [("paris", "STANDBY", 1, 2), ("london", "ACTIVATED", 2, 2)]

    # The old holder's receiver does not answer: the handover waits for one second after the first attempt.
    world, paris, _ = running()
    world.receiver.always = HANGS
    reported_at = world.clock.now()
    world.report(paris, "FAILING")
    world.settle(3_000)
    later = [r for r in world.receiver.requests if r.at > reported_at]
    standby = next(r.at for r in later if r.status == "STANDBY")
    activated = next(r.at for r in later if r.status == "ACTIVATED")
    assert 1_000 <= activated - standby <= 1_100

    # An attempt that ends before it begins, because the registration changes after its claim, does not count.
    def fails(world: World, paris: str) -> None:
        world.report(paris, "FAILING")
        world.settle(5_000)

    probe, paris, _ = running()
    before = len(probe.points)
    fails(probe, paris)
    reading = before + probe.points[before:].index("dynamodb.transact_write_items after")
    world, paris, _ = running()
    changed = {"plugin_config": {"secret": "another", "headers": {}}}
    world.meanwhile[reading] = lambda: world.control.commands.change(paris, changed, "request")
    world.receiver.refuses = lambda *_: False
    fails(world, paris)
    assert not world.meanwhile
    assert world.receiver.delivered()[2:] == [("paris", "STANDBY", 1, 2), ("london", "ACTIVATED", 2, 2)]

    # The same if the answer takes longer than the sender waits.
    world, paris, _ = running()
    world.receiver.answers_after_ms = 6_000
    reported_at = world.clock.now()
    world.report(paris, "FAILING")
    first = {r.status: r.at for r in reversed(world.receiver.requests) if r.at > reported_at}
    assert 1_000 <= first["ACTIVATED"] - first["STANDBY"] <= 1_100
    assert not any(not e.pending for e in world.resource().endpoints.values())


def test_promise_6_convergence() -> None:
    """Reports in any order, any number of times, end in the same reported state and one holder among the ready ones."""
    story = [("paris", "ACTIVATED", 1), ("london", "ACTIVATED", 2), ("paris", "FAILING", 3), ("london", "STANDBY", 3)]
    for order in itertools.permutations(story):
        world = World(in_memory=True)
        ids = dict(zip(("paris", "london"), two(world), strict=True))
        for host, status, second in [*order, *order]:
            world.report(ids[host], status, at=START + second)
        world.settle(75_000)
        reported = {world.name(i): e.words[Observer.HOST].status for i, e in world.resource().endpoints.items()}
        assert reported == {"paris": "FAILING", "london": "STANDBY"}
        assert world.holder() is None and world.receiver.active() is None
        messages = [r.message_id for r in world.receiver.requests]
        assert len(messages) == len(set(messages)), "no message is sent twice"
        world.report(ids["paris"], "ACTIVATED")
        world.report(ids["london"], "ACTIVATED")
        world.settle(75_000)
        assert world.holder() in ("paris", "london")
        assert world.name(world.receiver.active() or "") == world.holder()


def test_promise_7_liveness() -> None:
    """There is a holder at once after an event, within 1 s after a lease's end, and within a sweep after any loss."""
    world = World()
    paris, london = world.register("paris", lease_seconds=30), world.register("london")
    world.report(paris, "ACTIVATED")
    assert world.holder() == "paris"
    world.report(london, "ACTIVATED")
    lease_ends = world.resource().endpoints[paris].lease_expires_at or 0
    world.settle(60_000)
    assert world.holder() == "london"
    taken_over_at = int(world.transitions()[-1]["at"]["N"])
    assert lease_ends <= taken_over_at <= lease_ends + 1_000

    world = World()
    paris, london = world.register("paris", lease_seconds=30), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    world.queue.messages.clear()
    world.settle(30_000 + 60_000)
    assert world.holder() == "london", "the sweep finds it, although every message was lost"

    # Two hosts that fail again and again get the lock less often, but one that stays up gets it after five seconds.
    world = World(in_memory=True)
    hosts = two(world)
    for turn in range(120):
        world.report(hosts[turn % 2], "FAILING")
        world.report(hosts[1 - turn % 2], "ACTIVATED")
        world.settle(1_000)
    last_minute = [r for r in world.receiver.requests if r.at > world.clock.now() - 60_000]
    assert len(last_minute) <= 15, "150 without damping"
    assert world.holder() is None
    world.settle(5_000)
    assert world.holder() == "paris"


def test_promise_8_refresh() -> None:
    """The holder's ACTIVATED is sent again once per interval, a STANDBY never. A refresh has its own message id."""
    world, paris, _ = running(refresh_ms=120_000)
    before = len(world.receiver.requests)
    world.settle(10 * 120_000)
    refreshes = world.receiver.requests[before:]
    assert {(r.endpoint_id, r.status, r.epoch, r.sequence, r.reason) for r in refreshes} == {
        (paris, "ACTIVATED", 1, 1, "refresh")
    }
    gaps = [b.at - a.at for a, b in itertools.pairwise(refreshes)]
    assert len(refreshes) >= 9 and all(120_000 <= gap <= 121_000 for gap in gaps)
    assert len({r.message_id for r in refreshes}) == len(refreshes)


@pytest.mark.parametrize("attack", ["url", "ciphertext of another"])
def test_promise_9_secrets(attack: str) -> None:
    """An attacker who can write the tables cannot make us use a secret for another url or endpoint."""
    world, paris, london = running()
    table, item = tables(world).endpoints, {}
    item = table.get_item(paris)
    if attack == "url":
        item["url"] = {"S": "http://attacker.example.com/"}
    else:
        item["ciphertext"] = table.get_item(london)["ciphertext"]
    table.put_item(item)
    world.new_process()
    sent = len(world.receiver.requests)
    world.report(paris, "STANDBY")
    world.settle(10_000)
    assert not [r for r in world.receiver.requests[sent:] if r.endpoint_id == paris]
    entry = world.resource().endpoints[paris]
    assert entry.failure_kind == "unreadable" and entry.failure_reason.startswith("secret_unreadable")
    everything = json.dumps([tables(world).locks.all(), world.transitions(), world.queue.messages], default=str)
    for secret in world.receiver.secrets.values():
        assert secret not in everything
