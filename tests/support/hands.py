"""A process's clock and chance under the control of a test."""

from __future__ import annotations

from link.chance import Chance
from link.clock import Clock
from tests.support.ids import NOW


class HeldClock(Clock):
    """A clock that moves only by pauses, which it remembers, and by `costs_ms` each time it is read."""

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
    """The same jitter every time; nonces and UUIDs are random."""

    def __init__(self, jitter: float = 0.5) -> None:
        super().__init__()
        self._jitter = jitter

    def jitter(self) -> float:
        return self._jitter
