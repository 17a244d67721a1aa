"""A key rotation: started by the API, it renews the ciphertext of every endpoint."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from link import deployment
from link.telemetry import logger

ROTATION = deployment.key_rotation()


# No event is logged, even if POWERTOOLS_LOGGER_LOG_EVENT is set: the API's events contain secrets.
@logger.inject_lambda_context(log_event=False)
def handler(event: object, context: LambdaContext) -> dict[str, Any]:
    """Ignore the event on purpose: a caller may start a rotation, but must not choose what it does."""
    return ROTATION.run(lambda: context.get_remaining_time_in_millis() / 1000)
