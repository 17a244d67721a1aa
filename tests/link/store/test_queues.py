"""What is put into the wake-up and the rejected-events queue."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from link.store.queues import MAX_MESSAGE_BYTES, Queues, rejected_message, wake_up_message
from tests.support.deployed import settings
from tests.support.ids import NOW


@pytest.mark.parametrize(
    ("ahead", "delay"),
    [(-5_000, 0), (0, 0), (999, 0), (1_000, 1), (15_999, 15), (10**9, 900)],
)
def test_a_wake_up_never_comes_late(ahead: int, delay: int) -> None:
    message = wake_up_message("ip", NOW + ahead, NOW)
    assert message["DelaySeconds"] == delay
    assert json.loads(message["MessageBody"]) == {"resource_id": "ip", "due_at": NOW + ahead}


class Sqs:
    """Accepts every message except one of the second batch."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.sent: list[dict[str, Any]] = []

    def send_message(self, **message: Any) -> None:
        self.sent.append(message)

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        assert QueueUrl == "wake-up"
        self.batches.append(Entries)
        return {"Failed": [{"Id": "3"}]} if len(self.batches) == 2 else {}


def test_many_wake_ups_go_ten_in_a_call_and_failures_are_counted() -> None:
    sqs = Sqs()
    due = [(f"ip-{n}", NOW) for n in range(25)]
    assert Queues(sqs, settings()).wake_up_all(due, lambda: NOW) == (25, 1)  # type: ignore[arg-type]
    assert [len(batch) for batch in sqs.batches] == [10, 10, 5]
    woken = [json.loads(entry["MessageBody"])["resource_id"] for batch in sqs.batches for entry in batch]
    assert woken == [name for name, _ in due]
    assert all(len({entry["Id"] for entry in batch}) == len(batch) for batch in sqs.batches)


def test_a_rejected_event_is_kept_whole_and_in_ascii() -> None:
    text = rejected_message("malformed", "why", {"detail": "é\ud800"}, NOW)
    assert text.isascii()
    assert json.loads(text) == {
        "reason": "malformed",
        "message": "why",
        "rejected_at": NOW,
        "event": {"detail": "é\ud800"},
    }


@pytest.mark.parametrize("filler", ['"', "é", "x"])
def test_an_event_too_large_for_sqs_is_cut_and_the_message_is_still_json(filler: str) -> None:
    event = {"detail": {"endpoint_id": "vip-1", "noise": filler * 300_000}}
    text = rejected_message("malformed", "why", event, NOW)
    assert MAX_MESSAGE_BYTES * 0.9 < len(text) <= MAX_MESSAGE_BYTES == 262_144
    assert json.loads(text)["event"].startswith('{"detail": {"endpoint_id": "vip-1"')


def test_one_wake_up_and_one_rejected_event_go_to_their_queues() -> None:
    sqs = Sqs()
    queues = Queues(sqs, settings())  # type: ignore[arg-type]
    queues.wake_up("ip", NOW + 5_000, NOW)
    queues.reject("malformed", "why", {}, NOW)
    wake_up, rejected = sqs.sent
    assert (wake_up["QueueUrl"], wake_up["DelaySeconds"]) == ("wake-up", 5)
    assert (rejected["QueueUrl"], json.loads(rejected["MessageBody"])["reason"]) == ("rejected", "malformed")


def test_a_long_list_is_taken_a_wave_at_a_time() -> None:
    sqs = Sqs()
    taken: list[int] = []

    def due() -> Iterator[tuple[str, int]]:
        for number in range(2_500):
            taken.append(number)
            yield f"ip-{number}", NOW

    waves: list[int] = []

    def at_once(send: Callable[[Any], int], batches: list[Any]) -> list[int]:
        waves.append(len(taken))
        return [send(batch) for batch in batches]

    assert Queues(sqs, settings()).wake_up_all(due(), lambda: NOW, at_once) == (2_500, 1)  # type: ignore[arg-type]
    assert waves == [1_000, 2_000, 2_500], "a bounded part of the list is held"
