"""The sweep: every minute, wakes up each resource that is due within the next."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from link import deployment
from link.telemetry import logger

SWEEP = deployment.sweep()
SENDER_THREADS = 8
"""At 10 ms a call they use all the CPU that the function has."""


# Never the event, whatever POWERTOOLS_LOGGER_LOG_EVENT says: a registration has a secret in it.
@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Ignores its event."""
    with ThreadPoolExecutor(SENDER_THREADS) as pool:
        return {"woken": SWEEP.run(pool.map)}
