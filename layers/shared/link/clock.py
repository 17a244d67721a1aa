"""The clock of a process: wall time for everything two processes compare, and pauses."""

from __future__ import annotations

import time


class Clock:
    """Real time. Simulations replace it."""

    def now(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def pause(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)
