"""A receiver in Lambda, behind a function URL, an HTTP API or a REST API.

Put one of ../switches beside it as switch.py and attach the layer SharedLayerArn. Its variables are RESOURCE_ID,
SECRETS ({"paris": "…", "london": "…"}) and SLOTS_TABLE, a table with the partition key `resource_id`. Its role needs
lambda_function.policy.json and the policy of the switch.
"""

from __future__ import annotations

import json
import os
from typing import Any

import boto3
from switch import switch_to

from link.receiver import (
    DynamoDBStore,
    Unverified,
    WebhookError,
    apply,
    lambda_request,
    parse_and_validate_webhook,
)

# In production, read Secrets Manager or Parameter Store.
SECRETS = json.loads(os.environ["SECRETS"])
store = DynamoDBStore(boto3.client("dynamodb"), os.environ["SLOTS_TABLE"])


def secrets(request: Unverified) -> str | None:
    """The secret of the host that the request names: its signature then proves the host."""
    return SECRETS.get(request.host) if request.resource_id == os.environ["RESOURCE_ID"] else None


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answers 204, or 401 or 503 with the reason."""
    headers, body = lambda_request(event)
    try:
        apply(store, parse_and_validate_webhook(secrets, headers, body), switch_to)
    except WebhookError as error:
        return {"statusCode": error.http_status, "headers": {"Content-Type": "text/plain"}, "body": f"{error}\n"}
    return {"statusCode": 204}
