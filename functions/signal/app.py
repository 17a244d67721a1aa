"""Signals: what AWS says of endpoints, by its events and by a look once a minute."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from link import deployment
from link.sqs_batch import side_by_side
from link.telemetry import logger

SIDE_BY_SIDE = 8
SIGNALLER = deployment.signaller(at_once=ThreadPoolExecutor(SIDE_BY_SIDE).map)


# No event is logged, even if POWERTOOLS_LOGGER_LOG_EVENT is set: the API's events contain secrets.
@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Hear the events of a batch; or look, in the minute that the schedule's event begins."""
    if "Records" not in event:
        return SIGNALLER.look(round(datetime.fromisoformat(event["time"]).timestamp() * 1_000))

    def hear(record: SQSRecord) -> None:
        SIGNALLER.take(record.body, record.message_id)

    return side_by_side(event, context, hear, SIGNALLER.retry_later)
