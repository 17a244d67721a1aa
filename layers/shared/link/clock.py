"""The clock of a process. Times that two processes compare are wall time."""

from __future__ import annotations

import time


class Clock:
    """Real time. The simulator replaces it."""

    def now(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment. This time never goes back, so deadlines within a process hold."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
