"""`python -m tests.performance.probe_day [HOURS]`: the AWS calls of the probes of 1,000 healthy endpoints in a day.

Two hosts for each resource, in two shards, on the simulator's tables; the clock's messages run the prober. SQS bills
Lambda's requests, too: a receive and a delete for each slot.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any
from unittest import mock

from link import deployment, prober
from link.election.state import Endpoint, Observer, Resource, Status, Word
from link.probing.checks import Check
from link.probing.looks import Looks
from link.registration import Registration
from link.store import endpoints, lock_item
from tests.simulation.store import Store
from tests.support.deployed import environment, settings
from tests.support.hands import HeldClock

SHARDS, RESOURCES, HOSTS = 2, 500, ("paris", "london")
MINUTE_MS = 60_000
BEGIN = 1_795_435_440_000


class Counting:
    """The simulator's tables, SQS and the event bus; each call is counted by its name."""

    def __init__(self, store: Store) -> None:
        self.calls: Counter[str] = Counter()
        self.messages: list[dict[str, int]] = []
        self._store = store

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._store, name)

    def get_paginator(self, operation: str) -> Any:
        self.calls[operation] += 1
        return self._store.get_paginator(operation)

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        self.calls["send_message_batch"] += 1
        self.messages += [json.loads(entry["MessageBody"]) for entry in Entries]
        return {}

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        self.calls["put_events"] += 1
        return {"Entries": [{} for _ in Entries]}


def filled() -> Store:
    """Tables with the endpoints and what their probes reported long ago."""
    store = Store(settings())
    for number in range(RESOURCES):
        resource_id, entries = f"ip-{number}", {}
        for host in HOSTS:
            endpoint_id = f"vip-{number}-{host}"
            check = {"type": "TCP", "host": f"{host}-{number}.example.com", "port": 80}
            one = Registration(endpoint_id, "webhook", resource_id, {}, observers=(Observer.PROBE,), checks=(check,))
            store.put_item(TableName=settings().endpoints_table, Item=endpoints.to_item(one))
            said = {Observer.PROBE: Word(Status.ACTIVATED, BEGIN)}
            entries[endpoint_id] = Endpoint(joined=BEGIN, observers=(Observer.PROBE,), words=said)
        item = lock_item.to_item(Resource(resource_id, version=1, endpoints=entries))
        store.put_item(TableName=settings().locks_table, Item=item)
    return store


def calls(hours: int) -> tuple[Counter[str], int]:
    """The calls, and the number of slots, of so many hours; the looks that make everybody up come before them."""
    env, clock, counting = {**environment(), "PROBE_SHARDS": str(SHARDS)}, HeldClock(BEGIN), Counting(filled())
    clients = {"dynamodb": counting, "sqs": counting, "events": counting}

    def all_pass(wanted: Mapping[Check, int]) -> Looks:
        return Looks(dict.fromkeys(wanted, ""), 0)

    looking = deployment.prober(env, client=clients.__getitem__, clock=clock, look=all_pass)
    probe_clock = deployment.probe_clock(env, client=clients.__getitem__, clock=clock)
    slots = 0
    for minute in range(hours * 60 + 1):
        clock.at = BEGIN + minute * MINUTE_MS
        probe_clock.run(clock.at)
        messages, counting.messages = counting.messages, []
        for message in messages:
            clock.at = message["slot"] * 10_000
            looking.run(**message)
        slots += len(messages)
        if minute == 0:
            counting.calls.clear()
            slots = 0
    return counting.calls, slots


def main() -> None:
    hours = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    with mock.patch.object(prober, "metric"):
        counted, slots = calls(hours)
    print(f"{hours} h, {slots} slots, {(counted['send_message_batch'] + 2 * slots) / slots:.2f} requests of SQS a slot")
    print(", ".join(f"{name} {number}" for name, number in sorted(counted.items())))


if __name__ == "__main__":
    main()
