"""`python -m tests.performance.scale sweep NUMBER` or `deliver NUMBER`: measure at scale; the last line is JSON.

Each runs in a process of its own, so that the memory of one does not count for the other.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from tests.performance import ours, situation
from tests.performance.floor import PARIS, URL
from tests.performance.stub import Stub
from tests.performance.warm import timed

SLOW = "/slow/100"
BATCH = 10
"""Messages that Lambda passes to one invocation."""


def sweep(stub: Stub, number: int) -> dict[str, Any]:
    """Measure one sweep that finds `number` resources due, minus a sweep that finds none."""
    event = situation.first_event("refresh")
    stub.seed(0, {})
    ours.handle("refresh", event)
    stub.calls()
    idle = min(timed(lambda: ours.handle("refresh", event))[0] for _ in range(5))
    per_sweep = stub.calls().total() // 5
    memory = _megabytes()
    stub.seed(number, situation.tables(situation.Status.ACTIVATED, due_in_ms=0, resource_id="floating-ip-#"))
    cpu, wall = timed(lambda: ours.handle("refresh", event))
    calls = stub.calls()
    assert calls["SendMessageBatch"] == -(-number // 10), calls
    return {
        "calls": calls.total() - per_sweep,
        "cpu": cpu - idle,
        "wall": wall,
        "memory": _megabytes(),
        "memory before": memory,
    }


def deliver(stub: Stub, number: int) -> dict[str, Any]:
    """Measure the wake-ups of `number` refreshes, in consecutive batches, with a receiver that answers after 100 ms."""
    tables = situation.tables(situation.Status.ACTIVATED, due_in_ms=0, resource_id="floating-ip-#", path=SLOW)
    text = json.dumps(tables).replace(PARIS, "vip-#")
    stub.seed(number, json.loads(text))
    due_at = int(tables["locks"]["due_at"]["N"])
    stub.calls()

    def batches() -> None:
        for start in range(0, number, BATCH):
            bodies = [situation.wake_up(f"floating-ip-{n}", due_at) for n in range(start, start + BATCH)]
            ours.handle("reconcile", situation.batch(bodies))

    began = time.monotonic()
    cpu, wall = timed(batches)
    calls = stub.calls()
    assert calls["POST"] == number, calls
    assert time.monotonic() - began >= number / BATCH / 10
    return {"calls": calls.total() - number, "posts": number, "cpu": cpu, "wall": wall, "memory": _megabytes()}


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    measure = {"sweep": sweep, "deliver": deliver}[sys.argv[1]]
    print(json.dumps(measure(Stub(urlsplit(URL).port or 0), int(sys.argv[2]))))
