"""How many deliveries one process has under way, and what happens to the others."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from link import deployment, reconcile
from link.clock import Clock
from link.election.result import Result, ResultKind
from link.election.rules import MAX_ENDPOINTS_PER_RESOURCE
from link.election.state import Endpoint, Resource, Status
from link.plugins.webhook.config import StoredWebhook
from link.plugins.webhook.sealed import Sealed, context, seal
from link.reconcile import MAX_SENDS
from link.sqs_batch import side_by_side
from link.store import endpoints, lock_item
from tests.simulation.store import Keys, Store
from tests.support.deployed import environment, settings
from tests.support.functions import Context
from tests.support.keys import vault
from tests.support.registrations import REGISTERED
from tests.support.stack import TEMPLATE

RESOURCES = [f"ip-{number}" for number in range(16)]
STANDBYS = 63
DUE = len(RESOURCES) * STANDBYS
URL = "https://receiver.example.com/hook"
MAX_BATCHES = 20


class Receivers:
    """Answer only when every delivery of the batch has either begun or was found to have no thread."""

    def __init__(self) -> None:
        self.under_way = self.most = self.unsent = 0
        self.delivered = Counter[str]()
        self._changed = threading.Condition()

    def post(self, url: str, body: bytes, headers: dict[str, str], *, not_after: int) -> Result:
        with self._changed:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self.unsent + self.most >= DUE or self.most > MAX_SENDS, 120)
            self.under_way -= 1
            self.delivered[url] += 1
        return Result(ResultKind.DELIVERED, status_code=204)

    def metric(self, name: str, value: float = 1, *, reason: str = "", **_: Any) -> None:
        """Takes the metrics of the process, which say how many deliveries had no thread."""
        if reason == "no_thread":
            with self._changed:
                self.unsent += 1
                self._changed.notify_all()


def standby(store: Store, endpoint_id: str, resource_id: str) -> Endpoint:
    """A registered endpoint whose STANDBY is due, and its row."""
    url = f"{URL}/{endpoint_id}"
    ciphertext = seal(vault(Keys(), Clock()), Sealed("a secret", {}), context(endpoint_id, resource_id, url))
    row = replace(
        REGISTERED,
        endpoint_id=endpoint_id,
        resource_id=resource_id,
        config=StoredWebhook(url=url, ciphertext=ciphertext).attributes(),
    )
    store.put_item(TableName=settings().endpoints_table, Item=endpoints.to_item(row))
    return Endpoint(joined=0, status=Status.STANDBY, sequence=1, reason="joined")


def wake_up(resource_id: str) -> dict[str, Any]:
    """An SQS record."""
    attributes = {"ApproximateReceiveCount": "1"}
    return {"messageId": resource_id, "receiptHandle": "handle", "body": resource_id, "attributes": attributes}


class Sqs:
    def send_message(self, **_: Any) -> None:
        """Takes a wake-up. Nobody reads it: each batch here wakes up every resource."""


def test_a_full_process_has_room_for_a_whole_resource_and_stays_below_lambdas_limit_of_threads() -> None:
    functions = [one["Properties"] for one in TEMPLATE["Resources"].values() if "BatchSize" in str(one)]
    records = max(event["Properties"]["BatchSize"] for one in functions for event in one["Events"].values())
    # A thread for the attempt, and one for the look-up of its name.
    assert records + 2 * MAX_SENDS < 1_024
    assert MAX_SENDS >= MAX_ENDPOINTS_PER_RESOURCE


def test_a_thousand_due_deliveries_stay_within_the_bound_and_are_all_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    receivers, store = Receivers(), Store(settings())
    for resource_id in RESOURCES:
        entries = {f"{resource_id}-{n}": standby(store, f"{resource_id}-{n}", resource_id) for n in range(STANDBYS)}
        item = lock_item.to_item(Resource(resource_id, version=1, due_at=1, endpoints=entries))
        store.put_item(TableName=settings().locks_table, Item=item)
    monkeypatch.setattr(reconcile, "metric", receivers.metric)
    clients = {"dynamodb": store, "kms": Keys(), "sqs": Sqs()}
    reconciler = deployment.reconciler(environment(), client=clients.__getitem__, post=receivers.post)

    for _ in range(MAX_BATCHES):
        side_by_side(
            {"Records": [wake_up(resource_id) for resource_id in RESOURCES]},
            Context(),  # type: ignore[arg-type]
            lambda record: reconciler.wake_up(record.body, 1, record.message_id, lambda: 30.0),
            lambda *_: None,
        )
        if len(receivers.delivered) == DUE:
            break

    assert receivers.most == MAX_SENDS
    assert len(receivers.delivered) == DUE
