"""Queries read and change nothing."""

from __future__ import annotations

import pytest

from link.errors import Conflict, NotFound
from tests.support.ids import RESOURCE
from tests.world import World

STRANGER = "vip-99999999-9999-4999-8999-999999999999"


def test_queries_neither_write_nor_decrypt_nor_send(world: World) -> None:
    paris, london = world.register("paris"), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    queries = world.control.queries
    world.calls.clear()
    queries.show(paris), queries.hosts(paris), queries.preview(paris), queries.outlook(paris)
    queries.endpoints(), queries.resource(RESOURCE), queries.resources()
    queries.transitions(RESOURCE, 10, None), queries.key_rotation(0)
    assert set(world.calls) == {"get_item", "batch_get_item", "scan", "query"}


def test_the_outlook_of_a_failover_is_what_the_failover_does(world: World) -> None:
    paris, london = world.register("paris"), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    outlook = world.control.queries.outlook(paris)
    world.operator(lambda: world.control.commands.failover(paris, "request"))
    assert (outlook["holder"], outlook["epoch"]) == (london, world.resource().epoch)
    sent = [(r.endpoint_id, r.status, r.epoch, r.sequence, r.reason) for r in world.receiver.requests[-2:]]
    assert [tuple(webhook.values()) for webhook in outlook["webhooks"]] == sent


def test_the_outlook_of_a_failover_is_right_even_if_the_holders_lease_has_ended(world: World) -> None:
    paris, london = world.register("paris", lease_seconds=30), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    world.queue.messages.clear()
    world.clock.at += 30_000
    outlook = world.control.queries.outlook(paris)
    world.operator(lambda: world.control.commands.failover(paris, "request"))
    assert outlook["holder"] == london == world.resource().holder
    sent = [(r.endpoint_id, r.status, r.epoch, r.sequence, r.reason) for r in world.receiver.requests[-2:]]
    assert [tuple(webhook.values()) for webhook in outlook["webhooks"]] == sent


def test_an_outlook_is_refused_like_the_failover(world: World) -> None:
    paris = world.register("paris")
    world.report(paris, "ACTIVATED")
    with pytest.raises(Conflict, match=r"listening for this endpoint: the resource has no other endpoint$"):
        world.control.queries.outlook(paris)
    with pytest.raises(NotFound, match=r"^Endpoint not found$"):
        world.control.queries.outlook(STRANGER)


def test_an_endpoint_that_is_being_deleted_is_not_shown(world: World) -> None:
    paris = world.register("paris")
    world.report(paris, "ACTIVATED")
    world.control.commands.delete(paris, "request")
    for query in (world.control.queries.show, world.control.queries.hosts, world.control.queries.preview):
        with pytest.raises(NotFound, match=r"^Endpoint not found$"):
            query(paris)
    assert world.control.queries.endpoints() == ([], None)


def test_a_preview_without_a_next_attempt_says_why(world: World) -> None:
    paris, london = world.register("paris"), world.register("london")
    with pytest.raises(Conflict, match="nothing has been announced for this endpoint yet"):
        world.control.queries.preview(london)
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    with pytest.raises(Conflict, match="nothing is due for this endpoint"):
        world.control.queries.preview(london)
