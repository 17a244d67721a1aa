"""Deliveries: when each one is due, who may attempt it, and what its outcome changes.

In the order and the words of docs/protocol.md, "Deliveries".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from link.election.result import Result, ResultKind
from link.election.state import NEVER, Claim, Endpoint, Reason, Resource, Status

CLAIM_MS = 15_000
"""Attempt (5 s) + reading and decrypting before it + margin: see `SEND_MS`."""
SEND_MS = 5_000 + 2_000
"""Bytes leave at least this long before the claim's end: the attempt's own 5 s, and 2 s of clock skew."""
LEAVES_MS = CLAIM_MS - SEND_MS
"""After this time from its claim, no byte of an attempt can leave."""
MAX_BACKOFF_MS = 600_000
UNSENT_PAUSE_MS = 1_000


def due(resource: Resource, endpoint_id: str, refresh_ms: int) -> int:
    """When something has to be sent for this endpoint; NEVER if nothing has to."""
    e = resource.endpoints[endpoint_id]
    if e.pending:
        at = e.next_attempt_at
    elif e.status is Status.ACTIVATED:
        at = max(e.delivered_at + refresh_ms, e.next_attempt_at)
    else:
        return NEVER
    if e.claim is not None:
        at = max(at, e.claim.until)
    if resource.holder == endpoint_id:
        # ● Break before make: the holder waits while another receiver may believe its endpoint active.
        believed = (o.believed_until for i, o in resource.endpoints.items() if i != endpoint_id)
        at = max([at, *(until for until in believed if until is not None)])
    return at


def claim_due(
    resource: Resource, now: int, *, token: str, jitter: float, refresh_ms: int, handover_ms: int
) -> Resource:
    """Claims every delivery that is due: first those of other endpoints, then the holder's.

    ● `token` is new with every commit: a repeated invocation must not get the claim of the first one.
    """
    holder = resource.holder
    for endpoint_id in sorted(resource.endpoints, key=lambda i: i == holder):
        if due(resource, endpoint_id, refresh_ms) > now:
            continue
        e = resource.endpoints[endpoint_id]
        # ● This number alone implements break before make, and it outlives every process.
        if e.wire is Status.ACTIVATED:
            believed_until: int | None = NEVER
        elif e.believed_until == NEVER:
            # The attempt lowers it when it begins: see `begun`.
            believed_until = now + (LEAVES_MS + handover_ms if handover_ms else 0)
        else:
            believed_until = e.believed_until
        e = replace(
            e,
            attempt=e.attempt + 1,
            next_attempt_at=now + backoff(e.attempt + 1, jitter),
            claim=Claim(token=token, until=now + CLAIM_MS, sequence=e.sequence),
            believed_until=believed_until,
        )
        resource = resource.having(endpoint_id, e)
    return resource


def backoff(attempt: int, jitter: float) -> int:
    """Milliseconds between `attempt` and the next one; `jitter` is in [0, 1)."""
    return round(min(MAX_BACKOFF_MS, 1000 << min(attempt - 1, 20)) * (0.5 + jitter / 2))


@dataclass(frozen=True, slots=True)
class Delivery:
    """One claimed attempt: which status goes to which receiver, and until when it may leave."""

    endpoint_id: str
    resource_id: str
    revision: int
    token: str
    until: int
    status: Status
    epoch: int
    sequence: int
    reason: str
    attempt: int
    refreshed_at: int | None
    """delivered_at of the last 2xx, if this attempt is a refresh; otherwise None."""
    begin: Callable[[], None] = field(default=lambda: None, compare=False, repr=False)
    """A plugin calls this just before it connects. If it does not, the attempt counts as begun when it ends."""


def deliveries(resource: Resource, token: str) -> list[Delivery]:
    """The attempts that the commit with this token claimed."""
    return [
        _delivery(resource, endpoint_id, e, attempt=e.attempt, token=token, until=e.claim.until)
        for endpoint_id, e in resource.endpoints.items()
        if e.claim is not None and e.claim.token == token
    ]


def next_delivery(resource: Resource, endpoint_id: str) -> Delivery | None:
    """The next attempt, not yet claimed; None if nothing is pending and the endpoint is not active."""
    e = resource.endpoints[endpoint_id]
    if not e.pending and e.status is not Status.ACTIVATED:
        return None
    return _delivery(resource, endpoint_id, e, attempt=e.attempt + 1, token="", until=0)


def _delivery(resource: Resource, endpoint_id: str, e: Endpoint, *, attempt: int, token: str, until: int) -> Delivery:
    return Delivery(
        endpoint_id=endpoint_id,
        resource_id=resource.resource_id,
        revision=e.revision,
        token=token,
        until=until,
        status=e.wire,
        epoch=e.epoch,
        sequence=e.sequence,
        reason=e.reason if e.pending else Reason.REFRESH,
        attempt=attempt,
        refreshed_at=None if e.pending else e.delivered_at,
    )


@dataclass(frozen=True, slots=True)
class Begun:
    """The attempt of a claimed delivery began at `at`: from then on its bytes may leave."""

    endpoint_id: str
    token: str
    at: int


def begun(resource: Resource, b: Begun, handover_ms: int) -> Resource:
    """Lets the next holder's wait start when the attempt of a STANDBY begins, and not when it is claimed.

    ● After its claim an attempt may end without a byte sent, or its bytes may leave late.
    Of repeated calls, in any order, the earliest `at` counts.
    """
    e = resource.endpoints.get(b.endpoint_id)
    if e is None or e.claim is None or e.claim.token != b.token or e.wire is Status.ACTIVATED:
        return resource
    if e.believed_until is None:
        return resource
    return resource.having(b.endpoint_id, replace(e, believed_until=min(e.believed_until, b.at + handover_ms)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one claimed delivery ended. `status` is the one that was sent."""

    endpoint_id: str
    token: str
    sequence: int
    status: Status
    result: Result


def outcome(resource: Resource, o: Outcome, now: int, jitter: float) -> Resource:
    """The item with the outcome of a claimed attempt; unchanged if another sender has the claim now."""
    e = resource.endpoints.get(o.endpoint_id)
    if e is None or e.claim is None or e.claim.token != o.token:
        return resource
    requested_before = e.claim.sequence == o.sequence
    e = replace(e, claim=None)
    current = e.sequence == o.sequence
    if o.result.kind is ResultKind.TOO_LATE:
        if current:
            e = replace(e, attempt=e.attempt - 1, next_attempt_at=now + UNSENT_PAUSE_MS)
        if o.status is Status.STANDBY and e.believed_until is not None and e.attempt == 0:
            # No STANDBY has been attempted yet.
            e = replace(e, believed_until=NEVER)
    elif o.result.kind is ResultKind.DELIVERED:
        e = replace(e, delivered_sequence=max(e.delivered_sequence, o.sequence))
        if o.status is Status.STANDBY:
            e = replace(e, believed_until=None)
        if current:
            e = replace(
                e,
                attempt=0,
                next_attempt_at=now,
                delivered_at=now,
                failure_kind="",
                failure_reason="",
                requested_at=0 if requested_before else e.requested_at,
            )
    elif current:
        wait = backoff(e.attempt, jitter)
        if o.result.status_code in (429, 503) and o.result.retry_after_seconds is not None:
            wait = max(wait, min(MAX_BACKOFF_MS, o.result.retry_after_seconds * 1000))
        e = replace(e, next_attempt_at=now + wait, failure_kind=o.result.kind, failure_reason=o.result.reason)
    return resource.having(o.endpoint_id, e)
