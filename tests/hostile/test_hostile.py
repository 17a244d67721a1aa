"""The sender meets every attack: five seconds, 40 MB and 0.2 s of CPU at most, and the truth about each."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hostile.attacks import PAIRS, Attack
from tests.hostile.certificates import Authority
from tests.hostile.measure import Figures, measure

pytestmark = pytest.mark.hostile

# Most of an attack's time is spent waiting.
AT_ONCE = 16
SECONDS, MB, CPU = 5.0, 40, 0.2
SCHEDULING_SECONDS = 0.5


@pytest.fixture(scope="module")
def under_way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Future[Figures]]]:
    authority = Authority(Path(tmp_path_factory.mktemp("certificates")))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            (attack.name, transport): pool.submit(measure, "sender", attack, transport, authority, patience=20)
            for attack, transport in PAIRS
        }


@pytest.mark.parametrize(("attack", "transport"), [pytest.param(a, t, id=f"{a.name} ({t})") for a, t in PAIRS])
def test_no_receiver_holds_or_fills_or_heats_the_sender(
    under_way: dict[tuple[str, str], Future[Figures]], attack: Attack, transport: str
) -> None:
    figures = under_way[attack.name, transport].result()

    assert figures.outcome in attack.expected.split(" or ")
    assert figures.seconds <= SECONDS + SCHEDULING_SECONDS
    assert figures.mb <= MB
    assert figures.cpu <= CPU
    assert figures.threads == 0
