"""When to tell the bus what, and when to try again. Pure: times are arguments, in seconds of a monotonic clock."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from linkctl.agent.health import Status

PUT_SECONDS = 3.0
"""After so long a put counts as failed."""
GOODBYE_PUT_SECONDS = 1.5
GOODBYE_PAUSE_SECONDS = 0.5
JITTER = 0.1
MAX_RETRY_SECONDS = 10.0
MAX_REPORTS = 250
"""Reports in one event. The service refuses more."""
MAX_DETAIL_BYTES = 60_000
"""AWS bills an event per 64 KB."""
MAX_AHEAD_MS = 60_000
"""The service rejects a report that is further ahead of its clock."""


@dataclass(frozen=True, slots=True)
class Word:
    """What the host says about one endpoint."""

    resource_id: str
    status: Status


Words = Mapping[str, Word]
"""The words of a host by endpoint id."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a put went. `problem` is empty when the bus has every event."""

    problem: str
    clock_offset: float | None = None
    """Seconds by which our clock is ahead of AWS's, at least; None without an answer."""


@dataclass
class Outbox:
    """The words that the bus has, and the put that is due or under way. No word waits in a queue: see ADR 24."""

    chance: Callable[[float, float], float]
    told: dict[str, Word] = field(default_factory=dict)
    number: int = 0
    """The number of the last put. A late answer to an earlier one changes nothing."""
    last_at: int = 0
    limit: float = math.inf
    """When the put under way counts as failed; infinite: none is under way."""
    failed_in_a_row: int = 0
    _beat_due: float = -math.inf
    _retry_due: float = -math.inf
    _carried: dict[str, Word] = field(default_factory=dict)

    @property
    def under_way(self) -> bool:
        return self.limit < math.inf

    def due(self, words: Words) -> float:
        """Return when the next put is due: now for a change, else with the beat, and not before a pause has ended."""
        if not words or self.under_way:
            return math.inf
        return max(self._retry_due, -math.inf if words != self.told else self._beat_due)

    def begin(self, words: Words, now: float, now_ms: int, seconds: float, beat_seconds: float) -> int:
        """Begin a put of all words; return their `at`."""
        self.number += 1
        self.limit = now + seconds
        self._carried = dict(words)
        self._beat_due = now + beat_seconds * self.chance(1 - JITTER, 1 + JITTER)
        self.last_at = next_at(self.last_at, now_ms)
        return self.last_at

    def succeeded(self) -> None:
        """The bus has what the put carried."""
        self.told = self._carried
        self.limit = math.inf
        self.failed_in_a_row = 0

    def failed(self, now: float, beat_seconds: float) -> None:
        """The put failed. The next one, after a pause, carries what is true by then."""
        self.limit = math.inf
        self.failed_in_a_row += 1
        longest = min(2.0 ** min(self.failed_in_a_row - 1, 10), MAX_RETRY_SECONDS, beat_seconds)
        self._retry_due = now + longest * self.chance(0.5, 1.0)
        self._beat_due = -math.inf

    def retry_at(self, due: float) -> None:
        """Try again at `due`, whatever pause there was."""
        self._retry_due = due


def next_at(last: int, now: int) -> int:
    """Return the time of a report in Unix milliseconds: later than the one before, also when the clock was set back.

    If the last time is further ahead of the clock than the service lets a report be ahead, the service has rejected it,
    and would reject the next ones: then the clock counts.

    >>> next_at(0, 1_000_000), next_at(1_000_000, 1_000_000), next_at(1_000_000, 990_000), next_at(1_000_000, 900_000)
    (1000000, 1000001, 1000001, 900000)
    """
    return now if last - now > MAX_AHEAD_MS else max(now, last + 1)


def details(host: str, at: int, words: Words) -> list[str]:
    """Return the `detail` of each event that carries the words.

    {"host":"paris","at":1795435471000,"reports":[{"endpoint_id":"vip-…","resource_id":"…","status":"ACTIVATED"}]}
    """
    reports = [
        {"endpoint_id": endpoint_id, "resource_id": word.resource_id, "status": word.status.value}
        for endpoint_id, word in words.items()
    ]
    sizes = [len(_compact(one).encode()) for one in reports]
    return [_compact({"host": host, "at": at, "reports": share}) for share in _shares(reports, sizes)]


def _shares(reports: list[dict[str, str]], sizes: Iterable[int]) -> list[list[dict[str, str]]]:
    shares: list[list[dict[str, str]]] = []
    room = 0
    for report, size in zip(reports, sizes, strict=True):
        if not shares or len(shares[-1]) == MAX_REPORTS or size > room:
            shares.append([])
            room = MAX_DETAIL_BYTES
        shares[-1].append(report)
        room -= size
    return shares


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
