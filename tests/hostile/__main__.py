"""`python -m tests.hostile`: what each attack costs this sender and two other clients.

A client is stopped after `PATIENCE` seconds; beyond `LIMIT_MB` it gets no more memory.
"""

from __future__ import annotations

import importlib.util
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.hostile.attacks import PAIRS
from tests.hostile.certificates import Authority
from tests.hostile.client import CLIENTS, LIMIT_MB
from tests.hostile.measure import Figures, measure

PATIENCE = 15.0
AT_ONCE = 8


def shown(figures: Figures) -> str:
    if not figures.ended:
        return f"{'> ' + format(figures.seconds, '.0f'):>6}      ?     ?"
    return f"{figures.seconds:6.2f} {figures.mb:6.1f} {figures.cpu:5.2f}"


def main() -> None:
    installed = [name for name in CLIENTS if name == "sender" or importlib.util.find_spec(name.replace("-", "_"))]
    for name in CLIENTS.keys() - set(installed):
        print(f"{name} is not installed: pip install -r requirements/hostile.txt")
    print(
        f"seconds, MB more memory, seconds of CPU; stopped after {PATIENCE:.0f} s, no more than {LIMIT_MB} MB to get\n"
    )
    print(f"{'attack':<34} {'transport':<10}", *(f"| {name:<19}" for name in installed), "| outcome here")
    found: dict[str, list[tuple[str, Figures]]] = {name: [] for name in installed}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        authority = Authority(Path(folder))
        rows = [
            [pool.submit(measure, name, attack, transport, authority, patience=PATIENCE) for name in installed]
            for attack, transport in PAIRS
        ]
        for (attack, transport), row in zip(PAIRS, rows, strict=True):
            figures = [future.result() for future in row]
            print(
                f"{attack.name:<34} {transport:<10}",
                *(f"| {shown(one)}" for one in figures),
                f"| {figures[0].outcome}",
                flush=True,
            )
            for name, one in zip(installed, figures, strict=True):
                found[name].append((f"{attack.name} ({transport})", one))
    print()
    for name, results in found.items():
        ended = [(attack, figures) for attack, figures in results if figures.ended]
        worst = {unit: max(ended, key=lambda one: getattr(one[1], unit)) for unit in ("seconds", "mb", "cpu")}
        print(
            f"{name}: {len(results)} attacks, {len(results) - len(ended)} never ended; worst of the others:",
            "; ".join(f"{getattr(figures, unit):.2f} {unit} ({attack})" for unit, (attack, figures) in worst.items()),
        )


if __name__ == "__main__":
    main()
