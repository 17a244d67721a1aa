"""A receiver in Flask. Copy layers/shared/link/receiver.py beside this file, as link_receiver.py, then

WEBHOOK_SECRET=… RESOURCE_ID=floating-ip-203.0.113.7 SLOTS_FILE=slots.sqlite flask --app flask_app run
"""

from __future__ import annotations

import os

from flask import Flask, Response, request
from link_receiver import SQLiteStore, Target, Unverified, WebhookError, apply, parse_and_validate_webhook

app = Flask(__name__)
app.logger.setLevel("INFO")
# A file is enough for the processes of one host. On several hosts, use DynamoDBStore: see docs/receiving.md.
store = SQLiteStore(os.environ["SLOTS_FILE"])


def secrets(request: Unverified) -> str | None:
    """Reads one environment variable. In production, read your secret store."""
    return os.environ["WEBHOOK_SECRET"] if request.resource_id == os.environ["RESOURCE_ID"] else None


def switch_to(target: Target) -> None:
    """Your code: move the address, the record or the traffic. A second call with the same target must do no harm."""
    app.logger.info("active: %s", target.endpoint_id)


@app.post("/link")
def receive() -> Response:
    try:
        # Call get_data before anything else reads the body: the signature covers the raw bytes.
        webhook = parse_and_validate_webhook(secrets, list(request.headers.items()), request.get_data())
        apply(store, webhook, switch_to)
    except WebhookError as error:
        return Response(f"{error}\n", status=error.http_status, mimetype="text/plain")
    return Response(status=204)
