"""The clock of the probes: every minute, it puts the slots of that minute."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from link import deployment
from link.telemetry import logger

CLOCK = deployment.probe_clock()
READER_THREADS = 8


# No event is logged, even if POWERTOOLS_LOGGER_LOG_EVENT is set: the API's events contain secrets.
@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Put the slots of the minute in which the event's `time` is: the schedule's own, however late this runs."""
    minute_ms = round(datetime.fromisoformat(event["time"]).timestamp() * 1_000)
    with ThreadPoolExecutor(READER_THREADS) as pool:
        return {"slots": CLOCK.run(minute_ms, pool.map)}
