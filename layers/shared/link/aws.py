"""AWS clients with deadlines that fit into a claim."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from link import VERSION

_CONFIG = Config(
    # Three tries of at most 3 s each. botocore's own defaults would wait four times 60 s.
    connect_timeout=1,
    read_timeout=2,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=50,
    # A quarter of a call's CPU. AWS checks parameters, too, and the tests' clients do; CloudTrail shows the name.
    parameter_validation=False,
    user_agent=f"link-webhook/{VERSION}",
)


def client(service: str) -> Any:
    """A client of the service; make it once per process."""
    return boto3.client(service, config=_CONFIG)  # type: ignore[call-overload]
