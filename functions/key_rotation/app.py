"""A key rotation: started by the API, it renews the ciphertext of every endpoint."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from link import deployment
from link.telemetry import logger

ROTATION = deployment.key_rotation()


# Never the event, whatever POWERTOOLS_LOGGER_LOG_EVENT says: a registration has a secret in it.
@logger.inject_lambda_context(log_event=False)
def handler(event: object, context: LambdaContext) -> dict[str, Any]:
    """Ignores its event on purpose: the right to start a rotation must not include a say in what it does."""
    return ROTATION.run(lambda: context.get_remaining_time_in_millis() / 1000)
