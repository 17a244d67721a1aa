"""The handler runs the sweep."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from link.store import aws
from link.store.locks import Locks
from tests.support.functions import QUEUE_URL, Deployment, event
from tests.support.ids import LONDON, PARIS


def test_a_sweep_wakes_up_what_is_due_within_a_minute(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.invoke("endpoint_status", event("status_winner"))
    before = delayed(deployment)
    assert deployment.invoke("refresh", event("schedule_tick")) == {"woken": 1}
    assert delayed(deployment) == before + 1, "the commit has put the same message, for the same moment"


def delayed(deployment: Deployment) -> int:
    """The number of wake-ups that are delayed."""
    name = "ApproximateNumberOfMessagesDelayed"
    answer = deployment.sqs.get_queue_attributes(QueueUrl=QUEUE_URL + "wake-up", AttributeNames=[name])
    return int(answer["Attributes"][name])


def test_a_sweep_ignores_what_is_due_later(deployment: Deployment) -> None:
    for name, ahead in (("soon", 59_000), ("later", 90_000)):
        due_at = time.time_ns() // 1_000_000 + ahead
        item = {"resource_id": {"S": name}, "due_shard": {"N": "3"}, "due_at": {"N": str(due_at)}}
        deployment.dynamodb.put_item(TableName="locks", Item=item)
    assert deployment.invoke("refresh", event("schedule_tick")) == {"woken": 1}


def test_a_sweep_puts_eight_batches_at_a_time(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(8)

    def taken(**_: object) -> dict[str, object]:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(30)
        return {}

    monkeypatch.setattr(Locks, "due_in", lambda self, shard, until: [(f"ip-{shard}-{n}", 1) for n in range(10)])
    monkeypatch.setattr(aws.client("sqs"), "send_message_batch", taken)
    assert deployment.invoke("refresh", event("schedule_tick")) == {"woken": 80}
    assert not together.broken, "each batch waits for the seven others"


def test_a_sweep_fails_when_sqs_does_not_take_all(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("link.store.queues.Queues.wake_up_all", lambda self, due, now, at_once: (len(list(due)), 1))
    item = {"resource_id": {"S": "ip"}, "due_shard": {"N": "0"}, "due_at": {"N": "1"}}
    deployment.dynamodb.put_item(TableName="locks", Item=item)
    with pytest.raises(RuntimeError, match="SQS did not take 1 of 1 wake-ups"):
        deployment.invoke("refresh", event("schedule_tick"))
