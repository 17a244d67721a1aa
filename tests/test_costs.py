"""The calls of each path, counted on the wire from the event until nothing is left to do, in all invocations."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from moto import mock_aws

from link.election.state import Observer
from tests.world import World


@pytest.fixture(autouse=True)
def aws():
    with mock_aws():
        yield


def running(**lease: int) -> tuple[World, str, str]:
    """paris is active, london on standby, nothing is due, and the process is new."""
    world = World()
    paris, london = world.register("paris", **lease), world.register("london", **lease)
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    world.settle(20_000)
    world.new_process()
    return world, paris, london


def heartbeat() -> tuple[World, Callable[[], object]]:
    world, paris, _ = running()
    return world, lambda: world.report(paris, "ACTIVATED")


def leased_heartbeat() -> tuple[World, Callable[[], object]]:
    world, paris, _ = running(lease_seconds=3600)
    return world, lambda: world.report(paris, "ACTIVATED")


def minute_of_heartbeats() -> tuple[World, Callable[[], object]]:
    world, *hosts = running(lease_seconds=60)

    def minutes(number: int) -> None:
        for beat in range(3 * number):
            if beat:
                world.settle(20_000)
            for host in hosts:
                world.report(host, "ACTIVATED")

    minutes(2)
    world.settle(20_000)
    world.new_process()
    return world, lambda: minutes(1)


def duplicate() -> tuple[World, Callable[[], object]]:
    world, paris, _ = running()
    at = world.resource().endpoints[paris].words[Observer.HOST].at
    return world, lambda: world.report(paris, "ACTIVATED", at=at)


def one_webhook() -> tuple[World, Callable[[], object]]:
    world, _, london = running()
    world.report(london, "FAILING")
    world.settle(1_000)
    return world, lambda: world.report(london, "ACTIVATED")


def handover() -> tuple[World, Callable[[], object]]:
    world, paris, _ = running()
    return world, lambda: world.report(paris, "FAILING")


def failover() -> tuple[World, Callable[[], object]]:
    world, paris, _ = running()
    return world, lambda: world.operator(lambda: world.control.commands.failover(paris, "request-1"))


def refresh() -> tuple[World, Callable[[], object]]:
    world, _, _ = running()
    world.settle(world.refresh_ms - 70_000)
    world.new_process()
    return world, lambda: world.settle(80_000)


def nothing() -> tuple[World, Callable[[], object]]:
    world, _, _ = running()
    return world, lambda: world.settle(180_000)


BUDGET = tomllib.loads((Path(__file__).parent / "performance/budget.toml").read_text())["paths"]
COLUMNS = tuple(BUDGET.pop("columns"))
PATHS: dict[str, Callable[[], tuple[World, Callable[[], object]]]] = {
    "heartbeat": heartbeat,
    "heartbeat with a lease": leased_heartbeat,
    "a minute with leases of 60 s: six heartbeats": minute_of_heartbeats,
    "duplicate or late event": duplicate,
    "change of status, one webhook": one_webhook,
    "handover, two webhooks": handover,
    "failover by an operator": failover,
    "refresh": refresh,
    "three minutes without an event": nothing,
}


def spent(world: World, happens: Callable[[], object]) -> tuple[int, ...]:
    """The numbers of calls, in the order of COLUMNS, without the queries and wake-ups of the sweep."""
    world.wire.clear()
    before = len(world.receiver.requests)
    messages = world.calls["send_message"]
    happens()
    world.settle(20_000)
    wire: Counter[str] = world.wire
    wire["SendMessage"] = world.calls["send_message"] - messages
    wire["POSTs"] = len(world.receiver.requests) - before
    others = set(wire) - {*COLUMNS, "GetItem", "PutItem", "TransactWriteItems", "Query"}
    assert not others, f"calls that no column counts: {others}"
    return tuple(wire[column] for column in COLUMNS)


@pytest.mark.parametrize("path", BUDGET)
def test_what_a_path_costs(path: str) -> None:
    assert spent(*PATHS[path]()) == tuple(BUDGET[path])


def test_a_process_decrypts_the_secret_of_an_endpoint_once() -> None:
    world, paris, london = running()
    world.wire.clear()
    for _ in range(3):
        world.report(paris, "FAILING")
        world.settle(2_000)
        world.report(paris, "ACTIVATED")
        world.settle(2_000)
        world.report(london, "FAILING")
        world.settle(2_000)
        world.report(london, "ACTIVATED")
        world.settle(2_000)
    assert len(world.receiver.requests) >= 14
    assert world.wire["Decrypt"] == 2
