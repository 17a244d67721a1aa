"""A receiver in FastAPI: `uvicorn fastapi_app:app`, beside it layers/shared/link/receiver.py as link_receiver.py."""

from __future__ import annotations

import logging
import os

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from link_receiver import Applied, InMemoryStore, WebhookError, apply, parse_and_validate_webhook

app = FastAPI()
# In memory only for one process. With several, DynamoDBStore, or your database: see docs/receiving.md.
store = InMemoryStore()


def secrets(resource_id: str) -> str | None:
    """One environment variable here; your secret store in earnest."""
    return os.environ["WEBHOOK_SECRET"] if resource_id == os.environ["RESOURCE_ID"] else None


def switch_to(endpoint_id: str | None) -> None:
    """Yours: move the address, the record, the traffic. Called with the same value twice it must not hurt."""
    logging.getLogger("uvicorn.error").info("active: %s", endpoint_id)


@app.post("/link")
async def receive(request: Request) -> Response:
    # No model as a parameter: FastAPI would parse the body, and the signature is of the raw bytes.
    headers, body = request.headers.items(), await request.body()

    def believe() -> Applied:
        applied = apply(store, parse_and_validate_webhook(secrets, headers, body))
        if not applied.superseded:
            switch_to(applied.active)
        return applied

    try:
        # A store and a switch may block: not in the event loop.
        await run_in_threadpool(believe)
    except WebhookError as error:
        return Response(f"{error}\n", status_code=error.http_status, media_type="text/plain")
    return Response(status_code=204)
