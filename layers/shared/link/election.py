"""The rules of election and delivery, in the order and the words of docs/protocol.md.

Every function maps a lock item to the next one; `now` is an argument and nothing is read or written.
Times are Unix milliseconds. ● marks a rule that breaks a promise when the obvious variant replaces it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from link.endpoint import NEVER, Claim, Endpoint, Kind, Reason, Resource, Result, Status
from link.errors import Conflict, Rejected

FUTURE_MS = 60_000
"""How far ahead of us a host's clock may run before its report is rejected."""
CLAIM_MS = 15_000
"""Attempt (5 s) + reading and decrypting before it + margin: see `SEND_MS`."""
SEND_MS = 5_000 + 2_000
"""A byte leaves only this long before the claim's end: the attempt's own 5 s and 2 s of clock skew."""
BACKOFF_CAP_MS = 600_000
UNSENT_PAUSE_MS = 1_000
NEAR_MS = 60_000
"""What is due sooner gets a wake-up message; what is due later is the sweep's."""
COMMANDS = 3
"""So many failovers are remembered: one with a lost answer may be overtaken by others before it is tried again."""
MAX_ENDPOINTS_PER_RESOURCE = 64

_RANK = {Status.ACTIVATED: 0, Status.STANDBY: 1, Status.FAILING: 2}


# Decisions


def supersedes(endpoint: Endpoint, status: Status, at: int) -> bool:
    """Whether a report is newer than the last accepted one."""
    if endpoint.reported is None:
        return True
    # ● `time` has whole seconds: of two reports in one of them the graver wins, whichever came first.
    return (at, _RANK[status]) > (endpoint.reported_at, _RANK[endpoint.reported])


def report(resource: Resource, endpoint_id: str, status: Status, at: int, now: int) -> Resource:
    """A host's report; raises Rejected when it can never be accepted. An old one changes nothing."""
    e = resource.endpoints.get(endpoint_id)
    if e is None or e.deleting:
        raise Rejected("unknown_endpoint", f"{endpoint_id} is not registered for this resource: register it first")
    if at > now + FUTURE_MS:
        raise Rejected(
            "reported_in_future",
            f"reported_at {at} is {at - now} ms ahead of us, at most {FUTURE_MS} are accepted: set the host's clock",
        )
    if not supersedes(e, status, at):
        return resource
    e = replace(e, reported=status, reported_at=at)
    if status is Status.ACTIVATED:
        # ● Counted from the report, so that a late duplicate does not revive a dead host.
        e = replace(e, lease_expires_at=_lease_end(min(now, at), e.lease_seconds))
    resource = _with(resource, endpoint_id, e)

    if status is Status.ACTIVATED:
        resource = elect(resource, now)
        e = resource.endpoints[endpoint_id]
        if e.ready(now):
            # The holder is ACTIVATED, so neither is its.
            if e.status is Status.BOOTING:
                e = announce(e, Status.STANDBY, Reason.JOINED, resource.epoch, now)
            elif e.status is Status.FAILING:
                e = announce(e, Status.STANDBY, Reason.RECOVERED, resource.epoch, now)
        return _with(resource, endpoint_id, e)

    if resource.holder == endpoint_id:
        if not resource.frozen:
            resource = release(resource, _given_up_by(status), now)
    elif e.status is Status.BOOTING and status is Status.STANDBY:
        resource = _with(resource, endpoint_id, announce(e, Status.STANDBY, Reason.JOINED, resource.epoch, now))
    else:
        resource = _with(resource, endpoint_id, replace(e, status=status))
    return elect(resource, now)


def _lease_end(start: int, lease_seconds: int | None) -> int | None:
    return None if lease_seconds is None else start + lease_seconds * 1000


def _given_up_by(status: Status) -> Reason:
    return Reason.DEMOTED if status is Status.STANDBY else Reason.FAILING


def announce(e: Endpoint, status: Status, reason: Reason, epoch: int, now: int) -> Endpoint:
    """A new status for its receiver. Claim and believed_until stay: an attempt may be under way."""
    return replace(
        e,
        status=status,
        reason=reason,
        epoch=epoch,
        sequence=e.sequence + 1,
        announced_at=now,
        attempt=0,
        next_attempt_at=now,
        failure="",
        asked_at=0,
    )


def release(resource: Resource, reason: Reason, now: int) -> Resource:
    """The holder gives the lock up; its STANDBY carries the epoch it held."""
    old_id = resource.holder
    if old_id is None:
        return resource
    old = resource.endpoints[old_id]
    # While it was frozen it may have failed unheeded.
    fails = reason in (Reason.FAILING, Reason.LEASE_EXPIRED) or old.reported is Status.FAILING
    status = Status.FAILING if fails else Status.STANDBY
    return replace(_with(resource, old_id, announce(old, status, reason, old.epoch, now)), holder=None)


def elect(resource: Resource, now: int) -> Resource:
    """Ends the leases that ran out, then fills an empty lock with the best ready endpoint."""
    for endpoint_id, end in _leases(resource):
        if end <= now:
            e = resource.endpoints[endpoint_id]
            if resource.holder == endpoint_id:
                resource = release(resource, Reason.LEASE_EXPIRED, now)
            else:
                resource = _with(resource, endpoint_id, replace(e, status=Status.FAILING))
    if resource.holder is not None:
        return resource
    ready = [endpoint_id for endpoint_id, e in resource.endpoints.items() if e.ready(now)]
    return _grant(resource, ready, Reason.ELECTED, now)


def _leases(resource: Resource) -> list[tuple[str, int]]:
    """Whose lease ends when, as far as that matters: candidates, but not the holder while it is frozen."""
    return [
        (endpoint_id, e.lease_expires_at)
        for endpoint_id, e in resource.endpoints.items()
        if e.reported is Status.ACTIVATED
        and e.status in (Status.ACTIVATED, Status.STANDBY)
        and not e.deleting
        and e.lease_expires_at is not None
        and not (resource.frozen and resource.holder == endpoint_id)
    ]


def _grant(resource: Resource, ready: Iterable[str], reason: Reason, now: int) -> Resource:
    def order(endpoint_id: str) -> tuple[int, int, str]:
        e = resource.endpoints[endpoint_id]
        return (-e.priority, e.joined, endpoint_id)

    best = min(ready, key=order, default=None)
    if best is None:
        return resource
    epoch = resource.epoch + 1
    winner = announce(resource.endpoints[best], Status.ACTIVATED, reason, epoch, now)
    return replace(_with(resource, best, winner), epoch=epoch, holder=best)


def failover(resource: Resource, endpoint_id: str, to: str | None, command: str, now: int) -> Resource:
    """Hands the lock to another ready endpoint (`to`, if named); raises Conflict when there is none.

    ● `command` identifies the request, without blanks: repeated after a lost answer it is done already, even if
    other failovers came in between.
    """
    if command in resource.commands:
        return resource
    if resource.holder != endpoint_id:
        raise Conflict("this node is not master of this endpoint")
    others = [i for i, e in resource.endpoints.items() if i != endpoint_id and e.ready(now)]
    if to is not None:
        if to not in others:
            raise Conflict(f"{to} is not another endpoint of this resource that is ready")
        others = [to]
    if not others:
        raise Conflict("no other nodes are listening for this endpoint")
    resource = release(resource, Reason.FAILOVER, now)
    commands = (command, *resource.commands)[:COMMANDS]
    return replace(_grant(resource, others, Reason.FAILOVER, now), commands=commands)


def register(resource: Resource, endpoint_id: str, endpoint: Endpoint) -> Resource:
    """A new entry, BOOTING; raises Conflict when its host is there already or the resource is full."""
    alive = [e for e in resource.endpoints.values() if not e.deleting]
    if endpoint.host and any(e.host == endpoint.host for e in alive):
        raise Conflict("An endpoint with the same election key already exists on that host")
    if len(alive) >= MAX_ENDPOINTS_PER_RESOURCE:
        raise Conflict(f"Too many endpoints for this resource: {len(alive)}, max allowed: {MAX_ENDPOINTS_PER_RESOURCE}")
    return _with(resource, endpoint_id, endpoint)


def delete(resource: Resource, endpoint_id: str, now: int, *, force: bool = False) -> Resource:
    """Removes an entry, at once when its receiver does not believe it active (or by `force`)."""
    e = resource.endpoints.get(endpoint_id)
    if e is None:
        return resource
    if resource.frozen and resource.holder == endpoint_id:
        raise Conflict("it holds a frozen resource: fail over to another endpoint, or unfreeze the resource, first")
    if force:
        holder = None if resource.holder == endpoint_id else resource.holder
        return elect(replace(_without(resource, endpoint_id), holder=holder), now)
    if not e.deleting:
        resource = _with(resource, endpoint_id, replace(e, deleting=True))
        if resource.holder == endpoint_id:
            resource = release(resource, Reason.DELETED, now)
        elif e.believed_until is None:
            resource = _without(resource, endpoint_id)
        # ● Else the entry stays until its STANDBY got a 2xx, or its receiver keeps a ghost for ever.
    return elect(resource, now)


def freeze(resource: Resource) -> Resource:
    """The holder stays from now on; raises Conflict when there is none."""
    if resource.holder is None:
        raise Conflict("no endpoint holds this resource: there is nothing to keep as it is")
    return replace(resource, frozen=True)


def unfreeze(resource: Resource, now: int) -> Resource:
    """Makes up for what was reported in the meantime."""
    resource = replace(resource, frozen=False)
    reported = resource.endpoints[resource.holder].reported if resource.holder else None
    if reported is Status.STANDBY or reported is Status.FAILING:
        resource = release(resource, _given_up_by(reported), now)
    return elect(resource, now)


def change(
    resource: Resource,
    endpoint_id: str,
    now: int,
    *,
    revision: int,
    priority: int,
    lease_seconds: int | None,
    moves: bool = False,
) -> Resource:
    """A changed registration, made from the one at `revision`; `moves` says that its url is another.

    Raises Conflict when it is not at that revision any more, or may not move.
    """
    e = resource.endpoints[endpoint_id]
    if e.revision != revision:
        raise Conflict("it was changed at the same moment by somebody else: look at it, then repeat what is left")
    # ● A receiver that believes it active would never hear the contrary.
    if moves and (resource.holder == endpoint_id or e.owed or e.believed_until is not None):
        raise Conflict("its url can change only while it is on standby and its receiver knows: fail over first")
    end = e.lease_expires_at
    # ● A lease that has ended stays ended: only a report revives a host.
    if lease_seconds != e.lease_seconds and e.ready(now):
        end = _lease_end(now, lease_seconds)
    e = replace(e, revision=revision + 1, priority=priority, lease_seconds=lease_seconds, lease_expires_at=end)
    return _with(resource, endpoint_id, e)


def redeliver(resource: Resource, endpoint_id: str, now: int) -> Resource:
    """Owes the current status once more, under its sequence; raises Conflict when there is none yet."""
    e = resource.endpoints[endpoint_id]
    if not e.sequence:
        raise Conflict("nothing has been announced for this endpoint yet: it has not reported")
    # ● An attempt that is under way may have left before: its answer settles nothing that is asked for now.
    claim = None if e.claim is None else replace(e.claim, sequence=0)
    return _with(resource, endpoint_id, replace(e, asked_at=now, next_attempt_at=now, claim=claim))


def drop_told(resource: Resource) -> Resource:
    """Removes the deleted entries whose receivers know it."""
    for endpoint_id, e in resource.endpoints.items():
        if e.deleting and not e.owed:
            resource = _without(resource, endpoint_id)
    return resource


# Deliveries


def due(resource: Resource, endpoint_id: str, refresh_ms: int) -> int:
    """When something has to be sent for this endpoint; NEVER if nothing has to."""
    e = resource.endpoints[endpoint_id]
    if e.owed:
        at = e.next_attempt_at
    elif e.status is Status.ACTIVATED:
        at = max(e.delivered_at + refresh_ms, e.next_attempt_at)
    else:
        return NEVER
    if e.claim is not None:
        at = max(at, e.claim.until)
    if resource.holder == endpoint_id:
        # ● Break before make: it waits while the receiver of another may believe that one active.
        believed = (o.believed_until for i, o in resource.endpoints.items() if i != endpoint_id)
        at = max([at, *(until for until in believed if until is not None)])
    return at


def claim_due(
    resource: Resource, now: int, *, token: str, jitter: float, refresh_ms: int, handover_ms: int
) -> Resource:
    """Claims every delivery that is due: non-holders first, then the holder.

    ● `token` is new with every commit: a repeated invocation must not own its predecessor's claim.
    """
    holder = resource.holder
    for endpoint_id in sorted(resource.endpoints, key=lambda i: i == holder):
        if due(resource, endpoint_id, refresh_ms) > now:
            continue
        e = resource.endpoints[endpoint_id]
        # ● This one number is break-before-make, and it survives every crash.
        if e.wire is Status.ACTIVATED:
            believed_until: int | None = NEVER
        elif e.believed_until == NEVER:
            believed_until = now + handover_ms
        else:
            believed_until = e.believed_until
        e = replace(
            e,
            attempt=e.attempt + 1,
            next_attempt_at=now + backoff(e.attempt + 1, jitter),
            claim=Claim(token=token, until=now + CLAIM_MS, sequence=e.sequence),
            believed_until=believed_until,
        )
        resource = _with(resource, endpoint_id, e)
    return resource


def backoff(attempt: int, jitter: float) -> int:
    """Milliseconds before the attempt after `attempt`; `jitter` is in [0, 1)."""
    return round(min(BACKOFF_CAP_MS, 1000 << min(attempt - 1, 20)) * (0.5 + jitter / 2))


@dataclass(frozen=True, slots=True)
class Delivery:
    """One claimed attempt: what to tell whom, and until when it may be told."""

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
    """delivered_at of the 2xx this one repeats; None when it is not a refresh."""


def deliveries(resource: Resource, token: str) -> list[Delivery]:
    """The attempts that the commit with this token claimed."""
    return [
        Delivery(
            endpoint_id=endpoint_id,
            resource_id=resource.resource_id,
            revision=e.revision,
            token=token,
            until=e.claim.until,
            status=e.wire,
            epoch=e.epoch,
            sequence=e.sequence,
            reason=e.reason if e.owed else Reason.REFRESH,
            attempt=e.attempt,
            refreshed_at=None if e.owed else e.delivered_at,
        )
        for endpoint_id, e in resource.endpoints.items()
        if e.claim is not None and e.claim.token == token
    ]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one claimed delivery. `status` is the one that was sent."""

    endpoint_id: str
    token: str
    sequence: int
    status: Status
    result: Result


def outcome(resource: Resource, o: Outcome, now: int, jitter: float) -> Resource:
    """Writes down what became of a claimed delivery; of somebody else's claim nothing."""
    e = resource.endpoints.get(o.endpoint_id)
    if e is None or e.claim is None or e.claim.token != o.token:
        return resource
    asked_before = e.claim.sequence == o.sequence
    e = replace(e, claim=None)
    current = e.sequence == o.sequence
    if o.result.kind is Kind.TOO_LATE:
        if current:
            e = replace(e, attempt=e.attempt - 1, next_attempt_at=now + UNSENT_PAUSE_MS)
    elif o.result.kind is Kind.DELIVERED:
        e = replace(e, delivered_sequence=max(e.delivered_sequence, o.sequence))
        if o.status is Status.STANDBY:
            e = replace(e, believed_until=None)
        if current:
            asked_at = 0 if asked_before else e.asked_at
            e = replace(e, attempt=0, next_attempt_at=now, delivered_at=now, failure="", asked_at=asked_at)
    elif current:
        wait = backoff(e.attempt, jitter)
        if o.result.status_code in (429, 503) and o.result.retry_after_seconds is not None:
            wait = max(wait, min(BACKOFF_CAP_MS, o.result.retry_after_seconds * 1000))
        e = replace(e, next_attempt_at=now + wait, failure=str(o.result))
    return _with(resource, o.endpoint_id, e)


# When to wake up


def next_due(resource: Resource, refresh_ms: int) -> int:
    """The next moment at which something has to be done; NEVER if nothing has to."""
    sends = (due(resource, endpoint_id, refresh_ms) for endpoint_id in resource.endpoints)
    return min([NEVER, *sends, *(end for _, end in _leases(resource))])


def keep_due_at(resource: Resource, now: int, *, carried: int | None, refresh_ms: int) -> tuple[Resource, bool]:
    """The item with its due_at, and whether whoever commits it owes the wake-up message.

    ● due_at itself is the bookkeeping: only a message that carries its very value may raise it, once.
    """
    wanted = next_due(resource, refresh_ms)
    present = resource.due_at
    if present is None or present <= now or present == carried or present > wanted:
        resource = replace(resource, due_at=None if wanted == NEVER else wanted)
        return resource, wanted < now + NEAR_MS
    return resource, False


# The audit


@dataclass(frozen=True, slots=True)
class Change:
    """One endpoint's change of status, as the transitions table tells it."""

    endpoint_id: str
    before: Status
    after: Status
    reason: str
    sequence: int


def changes(before: Resource, after: Resource) -> list[Change]:
    """The changes of status between two versions of an item."""
    found = []
    for endpoint_id, new in after.endpoints.items():
        old = before.endpoints.get(endpoint_id)
        if old is None or old.status is new.status:
            continue
        if new.sequence > old.sequence:
            reason = new.reason
        elif new.status is Status.STANDBY:
            reason = Reason.DEMOTED
        else:
            reason = Reason.FAILING if new.reported is Status.FAILING else Reason.LEASE_EXPIRED
        found.append(Change(endpoint_id, old.status, new.status, reason, new.sequence))
    return found


def _with(resource: Resource, endpoint_id: str, endpoint: Endpoint) -> Resource:
    if resource.endpoints.get(endpoint_id) == endpoint:
        return resource
    return replace(resource, endpoints={**resource.endpoints, endpoint_id: endpoint})


def _without(resource: Resource, endpoint_id: str) -> Resource:
    return replace(resource, endpoints={i: e for i, e in resource.endpoints.items() if i != endpoint_id})
