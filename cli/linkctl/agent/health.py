"""From the results of checks to an endpoint's word: LinK's thresholds. Pure."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass

FAILURES = 3
"""So many failures in a row are a failure of the endpoint, as in LinK. One success ends it."""


class Status(enum.StrEnum):
    ACTIVATED = "ACTIVATED"
    STANDBY = "STANDBY"
    FAILING = "FAILING"


@dataclass(frozen=True, slots=True)
class Health:
    """What the results of one check add up to. `passing` is None until there is a verdict."""

    passing: bool | None = None
    failures: int = 0

    def after(self, passed: bool) -> Health:
        """Return the health after one more result."""
        if passed:
            return Health(True, 0)
        failures = self.failures + 1
        return Health(False if failures >= FAILURES else self.passing, failures)


def word(checks: Collection[Health], last: Status | None) -> Status | None:
    """Return an endpoint's word. While a check has no verdict, the last word stays; at the start there is none."""
    if any(one.passing is False for one in checks):
        return Status.FAILING
    return Status.ACTIVATED if all(one.passing for one in checks) else last
