"""The hands of a process that a test holds: its clock and its chance."""

from __future__ import annotations

from link.chance import Chance
from link.clock import Clock
from tests.support.ids import NOW


class HeldClock(Clock):
    """Stands still, except for pauses, which it remembers, and for `costs_ms` at each look at it."""

    def __init__(self, at: int = NOW, *, costs_ms: int = 0) -> None:
        self.at = at
        self.costs_ms = costs_ms
        self.pauses: list[float] = []

    def now(self) -> int:
        self.at += self.costs_ms
        return self.at

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.at += round(seconds * 1000)


class FixedChance(Chance):
    """The same jitter every time; nonces and UUIDs differ as ever."""

    def __init__(self, jitter: float = 0.5) -> None:
        super().__init__()
        self._jitter = jitter

    def jitter(self) -> float:
        return self._jitter
