r"""A receiver in FastAPI.

Put the kit (layers/shared/link/receiver.py) beside it as link_receiver.py and one of ../switches as switch.py, then run

SECRETS='{"paris": "…", "london": "…"}' RESOURCE_ID=floating-ip-203.0.113.7 SLOTS_FILE=slots.sqlite \
  uvicorn fastapi_app:app
"""

from __future__ import annotations

import json
import os

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from link_receiver import SQLiteStore, Unverified, WebhookError, apply, parse_and_validate_webhook
from switch import switch_to

app = FastAPI()
# In production, read your secret store.
SECRETS = json.loads(os.environ["SECRETS"])
# A file is enough for the processes of one host. On several hosts, use DynamoDBStore: see docs/receiving.md.
store = SQLiteStore(os.environ["SLOTS_FILE"])


def secrets(request: Unverified) -> str | None:
    """The secret of the host that the request names: its signature then proves the host."""
    return SECRETS.get(request.host) if request.resource_id == os.environ["RESOURCE_ID"] else None


@app.post("/link")
async def receive(request: Request) -> Response:
    # No model as a parameter: FastAPI would parse the body, but the signature covers the raw bytes.
    headers, body = request.headers.items(), await request.body()

    def switch() -> None:
        apply(store, parse_and_validate_webhook(secrets, headers, body), switch_to)

    try:
        # The store and the switch may block, so they do not run in the event loop.
        await run_in_threadpool(switch)
    except WebhookError as error:
        return Response(f"{error}\n", status_code=error.http_status, media_type="text/plain")
    return Response(status_code=204)
