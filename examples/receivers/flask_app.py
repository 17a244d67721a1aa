"""A receiver in Flask: run `flask --app flask_app run`.

Copy layers/shared/link/receiver.py beside this file, as link_receiver.py.
"""

from __future__ import annotations

import os

from flask import Flask, Response, request
from link_receiver import InMemoryStore, WebhookError, apply, parse_and_validate_webhook

app = Flask(__name__)
# Memory is enough for one process. With several, use DynamoDBStore or your database: see docs/receiving.md.
store = InMemoryStore()


def secrets(resource_id: str) -> str | None:
    """Reads one environment variable. In production, read your secret store."""
    return os.environ["WEBHOOK_SECRET"] if resource_id == os.environ["RESOURCE_ID"] else None


def switch_to(endpoint_id: str | None) -> None:
    """Your code: move the address, the record or the traffic. A second call with the same value must do no harm."""
    app.logger.info("active: %s", endpoint_id)


@app.post("/link")
def receive() -> Response:
    try:
        # Call get_data before anything else reads the body: the signature covers the raw bytes.
        webhook = parse_and_validate_webhook(secrets, list(request.headers.items()), request.get_data())
        applied = apply(store, webhook)
    except WebhookError as error:
        return Response(f"{error}\n", status=error.http_status, mimetype="text/plain")
    if not applied.superseded:
        switch_to(applied.active)
    return Response(status=204)
