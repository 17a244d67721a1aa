"""`python -m tests.hostile`: print what each attack costs this sender and two other clients.

A client is stopped after `PATIENCE_SECONDS`, and cannot allocate more than `LIMIT_MB`.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.hostile.attacks import PAIRS
from tests.hostile.certificates import Authority
from tests.hostile.client import CLIENTS, LIMIT_MB
from tests.hostile.measure import CRASHED, STOPPED, Figures, measure

PATIENCE_SECONDS = 15.0
MAX_CONCURRENT = 8
UNITS = ("seconds", "mb", "cpu")


def columns(figures: Figures) -> str:
    """Return the figures as three columns; ? where the client was stopped or crashed."""
    if not figures.ended:
        return f"{'> ' + format(figures.seconds, '.0f') if figures.outcome == STOPPED else CRASHED:>7}     ?     ?"
    return f"{figures.seconds:6.2f} {figures.mb:6.1f} {figures.cpu:5.2f}"


def main() -> None:
    installed = [name for name in CLIENTS if name == "sender" or importlib.util.find_spec(name.replace("-", "_"))]
    for name in CLIENTS.keys() - set(installed):
        print(f"{name} is not installed: pip install -r requirements/hostile.txt")
    print(f"seconds, MB of additional memory, seconds of CPU; limits: {PATIENCE_SECONDS:.0f} s and {LIMIT_MB} MB\n")
    print(f"{'attack':<34} {'transport':<10}", *(f"| {name:<19}" for name in installed), "| outcome of sender")
    found: dict[str, list[tuple[str, Figures]]] = {name: [] for name in installed}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(MAX_CONCURRENT) as pool:
        authority = Authority(Path(folder))
        rows = [
            [pool.submit(measure, name, attack, transport, authority, patience=PATIENCE_SECONDS) for name in installed]
            for attack, transport in PAIRS
        ]
        for (attack, transport), row in zip(PAIRS, rows, strict=True):
            figures = [future.result() for future in row]
            print(
                f"{attack.name:<34} {transport:<10}",
                *(f"| {columns(one)}" for one in figures),
                f"| {figures[0].outcome}",
                flush=True,
            )
            for name, one in zip(installed, figures, strict=True):
                found[name].append((f"{attack.name} ({transport})", one))
    print()
    for name, results in found.items():
        ended = [(attack, figures) for attack, figures in results if figures.ended]
        outcomes = Counter(figures.outcome for _, figures in results)
        worst = {unit: max(ended, key=lambda one: getattr(one[1], unit)) for unit in UNITS} if ended else {}
        print(
            f"{name}: {len(results)} attacks, {outcomes[STOPPED]} stopped at the limit, {outcomes[CRASHED]} crashed;",
            "worst of the others:",
            "; ".join(f"{getattr(figures, unit):.2f} {unit} ({attack})" for unit, (attack, figures) in worst.items()),
        )


if __name__ == "__main__":
    main()
