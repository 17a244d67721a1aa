"""SQS batches: records are handled side by side, and each can fail alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

RetryLater = Callable[[str, int], None]
"""Takes the receipt handle of a message and how often it was received; must not raise."""


def side_by_side(
    event: dict[str, Any], context: LambdaContext, handle: Callable[[SQSRecord], None], retry_later: RetryLater
) -> Any:
    """Handles every record at the same time; returns the partial batch response. A failed one is to come back soon.

    One receiver that hangs must not use up the time of nine others. The first record stays in this thread: most
    batches have one record, and a thread for it would cost a tenth of a heartbeat's CPU.
    """
    others = event["Records"][1:]
    with ThreadPoolExecutor(max_workers=len(others) or 1) as pool:
        under_way = {record["messageId"]: pool.submit(handle, SQSRecord(record)) for record in others}

        def handled(record: SQSRecord) -> None:
            try:
                if record.message_id in under_way:
                    under_way[record.message_id].result()
                else:
                    handle(record)
            except Exception:
                retry_later(record.receipt_handle, int(record.attributes.approximate_receive_count))
                raise

        return process_partial_response(
            event=event,
            record_handler=handled,
            processor=BatchProcessor(event_type=EventType.SQS),
            context=context,
        )
