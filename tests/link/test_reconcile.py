"""The loop around the pure step. What it promises as a whole stands in tests/test_promises.py."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from link.election import Outcome
from link.endpoint import Kind, Result, Status
from link.intake import parse
from link.lock import Cause
from link.reconcile import Sends, Trigger
from tests.world import RESOURCE, World

THROTTLED = ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "Operation")


@pytest.fixture
def world() -> Iterator[World]:
    with mock_aws():
        yield World()


def outcome(name: str) -> Outcome:
    return Outcome(name, "token", 1, Status.STANDBY, Result(Kind.DELIVERED))


def test_sends_run_side_by_side_and_each_is_heard_of_once() -> None:
    sends = Sends()
    together = threading.Barrier(3)

    def attempt(name: str) -> Outcome:
        together.wait(10)
        return outcome(name)

    for name in ("a", "b", "c"):
        sends.start(lambda name=name: attempt(name))  # type: ignore[misc]
    heard: list[str] = []
    while sends.under_way:
        heard += [o.endpoint_id for o in sends.wait(10)]
    assert sorted(heard) == ["a", "b", "c"]


def test_waiting_ends_when_its_time_is_up() -> None:
    sends = Sends()
    end = threading.Event()
    sends.start(lambda: outcome("late") if end.wait(10) else outcome("never"))
    started = time.monotonic()
    assert sends.wait(0.05) == [] and sends.under_way == 1
    assert sends.wait(-1.0) == []
    assert time.monotonic() - started < 5
    end.set()
    assert [o.endpoint_id for o in sends.wait(10)] == ["late"] and sends.under_way == 0


def test_with_less_than_12_s_left_nothing_is_claimed_but_somebody_is_woken(world: World) -> None:
    paris = world.register("paris")
    report = parse(world.event(paris, "ACTIVATED"))
    world.reconciler.run(RESOURCE, Trigger(Cause("report", "event"), report=report), lambda: 11.9)
    assert world.holder() == "paris" and world.receiver.requests == []
    assert world.resource().endpoints[paris].claim is None
    world.settle(1_000)
    assert world.receiver.told() == [("paris", "ACTIVATED", 1, 1)], "the next invocation sends it"


def test_a_wake_up_that_cannot_be_put_is_logged_not_raised(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise THROTTLED

    monkeypatch.setattr("link.queues.Queues.wake_up", refuse)
    paris = world.register("paris")
    world.report(paris, "ACTIVATED")
    assert world.receiver.told() == [("paris", "ACTIVATED", 1, 1)]
    (line,) = [record for record in caplog.records if record.message == "wake_up.failed"]
    assert (line.levelno, line.reason) == (logging.WARNING, "ThrottlingException")  # type: ignore[attr-defined]


def test_a_registration_that_cannot_be_read_is_a_failed_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise THROTTLED

    paris = world.register("paris")
    with monkeypatch.context() as refusing:
        refusing.setattr("link.registry.Registry.at_revision", refuse)
        world.report(paris, "ACTIVATED")
        assert world.resource().endpoints[paris].failure == "unreadable registration_unreadable_ThrottlingException"
    world.settle(60_000)
    e = world.resource().endpoints[paris]
    assert (e.owed, e.failure) == (False, "")


def test_a_registration_that_is_gone_is_a_failed_attempt(world: World) -> None:
    paris = world.register("paris")
    world._dynamodb.delete_item(TableName=world.settings.endpoints_table, Key={"endpoint_id": {"S": paris}})
    world.report(paris, "ACTIVATED")
    assert world.resource().endpoints[paris].failure == "unreadable registration_missing"


def test_after_a_fault_no_attempt_is_left_running(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that fails while a delivery is under way: the invocation waits for it before it ends."""
    paris = world.register("paris")
    ended = threading.Event()

    class Slow(Sends):
        def start(self, attempt):  # type: ignore[no-untyped-def]
            def slowly() -> Outcome:
                time.sleep(0.2)
                result: Outcome = attempt()
                ended.set()
                return result

            super().start(slowly)

    monkeypatch.setattr(world.reconciler, "_sends", Slow)

    def refuse(*_: object) -> None:
        raise RuntimeError("the wake-up queue is not there")

    monkeypatch.setattr("link.queues.Queues.wake_up", refuse)
    with pytest.raises(RuntimeError, match="not there"):
        world.reconciler.receive(parse(world.event(paris, "ACTIVATED")), lambda: 30.0)
    assert ended.is_set()
