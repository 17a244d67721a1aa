"""Probes: one slot of a shard, or one look for the API."""

from __future__ import annotations

import json
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from link import deployment
from link.telemetry import logger

PROBER = deployment.prober()


# No event is logged, even if POWERTOOLS_LOGGER_LOG_EVENT is set: the API's events contain secrets.
@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> list[str] | None:
    """Run the slot in the message, of which the event source passes one at a time; or look at `checks` once."""
    if "checks" in event:
        return PROBER.look_at(event["checks"])
    for record in event["Records"]:
        slot = json.loads(record["body"])
        PROBER.run(slot["shard"], slot["of"], slot["slot"])
    return None
