"""The clock of a process: wall time for everything that two processes compare, and pauses."""

from __future__ import annotations

import time


class Clock:
    """Real time. The simulator replaces it."""

    def now(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds since some moment; never set back, so that deadlines within a process hold."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)
