r"""A receiver in Flask.

Put the kit (layers/shared/link/receiver.py) beside it as link_receiver.py and one of ../switches as switch.py, then run

SECRETS='{"paris": "…", "london": "…"}' RESOURCE_ID=floating-ip-203.0.113.7 SLOTS_FILE=slots.sqlite \
  flask --app flask_app run
"""

from __future__ import annotations

import json
import os

from flask import Flask, Response, request
from link_receiver import SQLiteStore, Unverified, WebhookError, apply, parse_and_validate_webhook
from switch import switch_to

app = Flask(__name__)
# In production, read your secret store.
SECRETS = json.loads(os.environ["SECRETS"])
# A file is enough for the processes of one host. On several hosts, use DynamoDBStore: see docs/receiving.md.
store = SQLiteStore(os.environ["SLOTS_FILE"])


def secrets(unverified: Unverified) -> str | None:
    """The secret of the host that the request names: its signature then proves the host."""
    return SECRETS.get(unverified.host) if unverified.resource_id == os.environ["RESOURCE_ID"] else None


@app.post("/link")
def receive() -> Response:
    try:
        # Call get_data before anything else reads the body: the signature covers the raw bytes.
        webhook = parse_and_validate_webhook(secrets, list(request.headers.items()), request.get_data())
        apply(store, webhook, switch_to)
    except WebhookError as error:
        return Response(f"{error}\n", status=error.http_status, mimetype="text/plain")
    return Response(status=204)
