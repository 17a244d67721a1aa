"""SQS batches: records handled side by side, each failing for itself."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext


def side_by_side(event: dict[str, Any], context: LambdaContext, handle: Callable[[SQSRecord], None]) -> Any:
    """The partial batch response after `handle` of every record, all of them at the same time.

    One receiver that hangs must not use up the time of nine others.
    """
    with ThreadPoolExecutor(max_workers=max(1, len(event["Records"]))) as pool:
        handled = {record["messageId"]: pool.submit(handle, SQSRecord(record)) for record in event["Records"]}
        return process_partial_response(
            event=event,
            record_handler=lambda record: handled[record.message_id].result(),
            processor=BatchProcessor(event_type=EventType.SQS),
            context=context,
        )
