"""A batch of SQS records: each is handled. If one fails, only that one comes back, and soon."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from typing import Any

import pytest
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from link import sqs_batch
from link.sqs_batch import NotYet, side_by_side
from link.store.queues import Queues
from tests.support.deployed import settings
from tests.support.functions import Context


def batch(*receives: int) -> dict[str, Any]:
    """A batch with one record for each number. The number is how often the record was received."""
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": f"handle-{number}",
                "body": "{}",
                "attributes": {"ApproximateReceiveCount": str(received)},
                "eventSource": "aws:sqs",
            }
            for number, received in enumerate(receives)
        ]
    }


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_only_the_failed_record_is_delayed_and_returned(failing: int) -> None:
    put_off: list[tuple[str, int]] = []

    def handle(record: SQSRecord) -> None:
        if record.message_id == f"message-{failing}":
            raise RuntimeError("DynamoDB is down")

    answer = side_by_side(batch(1, 2, 3), Context(), handle, lambda *one: put_off.append(one))  # type: ignore[arg-type]

    assert answer == {"batchItemFailures": [{"itemIdentifier": f"message-{failing}"}]}
    assert put_off == [(f"handle-{failing}", failing + 1)]


def test_a_record_that_has_to_wait_comes_back_and_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    put_off: list[tuple[str, int]] = []

    def handle(record: SQSRecord) -> None:
        raise NotYet

    answer = side_by_side(batch(4), Context(), handle, lambda *one: put_off.append(one))  # type: ignore[arg-type]
    assert (answer, put_off) == ({"batchItemFailures": [{"itemIdentifier": "message-0"}]}, [("handle-0", 4)])
    assert capsys.readouterr().out == ""


def test_each_failed_record_is_counted_and_logged_without_the_text_of_its_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "LinkWebhook/test")
    logged: list[dict[str, Any]] = []
    monkeypatch.setattr(sqs_batch.logger, "warning", lambda line, **keys: logged.append({"line": line, **keys}))

    def handle(record: SQSRecord) -> None:
        if record.message_id != "message-1":
            raise RuntimeError("with a secret")

    side_by_side(batch(1, 1, 70), Context(), handle, lambda *_: None)  # type: ignore[arg-type]

    assert [json.loads(line)["FailedRecords"] for line in capsys.readouterr().out.splitlines()] == [[1.0], [1.0]]
    assert logged == [
        {"line": "record.failed", "message_id": "message-0", "reason": "RuntimeError", "receives": 1},
        {"line": "record.failed", "message_id": "message-2", "reason": "RuntimeError", "receives": 70},
    ]


def test_ten_records_are_handled_at_the_same_time() -> None:
    together = threading.Barrier(10)

    def handle(_: SQSRecord) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(30)

    side_by_side(batch(*[1] * 10), Context(), handle, lambda *_: None)  # type: ignore[arg-type]

    assert not together.broken, "each record waits for the nine others"


def test_a_record_whose_thread_cannot_start_fails_alone_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started, handled = threading.Thread.start, itertools.count(1), list[str]()
    put_off: list[str] = []

    def second_cannot_start(thread: threading.Thread) -> None:
        if next(started) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", second_cannot_start)
    answer = side_by_side(
        batch(1, 1, 1, 1),
        Context(),  # type: ignore[arg-type]
        lambda record: handled.append(record.message_id),
        lambda receipt_handle, _: put_off.append(receipt_handle),
    )

    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-2"}]}
    assert put_off == ["handle-2"]
    assert sorted(handled) == ["message-0", "message-1", "message-3"]


class Sqs:
    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def change_message_visibility(self, **call: Any) -> None:
        self.calls.append(call)


@pytest.mark.parametrize(("receives", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (30, 60), (66, 60)])
def test_a_failed_message_comes_back_after_a_pause_that_doubles_up_to_a_minute(receives: int, seconds: int) -> None:
    sqs = Sqs()
    Queues(sqs, settings()).retry_later("status", "handle", receives)  # type: ignore[arg-type]
    assert sqs.calls == [{"QueueUrl": "status", "ReceiptHandle": "handle", "VisibilityTimeout": seconds}]


def test_after_an_hour_of_failures_the_queue_decides_when_a_message_comes_back() -> None:
    sqs = Sqs()
    Queues(sqs, settings()).retry_later("wake_up", "handle", 67)  # type: ignore[arg-type]
    assert sqs.calls == []
