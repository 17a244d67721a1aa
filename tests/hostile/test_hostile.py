"""The sender survives every attack within five seconds, 40 MB and 0.2 s of CPU, and reports the right result."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hostile.attacks import PAIRS, Attack
from tests.hostile.certificates import Authority
from tests.hostile.measure import Figures, measure

pytestmark = pytest.mark.hostile

# Attacks mostly wait.
MAX_CONCURRENT = 16
MAX_SECONDS, MAX_MB, MAX_CPU_SECONDS = 5.0, 40, 0.2
SCHEDULING_SECONDS = 0.5


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Future[Figures]]]:
    """Start all attacks at once, and yield the figures of each by name and transport."""
    authority = Authority(Path(tmp_path_factory.mktemp("certificates")))
    with ThreadPoolExecutor(MAX_CONCURRENT) as pool:
        yield {
            (attack.name, transport): pool.submit(measure, "sender", attack, transport, authority, patience=20)
            for attack, transport in PAIRS
        }


@pytest.mark.parametrize(("attack", "transport"), [pytest.param(a, t, id=f"{a.name} ({t})") for a, t in PAIRS])
def test_an_attack_stays_within_time_memory_and_cpu_limits(
    measured: dict[tuple[str, str], Future[Figures]], attack: Attack, transport: str
) -> None:
    figures = measured[attack.name, transport].result()

    assert figures.outcome in attack.expected.split(" or ")
    assert figures.seconds <= MAX_SECONDS + SCHEDULING_SECONDS
    assert figures.mb <= MAX_MB
    assert figures.cpu <= MAX_CPU_SECONDS
    assert figures.threads == 0
