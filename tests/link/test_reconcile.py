"""The loop around the pure step. tests/test_promises.py tests what the whole system promises."""

from __future__ import annotations

import bisect
import itertools
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from link import reconcile
from link.election.deliveries import Begun, Delivery, Outcome
from link.election.result import Result, ResultKind
from link.election.state import Status
from link.errors import Rejected
from link.plugins.webhook.factory import WebhookPlugin
from link.reconcile import Sends, Trigger
from link.reports import parse
from link.store.locks import Cause, Committed, Locks
from link.telemetry import MetricUnit
from tests.support.ids import LONDON, NOW, RESOURCE
from tests.world import InlineSends, World

THROTTLED = ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "Operation")


@pytest.fixture
def world() -> Iterator[World]:
    with mock_aws():
        yield World()


def failure(world: World, endpoint_id: str) -> tuple[str, str]:
    """Kind and reason of the last failed attempt."""
    e = world.resource().endpoints[endpoint_id]
    return e.failure_kind, e.failure_reason


def outcome(name: str) -> Outcome:
    return Outcome(name, "token", 1, Status.STANDBY, Result(ResultKind.DELIVERED))


def no_thread() -> Outcome:
    """What stands for an attempt that has no thread, where every attempt has one."""
    raise AssertionError("there is a thread for each attempt")


def process(free: int = 10) -> Callable[[], Sends]:
    """The sends of a process that may have so many under way."""
    return partial(Sends, threading.Semaphore(free))


def test_sends_run_side_by_side_and_each_outcome_arrives_once() -> None:
    sends = process(3)()
    together = threading.Barrier(3)

    def attempt(name: str) -> Outcome:
        together.wait(10)
        return outcome(name)

    for name in ("a", "b", "c"):
        sends.start(partial(attempt, name), no_thread)
    arrived: list[str] = []
    while sends.under_way:
        arrived += [o.endpoint_id for o in sends.wait(10)]
    assert sorted(arrived) == ["a", "b", "c"]


def test_an_attempt_for_which_no_thread_is_free_is_unsent_at_once() -> None:
    of_a_process = process(2)
    one, other = of_a_process(), of_a_process()
    end = threading.Event()

    def attempt() -> Outcome:
        end.wait(10)
        return outcome("sent")

    for sends in (one, other, one):
        sends.start(attempt, lambda: outcome("unsent"))
    assert [o.endpoint_id for o in one.wait(10)] == ["unsent"]
    assert (one.under_way, other.under_way) == (1, 1)
    end.set()
    assert [o.endpoint_id for sends in (one, other) for o in sends.wait(10)] == ["sent", "sent"]
    one.start(attempt, no_thread)
    assert [o.endpoint_id for o in one.wait(10)] == ["sent"], "an attempt that has ended makes room for another"


def test_an_attempt_whose_thread_cannot_start_is_unsent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sends = process(1)()
    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", cannot_start)
        sends.start(lambda: outcome("sent"), lambda: outcome("unsent"))
    assert [o.endpoint_id for o in sends.wait(0)] == ["unsent"]
    assert sends.under_way == 0
    sends.start(lambda: outcome("sent"), no_thread)
    assert [o.endpoint_id for o in sends.wait(10)] == ["sent"], "it keeps no room"


def cannot_start(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_an_unsent_attempt_delays_no_other_and_is_made_a_second_later(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paris, london = world.register("paris"), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    for endpoint_id in (paris, london):
        world.control.commands.redeliver(endpoint_id, "request")
    world.receiver.requests.clear()
    caplog.clear()
    started, start = [], threading.Thread.start

    def first_cannot_start(thread: threading.Thread) -> None:
        started.append(world.clock.now())
        (cannot_start if len(started) == 1 else start)(thread)

    monkeypatch.setattr(threading.Thread, "start", first_cannot_start)
    world.reconciler._sends = process()
    asked_at = world.clock.now()
    with caplog.at_level(logging.INFO):
        world.reconciler.run(RESOURCE, Trigger(Cause("wake_up", "message"), woken_for=0), lambda: 30.0)
    assert world.receiver.delivered() == [("london", "STANDBY", 1, 1), ("paris", "ACTIVATED", 1, 1)]
    assert [request.attempt for request in world.receiver.requests] == [1, 1], "what was not sent is no attempt"
    assert started[-1] - asked_at >= 1_000
    unsent, *sent = [record for record in caplog.records if record.message == "webhook.attempted"]
    assert (unsent.result, unsent.result_reason) == ("too_late", "no_thread")  # type: ignore[attr-defined]
    assert [line.result for line in sent] == ["delivered", "delivered"]  # type: ignore[attr-defined]


def test_waiting_ends_when_its_time_is_up() -> None:
    sends = process()()
    end = threading.Event()
    sends.start(lambda: outcome("late") if end.wait(10) else outcome("never"), no_thread)
    started = time.monotonic()
    assert sends.wait(0.05) == [] and sends.under_way == 1
    assert sends.wait(-1.0) == []
    assert time.monotonic() - started < 5
    end.set()
    assert [o.endpoint_id for o in sends.wait(10)] == ["late"] and sends.under_way == 0


def test_with_less_than_12_s_left_nothing_is_claimed_and_a_wake_up_is_put(world: World) -> None:
    paris = world.register("paris")
    report = parse(world.event(paris, "ACTIVATED"))
    world.reconciler.run(RESOURCE, Trigger(Cause("report", "event"), report=report), lambda: 11.9)
    assert world.holder() == "paris" and world.receiver.requests == []
    assert world.resource().endpoints[paris].claim is None
    world.settle(1_000)
    assert world.receiver.delivered() == [("paris", "ACTIVATED", 1, 1)], "the next invocation sends it"


def test_a_wake_up_that_cannot_be_put_is_logged_not_raised(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise THROTTLED

    paris = world.register("paris")
    monkeypatch.setattr(type(world.queue), "send_message", refuse)
    world.report(paris, "ACTIVATED")
    assert world.receiver.delivered() == [("paris", "ACTIVATED", 1, 1)]
    (line,) = [record for record in caplog.records if record.message == "wake_up.failed"]
    assert (line.levelno, line.reason) == (logging.WARNING, "ThrottlingException")  # type: ignore[attr-defined]


def test_a_message_that_cannot_be_made_visible_soon_comes_back_later_and_a_log_line_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise THROTTLED

    monkeypatch.setattr(type(world.queue), "change_message_visibility", refuse, raising=False)
    world.reconciler.retry_later("status", "handle", 1)
    (line,) = [record for record in caplog.records if record.message == "message.not_hurried"]
    assert line.reason == "ThrottlingException"  # type: ignore[attr-defined]


def test_a_registration_that_cannot_be_read_is_a_failed_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise THROTTLED

    paris = world.register("paris")
    with monkeypatch.context() as refusing:
        refusing.setattr("link.store.endpoints.Registrations.at_revision", refuse)
        world.report(paris, "ACTIVATED")
        assert failure(world, paris) == ("unreadable", "registration_unreadable_ThrottlingException")
    world.settle(60_000)
    assert not world.resource().endpoints[paris].pending
    assert failure(world, paris) == ("", "")


def test_a_registration_that_is_gone_is_a_failed_attempt(world: World) -> None:
    paris = world.register("paris")
    world._dynamodb.delete_item(TableName=world.settings.endpoints_table, Key={"endpoint_id": {"S": paris}})
    world.report(paris, "ACTIVATED")
    assert failure(world, paris) == ("unreadable", "registration_missing")


def test_after_a_fault_no_attempt_is_left_running(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an error ends the loop while a delivery is under way, the invocation still waits for the delivery."""
    paris = world.register("paris")
    ended = threading.Event()

    class Slow(Sends):
        def start(self, attempt: Callable[[], Outcome], unsent: Callable[[], Outcome]) -> None:
            def slowly() -> Outcome:
                time.sleep(0.2)
                result = attempt()
                ended.set()
                return result

            super().start(slowly, unsent)

    monkeypatch.setattr(world.reconciler, "_sends", partial(Slow, threading.Semaphore(10)))

    def refuse(*_: object) -> None:
        raise RuntimeError("the wake-up queue is not there")

    monkeypatch.setattr("link.store.queues.Queues.wake_up", refuse)
    with pytest.raises(RuntimeError, match="not there"):
        world.reconciler.receive(parse(world.event(paris, "ACTIVATED")), lambda: 30.0)
    assert ended.is_set()


# How long the loop waits, what it counts and what it logs


class Watched(InlineSends):
    """Sends that record how long the loop would have waited for them."""

    waits: list[float]

    def wait(self, seconds: float) -> list[Begun | Outcome]:
        self.waits.append(seconds)
        return super().wait(seconds)


class Quick(World):
    """A world in memory that records its pauses, its waits and its metrics."""

    pauses: list[float]
    metrics: list[tuple[str, float, dict[str, Any]]]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Quick:
    world = Quick(in_memory=True)
    world.pauses, world.metrics, Watched.waits = [], [], []
    pause = world.clock.pause

    def recorded(seconds: float) -> None:
        world.pauses.append(seconds)
        pause(seconds)

    monkeypatch.setattr(world.clock, "pause", recorded)
    monkeypatch.setattr(world.reconciler, "_sends", Watched)
    monkeypatch.setattr(
        reconcile,
        "metric",
        lambda name, value=1, **more: world.metrics.append((name, value, more)),
    )
    return world


def slow_commits(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Every commit takes 50 ms from now on."""
    update = Locks.update

    def slowly(self: Locks, *arguments: Any, **more: Any) -> Committed:
        committed = update(self, *arguments, **more)
        world.clock.at += 50
        return committed

    monkeypatch.setattr(Locks, "update", slowly)


def wake(world: World, due_at: int, seconds_left: float = 30.0) -> None:
    trigger = Trigger(Cause("wake_up", "message"), woken_for=due_at)
    world.reconciler.run(RESOURCE, trigger, lambda: seconds_left)


def apply(world: World, endpoint_id: str, status: str, seconds_left: float = 30.0, at: int | None = None) -> None:
    report = parse(world.event(endpoint_id, status, at=at))
    world.reconciler.run(RESOURCE, Trigger(Cause("report", "event"), report=report), lambda: seconds_left)


@pytest.mark.parametrize(
    ("early_ms", "pauses", "status", "messages"),
    [
        pytest.param(1_000, [1.0], Status.FAILING, 0, id="a second: it waits in place"),
        pytest.param(400, [0.4], Status.FAILING, 0, id="less: it waits that long"),
        pytest.param(0, [], Status.FAILING, 0, id="in time"),
        pytest.param(-7, [], Status.FAILING, 0, id="late"),
        pytest.param(1_001, [], Status.ACTIVATED, 1, id="more: it puts the message again and ends"),
    ],
)
def test_an_invocation_that_is_woken_early_waits_a_second_at_most(
    quick: Quick, early_ms: int, pauses: list[float], status: Status, messages: int
) -> None:
    paris = quick.register("paris", lease_seconds=5)
    apply(quick, paris, "ACTIVATED")
    due_at = quick.resource().due_at
    assert due_at is not None and due_at == quick.resource().endpoints[paris].lease_expires_at
    quick.queue.messages.clear()
    quick.clock.at = due_at - early_ms
    wake(quick, due_at)
    assert [pause for pause in quick.pauses if pause] == pauses
    assert quick.resource().endpoints[paris].status is status
    woken_for = [message["due_at"] for _, _, message in quick.queue.messages]
    assert woken_for.count(due_at) == messages


@pytest.mark.parametrize(("seconds_left", "claimed"), [(12.0, True), (11.999, False)])
def test_an_attempt_is_begun_with_twelve_seconds_left(quick: Quick, seconds_left: float, claimed: bool) -> None:
    apply(quick, quick.register("paris"), "ACTIVATED", seconds_left)
    assert bool(quick.receiver.requests) is claimed


def test_a_standby_that_begins_to_be_sent_shortens_the_wait_without_a_write(quick: Quick) -> None:
    paris, london = quick.register("paris"), quick.register("london")
    apply(quick, paris, "ACTIVATED")
    apply(quick, london, "ACTIVATED")
    Watched.waits.clear()
    quick.calls.clear()
    quick.receiver.answers_after_ms = 2_500
    quick.report(paris, "FAILING")
    # From the claim it would wait for 9 s. When the attempt has begun, it waits for 1 s and claims the ACTIVATED.
    assert Watched.waits[:2] == [9.0, 1.0]
    assert [r.status for r in quick.receiver.requests][-2:] == ["STANDBY", "ACTIVATED"]
    assert quick.calls["put_item"] == 3, "the claim of the ACTIVATED and the two outcomes"


def test_many_deleted_endpoints_are_removed_by_one_wake_up_in_several_transactions(quick: Quick) -> None:
    paris = quick.register("paris")
    quick.report(paris, "ACTIVATED")
    quick.report(paris, "FAILING")
    store, settings = quick.cloud.store, quick.settings
    (item,) = store.tables[settings.locks_table].values()
    (registration,) = store.tables[settings.endpoints_table].values()
    entry = {"M": item["endpoints"]["M"][paris]["M"] | {"d": {"BOOL": True}}}
    ids = [f"vip-{number:08x}-0000-4000-8000-000000000000" for number in range(120)]
    store.put_item(
        TableName=settings.locks_table, Item={**item, "endpoints": {"M": {paris: entry, **dict.fromkeys(ids, entry)}}}
    )
    for one in ids:
        store.put_item(TableName=settings.endpoints_table, Item={**registration, "endpoint_id": {"S": one}})
    # The store refuses more than DynamoDB's 100 actions in a transaction.
    wake(quick, quick.resource().due_at or 0)
    assert store.tables[settings.endpoints_table] == {}


def test_it_waits_for_an_outcome_until_something_else_is_due(quick: Quick) -> None:
    apply(quick, quick.register("paris"), "ACTIVATED")
    # The claim ends 15 s after the commit; the POST took 20 ms of them.
    assert Watched.waits == [15.0 - 0.02]


@pytest.mark.parametrize(("seconds_left", "waited"), [(11.0, 11.0), (0.5, 1.0), (-60.0, 1.0)])
def test_when_the_time_is_over_it_waits_only_for_the_attempt(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, seconds_left: float, waited: float
) -> None:
    left = [30.0, seconds_left]
    start = Watched.start

    def slow(self: Watched, attempt: Callable[[], Outcome], unsent: Callable[[], Outcome]) -> None:
        start(self, attempt, unsent)
        # The first wait ends without an outcome, and the time is over.
        outcomes, self._said = self._said, []
        monkeypatch.setattr(Watched, "wait", lambda self, seconds: late(self, seconds, outcomes))

    def late(self: Watched, seconds: float, outcomes: list[Outcome]) -> list[Outcome]:
        Watched.waits.append(seconds)
        if len(Watched.waits) == 1:
            left.pop(0)
            return []
        self.under_way = 0
        return outcomes

    monkeypatch.setattr(Watched, "start", slow)
    paris = quick.register("paris")
    report = parse(quick.event(paris, "ACTIVATED"))
    quick.reconciler.run(RESOURCE, Trigger(Cause("report", "event"), report=report), lambda: left[0])
    assert Watched.waits[1:] == [waited]
    assert not quick.resource().endpoints[paris].pending


def test_what_became_due_during_the_commit_is_not_waited_for(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    paris = quick.register("paris", lease_seconds=5)
    apply(quick, paris, "ACTIVATED")
    due_at = quick.resource().due_at
    assert due_at is not None
    quick.clock.at = due_at - 30
    quick.pauses.clear()
    quick.queue.messages.clear()

    slow_commits(monkeypatch, quick)
    wake(quick, due_at)
    assert quick.pauses[0] == 0
    assert quick.resource().endpoints[paris].status is Status.FAILING
    assert due_at not in [message["due_at"] for _, _, message in quick.queue.messages], "the invocation waited itself"


def test_a_lease_that_ended_during_the_commit_is_not_waited_for_beside_an_attempt(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    london, paris = quick.register("london", lease_seconds=5), quick.register("paris")
    apply(quick, paris, "ACTIVATED")
    apply(quick, london, "ACTIVATED")
    ends_at = quick.resource().endpoints[london].lease_expires_at
    assert ends_at is not None
    quick.clock.at = ends_at - 10
    Watched.waits.clear()

    slow_commits(monkeypatch, quick)
    # The POST takes 20 ms.
    apply(quick, paris, "STANDBY")
    assert Watched.waits[0] < 0


@pytest.mark.parametrize(("seconds_left", "waits"), [(3.0, [3.0]), (0.5, [0.5]), (0.0, []), (-0.5, [])])
def test_after_a_fault_it_waits_for_as_long_as_there_is_time(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, seconds_left: float, waits: list[float]
) -> None:
    left = [30.0]

    class UnderWay(Watched):
        def wait(self, seconds: float) -> list[Outcome]:
            Watched.waits.append(seconds)
            self.under_way = 0
            return []

    def refuse(*_: object) -> None:
        left[0] = seconds_left
        raise RuntimeError("the wake-up queue is not there")

    monkeypatch.setattr(quick.reconciler, "_sends", UnderWay)
    monkeypatch.setattr("link.store.queues.Queues.wake_up", refuse)
    report = parse(quick.event(quick.register("paris"), "ACTIVATED"))
    with pytest.raises(RuntimeError, match="not there"):
        quick.reconciler.run(RESOURCE, Trigger(Cause("report", "event"), report=report), lambda: left[0])
    assert Watched.waits == waits


@pytest.mark.parametrize(("seconds", "timeout"), [(2.5, 2.5), (0.0, 0.0), (-1.0, 0.0)])
def test_a_time_that_is_over_is_not_waited_for(seconds: float, timeout: float) -> None:
    timeouts: list[float] = []

    class Nothing:
        def get(self, timeout: float) -> Outcome:
            timeouts.append(timeout)
            raise queue.Empty

    sends = process()()
    sends._arrived = Nothing()  # type: ignore[assignment]
    assert sends.wait(seconds) == []
    assert timeouts == [timeout]


def test_a_change_and_a_refresh_call_different_methods_of_the_plugin(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in LinK: activate and deactivate for a change, ensure for a refresh."""
    called: list[str] = []

    def watch(name: str) -> None:
        real = getattr(WebhookPlugin, name)

        def call(self: WebhookPlugin, delivery: Delivery) -> Result:
            called.append(name)
            result: Result = real(self, delivery)
            return result

        monkeypatch.setattr(WebhookPlugin, name, call)

    for name in ("activate", "deactivate", "ensure"):
        watch(name)
    paris = quick.register("paris")
    apply(quick, paris, "ACTIVATED")
    quick.settle(quick.refresh_ms + 70_000)
    apply(quick, paris, "STANDBY")
    assert called == ["activate", "ensure", "deactivate"]


def test_what_is_undelivered_is_counted_in_seconds_since_its_announcement(quick: Quick) -> None:
    paris, london = quick.register("paris"), quick.register("london")
    quick.receiver.always = Result(ResultKind.ANSWERED, "status_500", 500)
    apply(quick, paris, "ACTIVATED")
    apply(quick, london, "ACTIVATED")
    quick.metrics.clear()
    quick.clock.at = NOW + 90_002
    wake(quick, 0)
    (undelivered,) = [one for one in quick.metrics if one[0] == "UndeliveredSeconds"]
    announced = min(e.announced_at for e in quick.resource().endpoints.values())
    assert undelivered == (
        "UndeliveredSeconds",
        (quick.clock.at - announced) / 1000,
        {"unit": MetricUnit.Seconds},
    )
    assert 85 < undelivered[1] < 95
    assert ("Webhooks", 1, {"result": "answered", "reason": "status_5xx"}) in quick.metrics
    quick.metrics.clear()
    quick.clock.at = announced - 50
    wake(quick, 0)
    behind = [one[1] for one in quick.metrics if one[0] == "UndeliveredSeconds"]
    assert behind == [-0.05], "this clock is behind the one of the announcement"


def test_a_resource_without_a_holder_is_counted_from_the_first_report_on(quick: Quick) -> None:
    paris = quick.register("paris")
    wake(quick, 0)
    assert quick.metrics == []
    apply(quick, paris, "FAILING")
    assert [name for name, _, _ in quick.metrics] == ["ResourcesWithoutHolder"]


def test_a_resource_without_a_holder_is_counted_for_as_long_as_it_has_none(quick: Quick) -> None:
    paris = quick.register("paris", lease_seconds=30)
    quick.report(paris, "ACTIVATED")
    quick.settle(30_000)
    counted: list[int] = []
    for _ in range(60):
        quick.metrics.clear()
        quick.settle(60_000)
        if "ResourcesWithoutHolder" in [name for name, _, _ in quick.metrics]:
            counted.append(quick.clock.now())
    gaps = [later - earlier for earlier, later in itertools.pairwise(counted)]
    assert len(counted) >= 5 and max(gaps) <= 660_000, "10 minutes and a sweep"
    before = quick.calls.copy()
    quick.settle(3_600_000)
    assert quick.calls["put_item"] - before["put_item"] <= 6, "one write each time"


def test_endpoints_on_hold_are_counted(quick: Quick) -> None:
    paris, london = quick.register("paris"), quick.register("london")
    for endpoint_id in (paris, london):
        quick.report(endpoint_id, "ACTIVATED")
    counted = []
    for _ in range(4):
        quick.metrics.clear()
        quick.settle(1_000)
        for _ in range(2):
            holder = quick.resource().holder
            quick.report(holder or "", "FAILING")
            quick.report(holder or "", "ACTIVATED")
        counted.append(max((value for name, value, _ in quick.metrics if name == "EndpointsOnHold"), default=0))
    assert counted[:3] == [0, 0, 2], "each endpoint has lost the lock three times"


@pytest.mark.parametrize(("kind", "counted"), [(ResultKind.REFUSED, True), (ResultKind.NOT_SENT, False)])
def test_a_refused_receiver_is_counted(quick: Quick, kind: ResultKind, counted: bool) -> None:
    quick.receiver.always = Result(kind, "why")
    apply(quick, quick.register("paris"), "ACTIVATED")
    names = [name for name, _, _ in quick.metrics]
    assert names.count("ReceiversRefused") == names.count("Webhooks") * counted
    assert names.count("Webhooks") > 0


def test_an_old_report_is_counted_and_logged(quick: Quick, caplog: pytest.LogCaptureFixture) -> None:
    paris = quick.register("paris")
    with caplog.at_level(logging.INFO):
        apply(quick, paris, "ACTIVATED", at=NOW)
        assert "ReportsIgnored" not in [name for name, _, _ in quick.metrics]
        apply(quick, paris, "ACTIVATED", at=NOW)
    assert [name for name, _, _ in quick.metrics].count("ReportsIgnored") == 1
    lines = [record for record in caplog.records if record.message == "report.ignored"]
    assert [(one.endpoint_id, one.reason) for one in lines] == [(paris, "older_than_last")]  # type: ignore[attr-defined]


def test_a_crash_in_an_attempt_is_logged_with_its_place_and_not_its_text(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*_: object, **__: object) -> Result:
        raise ValueError("a secret")

    monkeypatch.setattr(quick.receiver, "post", crash)
    quick.new_process()
    monkeypatch.setattr(quick.reconciler, "_sends", Watched)
    paris = quick.register("paris")
    apply(quick, paris, "ACTIVATED")
    line, *_ = [record for record in caplog.records if record.message == "webhook.crashed"]
    assert (line.reason, line.where.rpartition("/")[2]) == ("ValueError", f"test_reconcile.py:{line_of(crash)}")  # type: ignore[attr-defined]
    assert "a secret" not in caplog.text
    assert failure(quick, paris) == ("unreadable", "crashed_ValueError")


def line_of(function: Callable[..., object]) -> int:
    """The number of the line after the `def`."""
    return function.__code__.co_firstlineno + 1


def test_an_attempt_keeps_no_process_alive() -> None:
    sends, daemons = process()(), []

    def attempt() -> Outcome:
        daemons.append(threading.current_thread().daemon)
        return outcome("a")

    sends.start(attempt, no_thread)
    assert len(sends.wait(10)) == 1
    assert daemons == [True]


def test_a_report_leaves_what_is_due_soon_to_the_message_that_was_put_for_it(quick: Quick) -> None:
    paris = quick.register("paris", lease_seconds=5)
    apply(quick, paris, "ACTIVATED", at=NOW)
    due_at = quick.resource().due_at
    assert due_at == NOW + 5_000
    quick.clock.at = due_at - 600
    quick.pauses.clear()
    apply(quick, paris, "ACTIVATED", at=NOW)
    assert quick.pauses == []
    assert quick.holder() == "paris"


def test_an_attempt_for_a_deleted_endpoint_is_waited_for_until_it_ends(world: World) -> None:
    """Nothing is due any more, but the wait needs a limit: Python does not accept a timeout of NEVER."""
    paris, london = world.register("paris"), world.register("london")
    world.report(paris, "ACTIVATED")
    world.report(london, "ACTIVATED")
    waits: list[float] = []

    class Threads(Sends):
        def wait(self, seconds: float) -> list[Outcome]:
            waits.append(seconds)
            return super().wait(seconds)

    world.reconciler._sends = partial(Threads, threading.Semaphore(10))
    gone = threading.Event()
    post = world.receiver.post

    def slow(url: str, body: bytes, headers: dict[str, str], *, not_after: int) -> Result:
        if paris in body.decode():
            assert gone.wait(10)
        return post(url, body, headers, not_after=not_after)

    world.receiver.post = slow  # type: ignore[method-assign]
    world.new_process()
    world.control.commands.redeliver(paris, "request")
    world.control.commands.redeliver(london, "request")

    class Forced(Threads):
        def wait(self, seconds: float) -> list[Outcome]:
            outcomes = super().wait(seconds)
            if not gone.is_set():
                world.control.commands.delete(paris, "by force", force=True)
                world.control.commands.delete(london, "by force", force=True)
                gone.set()
            return outcomes

    world.reconciler._sends = partial(Forced, threading.Semaphore(10))
    world.reconciler.run(RESOURCE, Trigger(Cause("wake_up", "message"), woken_for=0), lambda: 30.0)
    assert world.resource().endpoints == {}
    assert [name for name, *_ in world.receiver.delivered()][-2:] == ["london", "paris"]
    assert max(waits) <= 30.0


def test_every_change_of_status_is_logged_with_its_cause(quick: Quick, caplog: pytest.LogCaptureFixture) -> None:
    paris = quick.register("paris")
    with caplog.at_level(logging.INFO):
        apply(quick, paris, "ACTIVATED")
    (line,) = [record for record in caplog.records if record.message == "endpoint.changed"]
    logged = (line.endpoint_id, line.before, line.status, line.reason, line.cause, line.cause_id)  # type: ignore[attr-defined]
    assert logged == (paris, Status.BOOTING, Status.ACTIVATED, "elected", "report", "event")


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_resource_is_counted_in_every_invocation(quick: Quick, frozen: bool) -> None:
    apply(quick, quick.register("paris"), "ACTIVATED")
    quick.control.commands.freeze(RESOURCE, frozen, "freeze")
    quick.metrics.clear()
    wake(quick, 0)
    assert ("ResourcesFrozen" in [name for name, _, _ in quick.metrics]) is frozen


def row_at(world: World, endpoint_id: str, revision: int) -> None:
    """Give another revision to the registration, not to the entry."""
    table = world.settings.endpoints_table
    item = world._dynamodb.get_item(TableName=table, Key={"endpoint_id": {"S": endpoint_id}})["Item"]
    world._dynamodb.put_item(TableName=table, Item={**item, "revision": {"N": str(revision)}})


@pytest.mark.parametrize(
    ("revision", "expected", "attempt"),
    [
        pytest.param(2, ("", ""), 0, id="a later one: it changed after the claim, so it is claimed again"),
        pytest.param(0, ("unreadable", "registration_missing"), 1, id="an earlier one: someone edited the table"),
    ],
)
def test_a_registration_of_another_revision_is_not_used(
    world: World, revision: int, expected: tuple[str, str], attempt: int
) -> None:
    paris = world.register("paris")
    row_at(world, paris, revision)
    ends_at = world.clock.now() + 13_500
    world.reconciler.run(
        RESOURCE,
        Trigger(Cause("report", "event"), report=parse(world.event(paris, "ACTIVATED"))),
        lambda: (ends_at - world.clock.now()) / 1000,
    )
    assert world.receiver.requests == []
    assert failure(world, paris) == expected
    assert world.resource().endpoints[paris].attempt >= attempt
    row_at(world, paris, 1)
    world.new_process()
    world.settle(5_000)
    assert world.receiver.delivered() == [("paris", "ACTIVATED", 1, 1)]


def test_a_registration_whose_secret_cannot_be_read_is_read_again(world: World) -> None:
    """A key rotation changes ciphertexts but no revision: a process that cached the old ciphertext must recover."""
    paris, london = world.register("paris"), world.register("london")
    table, key = world.settings.endpoints_table, {"endpoint_id": {"S": paris}}
    registration = world._dynamodb.get_item(TableName=table, Key=key)["Item"]
    of_another = world._dynamodb.get_item(TableName=table, Key={"endpoint_id": {"S": london}})["Item"]
    world._dynamodb.put_item(TableName=table, Item={**registration, "ciphertext": of_another["ciphertext"]})
    world.report(paris, "ACTIVATED")
    assert failure(world, paris) == ("unreadable", "secret_unreadable_InvalidCiphertextException")
    world._dynamodb.put_item(TableName=table, Item=registration)
    world.settle(20_000)
    assert world.receiver.delivered() == [("paris", "ACTIVATED", 1, 1)]


def test_the_revision_of_the_entry_is_used_however_many_changes_it_took(world: World) -> None:
    paris = world.register("paris")
    item = world._dynamodb.get_item(TableName=world.settings.locks_table, Key={"resource_id": {"S": RESOURCE}})["Item"]
    item["endpoints"]["M"][paris]["M"]["v"] = {"N": "1000"}
    world._dynamodb.put_item(TableName=world.settings.locks_table, Item=item)
    row_at(world, paris, 1_000)
    world.report(paris, "ACTIVATED")
    assert world.receiver.delivered() == [("paris", "ACTIVATED", 1, 1)]
    assert world.resource().endpoints[paris].attempt == 0
    assert len(world.receiver.requests) == 1 and world.clock.now() < NOW + 1_000


# Reports that can never be applied


def rejected(world: World, endpoint_id: str, **detail: object) -> Rejected:
    with pytest.raises(Rejected) as error:
        world.reconciler.receive(parse(world.event(endpoint_id, "ACTIVATED", **detail)), lambda: 30.0)  # type: ignore[arg-type]
    return error.value


def test_a_report_for_an_endpoint_that_is_not_registered_is_rejected(quick: Quick) -> None:
    quick.register("paris")
    assert rejected(quick, LONDON).code == "unknown_endpoint"
    assert str(rejected(quick, LONDON)) == f"{LONDON} is not registered for this resource: register it first"


def test_a_report_that_names_another_resource_is_rejected(quick: Quick) -> None:
    paris = quick.register("paris")
    error = rejected(quick, paris, resource_id="another")
    assert error.code == "resource_mismatch"
    assert str(error) == f"{paris} is registered for another resource than the event says"


def test_a_report_that_names_another_plugin_is_rejected_with_the_right_name(quick: Quick) -> None:
    paris = quick.register("paris")
    error = rejected(quick, paris, plugin="arp")
    assert (error.code, str(error)) == ("plugin_mismatch", f"{paris} is registered with plugin 'webhook'")
    assert not quick.resource().endpoints[paris].words


def test_a_report_without_a_resource_finds_its_own(quick: Quick) -> None:
    paris = quick.register("paris")
    event = quick.event(paris, "ACTIVATED")
    del event["detail"]["resource_id"]
    quick.reconciler.receive(parse(event), lambda: 30.0)
    assert quick.holder() == "paris"
    event["detail"]["endpoint_id"] = LONDON
    with pytest.raises(Rejected, match=f"{LONDON} is not registered: register it first"):
        quick.reconciler.receive(parse(event), lambda: 30.0)


@pytest.mark.parametrize(
    ("body", "reason", "kept"),
    [
        pytest.param("no JSON", "malformed", "no JSON", id="not JSON: kept as text"),
        pytest.param('{"detail": 7}', "malformed", {"detail": 7}, id="malformed: kept as it was read"),
    ],
)
def test_a_message_that_can_never_be_applied_goes_to_the_rejected_events_queue(
    quick: Quick, body: str, reason: str, kept: object
) -> None:
    quick.reconciler.take(body, "message-1", lambda: 30.0)
    (one,) = quick.queue.rejected
    assert (one["reason"], one["event"], one["rejected_at"]) == (reason, kept, NOW)
    assert [name for name, _, _ in quick.metrics] == ["RejectedEvents"]


def too_deep(depth: int) -> bool:
    """Whether json.loads cannot read lists that are nested so deep."""
    try:
        json.loads("[" * depth + "]" * depth)
    except RecursionError:
        return True
    return False


@pytest.mark.parametrize("detail", ['{"endpoint_id": %s, "status": "ACTIVATED"}', '{"ignored": %s}'])
def test_a_message_of_any_depth_is_kept_as_malformed(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, detail: str
) -> None:
    kept: list[str] = []
    monkeypatch.setattr(quick.reconciler._queues, "_sqs", Mock(send_message=lambda **m: kept.append(m["MessageBody"])))
    # json.loads can read some of these depths that repr and json.dumps cannot write.
    deepest = bisect.bisect_left(range(1, 100_000), True, key=too_deep)
    for depth in range(deepest - 60, deepest + 1):
        body = '{"detail": %s}' % (detail % ("[" * depth + "]" * depth))
        quick.reconciler.take(body, "message-1", lambda: 30.0)
        one = json.loads(kept.pop())
        assert (one["reason"], one["event"]) == ("malformed", body)


def test_a_message_with_a_report_is_applied(quick: Quick) -> None:
    paris = quick.register("paris")
    quick.reconciler.take(json.dumps(quick.event(paris, "ACTIVATED")), "message-1", lambda: 30.0)
    assert (quick.holder(), quick.queue.rejected) == ("paris", [])
