"""A receiver in FastAPI: run `uvicorn fastapi_app:app`.

Copy layers/shared/link/receiver.py beside this file, as link_receiver.py.
"""

from __future__ import annotations

import logging
import os

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from link_receiver import Applied, InMemoryStore, WebhookError, apply, parse_and_validate_webhook

app = FastAPI()
# Memory is enough for one process. With several, use DynamoDBStore or your database: see docs/receiving.md.
store = InMemoryStore()


def secrets(resource_id: str) -> str | None:
    """Reads one environment variable. In production, read your secret store."""
    return os.environ["WEBHOOK_SECRET"] if resource_id == os.environ["RESOURCE_ID"] else None


def switch_to(endpoint_id: str | None) -> None:
    """Your code: move the address, the record or the traffic. A second call with the same value must do no harm."""
    logging.getLogger("uvicorn.error").info("active: %s", endpoint_id)


@app.post("/link")
async def receive(request: Request) -> Response:
    # No model as a parameter: FastAPI would parse the body, but the signature covers the raw bytes.
    headers, body = request.headers.items(), await request.body()

    def believe() -> Applied:
        applied = apply(store, parse_and_validate_webhook(secrets, headers, body))
        if not applied.superseded:
            switch_to(applied.active)
        return applied

    try:
        # The store and the switch may block, so they do not run in the event loop.
        await run_in_threadpool(believe)
    except WebhookError as error:
        return Response(f"{error}\n", status_code=error.http_status, media_type="text/plain")
    return Response(status_code=204)
