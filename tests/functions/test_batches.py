"""Batches of messages, through the handlers: side by side, each on its own, and each judged by what it carries."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partialmethod
from typing import Any

import pytest

from link.plugins.webhook.sender import Sender
from link.store.locks import Locks
from tests.support.functions import QUEUE_URL, Context, Deployment
from tests.support.ids import PARIS, RESOURCE
from tests.support.stack import Stack, batch

TEN = [f"ip-{number}" for number in range(10)]


@pytest.fixture
def stack(deployment: Deployment) -> Stack:
    return Stack(deployment)


def reports(stack: Stack) -> dict[str, Any]:
    """A batch with the first report for each of ten resources."""
    return batch(*[stack.status_event(stack.registered(name), "ACTIVATED", name) for name in TEN])


def wake_ups(stack: Stack) -> dict[str, Any]:
    """A batch with a wake-up for each of ten resources, whose webhook is due."""
    endpoint_ids = [stack.registered(name) for name in TEN]
    for name, endpoint_id in zip(TEN, endpoint_ids, strict=True):
        stack.functions.invoke("endpoint_status", batch(stack.status_event(endpoint_id, "ACTIVATED", name)))
        redeliver = {"pathParameters": {"id": endpoint_id}}
        assert stack.call("api_redeliver", None, **redeliver)[0] == 204
    stack.functions.receiver.requests.clear()
    return batch(*[json.dumps({"resource_id": name, "due_at": stack.due_at(name)}) for name in TEN])


@pytest.mark.parametrize(("function", "messages"), [("endpoint_status", reports), ("reconcile", wake_ups)])
def test_ten_slow_receivers_of_one_batch_are_called_at_the_same_time(
    stack: Stack, function: str, messages: Callable[[Stack], dict[str, Any]]
) -> None:
    given = messages(stack)
    receiver, together = stack.functions.receiver, threading.Barrier(10)
    # A busy machine may need longer than an attempt has.
    stack.functions.monkeypatch.setattr(Sender, "__init__", partialmethod(Sender.__init__, seconds=120.0))

    def when_all_are_connected() -> float:
        together.wait(60)
        return 0.0

    receiver.takes = when_all_are_connected
    assert stack.functions.invoke(function, given) == {"batchItemFailures": []}
    assert not together.broken, "each receiver waits for the nine others"
    assert len(receiver.requests) == 10


@pytest.mark.parametrize(
    ("function", "messages", "queue"), [("endpoint_status", reports, "status"), ("reconcile", wake_ups, "wake-up")]
)
def test_only_the_message_that_fails_comes_back_from_its_queue_and_soon(
    stack: Stack, function: str, messages: Callable[[Stack], dict[str, Any]], queue: str
) -> None:
    given = messages(stack)
    put_off, update = stack.calls("sqs", "change_message_visibility"), Locks.update

    def fails_for_one(self: Locks, resource_id: str, *arguments: Any, **more: Any) -> Any:
        if resource_id == TEN[7]:
            raise TimeoutError("DynamoDB did not answer")
        return update(self, resource_id, *arguments, **more)

    stack.functions.monkeypatch.setattr(Locks, "update", fails_for_one)
    answer = stack.functions.invoke(function, given)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-7"}]}
    assert put_off == [{"QueueUrl": QUEUE_URL + queue, "ReceiptHandle": "handle-7", "VisibilityTimeout": 1}]
    assert len(stack.functions.receiver.requests) == 9


@pytest.mark.parametrize(
    ("after_ms", "put"),
    [
        pytest.param(0, True, id="the due_at of the item: it is the message that came early, and is put again"),
        pytest.param(-1, False, id="an earlier one: another message will come"),
        pytest.param(1, False, id="a later one: another message will come"),
    ],
)
def test_a_wake_up_is_judged_by_the_due_at_that_it_carries(stack: Stack, after_ms: int, put: bool) -> None:
    stack.report(stack.registered(), "ACTIVATED")
    stack.wake_up()
    due_at = stack.due_at()
    stack.clock.at = due_at - 5_000
    messages = stack.calls("sqs", "send_message")

    stack.wake_up(due_at + after_ms)

    body = json.dumps({"resource_id": RESOURCE, "due_at": due_at})
    again = {"QueueUrl": f"{QUEUE_URL}wake-up", "MessageBody": body, "DelaySeconds": 5}
    assert messages == ([again] if put else [])


@pytest.mark.parametrize(("milliseconds_left", "sent"), [(12_000, 10), (11_999, 0)])
@pytest.mark.parametrize(("function", "messages"), [("endpoint_status", reports), ("reconcile", wake_ups)])
def test_an_invocation_sends_only_with_twelve_seconds_left(
    stack: Stack, function: str, messages: Callable[[Stack], dict[str, Any]], milliseconds_left: int, sent: int
) -> None:
    given = messages(stack)
    stack.functions.monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda _: milliseconds_left)
    assert stack.functions.invoke(function, given) == {"batchItemFailures": []}
    assert len(stack.functions.receiver.requests) == sent


@pytest.mark.parametrize(
    "message",
    [
        pytest.param('{"resource_id": "floating-ip-203.0.113.7", "due_at": "1795435202000"}', id="due_at is a text"),
        pytest.param('{"resource_id": 7, "due_at": 1795435202000}', id="resource_id is a number"),
        pytest.param('{"resource_id": "floating-ip-203.0.113.7"}', id="no due_at"),
        pytest.param("7", id="a number"),
    ],
)
def test_a_wake_up_that_cannot_be_read_goes_back_without_a_look_at_a_resource(stack: Stack, message: str) -> None:
    good = json.dumps({"resource_id": "another", "due_at": 1})
    looks, read = list[str](), Locks.read

    def remembered(self: Locks, resource_id: str) -> Any:
        looks.append(resource_id)
        return read(self, resource_id)

    stack.functions.monkeypatch.setattr(Locks, "read", remembered)
    answer = stack.functions.invoke("reconcile", batch(good, message))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    assert set(looks) == {"another"}


def test_the_audit_names_the_report_that_elected_and_the_message_for_the_end_of_a_lease(stack: Stack) -> None:
    stack.functions.register(PARIS, lease_seconds=5)
    stack.report(PARIS, "ACTIVATED")
    stack.wake_up()
    audit = stack.functions.dynamodb.scan(TableName="transitions")["Items"]
    causes = [row["cause"]["M"] for row in sorted(audit, key=lambda row: int(row["version"]["N"]))]
    report_id = json.loads(stack.status_event(PARIS, "ACTIVATED"))["id"]
    assert causes[-2:] == [
        {"kind": {"S": "report"}, "id": {"S": report_id}},
        {"kind": {"S": "wake_up"}, "id": {"S": "message-0"}},
    ]
