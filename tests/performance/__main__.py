"""`make bench`: what each path takes, against the least that any implementation could, and against others.

Everything runs against a stub of AWS in a process of its own. Ratios are of alternating rounds in one run: only they
mean anything on a machine one shares. Exit 1 when one is beyond its limit in budget.toml.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from tests.performance import stub

BUDGET = Path(__file__).parent / "budget.toml"
ROUNDS = {"warm": 300, "cold": 9, "peers": 100}
SWEEPS = (100, 1_000, 10_000, 100_000)
REPORTERS = (1, 8, 32, 128)
QUICK_ROUNDS = {"warm": 100, "cold": 3, "peers": 10}
QUICK_SWEEPS, QUICK_REPORTERS, QUICK_REFRESHES = SWEEPS[:3], REPORTERS[:3], 200
STUB_MS = 5
"""What DynamoDB takes for a write; only contention needs it."""


def main() -> int:
    quick = sys.argv[1:] == ["--quick"]
    rounds, refreshes = (QUICK_ROUNDS, QUICK_REFRESHES) if quick else (ROUNDS, 1_000)
    sizes, reporters = (QUICK_SWEEPS, QUICK_REPORTERS) if quick else (SWEEPS, REPORTERS)
    began = time.monotonic()
    budget = tomllib.loads(BUDGET.read_text())
    beyond: list[str] = []

    with stub.running() as aws:
        os.environ["AWS_ENDPOINT_URL"] = aws.url
        from tests.performance import cold

        table("Against the floor, median [quartiles]", "path", "floor ms", "ours ms", "ratio", "goal", "limit")
        times = child(aws, "warm", rounds["warm"])
        times.update(cold.measured(aws, budget["first"], rounds["cold"]))
        for path, found in times.items():
            allowed = budget["ratios"][path]
            row(path, ms(found["floor"]), ms(found["ours"]), span(found["ratio"]), allowed["goal"], allowed["limit"])
            judge(beyond, path, found["ratio"][0], allowed, says=False)

        table("Imports, ms (the first event's largest part)", "function", *cold.GROUPS, "standard library")
        for function in budget["first"]:
            shares = cold.shares(aws, function)
            row(function, *(f"{shares.get(name, 0):.0f}" for name in (*cold.GROUPS, "standard library")))

        table("One sweep", "due", "calls each", "CPU us each", "wall s", "memory MB")
        sweeps = {number: child(aws, "scale", "sweep", number) for number in sizes}
        for number, found in sweeps.items():
            each = (f"{found['calls'] / number:.4f}", f"{found['cpu'] / number * 1e6:.0f}")
            row(number, *each, f"{found['wall']:.1f}", f"{found['memory']:.0f}")
        for measure, allowed in budget["sweep"].items():
            judge(beyond, f"sweep: {measure}", SWEEP[measure](sweeps), allowed)

        table(f"{refreshes:,} refreshes, batches of ten one after the other, receiver takes 100 ms", "calls each",
              "CPU ms each", "wall s", "memory MB")  # fmt: skip
        found = child(aws, "scale", "deliver", refreshes)
        each = (found["calls"] / refreshes, f"{found['cpu'] / refreshes * 1000:.1f}")
        row(*each, f"{found['wall']:.1f}", f"{found['memory']:.0f}")
        judge(beyond, "calls per refresh", found["calls"] / refreshes, budget["refresh"]["calls"])
        seconds = found["wall"] * 1_000 / refreshes
        judge(beyond, "seconds of 1,000 refreshes", seconds, budget["refresh"]["seconds"])

        table("Others, median [quartiles]", "what", "calls", "CPU ms", "wall ms")
        for name, found in child(aws, "peers", rounds["peers"]).items():
            row(name, found.get("calls", ""), ms(found["cpu"]), ms(found["wall"]) if "wall" in found else "")

    with stub.running(STUB_MS) as aws:
        table(
            f"Reporters at once on one resource, a write takes {STUB_MS} ms, all of them on one CPU",
            "reporters", "tries per commit", "wall s", "back to the queue",
        )  # fmt: skip
        for number in reporters:
            found = child(aws, "contention", number)
            row(number, f"{found['tries']:.1f}", f"{found['seconds']:.1f}", found["back to the queue"])
            judge(beyond, f"tries of {number} reporters", found["tries"], budget["contention"]["tries"])

    print(f"\n{time.monotonic() - began:.0f} s")
    for line in beyond:
        print(f"BEYOND ITS LIMIT: {line}")
    return 1 if beyond else 0


def _flat(measure: str, sweeps: dict[int, Any], smallest: int) -> float:
    """The largest per resource over the smallest, from a size on."""
    each = [found[measure] / number for number, found in sweeps.items() if number >= smallest]
    return max(each) / min(each)


# Of the largest sweep there was. Below 1,000 a few milliseconds of CPU are shared by too few.
SWEEP = {
    "calls, largest over smallest": lambda sweeps: _flat("calls", sweeps, 100),
    "CPU, largest over smallest": lambda sweeps: _flat("cpu", sweeps, 1_000),
    "CPU seconds of 100,000": lambda sweeps: sweeps[max(sweeps)]["cpu"] * 100_000 / max(sweeps),
    "memory MB of 100,000": lambda sweeps: sweeps[max(sweeps)]["memory"],
}


def child(aws: stub.Stub, module: str, *arguments: object) -> Any:
    """What a process with a function's environment found."""
    command = [sys.executable, "-m", f"tests.performance.{module}", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=stub.ROOT, env=aws.environment(), stdout=subprocess.PIPE, text=True, timeout=170, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def judge(beyond: list[str], what: str, value: float, allowed: dict[str, float], *, says: bool = True) -> None:
    limit = allowed["limit"]
    if says:
        print(f"\n{what}: {value:.2f}, goal {allowed['goal']:g}, limit {limit:g}")
    if value > limit:
        beyond.append(f"{what}: {value:.2f}, the limit is {limit}")


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
