"""What the API says about an endpoint's webhooks. Its commands are tested route by route and with the promises."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from moto import mock_aws

from link.election.result import Result, ResultKind
from link.election.state import Resource
from link.store.locks import Locks
from tests.support.ids import RESOURCE
from tests.world import World


@pytest.fixture
def world() -> Iterator[World]:
    with mock_aws():
        yield World()


def test_nothing_was_announced_before_the_first_report(world: World) -> None:
    assert world.control.queries.show(world.register("paris"))["delivery"] is None


def test_what_was_delivered(world: World) -> None:
    paris = world.register("paris")
    reported_at = world.clock.now()
    world.report(paris, "ACTIVATED")
    assert world.control.queries.show(paris)["delivery"] == {
        "status": "ACTIVATED",
        "epoch": 1,
        "sequence": 1,
        "reason": "elected",
        "announced_at": reported_at,
        "delivered_at": reported_at + world.receiver.takes_ms,
    }


@pytest.mark.parametrize(
    ("result", "failure", "next_step"),
    [
        (Result(ResultKind.ANSWERED, "status_500", 500), "answered status_500", "mend the receiver"),
        (Result(ResultKind.NOT_SENT, "timeout"), "not_sent timeout", "mend the receiver's name, port or TLS"),
        (Result(ResultKind.MAYBE_RECEIVED, "timeout"), "maybe_received timeout", "the receiver may see it twice"),
        (Result(ResultKind.REFUSED, "address_refused"), "refused address_refused", "AllowedNetworks"),
        (Result(ResultKind.UNREADABLE, "secret_expired"), "unreadable secret_expired", "register the endpoint again"),
    ],
)
def test_each_failure_is_told_in_log_metric_and_view(
    world: World,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    result: Result,
    failure: str,
    next_step: str,
) -> None:
    paris = world.register("paris")
    world.receiver.always = result
    with caplog.at_level(logging.INFO):
        world.report(paris, "ACTIVATED")
        world.settle(10_000)

    delivery = world.control.queries.show(paris)["delivery"]
    assert (delivery["status"], delivery["delivered_at"], delivery["failure"]) == ("ACTIVATED", None, failure)
    # After 0.5-1, 1-2, 2-4 and 4-8 s.
    assert 3 <= delivery["attempt"] <= 5
    assert 0 < delivery["next_attempt_at"] - world.clock.now() <= 16_000
    assert next_step in delivery["next_step"] and "until it gets its 2xx" in delivery["next_step"]

    line = [record for record in caplog.records if record.getMessage() == "webhook.attempted"][-1]
    assert f"{line.result} {line.result_reason}" == failure  # type: ignore[attr-defined]
    assert line.next_step == delivery["next_step"]  # type: ignore[attr-defined]

    metrics = [json.loads(text) for text in capsys.readouterr().out.splitlines() if '"_aws"' in text]
    counted = [m for m in metrics if "Webhooks" in m]
    assert len(counted) == delivery["attempt"]
    assert {f"{m['result']} {m['reason']}" for m in counted} == {failure}
    assert any("ReceiversRefused" in m for m in metrics) == (result.kind is ResultKind.REFUSED)


def test_a_refresh_that_failed_is_not_hidden_by_what_was_delivered(world: World) -> None:
    paris = world.register("paris")
    world.report(paris, "ACTIVATED")
    delivered_at = world.clock.now()
    world.receiver.always = Result(ResultKind.NOT_SENT, "dns")
    world.settle(world.refresh_ms + 70_000)
    delivery = world.control.queries.show(paris)["delivery"]
    assert (delivery["delivered_at"], delivery["failure"]) == (delivered_at, "not_sent dns")
    assert delivery["attempt"] >= 1


def test_a_success_takes_the_failure_away(world: World) -> None:
    paris = world.register("paris")
    world.receiver.answers = [Result(ResultKind.ANSWERED, "status_503", 503)] * 2
    world.report(paris, "ACTIVATED")
    assert world.control.queries.show(paris)["delivery"]["failure"] == "answered status_503"
    world.settle(10_000)
    assert "failure" not in world.control.queries.show(paris)["delivery"]
    assert len(world.receiver.requests) == 3


def test_a_registration_that_was_overtaken_by_its_repetition_leaves_no_row(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if something else is due at that very moment, so that there is something to write."""
    paris = world.register("paris", lease_seconds=60)
    world.report(paris, "ACTIVATED")
    body = {
        "plugin": "webhook",
        "plugin_config": {"url": "https://receiver.example.com/hook", "resource_id": RESOURCE, "secret": "s"},
    }
    first = world.control.commands.create(body, "one", "token")
    world.clock.at += 61_000
    read, stale = Locks.read, iter([Resource(RESOURCE)])
    monkeypatch.setattr(Locks, "read", lambda self, resource_id: next(stale, None) or read(self, resource_id))
    assert world.control.commands.create(body, "two", "token") == first
    assert world.rows() == {"paris", first["id"]}
    assert set(world.resource().endpoints) == {paris, first["id"]}
