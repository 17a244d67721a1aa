"""`make bench`: measure each path against the floor (the same calls in bare boto3) and against other libraries.

Everything runs against a stub of AWS in another process. Ratios compare alternating rounds of one run: on a shared
machine no other figure can be compared. The exit status is 1 when a figure is above its limit in budget.toml.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.performance import stub

BUDGET = Path(__file__).parent / "budget.toml"
ROUNDS = {"warm": 300, "cold": 9, "peers": 100}
SWEEPS = (100, 1_000, 10_000, 100_000)
REPORTERS = (1, 8, 32, 128)
QUICK_ROUNDS = {"warm": 100, "cold": 11, "peers": 10}
QUICK_SWEEPS, QUICK_REPORTERS, QUICK_REFRESHES = SWEEPS[:3], REPORTERS[:3], 200
STUB_MS = 5
"""Latency of a DynamoDB write; only the contention benchmark uses it."""


def main() -> int:
    quick = sys.argv[1:] == ["--quick"]
    rounds, refreshes = (QUICK_ROUNDS, QUICK_REFRESHES) if quick else (ROUNDS, 1_000)
    sizes, reporters = (QUICK_SWEEPS, QUICK_REPORTERS) if quick else (SWEEPS, REPORTERS)
    began = time.monotonic()
    budget = tomllib.loads(BUDGET.read_text())
    above: list[str] = []

    with stub.running() as aws:
        os.environ["AWS_ENDPOINT_URL"] = aws.url
        from tests.performance import cold

        table("Against the floor, median [quartiles]", "path", "floor ms", "ours ms", "ratio", "goal", "limit")
        times = child(aws, "warm", rounds["warm"])
        times.update(cold.measured(aws, budget["first"], rounds["cold"]))
        for path, found in times.items():
            allowed = budget["ratios"][path]
            row(path, ms(found["floor"]), ms(found["ours"]), span(found["ratio"]), allowed["goal"], allowed["limit"])
            judge(above, path, found["ratio"][0], allowed, prints=False)

        table("Imports, ms (the largest part of a first event)", "function", *cold.GROUPS, "standard library")
        for function in budget["first"]:
            shares = cold.shares(aws, function)
            row(function, *(f"{shares.get(name, 0):.0f}" for name in (*cold.GROUPS, "standard library")))

        table("One sweep", "due", "calls each", "CPU us each", "wall s", "memory MB")
        sweeps = {number: child(aws, "scale", "sweep", number) for number in sizes}
        for number, found in sweeps.items():
            each = (f"{found['calls'] / number:.4f}", f"{found['cpu'] / number * 1e6:.0f}")
            row(number, *each, f"{found['wall']:.1f}", f"{found['memory']:.0f}")
        for measure, allowed in budget["sweep"].items():
            judge(above, f"sweep: {measure}", SWEEP[measure](sweeps), allowed)

        table(f"{refreshes:,} refreshes in consecutive batches of ten, the receiver answers after 100 ms", "calls each",
              "CPU ms each", "wall s", "memory MB")  # fmt: skip
        found = child(aws, "scale", "deliver", refreshes)
        each = (found["calls"] / refreshes, f"{found['cpu'] / refreshes * 1000:.1f}")
        row(*each, f"{found['wall']:.1f}", f"{found['memory']:.0f}")
        judge(above, "calls per refresh", found["calls"] / refreshes, budget["refresh"]["calls"])
        seconds = found["wall"] * 1_000 / refreshes
        judge(above, "seconds of 1,000 refreshes", seconds, budget["refresh"]["seconds"])

        table("Other libraries, median [quartiles]", "what", "calls", "CPU ms", "wall ms")
        for name, found in child(aws, "peers", rounds["peers"]).items():
            row(name, found.get("calls", ""), ms(found["cpu"]), ms(found["wall"]) if "wall" in found else "")

    with stub.running(STUB_MS) as aws:
        table(
            f"Concurrent reports for one resource, a write takes {STUB_MS} ms, all on one CPU",
            "reports", "attempts per commit", "wall s", "back to the queue",
        )  # fmt: skip
        for number in reporters:
            found = child(aws, "contention", number)
            row(number, f"{found['tries']:.1f}", f"{found['seconds']:.1f}", found["back to the queue"])
            judge(above, f"attempts of {number} reports", found["tries"], budget["contention"]["tries"])

    print(f"\n{time.monotonic() - began:.0f} s")
    for line in above:
        print(f"ABOVE ITS LIMIT: {line}")
    return 1 if above else 0


def _flat(measure: str, sweeps: dict[int, Any], smallest: int) -> float:
    """Return the largest value per resource over the smallest one, of sweeps with at least `smallest` resources."""
    each = [found[measure] / number for number, found in sweeps.items() if number >= smallest]
    ratio: float = max(each) / min(each)
    return ratio


# Figures of 100,000 are extrapolated from the largest sweep. CPU counts from 1,000 on: below that, a few fixed
# milliseconds decide.
SWEEP: dict[str, Callable[[dict[int, Any]], float]] = {
    "calls, largest over smallest": lambda sweeps: _flat("calls", sweeps, 100),
    "CPU, largest over smallest": lambda sweeps: _flat("cpu", sweeps, 1_000),
    "CPU seconds of 100,000": lambda sweeps: sweeps[max(sweeps)]["cpu"] * 100_000 / max(sweeps),
    "memory MB of 100,000": lambda sweeps: sweeps[max(sweeps)]["memory"],
}


def child(aws: stub.Stub, module: str, *arguments: object) -> Any:
    """Run a benchmark module with the environment of a function, and return the JSON of its last line."""
    command = [sys.executable, "-m", f"tests.performance.{module}", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=stub.ROOT, env=aws.environment(), stdout=subprocess.PIPE, text=True, timeout=170, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def judge(above: list[str], what: str, value: float, allowed: dict[str, float], *, prints: bool = True) -> None:
    """Print a value with its goal and limit, and add it to `above` if it is above the limit."""
    limit = allowed["limit"]
    if prints:
        print(f"\n{what}: {value:.2f}, goal {allowed['goal']:g}, limit {limit:g}")
    if value > limit:
        above.append(f"{what}: {value:.2f}, the limit is {limit}")


def table(title: str, *columns: str) -> None:
    print(f"\n{title}\n")
    row(*columns)
    row(*("---" for _ in columns))


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def ms(found: list[float]) -> str:
    return "{:.3g} [{:.3g}, {:.3g}]".format(*(value * 1000 for value in found))


def span(found: list[float]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*found)


if __name__ == "__main__":
    sys.exit(main())
