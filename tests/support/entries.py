"""Lock items as the election's tests need them: endpoints of paris and london at one moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from link.election import rules
from link.election.deliveries import Outcome, claim_due
from link.election.result import Result, ResultKind
from link.election.state import NEVER, Endpoint, Observer, Resource, Status, Word
from tests.support.ids import NOW

ACTIVATED, STANDBY, FAILING, BOOTING = Status.ACTIVATED, Status.STANDBY, Status.FAILING, Status.BOOTING
REFRESH_MS = 300_000


def resource(**endpoints: Endpoint) -> Resource:
    """The item with these entries; the ACTIVATED one is the holder."""
    holders = [name for name, e in endpoints.items() if e.status is ACTIVATED]
    epoch = max((e.epoch for e in endpoints.values()), default=0)
    return Resource("ip", version=1, holder=holders[0] if holders else None, epoch=epoch, endpoints=endpoints)


def endpoint(*, reported: Status | None = None, reported_at: int = 0, **values: Any) -> Endpoint:
    """Registered a second ago; its host has not reported, or reported this."""
    words = {} if reported is None else {Observer.HOST: Word(reported, reported_at)}
    return Endpoint(**{"joined": NOW - 1000, "words": words, **values})


def holder(**values: Any) -> Endpoint:
    """Active; its ACTIVATED was delivered ten seconds ago."""
    holds = {"status": ACTIVATED, "reported": ACTIVATED, "reported_at": NOW - 9000, "epoch": 1, "sequence": 1}
    delivered = {"delivered_sequence": 1, "delivered_at": NOW - 10_000, "believed_until": NEVER, "reason": "elected"}
    return endpoint(**{**holds, **delivered, **values})


def waiting(**values: Any) -> Endpoint:
    """Ready and on standby; its STANDBY was delivered."""
    waits = {"status": STANDBY, "reported": ACTIVATED, "reported_at": NOW - 9000, "epoch": 1, "sequence": 1}
    return endpoint(**{**waits, "delivered_sequence": 1, "delivered_at": NOW - 9000, **values})


def frozen(**endpoints: Endpoint) -> Resource:
    """The same item as `resource` makes, frozen."""
    return replace(resource(**endpoints), frozen=True)


def announced(item: Resource) -> dict[str, tuple[str, int, int, str]]:
    """Status, sequence, epoch and reason of every endpoint."""
    return {name: (e.status, e.sequence, e.epoch, e.reason) for name, e in item.endpoints.items()}


def report(item: Resource, name: str, status: Status, at: int = NOW) -> Resource:
    """The item after a report that arrives now."""
    return rules.report(item, name, status, at, NOW)


def claim(item: Resource, now: int = NOW, *, handover_ms: int = 1_000) -> Resource:
    """The item after a commit with the token `t` that claims what is due."""
    return claim_due(item, now, token="t", jitter=0.5, refresh_ms=REFRESH_MS, handover_ms=handover_ms)


def outcome_of(name: str, status: Status, *, sequence: int = 1, token: str = "t", **result: Any) -> Outcome:
    """How an attempt ended; delivered, unless a `kind` says otherwise."""
    return Outcome(name, token, sequence, status, Result(**{"kind": ResultKind.DELIVERED, **result}))
