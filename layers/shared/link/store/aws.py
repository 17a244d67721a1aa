"""AWS clients whose deadlines fit into a claim, and the word for their errors in a log line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from link import VERSION

FAULTS = (ClientError, BotoCoreError)
"""What a call of AWS can raise."""

_CONFIG = Config(
    # Three tries of at most 3 s each. botocore's defaults are 60 s for each of three tries, or four for DynamoDB.
    connect_timeout=1,
    read_timeout=2,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=50,
    # Validation takes a quarter of a call's CPU. AWS validates parameters, too, and so do the tests' clients.
    parameter_validation=False,
    # CloudTrail shows it.
    user_agent=f"link-webhook/{VERSION}",
)


# At DEBUG, botocore logs the parameters of each call, and those of kms:Encrypt are secrets. Lambda gives the root
# logger the level of the function's logging configuration, which an operator can change.
logging.getLogger("botocore").setLevel(logging.INFO)


def client(service: str, answer_seconds: int = 0, region: str = "") -> Any:
    """A client of the service; make it once per process.

    `answer_seconds`: how long to wait for an answer that takes longer than others; such a call is not repeated.
    `region`: another one than the function's own.
    """
    config = _CONFIG
    if answer_seconds:
        config = config.merge(
            Config(read_timeout=answer_seconds, retries={"mode": "standard", "total_max_attempts": 1})
        )
    return boto3.client(service, region_name=region or None, config=config)  # type: ignore[call-overload]


def error_code(error: Exception) -> str:
    """One word for an AWS error, without anything of the request."""
    # A timeout also has the attribute, but its value is None.
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or type(error).__name__)
