"""The sweep: every minute, it wakes up each resource that is due within the next minute."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from link import deployment
from link.telemetry import logger

SWEEP = deployment.sweep()
SENDER_THREADS = 8
"""With 10 ms for each call, they use all the CPU that the function has."""


# No event is logged, even if POWERTOOLS_LOGGER_LOG_EVENT is set: the API's events contain secrets.
@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Run the sweep. The event is ignored."""
    with ThreadPoolExecutor(SENDER_THREADS) as pool:
        return {"woken": SWEEP.run(pool.map)}
