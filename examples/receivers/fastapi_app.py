"""A receiver in FastAPI. Copy layers/shared/link/receiver.py beside this file, as link_receiver.py, then

WEBHOOK_SECRET=… RESOURCE_ID=floating-ip-203.0.113.7 SLOTS_FILE=slots.sqlite uvicorn fastapi_app:app
"""

from __future__ import annotations

import logging
import os

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from link_receiver import SQLiteStore, Target, Unverified, WebhookError, apply, parse_and_validate_webhook

app = FastAPI()
# A file is enough for the processes of one host. On several hosts, use DynamoDBStore: see docs/receiving.md.
store = SQLiteStore(os.environ["SLOTS_FILE"])


def secrets(request: Unverified) -> str | None:
    """Reads one environment variable. In production, read your secret store."""
    return os.environ["WEBHOOK_SECRET"] if request.resource_id == os.environ["RESOURCE_ID"] else None


def switch_to(target: Target) -> None:
    """Your code: move the address, the record or the traffic. A second call with the same target must do no harm."""
    logging.getLogger("uvicorn.error").info("active: %s", target.endpoint_id)


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
