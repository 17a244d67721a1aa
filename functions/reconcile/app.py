"""Wake-ups: brings one resource's election and webhooks up to date."""

from __future__ import annotations

import json
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
    """Reconcile the resource of each message. A message that cannot be read ends in the dead-letter queue."""

    def wake_up(record: SQSRecord) -> None:
        message = json.loads(record.body)
        resource_id, due_at = message["resource_id"], message["due_at"]
        if not isinstance(resource_id, str) or not isinstance(due_at, int):
            raise TypeError("a wake-up is {resource_id: text, due_at: Unix milliseconds}")
        RECONCILER.wake_up(
            resource_id, due_at, record.message_id, lambda: context.get_remaining_time_in_millis() / 1000
        )

    return side_by_side(event, context, wake_up, partial(RECONCILER.retry_later, "wake_up"))
