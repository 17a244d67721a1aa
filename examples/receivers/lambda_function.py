"""A receiver in Lambda, behind a function URL, an HTTP API or a REST API. Attach the layer SharedLayerArn.

The table SLOTS_TABLE needs the partition key `resource_id`; the role needs dynamodb:GetItem and dynamodb:PutItem on it.
"""

from __future__ import annotations

import os
from typing import Any

import boto3

from link.receiver import (
    DynamoDBStore,
    Target,
    Unverified,
    WebhookError,
    apply,
    lambda_request,
    parse_and_validate_webhook,
)

store = DynamoDBStore(boto3.client("dynamodb"), os.environ["SLOTS_TABLE"])


def secrets(request: Unverified) -> str | None:
    """Reads one environment variable. In production, read Secrets Manager or Parameter Store and cache the value."""
    return os.environ["WEBHOOK_SECRET"] if request.resource_id == os.environ["RESOURCE_ID"] else None


def switch_to(target: Target) -> None:
    """Your code: move the address, the record or the traffic. A second call with the same target must do no harm."""
    print(f"active: {target.endpoint_id}")


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answers 204, or 401 or 503 with the reason."""
    headers, body = lambda_request(event)
    try:
        apply(store, parse_and_validate_webhook(secrets, headers, body), switch_to)
    except WebhookError as error:
        return {"statusCode": error.http_status, "headers": {"Content-Type": "text/plain"}, "body": f"{error}\n"}
    return {"statusCode": 204}
