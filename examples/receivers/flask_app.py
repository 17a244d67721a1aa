"""A receiver in Flask: `flask --app flask_app run`, beside it layers/shared/link/receiver.py as link_receiver.py."""

from __future__ import annotations

import os

from flask import Flask, Response, request
from link_receiver import InMemoryStore, WebhookError, apply, parse_and_validate_webhook

app = Flask(__name__)
# In memory only for one process. With several, DynamoDBStore, or your database: see docs/receiving.md.
store = InMemoryStore()


def secrets(resource_id: str) -> str | None:
    """One environment variable here; your secret store in earnest."""
    return os.environ["WEBHOOK_SECRET"] if resource_id == os.environ["RESOURCE_ID"] else None


def switch_to(endpoint_id: str | None) -> None:
    """Yours: move the address, the record, the traffic. Called with the same value twice it must not hurt."""
    app.logger.info("active: %s", endpoint_id)


@app.post("/link")
def receive() -> Response:
    try:
        # get_data before anything else looks at the body: the signature is of the raw bytes.
        webhook = parse_and_validate_webhook(secrets, list(request.headers.items()), request.get_data())
        applied = apply(store, webhook)
    except WebhookError as error:
        return Response(f"{error}\n", status=error.http_status, mimetype="text/plain")
    if not applied.superseded:
        switch_to(applied.active)
    return Response(status=204)
