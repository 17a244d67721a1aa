"""One process of a storm: applies reports from stdin side by side and writes to stdout how each ended.

In: `{"number", "endpoint_id", "resource_id", "status", "at"}`, a line each; the order to start with is the first.
Out: `{"number", "error", "tries"}`; an error is what Lambda would answer with a repetition of the message.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from link import deployment
from link.election.state import Status
from link.reports import Report
from link.store.locks import Committed, Locks
from scripts.cloud import Cloud

INVOCATION_SECONDS = 30.0
THREADS = 16
"""The rest waits, as in a queue."""


def main() -> None:
    # Metrics go to stdout, too, in pieces.
    answers, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    order = json.loads(sys.stdin.readline())
    cloud = Cloud(order["endpoint_url"], Path(os.devnull), 0)
    reconciler = deployment.reconciler(order["environment"], client=cloud.client)
    tries = threading.local()
    update = Locks.update

    def counted(self: Locks, *args: Any, **more: Any) -> Committed:
        committed = update(self, *args, **more)
        tries.most = max(tries.most, committed.tries)
        return committed

    Locks.update = counted  # type: ignore[method-assign]

    def handle(line: str) -> None:
        given = json.loads(line)
        tries.most = 0
        report = Report(
            given["endpoint_id"], Status(given["status"]), given["at"], given["resource_id"], None, str(given["number"])
        )
        error = ""
        try:
            reconciler.receive(report, lambda: INVOCATION_SECONDS)
        except Exception as failed:
            error = f"{type(failed).__name__}: {failed}"
        # One write, so that lines of two threads do not mix.
        os.write(answers, json.dumps({"number": given["number"], "error": error, "tries": tries.most}).encode() + b"\n")

    with ThreadPoolExecutor(THREADS) as pool:
        for line in sys.stdin:
            pool.submit(handle, line)


if __name__ == "__main__":
    main()
