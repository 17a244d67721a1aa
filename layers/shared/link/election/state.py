"""The state that an election decides on: the lock item of one resource and its entries.

Times are integers in Unix milliseconds. The names are those of docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

NEVER = 2**53 - 1
"""Later than any time; still exact as an IEEE double, so every JSON reader agrees on it."""


class Status(StrEnum):
    """The status of an endpoint. Hosts report the last three."""

    BOOTING = "BOOTING"
    ACTIVATED = "ACTIVATED"
    STANDBY = "STANDBY"
    FAILING = "FAILING"


class Observer(StrEnum):
    """Who reports about an endpoint. The `source` of an event says which one it is."""

    HOST = "host"
    PROBE = "probe"
    SIGNAL = "signal"


class ReadyWhen(StrEnum):
    """Whose words make an endpoint ready: all of its observers', or any one's."""

    ALL = "all"
    ANY = "any"


class Reason(StrEnum):
    """Why a status was announced: the value of `X-Link-Webhook-Reason`."""

    ELECTED = "elected"
    REFRESH = "refresh"
    DEMOTED = "demoted"
    FAILING = "failing"
    LEASE_EXPIRED = "lease_expired"
    FAILOVER = "failover"
    DELETED = "deleted"
    DRAINED = "drained"
    RECOVERED = "recovered"
    JOINED = "joined"


@dataclass(frozen=True, slots=True)
class Claim:
    """One sender's right to one attempt. `token` is the nonce of the commit that made it."""

    token: str
    until: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Word:
    """What an observer last reported. `at` is when it made the report."""

    status: Status
    at: int


GRAVITY = {Status.ACTIVATED: 0, None: 1, Status.STANDBY: 2, Status.FAILING: 3}
"""None: an observer has not reported yet. ● Without its word no endpoint is ready, but FAILING does not wait."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint's entry in the lock item of its resource."""

    joined: int
    """When it was registered."""
    revision: int = 1
    """Revision of the registration that belongs to this entry."""
    host: str = ""
    priority: int = 0
    lease_seconds: int | None = None
    observers: tuple[Observer, ...] = (Observer.HOST,)
    """Whose reports count."""
    ready_when: ReadyWhen = ReadyWhen.ALL

    words: Mapping[Observer, Word] = field(default_factory=dict)
    lease_expires_at: int | None = None
    """When the word of its host ends, if that is ACTIVATED."""
    drained_at: int = 0
    """Since when an operator keeps it from being elected; 0: no drain."""

    status: Status = Status.BOOTING
    epoch: int = 0
    sequence: int = 0
    reason: str = ""
    announced_at: int = 0

    delivered_sequence: int = 0
    delivered_at: int = 0
    attempt: int = 0
    next_attempt_at: int = 0
    failure_kind: str = ""
    """Kind (`ResultKind`) of the last failed attempt of this sequence; empty when none failed since the last 2xx."""
    failure_reason: str = ""
    claim: Claim | None = None
    believed_until: int | None = None
    """Until when the receiver may still treat this endpoint as active.

    None: it never got an ACTIVATED, or its STANDBY is acknowledged. NEVER: an ACTIVATED may have arrived. A time:
    STANDBY was sent, and the next holder waits until then.
    """
    requested_at: int = 0
    """When an operator requested its status again, until that is delivered; 0: no request."""
    deleting: bool = False

    losses: int = 0
    """How often it lost the lock by its own report or silence, each time within 20 minutes of the last."""
    lost_at: int = 0
    """When it last lost the lock in this way."""
    ready_since: int = 0
    """When a report last made it ready again; 0 before its first loss."""
    unknown: Mapping[str, Any] = field(default_factory=dict)
    """What a newer version stored in the entry: kept as it is."""

    @property
    def wire(self) -> Status:
        """The status that is sent to its receiver."""
        return Status.ACTIVATED if self.status is Status.ACTIVATED else Status.STANDBY

    @property
    def pending(self) -> bool:
        """Whether its latest status, or a requested redelivery of it, has no 2xx yet."""
        return self.delivered_sequence < self.sequence or self.requested_at > 0

    @property
    def pending_since(self) -> int:
        """Since when its status is pending; without meaning if it is not."""
        return self.announced_at if self.delivered_sequence < self.sequence else self.requested_at

    def word(self, observer: Observer, now: int) -> Status | None:
        """What an observer says; None before its first report. A host whose lease has ended says FAILING."""
        word = self.words.get(observer)
        if word is None:
            return None
        end = self.lease_expires_at
        ended = end is not None and now >= end and observer is Observer.HOST
        return Status.FAILING if ended and word.status is Status.ACTIVATED else word.status

    def verdict(self, now: int) -> Status | None:
        """What the words of its observers come to, at best STANDBY while it is drained; None while it is undecided."""
        said = self._said(now)
        # ● A veto, not a word: the next heartbeat would undo it.
        return Status.STANDBY if self.drained_at and said in (None, Status.ACTIVATED) else said

    def _said(self, now: int) -> Status | None:
        # ● Each observer has a word of its own. With one word for all, the last one to report would win.
        words = [self.word(observer, now) for observer in self.observers]
        if self.ready_when is ReadyWhen.ALL:
            return max(words, key=GRAVITY.__getitem__)
        # ● Whoever has not reported does not count: it may never report.
        return min((word for word in words if word is not None), key=GRAVITY.__getitem__, default=None)

    def reason_for(self, verdict: Status) -> Reason:
        """Why it does not have the lock when its observers' words come to STANDBY or FAILING."""
        if verdict is Status.STANDBY:
            return Reason.DRAINED if self.drained_at else Reason.DEMOTED
        reported = any(word.status is Status.FAILING for word in self.words.values())
        return Reason.FAILING if reported else Reason.LEASE_EXPIRED

    def waits_for(self, now: int) -> list[Observer]:
        """The observers without whose first report it cannot be ready."""
        silent = [observer for observer in self.observers if observer not in self.words]
        return silent if self._said(now) is None else []

    def ready(self, now: int) -> bool:
        """Whether it can be elected."""
        return self.verdict(now) is Status.ACTIVATED and not self.deleting


@dataclass(frozen=True, slots=True)
class Resource:
    """The lock item: everything an election needs. Version 0: not stored yet."""

    resource_id: str
    version: int = 0
    nonce: str = ""
    epoch: int = 0
    holder: str | None = None
    plugin: str = ""
    """The plugin whose endpoints compete here; empty: the deployment's default, as in items of version 0.1."""
    commands: tuple[str, ...] = ()
    """Request ids of the last failovers, newest first, so that a retried failover is recognised."""
    due_at: int | None = None
    frozen: bool = False
    """Whether the holder stays, whatever is reported, until an operator unfreezes the resource or fails it over."""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    unknown: Mapping[str, Any] = field(default_factory=dict)
    """What a newer version stored in the item: kept as it is."""

    def having(self, endpoint_id: str, entry: Endpoint) -> Resource:
        """The item with this entry; the same object if it has exactly this entry already."""
        if self.endpoints.get(endpoint_id) == entry:
            return self
        return replace(self, endpoints={**self.endpoints, endpoint_id: entry})

    def without(self, endpoint_id: str) -> Resource:
        """The item without an entry."""
        return replace(self, endpoints={i: e for i, e in self.endpoints.items() if i != endpoint_id})
