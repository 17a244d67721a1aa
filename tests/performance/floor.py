"""The floor: the AWS calls of a path in bare boto3, one HMAC and one POST over a new connection, without our code.

`python -m tests.performance.floor FUNCTION FILE` is the floor of a cold start: it imports the third-party packages
that the function needs and makes the calls recorded in the file.
"""

from __future__ import annotations

import hmac
import http.client
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import boto3

URL = os.environ.get("AWS_ENDPOINT_URL", "")
PARIS = "vip-11111111-1111-4111-8111-111111111111"
RESOURCE = "floating-ip-203.0.113.7"
SECRET = "paris-secret-0123456789abcdef0123"
SENDS = ("endpoint_status", "reconcile")


def deliver() -> None:
    """Send one signed POST."""
    timestamp = str(int(time.time()))
    body = json.dumps(
        {"endpoint_id": PARIS, "resource_id": RESOURCE, "plugin": "webhook", "status": "ACTIVATED"}
    ).encode()
    signature = hmac.new(SECRET.encode(), timestamp.encode() + b"." + body, "sha256").hexdigest()
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(URL).port or 80, timeout=5)
    headers = {"X-Link-Webhook-Timestamp": timestamp, "X-Link-Webhook-Signature": signature}
    connection.request("POST", "/webhook", body, headers)
    assert connection.getresponse().status == 200
    connection.close()


class Floor:
    """Repeats recorded calls, each (service, method, arguments); "POST" means `deliver`."""

    def __init__(self, calls: list[list[Any]]) -> None:
        clients: dict[str, Any] = {}
        self._calls: list[tuple[Callable[..., object], dict[str, Any]]] = []
        for service, method, arguments in calls:
            if method == "POST":
                self._calls.append((deliver, {}))
                continue
            if service not in clients:
                clients[service] = boto3.client(service)
            self._calls.append((getattr(clients[service], method), arguments))

    def __call__(self) -> None:
        for call, arguments in self._calls:
            call(**arguments)


def imported(function: str) -> None:
    """Import the third-party packages of a function, and load the trust store that its POSTs need."""
    import aws_lambda_powertools.utilities.typing
    from aws_lambda_powertools import Logger

    Logger()
    if function == "endpoints_api":
        from aws_lambda_powertools.event_handler import APIGatewayRestResolver

        APIGatewayRestResolver()
    if function in SENDS:
        import ssl

        import aws_lambda_powertools.metrics
        import aws_lambda_powertools.utilities.batch  # noqa: F401
        import certifi
        import requests  # noqa: F401

        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certifi.where())


if __name__ == "__main__":
    imported(sys.argv[1])
    with open(sys.argv[2]) as file:
        Floor(json.load(file))()
