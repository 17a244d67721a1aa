"""What was said of signals, and what that comes to for an endpoint. Pure.

AWS sends events late, twice, in any order or not at all. So of each signal the latest state, the latest warning and the
latest end of warnings are kept, and what they come to does not depend on the order in which they were heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from link.election.state import GRAVITY, Status
from link.signals.keys import Signal


class Kind(StrEnum):
    """What one event or look is about."""

    STATE = "state"
    """How it is now, in `status`."""
    NO_DATA = "no_data"
    """An alarm has no data: its registration says which state that is."""
    WARNING = "warning"
    """It is going to end. ● Until `until` it is at best STANDBY, whatever is said of its state: it still runs."""
    RISK = "risk"
    """It may end. Counts as a warning if its registration says so."""
    END = "end"
    """Warnings until now do not count any more. ● An instance that ended says so, too: it can start again."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one event or look says of one signal. Times are Unix milliseconds."""

    key: str
    kind: Kind
    at: int
    """When it became so, as AWS says; in a look, when the look began."""
    reason: str
    """One word for people, like `spot_interruption`."""
    status: Status | None = None
    """Of a STATE."""
    version: int = 0
    """Orders what has the same `at`."""
    until: int = 0
    """Of a WARNING or RISK: when it ends, if nothing ends it before."""


@dataclass(frozen=True, slots=True)
class Word:
    """What was said of one signal."""

    status: Status | None = None
    """Its latest state; None if none was said yet."""
    at: int = 0
    version: int = 0
    reason: str = ""
    warned_at: int = 0
    """Of the latest warning; 0: none came."""
    warned_until: int = 0
    warning: str = ""
    ended_at: int = 0
    """Warnings until then do not count any more."""

    def warns(self, now: int) -> bool:
        """Whether a warning is in force. ● At the same moment the end wins: times of EC2 have whole seconds."""
        return self.warned_at > self.ended_at and now < self.warned_until

    def verdict(self, now: int) -> Status | None:
        """What it says at a time; None: nothing yet."""
        if self.warns(now):
            return max(Status.STANDBY, self.status, key=GRAVITY.__getitem__)
        return self.status

    def why(self, now: int) -> str:
        """The reason of what it says."""
        return self.warning if self.warns(now) and self.status is not Status.FAILING else self.reason

    def since(self, now: int) -> int:
        """When it became so; 0 if it said nothing yet."""
        return self.warned_at if self.warns(now) and self.status is not Status.FAILING else self.at

    def latest(self, now: int) -> int:
        """When what it says last could have changed."""
        ran_out = self.warned_until if self.warned_until <= now else 0
        return max(self.at, self.warned_at, self.ended_at, ran_out)


@dataclass(frozen=True, slots=True)
class Observed:
    """An endpoint with signals."""

    endpoint_id: str
    resource_id: str
    signals: tuple[Signal, ...]
    words: Mapping[str, Word] = field(default_factory=dict)
    """By key."""
    status: Status | None = None
    """What they come to. It stays while a signal that was added has not said anything."""
    at: int = 0
    """Its `reported_at`."""
    told_at: int = 0
    """`reported_at` of the last status event that the event bus took."""
    version: int = 0

    def reason(self, now: int) -> str:
        """Why they come to its status: the reason of the gravest one."""
        said = [word for key in (signal.key for signal in self.signals) if (word := self.words.get(key))]
        gravest = max(said, key=lambda word: GRAVITY[word.verdict(now)], default=Word())
        return gravest.why(now)

    @property
    def untold(self) -> bool:
        """Whether the event bus has yet to take its status."""
        return self.told_at < self.at


def heard(observed: Observed, said: Iterable[Said], now: int) -> Observed:
    """The endpoint after this was heard; the same object if nothing is new."""
    signals = {signal.key: signal for signal in observed.signals}
    words = {key: word for key, word in observed.words.items() if key in signals}
    for one in said:
        if one.key in signals:
            words[one.key] = _after(words.get(one.key, Word()), one, signals[one.key])
    after = observed if words == observed.words else replace(observed, words=words)
    verdicts = [words.get(key, Word()).verdict(now) for key in signals]
    status = max(verdicts, key=GRAVITY.__getitem__, default=None)
    if status in (None, observed.status):
        return after
    # ● Later than what was told before. Otherwise what arrives late, and is true, would lose against it.
    at = max(observed.at + 1, *(word.latest(now) for word in words.values()))
    return replace(after, status=status, at=at)


def doubted(observed: Observed, at: int) -> Observed:
    """The endpoint, to be told again: its lock item has another word, of this time."""
    return replace(observed, at=max(observed.at, at) + 1)


def news(observed: Observed, looked: Iterable[Said]) -> list[Said]:
    """What of a look is new. ● The rest would be written every minute, with another time and nothing else."""
    signals = {signal.key: signal for signal in observed.signals}

    def is_new(said: Said) -> bool:
        before = observed.words.get(said.key, Word())
        after = _after(before, said, signals[said.key])
        return (before.status, before.warns(said.at)) != (after.status, after.warns(said.at))

    return [said for said in looked if said.key in signals and is_new(said)]


def _after(word: Word, said: Said, signal: Signal) -> Word:
    status = signal.without_data if said.kind is Kind.NO_DATA else said.status
    if status is not None and _order(said.at, said.version, status) > _order(word.at, word.version, word.status):
        word = replace(word, status=status, at=said.at, version=said.version, reason=said.reason)
    warns = said.kind is Kind.WARNING or (said.kind is Kind.RISK and signal.heeds_risk)
    # ● Of two warnings at once the longer one counts, in whatever order they come.
    if warns and (said.at, said.until, said.reason) > (word.warned_at, word.warned_until, word.warning):
        word = replace(word, warned_at=said.at, warned_until=said.until, warning=said.reason)
    if said.kind is Kind.END:
        word = replace(word, ended_at=max(word.ended_at, said.at))
    return word


def _order(at: int, version: int, status: Status | None) -> tuple[int, int, int]:
    """● Of two states at the same time the more severe one counts, in any order."""
    return at, version, GRAVITY[status]
