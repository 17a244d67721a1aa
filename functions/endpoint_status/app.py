"""Status events: applies the report of each host, elects and sends."""

from __future__ import annotations

from functools import partial
from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from link import deployment
from link.sqs_batch import side_by_side
from link.telemetry import logger

RECONCILER = deployment.reconciler()


# No event is logged, even if POWERTOOLS_LOGGER_LOG_EVENT is set: the API's events contain secrets.
@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Apply each status event. An event that can never succeed goes to the rejected-events queue, without a retry."""

    def apply(record: SQSRecord) -> None:
        RECONCILER.take(record.body, record.message_id, lambda: context.get_remaining_time_in_millis() / 1000)

    return side_by_side(event, context, apply, partial(RECONCILER.retry_later, "status"))
