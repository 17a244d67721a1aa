"""`python -m tests.performance.contention NUMBER`: NUMBER concurrent reports for one resource; the last line is JSON.

Each report is an event in its own thread; all threads start together. As in production, a refused write is
repeated until DynamoDB accepts it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from link import deployment, reports
from link.errors import Contended
from link.store.lock_item import from_item, to_item
from tests.performance import situation
from tests.performance.floor import PARIS, URL
from tests.performance.stub import SETTINGS, Stub

ENDPOINTS = 32
"""Endpoints of the resource; with more reports than that, hosts report several times."""


def crowded_tables() -> Any:
    """Return the stored items of a resource with many endpoints, of which paris is active."""
    items = situation.tables(situation.Status.ACTIVATED)
    resource = from_item(items[SETTINGS.locks_table])
    paris = resource.endpoints[PARIS]
    others = {
        _name(n): replace(paris, host=f"host-{n}", status=situation.Status.STANDBY, believed_until=None)
        for n in range(1, ENDPOINTS)
    }
    return {SETTINGS.locks_table: to_item(replace(resource, endpoints={PARIS: paris, **others}))}


def main(number: int) -> dict[str, Any]:
    reconciler = deployment.reconciler()
    stub = Stub(urlsplit(URL).port or 0)
    stub.seed(1, crowded_tables())
    gate = threading.Barrier(number)

    def report(which: int) -> int:
        event = json.loads(situation.report("ACTIVATED", _name(which % ENDPOINTS))["Records"][0]["body"])
        # Later than the previous report of the same host.
        event["detail"]["reported_at"] += which
        gate.wait(60)
        try:
            reconciler.receive(reports.parse(event), lambda: 30.0)
            return 0
        except Contended:
            return 1

    stub.calls()
    began = time.monotonic()
    with ThreadPoolExecutor(number) as pool:
        back = sum(pool.map(report, range(number)))
    calls = stub.calls()
    return {"tries": calls["PutItem"] / number, "seconds": time.monotonic() - began, "back to the queue": back}


def _name(which: int) -> str:
    return PARIS if which == 0 else f"vip-{which:08}-0000-4000-8000-000000000000"


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
