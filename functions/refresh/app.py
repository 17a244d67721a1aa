"""The sweep: every minute, wakes up each resource that is due within the next."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from link import aws, settings
from link.clock import Clock
from link.election import NEAR_MS
from link.lock import Locks
from link.queues import Queues
from link.telemetry import logger

SETTINGS = settings.load(os.environ)
CLOCK = Clock()
LOCKS = Locks(aws.client("dynamodb"), SETTINGS, CLOCK)
QUEUES = Queues(aws.client("sqs"), SETTINGS)
SENDERS = 8
"""At 10 ms a call they fill the CPU that the function has."""


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """One Query per shard of the due index, one SendMessageBatch per ten resources."""
    due = LOCKS.due(CLOCK.now() + NEAR_MS)
    with ThreadPoolExecutor(SENDERS) as pool:
        woken, failed = QUEUES.wake_up_all(due, CLOCK.now, pool.map)
    logger.info("sweep.done", woken=woken, failed=failed)
    if failed:
        raise RuntimeError(f"SQS did not take {failed} of {woken} wake-ups: the next sweep repeats them")
    return {"woken": woken}
