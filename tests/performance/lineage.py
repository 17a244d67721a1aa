"""`python -m tests.performance.lineage`: how many wake-ups Lambda's recursion detection would drop, and without it.

Reconcile puts the wake-up that invokes it next, so that the wake-ups of a resource form a chain. It begins anew with a
report, a call of the API or the sweep. Lambda drops the invocation after the sixteenth of a chain, unless the function
has `RecursiveLoop: Allow`. One resource with two endpoints that report at each heartbeat; in virtual time, with the
real code.
"""

from __future__ import annotations

import functools
import random
from typing import Any

from link.election.state import Status
from tests.simulation import cloud as simulation
from tests.simulation.cloud import START, Cloud, simulated
from tests.simulation.histories import Story
from tests.world import Unwatched

HOUR_MS = 3_600_000
RATES = ((5, 2, 10), (10, 3, 20), (15, 5, 20), (30, 10, 60), (60, 20, 100))
"""Lease and heartbeat in seconds, and the hours to play: more where fewer are dropped."""


def dropped(lease_seconds: int, heartbeat_seconds: int, seed: int, *, allowed: bool) -> int:
    """The number of wake-ups that Lambda drops in an hour. The seed decides when in its interval each host reports."""
    draw = random.Random(seed)

    def watch(cloud: Cloud) -> Any:
        watching: Any = Unwatched()
        return watching

    cloud = Cloud(
        seed=seed,
        latency=lambda: 1 + draw.randrange(20),
        call_ms=40,
        refresh_ms=300_000,
        watch=watch,
        recursion_allowed=allowed,
    )
    simulation.enter(cloud)
    story = Story(cloud)

    def heartbeat(name: str) -> None:
        story.report(name, Status.ACTIVATED, delay=50 + draw.randrange(200))
        cloud.at(heartbeat_seconds * 1000, functools.partial(heartbeat, name))

    for name in ("paris", "london"):
        story.host(name, lease=lease_seconds)
        story.register(name)
        cloud.at(1_000 + draw.randrange(heartbeat_seconds * 1000), functools.partial(heartbeat, name))
    cloud.run(START + HOUR_MS)
    return len(cloud.queue.dropped)


def main() -> None:
    print("| lease / heartbeat | dropped an hour | at most in an hour | with `RecursiveLoop: Allow` | hours |")
    print("|---|---|---|---|---|")
    with simulated():
        for lease, heartbeat, hours in RATES:
            before, after = (
                [dropped(lease, heartbeat, seed, allowed=allowed) for seed in range(hours)] for allowed in (False, True)
            )
            mean = sum(before) / hours
            print(f"| {lease} s / {heartbeat} s | {mean:.2f} | {max(before)} | {sum(after)} | {hours} |", flush=True)


if __name__ == "__main__":
    main()
