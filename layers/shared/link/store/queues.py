"""The queues: put wake-ups and rejected events, and delay a failed message. 1 call each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from link.settings import Settings
from link.store.aws import FAULTS, error_code
from link.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

MAX_MESSAGE_BYTES = 262_144
"""Every SQS queue accepts this size, and more only if its limit was raised."""
MAX_PAUSE_SECONDS = 60
MAX_QUICK_RECEIVES = 66
"""1 + 2 + 4 + … + 32 s and 60 times 60 s: about an hour."""
BATCH_SIZE = 10
WAVE_SIZE = 1_000


class NotPutBack(Exception):
    """SQS did not take an event back."""


class Queues:
    """Puts messages, and says when a failed one comes back; never reads one."""

    def __init__(self, sqs: SQSClient, settings: Settings) -> None:
        self._sqs = sqs
        self._status_url = settings.status_queue_url
        self._wake_up_url = settings.wake_up_queue_url
        self._signal_url = settings.signal_queue_url
        self._rejected_url = settings.rejected_events_queue_url

    def wake_up(self, resource_id: str, due_at: int, now: int) -> None:
        """Puts a message that makes `reconcile` run for the resource when it is due, or up to a second earlier.

        A failure is only logged: the commit has taken place, and the sweep finds due_at within a minute.
        """
        try:
            self._sqs.send_message(QueueUrl=self._wake_up_url, **wake_up_message(resource_id, due_at, now))
        except FAULTS as error:
            logger.warning("wake_up.failed", resource_id=resource_id, reason=error_code(error))

    def wake_up_all(
        self, due: Iterable[tuple[str, int]], now: Callable[[], int], at_once: Callable[..., Iterable[int]] = map
    ) -> tuple[int, int]:
        """The same for many (resource_id, due_at), ten in a call; returns their number and how many SQS refused.

        `at_once` is a thread pool's `map`, to be faster. At most `WAVE_SIZE` items of `due` are in memory at a time.
        """

        def send(batch: list[tuple[str, int]]) -> int:
            entries: list[Any] = [
                {"Id": str(i), **wake_up_message(resource_id, due_at, now())}
                for i, (resource_id, due_at) in enumerate(batch)
            ]
            answer = self._sqs.send_message_batch(QueueUrl=self._wake_up_url, Entries=entries)
            return len(answer.get("Failed", []))

        woken = failed = 0
        left = iter(due)
        while wave := list(islice(left, WAVE_SIZE)):
            woken += len(wave)
            batches = [wave[start : start + BATCH_SIZE] for start in range(0, len(wave), BATCH_SIZE)]
            failed += sum(at_once(send, batches))
        return woken, failed

    def retry_later(self, queue: Literal["status", "wake_up", "signal"], receipt_handle: str, receives: int) -> None:
        """Makes a failed message visible again after 1, 2, 4 … 60 s. 1 ChangeMessageVisibility.

        After an hour of failures it does nothing: then the queue's visibility timeout counts, so that a day of
        failures fits into the queue's maxReceiveCount.
        """
        if receives <= MAX_QUICK_RECEIVES:
            self._sqs.change_message_visibility(
                QueueUrl={"status": self._status_url, "wake_up": self._wake_up_url, "signal": self._signal_url}[queue],
                ReceiptHandle=receipt_handle,
                VisibilityTimeout=min(MAX_PAUSE_SECONDS, 1 << min(receives - 1, 6)),
            )

    def put_back(self, events: list[Any]) -> None:
        """Puts status events on their queue, a second from now; raises FAULTS. 1 SendMessageBatch for each ten.

        A batch has no more bytes than one message may have. If it raises, some may be there: a report that is applied
        twice changes nothing.
        """
        for bodies in _batches([json.dumps(event) for event in events]):
            entries: list[Any] = [
                {"Id": str(i), "MessageBody": body, "DelaySeconds": 1} for i, body in enumerate(bodies)
            ]
            answer = self._sqs.send_message_batch(QueueUrl=self._status_url, Entries=entries)
            if failed := answer.get("Failed"):
                raise NotPutBack(failed[0].get("Code", ""))

    def reject(self, code: str, message: str, event: object, now: int) -> None:
        """Puts an event that can never be applied into its queue, with the reason, cut to the size that SQS accepts."""
        self._sqs.send_message(QueueUrl=self._rejected_url, MessageBody=rejected_message(code, message, event, now))


def _batches(bodies: list[str]) -> Iterator[list[str]]:
    """The bodies, which are ASCII, in the order given and in as few batches as SQS accepts."""
    batch: list[str] = []
    for body in bodies:
        if batch and (len(batch) == BATCH_SIZE or len(body) + sum(map(len, batch)) > MAX_MESSAGE_BYTES):
            yield batch
            batch = []
        batch.append(body)
    if batch:
        yield batch


def wake_up_message(resource_id: str, due_at: int, now: int) -> dict[str, Any]:
    """Body and delay of a wake-up. The delay is rounded down: an invocation that comes early waits for the rest."""
    body = json.dumps({"resource_id": resource_id, "due_at": due_at})
    return {"MessageBody": body, "DelaySeconds": max(0, min(900, (due_at - now) // 1000))}


def rejected_message(code: str, message: str, event: object, now: int) -> str:
    """ASCII JSON; an event that does not fit is kept as the beginning of its text."""

    def body(event: object) -> str:
        return json.dumps({"reason": code, "message": message[:1024], "rejected_at": now, "event": event})

    whole = body(event)
    if len(whole) <= MAX_MESSAGE_BYTES:
        return whole
    text = event if isinstance(event, str) else json.dumps(event)
    # Escaping makes ASCII text at most twice as long and other text at most six times.
    room = MAX_MESSAGE_BYTES - len(body(""))
    while len(json.dumps(text)) - 2 > room:
        text = text[: len(text) * room // len(json.dumps(text))]
    return body(text)
