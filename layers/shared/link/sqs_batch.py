"""SQS batches: records are handled side by side, and each can fail alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from link.store.aws import error_code
from link.telemetry import logger, metric


class NotYet(Exception):
    """What a message is for is not over. It comes back as one that failed does, and nothing has failed."""


RetryLater = Callable[[str, int], None]
"""Takes the receipt handle of a message and how often it was received; must not raise."""


def side_by_side(
    event: dict[str, Any], context: LambdaContext, handle: Callable[[SQSRecord], None], retry_later: RetryLater
) -> Any:
    """Handles every record at the same time; returns the partial batch response. A failed one is to come back soon.

    One receiver that hangs must not use up the time of nine others. The first record stays in this thread: most
    batches have one record, and a thread for it would cost a tenth of a heartbeat's CPU.
    """
    under_way = {record["messageId"]: _in_a_thread(handle, SQSRecord(record)) for record in event["Records"][1:]}

    waiting: list[str] = []

    def handled(record: SQSRecord) -> None:
        try:
            if record.message_id in under_way:
                under_way[record.message_id].result()
            else:
                handle(record)
        except NotYet:
            retry_later(record.receipt_handle, int(record.attributes.approximate_receive_count))
            waiting.append(record.message_id)
        except Exception as error:
            # Lambda counts an error only if every record of a batch fails.
            receives = int(record.attributes.approximate_receive_count)
            logger.warning("record.failed", message_id=record.message_id, reason=error_code(error), receives=receives)
            metric("FailedRecords")
            retry_later(record.receipt_handle, receives)
            raise

    answer: Any = process_partial_response(
        event=event,
        record_handler=handled,
        processor=BatchProcessor(event_type=EventType.SQS),
        context=context,
    )
    # Not as failures of the processor: if all records are, it raises, and Lambda counts an error.
    answer["batchItemFailures"] += [{"itemIdentifier": message_id} for message_id in waiting]
    return answer


def _in_a_thread(handle: Callable[[SQSRecord], None], record: SQSRecord) -> Future[None]:
    """How handling the record ends. Without a pool, in which a record whose thread cannot start would wait."""
    ended = Future[None]()

    def run() -> None:
        try:
            handle(record)
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError as error:
        # The operating system has no thread left: the record fails alone and comes back in a second.
        ended.set_exception(error)
    return ended
