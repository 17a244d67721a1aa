"""`make simulate`: random histories, every one a seed. `make simulate-scopes`: every plan of faults over the scenarios.

Exit 1 when a promise was broken, with the trace of the first history that broke it.
"""

from __future__ import annotations

import argparse
import functools
import gc
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from tests.simulation.cloud import simulated
from tests.simulation.histories import (
    SCENARIOS,
    Plan,
    Told,
    handover_history,
    observed_history,
    planned,
    plans,
    random_history,
)
from tests.simulation.probes import probed_history
from tests.simulation.restores import restore_history
from tests.simulation.signals import signalled_history

CHUNK = 50
FAMILIES: dict[str, Callable[..., Told]] = {
    "": random_history,
    "handovers": handover_history,
    "observers": observed_history,
    "restores": restore_history,
    "probes": probed_history,
    "signals": signalled_history,
}
Work = TypeVar("Work")


class Sum:
    """What many histories came to."""

    def __init__(self) -> None:
        self.histories = self.calls = self.requests = 0
        self.faults: Counter[str] = Counter()
        self.broken: list[tuple[object, str]] = []

    def add(self, name: object, told: Told) -> None:
        self.histories += 1
        self.calls += told.calls
        self.requests += told.requests
        self.faults += told.faults
        if told.broken:
            self.broken.append((name, told.broken))

    def merge(self, other: Sum) -> None:
        self.histories += other.histories
        self.calls += other.calls
        self.requests += other.requests
        self.faults += other.faults
        self.broken += other.broken

    def __str__(self) -> str:
        kinds: Counter[str] = Counter()
        for fault, number in self.faults.items():
            kinds[fault.partition(" at ")[0]] += number
        counted = ", ".join(f"{number:,} × {kind}" for kind, number in kinds.most_common())
        return (
            f"{self.histories:,} histories, {self.calls:,} external calls, {self.requests:,} webhooks; "
            f"faults: {counted or 'none'}; promises broken: {len(self.broken)}"
        )


def seeds(chunk: Iterable[int], history: Callable[[int], Told] = random_history) -> Sum:
    """The histories of some seeds."""
    result = Sum()
    with simulated():
        for seed in chunk:
            result.add(seed, history(seed))
    gc.collect()
    return result


def scope(work: tuple[str, list[Plan], bool]) -> Sum:
    """A scenario under each of the plans, and under each that adds one more fault if `deeper`."""
    scenario, chunk, deeper = work
    result = Sum()
    with simulated():
        for plan in chunk:
            told, seen = planned(scenario, plan)
            result.add((scenario, plan), told)
            for longer in plans(seen, plan) if deeper else ():
                result.add((scenario, longer), planned(scenario, longer)[0])
    gc.collect()
    return result


def everywhere(work: Iterable[Work], task: Callable[[Work], Sum], *, first: bool = False) -> Sum:
    """Does the work on every core; until the first broken promise if that is all that is asked."""
    result, began = Sum(), time.monotonic()
    # Cycles are few here, and looking for them costs a tenth of the time.
    with ProcessPoolExecutor(os.cpu_count(), initializer=gc.disable) as pool:
        todo = iter(work)
        running = [pool.submit(task, one) for one in itertools.islice(todo, 2 * (os.cpu_count() or 1))]
        while running:
            result.merge(running.pop(0).result())
            if first and result.broken:
                break
            running += [pool.submit(task, one) for one in itertools.islice(todo, 1)]
            if sys.stderr.isatty():
                rate = result.histories / (time.monotonic() - began)
                print(f"\r{result.histories:,} histories, {rate:,.0f} a second ", end="", file=sys.stderr)
        for one in running:
            one.cancel()
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    return result


def chunks(numbers: range) -> Iterator[range]:
    for start in range(numbers.start, numbers.stop, CHUNK):
        yield range(start, min(start + CHUNK, numbers.stop))


def scopes(depth: int, scenarios: Iterable[str]) -> Iterator[tuple[str, list[Plan], bool]]:
    """Every plan of up to `depth` faults, in pieces."""
    with simulated():
        lengths = {scenario: planned(scenario, ())[1] for scenario in scenarios}
    for scenario, seen in lengths.items():
        yield scenario, [()], False
        for plan in plans(seen):
            yield scenario, [plan], depth > 1


def trace(name: object, history: Callable[..., Told] = random_history) -> list[str]:
    """The readable trace of a history."""
    with simulated():
        if isinstance(name, tuple):
            told, _ = planned(name[0], name[1], traced=True)
        else:
            told = history(int(str(name)), traced=True)
    return told.trace or []


def report(result: Sum, began: float, history: Callable[..., Told] = random_history) -> int:
    seconds = time.monotonic() - began
    print(f"{result}; {seconds:.0f} s, {result.histories / seconds:,.0f} a second")
    for name, broken in result.broken[:10]:
        print(f"  {name}: {broken}")
    if result.broken:
        print(f"\nThe trace of {result.broken[0][0]}:")
        print("\n".join(trace(result.broken[0][0], history)))
    return 1 if result.broken else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5_000, metavar="N", help="random histories to play")
    parser.add_argument("--from", type=int, default=0, dest="start", metavar="SEED", help="the first seed")
    parser.add_argument("--handovers", action="store_true", help="play only handovers, with changes right beside them")
    parser.add_argument("--observers", action="store_true", help="play only those with several observers")
    parser.add_argument("--restores", action="store_true", help="play only restores of a backup")
    parser.add_argument("--probes", action="store_true", help="play only those with probes")
    parser.add_argument("--signals", action="store_true", help="play only those with AWS's signals")
    parser.add_argument("--first", action="store_true", help="stop at the first broken promise")
    parser.add_argument("--seed", type=int, help="play one history and print its trace")
    parser.add_argument(
        "--scopes", type=int, choices=(1, 2), metavar="FAULTS", help="every plan of up to 1 or 2 faults"
    )
    parser.add_argument(
        "--scenario", action="append", choices=SCENARIOS, help="with --scopes: only this one; can be repeated"
    )
    args = parser.parse_args()
    began = time.monotonic()
    history = next((family for name, family in FAMILIES.items() if name and getattr(args, name)), random_history)
    if args.seed is not None:
        print("\n".join(trace(args.seed, history)))
        return 0
    if args.scopes:
        work = scopes(args.scopes, args.scenario or SCENARIOS)
        return report(everywhere(work, scope, first=args.first), began)
    numbers = chunks(range(args.start, args.start + args.seeds))
    result = everywhere(numbers, functools.partial(seeds, history=history), first=args.first)
    return report(result, began, history)


if __name__ == "__main__":
    sys.exit(main())
