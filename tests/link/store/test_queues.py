from __future__ import annotations

import json
from typing import Any

import pytest

from link.store.queues import Queues, rejected_message, wake_up_message
from tests.support.deployed import settings
from tests.world import START


@pytest.mark.parametrize(
    ("ahead", "delay"),
    [(-5_000, 0), (0, 0), (999, 0), (1_000, 1), (15_999, 15), (10**9, 900)],
)
def test_a_wake_up_never_comes_late(ahead: int, delay: int) -> None:
    message = wake_up_message("ip", START + ahead, START)
    assert message["DelaySeconds"] == delay
    assert json.loads(message["MessageBody"]) == {"resource_id": "ip", "due_at": START + ahead}


class Sqs:
    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        assert QueueUrl == "wake-up"
        self.batches.append(Entries)
        return {"Failed": [{"Id": "3"}]} if len(self.batches) == 2 else {}


def test_many_wake_ups_go_ten_in_a_call_and_failures_are_counted() -> None:
    sqs = Sqs()
    due = [(f"ip-{n}", START) for n in range(25)]
    assert Queues(sqs, settings()).wake_up_all(due, lambda: START) == (25, 1)  # type: ignore[arg-type]
    assert [len(batch) for batch in sqs.batches] == [10, 10, 5]
    woken = [json.loads(entry["MessageBody"])["resource_id"] for batch in sqs.batches for entry in batch]
    assert woken == [name for name, _ in due]
    assert all(len({entry["Id"] for entry in batch}) == len(batch) for batch in sqs.batches)


def test_a_rejected_event_is_kept_whole_and_in_ascii() -> None:
    text = rejected_message("malformed", "why", {"detail": "é\ud800"}, START)
    assert text.isascii()
    assert json.loads(text) == {
        "reason": "malformed",
        "message": "why",
        "rejected_at": START,
        "event": {"detail": "é\ud800"},
    }


@pytest.mark.parametrize("filler", ['"', "é", "x"])
def test_an_event_too_large_for_sqs_is_cut_and_still_json(filler: str) -> None:
    event = {"detail": {"endpoint_id": "vip-1", "noise": filler * 300_000}}
    text = rejected_message("malformed", "why", event, START)
    assert MESSAGE_BYTES * 0.9 < len(text) <= MESSAGE_BYTES
    assert json.loads(text)["event"].startswith('{"detail": {"endpoint_id": "vip-1"')
