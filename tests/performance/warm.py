"""`python -m tests.performance.warm ROUNDS`: measure the warm paths against the floor; the last line is JSON.

Both run in this process, once per round each, so that other load on the machine slows both down.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from link.election.state import Status
from tests.performance import ours, situation
from tests.performance.floor import URL, Floor
from tests.performance.stub import Stub

WARM_UP = 20
PATHS = {"heartbeat": Status.ACTIVATED, "change of holder": Status.FAILING}


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return the (CPU, wall) seconds of an action."""
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return the median and the lower and upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4)
    return middle, low, high


def compared(floor: list[float], ours: list[float]) -> dict[str, tuple[float, float, float]]:
    """Return the spread of both and of their ratio per round, because other load slows down both in a round."""
    ratios = [one / other for one, other in zip(ours, floor, strict=True)]
    return {"floor": spread(floor), "ours": spread(ours), "ratio": spread(ratios)}


def main() -> None:
    stub = Stub(urlsplit(URL).port or 0)
    budget = tomllib.loads((Path(__file__).parent / "budget.toml").read_text())["calls"]
    calls = ours.recorded()

    found = {}
    for path, before in PATHS.items():
        # Twice: the first one fills the caches of the process.
        for _ in range(2):
            stub.seed(1, situation.tables(before))
            calls.clear()
            ours.handle("endpoint_status", situation.report("ACTIVATED"))
        floor = Floor(ours.in_order(calls, budget[path]))
        taken: dict[str, list[tuple[float, float]]] = {"floor": [], "ours": []}
        for number in range(-WARM_UP, int(sys.argv[1])):
            stub.seed(1, situation.tables(before))
            event = situation.report("ACTIVATED")
            times = {"floor": timed(floor), "ours": timed(partial(ours.handle, "endpoint_status", event))}
            if number >= 0:
                for who, one in times.items():
                    taken[who].append(one)
        for i, kind in enumerate(("cpu", "wall")):
            found[f"{path} {kind}"] = compared(*([one[i] for one in taken[who]] for who in taken))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
