"""A key rotation: started by the API, with no input, it encrypts every endpoint's secrets anew."""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from link import aws, settings
from link.clock import Clock
from link.encryption import Vault
from link.registry import Registry
from link.rotation import Rotation
from link.telemetry import logger

SETTINGS = settings.load(os.environ)
ROTATION = Rotation(Registry(aws.client("dynamodb"), SETTINGS), Vault(aws.client("kms"), SETTINGS), Clock())


@logger.inject_lambda_context
def handler(event: object, context: LambdaContext) -> dict[str, Any]:
    """Looks at nothing in the event: whoever may start it may not say what it does."""
    return ROTATION.run(lambda: context.get_remaining_time_in_millis() / 1000)
