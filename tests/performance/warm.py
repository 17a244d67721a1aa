"""`python -m tests.performance.warm ROUNDS`: the warm paths against the floor, as JSON in the last line.

Both run in this process, once each a round, so that whatever else the machine does meets them alike.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from link.election.state import Status
from tests.performance import ours, situation
from tests.performance.floor import URL, Floor
from tests.performance.stub import Stub

WARM_UP = 20
PATHS = {"heartbeat": Status.ACTIVATED, "change of holder": Status.FAILING}


def timed(happens: Callable[[], object]) -> tuple[float, float]:
    """(CPU, wall) seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    happens()
    return time.process_time() - cpu, time.perf_counter() - wall


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return middle, low, high


def compared(floor: list[float], ours: list[float]) -> dict[str, tuple[float, float, float]]:
    """Both and their ratio, which is that of each round: what slows a round down slows down both in it."""
    ratios = [one / other for one, other in zip(ours, floor, strict=True)]
    return {"floor": spread(floor), "ours": spread(ours), "ratio": spread(ratios)}


def main() -> None:
    stub = Stub(urlsplit(URL).port or 0)
    budget = tomllib.loads((Path(__file__).parent / "budget.toml").read_text())["calls"]
    calls = ours.recorded()

    found = {}
    for path, before in PATHS.items():
        # Twice, for what the process remembers.
        for _ in range(2):
            stub.seed(1, situation.tables(before))
            calls.clear()
            ours.handle("endpoint_status", situation.report("ACTIVATED"))
        floor = Floor(ours.in_order(calls, budget[path]))
        taken: dict[str, list[tuple[float, float]]] = {"floor": [], "ours": []}
        for number in range(-WARM_UP, int(sys.argv[1])):
            stub.seed(1, situation.tables(before))
            event = situation.report("ACTIVATED")
            times = {"floor": timed(floor), "ours": timed(lambda event=event: ours.handle("endpoint_status", event))}
            if number >= 0:
                for who, one in times.items():
                    taken[who].append(one)
        for i, kind in enumerate(("cpu", "wall")):
            found[f"{path} {kind}"] = compared(*([one[i] for one in taken[who]] for who in taken))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
