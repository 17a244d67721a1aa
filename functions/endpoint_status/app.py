"""Status events: a host reports; apply it, elect, send."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from link import intake
from link.batch import side_by_side
from link.errors import Rejected
from link.process import CLOCK, QUEUES, RECONCILER
from link.telemetry import logger, metric


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Applies each event; what can never succeed is kept in the rejected-events queue and not retried."""

    def report(record: SQSRecord) -> None:
        received: Any = record.body
        try:
            received = intake.decode(record.body)
            RECONCILER.receive(intake.parse(received), lambda: context.get_remaining_time_in_millis() / 1000)
        except Rejected as rejected:
            QUEUES.reject(rejected.code, str(rejected), received, CLOCK.now())
            logger.warning("event.rejected", reason=rejected.code, message_id=record.message_id)
            metric("RejectedEvents")

    return side_by_side(event, context, report)
