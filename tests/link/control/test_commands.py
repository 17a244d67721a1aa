"""Commands without HTTP. tests/functions tests them through the API, tests/test_promises.py with deliveries."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from link.election.state import Resource
from link.errors import Conflict, Invalid, NotFound
from link.registration import Registration
from link.store.endpoints import from_item
from link.store.locks import Locks
from tests.support.ids import RESOURCE, URL
from tests.world import World, tables

BODY = {"plugin": "webhook", "plugin_config": {"url": URL, "resource_id": RESOURCE, "secret": "s"}}
CHECK = {"type": "TCP", "host": "203.0.113.9", "port": 80}


def stored(world: World, endpoint_id: str) -> Registration:
    """The registration in the table."""
    return from_item(tables(world).endpoints.get_item(endpoint_id))


# Registering


def test_every_problem_of_endpoint_and_plugin_is_listed_at_once(world: World) -> None:
    body = {
        "plugin": "webhook",
        "plugin_config": {"url": "ftp://paris", "headers": {"Host": "x"}},
        "checks": [{}],
        "healthcheck_interval": -1,
        "host": "",
        "priority": 1_001,
        "lease_seconds": 4,
    }
    with pytest.raises(Invalid) as invalid:
        world.control.commands.create(body, "request")
    assert set(invalid.value.errors) == {
        "plugin_config.url",
        "plugin_config.resource_id",
        "plugin_config.secret",
        "plugin_config.headers.Host",
        "0",
        "healthcheck_interval",
        "host",
        "priority",
        "lease_seconds",
    }
    assert world.registered() == set()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({**BODY, "plugin": "arp"}, id="unknown"),
        pytest.param({"plugin_config": BODY["plugin_config"]}, id="none"),
        pytest.param({**BODY, "plugin": ["webhook"]}, id="a list"),
        *(pytest.param(body, id=f"body {body!r}") for body in (None, [], "x", 7, True)),
    ],
)
def test_without_a_known_plugin_nothing_else_is_validated(world: World, body: object) -> None:
    with pytest.raises(Invalid) as invalid:
        world.control.commands.create(body, "request")
    assert invalid.value.errors == {"plugin": ["plugin not found: use webhook"]}


def test_a_create_whose_repetition_was_faster_stores_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if something else is due at that moment, which a commit would write."""
    paris = world.register("paris", lease_seconds=60)
    world.report(paris, "ACTIVATED")
    first = world.control.commands.create(BODY, "one", "token")
    world.clock.at += 61_000
    read, stale = Locks.read, iter([Resource(RESOURCE)])
    monkeypatch.setattr(Locks, "read", lambda self, resource_id: next(stale, None) or read(self, resource_id))

    assert world.control.commands.create(BODY, "two", "token") == first

    assert world.registered() == {"paris", first["id"]}
    assert set(world.resource().endpoints) == {paris, first["id"]}


# Changing


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"healthchecks": [CHECK]}, {"checks": (CHECK,)}),
        ({"healthcheck_interval": 20}, {"healthcheck_interval": 20}),
        ({"priority": 7}, {"priority": 7}),
        ({"lease_seconds": 5}, {"lease_seconds": 5}),
        ({"lease_seconds": None}, {"lease_seconds": None}),
    ],
)
def test_one_field_changes_and_the_ciphertext_stays(world: World, body: dict[str, Any], fields: dict[str, Any]) -> None:
    paris = world.register("paris", lease_seconds=60)
    before = stored(world, paris)
    world.control.commands.change(paris, body, "request")
    assert stored(world, paris) == replace(before, revision=2, **fields)
    assert world.resource().endpoints[paris].revision == 2


@pytest.mark.parametrize("body", [None, {}, {"priority": None}, {"plugin_config": {}}, {"host": "paris"}])
def test_a_change_that_changes_nothing_writes_nothing(world: World, body: object) -> None:
    paris = world.register("paris")
    before = stored(world, paris), world.resource(), world.calls["transact_write_items"]
    world.control.commands.change(paris, body, "request")
    assert (stored(world, paris), world.resource(), world.calls["transact_write_items"]) == before


def test_problems_of_endpoint_and_plugin_are_listed_at_once_for_a_change_too(world: World) -> None:
    paris = world.register("paris")
    with pytest.raises(Invalid) as invalid:
        world.control.commands.change(paris, {"priority": 1_001, "plugin_config": {"secret": ""}}, "request")
    assert set(invalid.value.errors) == {"priority", "plugin_config.secret"}


def test_a_command_that_is_committed_has_succeeded_and_the_sweep_delivers_it(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ClientError({"Error": {"Code": "ServiceUnavailable", "Message": ""}}, "SendMessage")

    paris, london = world.register("paris"), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    commands = world.control.commands
    with monkeypatch.context() as away:
        away.setattr(type(world.queue), "send_message", refuse)
        commands.failover(paris, "failover")
        commands.redeliver(paris, "redeliver")
        commands.delete(paris, "delete")
        commands.freeze(RESOURCE, True, "freeze")
        commands.change(london, {"lease_seconds": 60}, "change")
    assert {record.message for record in caplog.records if record.levelno > logging.INFO} == {"wake_up.failed"}
    assert (world.holder(), world.resource().frozen) == ("london", True)
    sent = len(world.receiver.requests)
    world.settle(61_000)
    assert [(world.name(r.endpoint_id), r.status) for r in world.receiver.requests[sent:]] == [
        ("paris", "STANDBY"),
        ("london", "ACTIVATED"),
    ]


def test_a_resource_whose_holders_lease_has_ended_is_not_frozen(world: World) -> None:
    paris, london = world.register("paris", lease_seconds=30), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    world.queue.messages.clear()
    world.clock.at += 30_000
    with pytest.raises(Conflict, match=f"the lease of its holder {paris} has ended: freeze the resource after"):
        world.control.commands.freeze(RESOURCE, True, "request")
    world.settle(60_000)
    assert world.control.commands.freeze(RESOURCE, True, "request")["holder"] == london


def test_what_is_registered_counts_in_the_election(world: World) -> None:
    paris, rome, london = world.register("paris"), world.register("rome"), world.register("london", priority=5)
    for endpoint_id in (paris, rome, london):
        world.report(endpoint_id, "ACTIVATED")
    world.report(paris, "FAILING")
    assert world.holder() == "london"


# What every command leaves behind


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("register", lambda commands, paris, **by: commands.create({**BODY, "host": "rome"}, "request", **by)),
        ("change", lambda commands, paris, **by: commands.change(paris, {"priority": 3}, "request", **by)),
        ("redeliver", lambda commands, paris, **by: commands.redeliver(paris, "request", **by)),
        ("delete", lambda commands, paris, **by: commands.delete(paris, "request", **by)),
        ("unfreeze", lambda commands, paris, **by: commands.freeze(RESOURCE, False, "request", **by)),
    ],
)
def test_what_a_command_changes_is_in_the_audit_with_its_operator(
    world: World, kind: str, command: Callable[..., object]
) -> None:
    paris, london = world.register("paris", lease_seconds=5), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    # The lease of paris is over and no process has seen it: a command that changes no status ends it.
    world.clock.at += 6_000
    command(world.control.commands, paris, by="arn:aws:iam::123456789012:user/ada")
    (row,), _ = world.control.queries.transitions(RESOURCE, 1, None)
    assert row["cause"] == {"kind": kind, "id": "request", "by": "arn:aws:iam::123456789012:user/ada"}


def test_a_freeze_is_in_the_audit_with_its_operator(world: World) -> None:
    world.report(world.register("paris"), "ACTIVATED")
    world.control.commands.freeze(RESOURCE, True, "request", by="arn:aws:iam::123456789012:user/ada")
    (row,), _ = world.control.queries.transitions(RESOURCE, 1, None)
    assert row["cause"] == {"kind": "freeze", "id": "request", "by": "arn:aws:iam::123456789012:user/ada"}


def test_a_command_puts_a_wake_up_for_when_something_is_due(world: World) -> None:
    paris = world.register("paris", lease_seconds=60)
    world.report(paris, "ACTIVATED")
    world.settle(20_000)
    now = world.clock.at
    world.control.commands.change(paris, {"lease_seconds": 9}, "request")
    assert world.resource().due_at == now + 9_000
    visible_at, _, message = world.queue.messages[-1]
    assert message == {"resource_id": RESOURCE, "due_at": now + 9_000}
    assert visible_at == now + 9_000


# functions/endpoints_api puts LinK's words before these messages.


def test_a_refused_command_says_why_without_links_words(world: World) -> None:
    paris, london = world.register("paris"), world.register("london")
    world.report(paris, "ACTIVATED")
    commands = world.control.commands
    with pytest.raises(Conflict, match=r"^this node is not master of this endpoint$"):
        commands.failover(london, "request")
    with pytest.raises(
        Conflict, match=f"^An endpoint with the same election key already exists on that host: {paris}$"
    ):
        commands.create({**BODY, "host": "paris"}, "request")
    for command in (commands.delete, commands.failover, commands.redeliver):
        with pytest.raises(NotFound, match=r"^Endpoint not found$"):
            command("vip-99999999-9999-4999-8999-999999999999", "request")
