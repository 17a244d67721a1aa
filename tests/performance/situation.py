"""The situations that the benchmarks measure: the items in the tables, and the event that arrives."""

from __future__ import annotations

import base64
import itertools
import json
import time
from pathlib import Path
from typing import Any

from link.election.state import NEVER, Endpoint, Observer, Resource, Status, Word
from link.plugins.webhook.config import StoredWebhook
from link.registration import Registration
from link.store import endpoints, lock_item
from tests.performance.floor import PARIS, RESOURCE, SECRET, URL
from tests.performance.stub import SETTINGS

EVENTS = Path(__file__).parents[2] / "events"
LONDON = PARIS.replace("11", "22")
REFRESH_MS = 300_000
_last = itertools.count(int(time.time() * 1000))


def tables(paris: Status, *, due_in_ms: int | None = None, resource_id: str = RESOURCE, path: str = "/webhook") -> Any:
    """Return the tables' items as sent to DynamoDB: paris has this status, london is FAILING, both receivers know."""
    now = int(time.time() * 1000)
    holds = paris is Status.ACTIVATED
    # The last delivery was long enough ago for the refresh to be due at `due_at`.
    delivered = now - REFRESH_MS + (REFRESH_MS if due_in_ms is None else due_in_ms)
    known = Resource(
        resource_id,
        version=1,
        nonce="nonce",
        epoch=1,
        holder=PARIS if holds else None,
        due_at=delivered + REFRESH_MS if holds else None,
        endpoints={PARIS: _entry(paris, "paris", delivered), LONDON: _entry(Status.FAILING, "london", delivered)},
    )
    secret = {"value": SECRET, "from": 0, "until": None}
    # The KMS of the stub does not encrypt.
    ciphertext = json.dumps({"v": 1, "secrets": [secret], "headers": {}}, separators=(",", ":")).encode()
    registration = Registration(
        endpoint_id=PARIS,
        plugin="webhook",
        resource_id=resource_id,
        config=StoredWebhook(url=URL + path, ciphertext=ciphertext).attributes(),
        host="paris",
    )
    items = {
        SETTINGS.locks_table: lock_item.to_item(known),
        SETTINGS.endpoints_table: endpoints.to_item(registration),
    }
    return json.loads(json.dumps(items, default=lambda value: base64.b64encode(value).decode()))


def _entry(status: Status, host: str, delivered: int) -> Endpoint:
    return Endpoint(
        joined=delivered,
        revision=1,
        host=host,
        words={Observer.HOST: Word(status, delivered)},
        status=status,
        sequence=1,
        epoch=1,
        reason="elected",
        announced_at=delivered,
        delivered_sequence=1,
        delivered_at=delivered,
        believed_until=NEVER if status is Status.ACTIVATED else None,
    )


def report(status: str, endpoint_id: str = PARIS) -> dict[str, Any]:
    """Return an SQS batch of one status event, with a later time than every earlier one."""
    event = json.loads(json.loads((EVENTS / "status_winner.json").read_text())["Records"][0]["body"])
    # Also later than tables made in this millisecond: a report with an equal time counts as outdated.
    at = max(next(_last), int(time.time() * 1000) + 1)
    event["detail"] = {"endpoint_id": endpoint_id, "status": status, "resource_id": RESOURCE, "reported_at": at}
    return batch([json.dumps(event)])


def wake_up(resource_id: str, due_at: int) -> str:
    """Return the body of a wake-up."""
    return json.dumps({"resource_id": resource_id, "due_at": due_at})


def batch(bodies: list[str]) -> dict[str, Any]:
    """Return the SQS event with these messages."""
    record = json.loads((EVENTS / "wake_up.json").read_text())["Records"][0]
    return {"Records": [{**record, "messageId": str(number), "body": body} for number, body in enumerate(bodies)]}


EMPTY = ("key_rotation", "probe", "probe_clock")
"""Functions whose first event finds nothing: no ciphertext of an old key, no probed endpoint."""


def first_event(function: str) -> dict[str, Any]:
    """Return the first event of a new process of the function, to go with `first_tables`."""
    if function == "endpoint_status":
        return report("ACTIVATED")
    if function == "reconcile":
        return batch([wake_up(RESOURCE, 0)])
    if function == "key_rotation":
        return {}
    if function == "probe":
        return batch([json.dumps({"shard": 0, "of": 1, "slot": int(time.time() / 10)})])
    name = "api_show" if function == "endpoints_api" else "schedule_tick"
    text = (EVENTS / f"{name}.json").read_text()
    return json.loads(text.replace("vip-11111111-1111-4111-8111-111111111111", PARIS))  # type: ignore[no-any-return]


def first_tables(function: str) -> Any:
    """Return the tables' items for `first_event`.

    By function: a change of holder, a refresh that is due, a resource that is due, an endpoint to show.
    """
    if function == "endpoint_status":
        return tables(Status.FAILING)
    return tables(Status.ACTIVATED, due_in_ms=0 if function in ("reconcile", "refresh") else None)
