"""What the API shows of an endpoint's last status: when it was delivered, or why it is pending."""

from __future__ import annotations

import json
import logging

import pytest

from link.election.result import Result, ResultKind
from tests.support.ids import RESOURCE
from tests.world import World


def test_nothing_was_announced_before_the_first_report(world: World) -> None:
    assert world.control.queries.show(world.register("paris"))["delivery"] is None


def test_a_delivered_status_has_its_moment(world: World) -> None:
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


RETRYING = "Retrying with backoff, at most 10 minutes apart."


@pytest.mark.parametrize(
    ("result", "failure", "category", "next_step"),
    [
        (Result(ResultKind.ANSWERED, "status_500", 500), "answered status_500", "status_5xx", "Check the receiver."),
        (
            Result(ResultKind.ANSWERED, "status_401", 401),
            "answered status_401",
            "status_4xx",
            "Check that the receiver has this endpoint's secret, a right clock and the raw body.",
        ),
        (
            Result(ResultKind.NOT_SENT, "timeout"),
            "not_sent timeout",
            "timeout",
            "Check the receiver's DNS name, port and TLS.",
        ),
        (
            Result(ResultKind.MAYBE_RECEIVED, "timeout"),
            "maybe_received timeout",
            "timeout",
            "The receiver may get it twice.",
        ),
        (
            Result(ResultKind.REFUSED, "address_refused"),
            "refused address_refused",
            "address_refused",
            "Check DNS, certificate, registration and AllowedNetworks.",
        ),
        (
            Result(ResultKind.UNREADABLE, "secret_unreadable_X"),
            "unreadable secret_unreadable_X",
            "secret_unreadable",
            "Check the function's access to its KMS key and tables, or register the endpoint again.",
        ),
    ],
)
def test_each_failure_shows_in_log_metric_and_view(
    world: World,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    result: Result,
    failure: str,
    category: str,
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
    assert delivery["next_step"] == f"{RETRYING} {next_step}"

    line = [record for record in caplog.records if record.getMessage() == "webhook.attempted"][-1]
    assert f"{line.result} {line.result_reason}" == failure  # type: ignore[attr-defined]
    assert line.next_step == delivery["next_step"]  # type: ignore[attr-defined]

    metrics = [json.loads(text) for text in capsys.readouterr().out.splitlines() if '"_aws"' in text]
    counted = [m for m in metrics if "Webhooks" in m]
    assert len(counted) == delivery["attempt"]
    assert {(m["result"], m["reason"]) for m in counted} == {(result.kind, category)}
    assert any("ReceiversRefused" in m for m in metrics) == (result.kind is ResultKind.REFUSED)


def test_a_failed_refresh_shows_beside_what_was_delivered(world: World) -> None:
    paris = world.register("paris")
    world.report(paris, "ACTIVATED")
    delivered_at = world.clock.now()
    world.receiver.always = Result(ResultKind.NOT_SENT, "dns")
    world.settle(world.refresh_ms + 70_000)
    delivery = world.control.queries.show(paris)["delivery"]
    assert (delivery["delivered_at"], delivery["failure"]) == (delivered_at, "not_sent dns")
    assert delivery["attempt"] >= 1


def test_a_success_removes_the_failure(world: World) -> None:
    paris = world.register("paris")
    world.receiver.answers = [Result(ResultKind.ANSWERED, "status_503", 503)] * 2
    world.report(paris, "ACTIVATED")
    assert world.control.queries.show(paris)["delivery"]["failure"] == "answered status_503"
    world.settle(10_000)
    assert "failure" not in world.control.queries.show(paris)["delivery"]
    assert len(world.receiver.requests) == 3


def test_a_hold_is_shown_until_it_is_over(world: World) -> None:
    paris, london = world.register("paris"), world.register("london")

    def held_until(endpoint_id: str) -> int | None:
        candidates = world.control.queries.resource(RESOURCE)["candidates"]
        return next(one["held_until"] for one in candidates if one["id"] == endpoint_id)  # type: ignore[no-any-return]

    world.report(london, "ACTIVATED")
    for _ in range(3):
        assert held_until(paris) is None
        world.report(paris, "ACTIVATED")
        world.control.commands.failover(london, f"{world.clock.now()}")
        world.settle(1_000)
        lost_at = world.clock.now()
        world.report(paris, "FAILING")
    assert held_until(paris) == lost_at + 60_000
    world.settle(60_000)
    assert held_until(paris) is None
