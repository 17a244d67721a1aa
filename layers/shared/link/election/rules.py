"""Decisions: what a report, a lease's end or an operator's command changes in a lock item.

In the order and the words of docs/protocol.md, "Decisions". A command takes (resource, endpoint_id, now) and its
options. It raises NotFound if the resource has no such endpoint, and Conflict if the item does not allow the command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from link.election.state import NEVER, Endpoint, Observer, ReadyWhen, Reason, Resource, Status, Word
from link.errors import Conflict, NotFound, Rejected

MAX_FUTURE_MS = 60_000
"""How far a report may be ahead of our clock before it is rejected."""
MAX_COMMANDS = 3
"""Request ids kept per item, so that a retried failover is recognised even after two others."""
MAX_ENDPOINTS_PER_RESOURCE = 64
MAX_ENTRIES = 256
"""Including those being deleted: an entry is at most 1.5 KB, and an item at most 400 KB."""
MAX_REMOVALS = 50
"""Entries removed in one commit: each is an action of its transaction, which has at most 100."""
LOSSES = 3
"""From this loss on, an endpoint is put on hold. The first two are handled as fast as without holds."""
LOSSES_KEPT_MS = 1_200_000
"""After this time a new loss counts as the first. Twice the longest hold: one right after a hold still adds up."""
HOLD_MS = 60_000
"""The first hold; each further one is twice as long."""
MAX_HOLD_MS = 600_000
"""The same as the longest time between two attempts of a delivery."""
STEADY_MS = 5_000
"""How long an endpoint on hold must be ready before it is elected, if every ready one is on hold.

An endpoint that flaps each second is never ready for so long.
"""

_RANK = {Status.ACTIVATED: 0, Status.STANDBY: 1, Status.FAILING: 2}
_EXPLAINED = 5
"""Of so many endpoints an error says why they are not ready."""
_CANDIDATES = (Status.ACTIVATED, Status.STANDBY)


def supersedes(word: Word | None, status: Status, at: int) -> bool:
    """Whether a report is newer than the word of its observer."""
    # ● `time` has whole seconds: of two reports in the same second the more severe one wins, in any order.
    return word is None or (at, _RANK[status]) > (word.at, _RANK[word.status])


def report(
    resource: Resource,
    endpoint_id: str,
    status: Status,
    at: int,
    now: int,
    *,
    observer: Observer = Observer.HOST,
    host: str | None = None,
) -> Resource:
    """Applies a report; raises Rejected when it can never be accepted. An old report changes nothing.

    `host`: the only host that its sender may report for; None: any.
    """
    e = resource.endpoints.get(endpoint_id)
    if e is None or e.deleting:
        raise Rejected("unknown_endpoint", f"{endpoint_id} is not registered for this resource: register it first")
    if host is not None and host != e.host:
        raise Rejected(
            "host_mismatch",
            f"{endpoint_id} is registered with host {e.host!r}, so the source link.host.{host} may not report for it",
        )
    if observer not in e.observers:
        raise Rejected(
            "not_an_observer",
            f"the observers of {endpoint_id} are {', '.join(e.observers)}, not {observer}: change them, or stop "
            "sending these events",
        )
    if at > now + MAX_FUTURE_MS:
        raise Rejected(
            "reported_in_future",
            f"reported_at {at} is {at - now} ms ahead of our clock, at most {MAX_FUTURE_MS} are accepted: "
            "set the host's clock",
        )
    if not supersedes(e.words.get(observer), status, at):
        return resource
    e = replace(e, words={**e.words, observer: Word(status, at)})
    if observer is Observer.HOST and status is Status.ACTIVATED:
        e = replace(e, lease_expires_at=_lease_end(lease_start(at, now), e.lease_seconds))
    return _judged(resource, endpoint_id, e, now)


def _judged(resource: Resource, endpoint_id: str, e: Endpoint, now: int) -> Resource:
    """The item with this entry, whose status follows what its observers' words now come to."""
    if e.losses and e.ready(now) and not resource.endpoints[endpoint_id].ready(now):
        e = replace(e, ready_since=now)
    return elect(_follow(resource.having(endpoint_id, e), endpoint_id, now), now)


def _follow(resource: Resource, endpoint_id: str, now: int) -> Resource:
    """Takes lock and status from an endpoint that its observers no longer call ACTIVATED. `elect` gives them."""
    e = resource.endpoints[endpoint_id]
    verdict = e.verdict(now)
    # Drained before its first report, it stays BOOTING.
    if verdict is None or verdict is Status.ACTIVATED or (e.status is Status.BOOTING and not e.words):
        return resource
    if resource.holder == endpoint_id:
        return resource if resource.frozen else release(resource, e.reason_for(verdict), now)
    if e.status is Status.BOOTING and verdict is Status.STANDBY:
        return resource.having(endpoint_id, announce(e, Status.STANDBY, Reason.JOINED, resource.epoch, now))
    return resource.having(endpoint_id, replace(e, status=verdict))


def lease_start(at: int, now: int) -> int:
    """When the lease of a report made at `at` starts.

    ● From the report, so that a late duplicate does not revive a dead host.
    """
    return min(at, now)


def _lease_end(start: int, lease_seconds: int | None) -> int | None:
    return None if lease_seconds is None else start + lease_seconds * 1000


def announce(e: Endpoint, status: Status, reason: Reason, epoch: int, now: int) -> Endpoint:
    """Sets a new status to deliver. Claim and believed_until do not change: an attempt may be under way."""
    return replace(
        e,
        status=status,
        reason=reason,
        epoch=epoch,
        sequence=e.sequence + 1,
        announced_at=now,
        attempt=0,
        next_attempt_at=now,
        failure_kind="",
        failure_reason="",
        requested_at=0,
    )


def release(resource: Resource, reason: Reason, now: int) -> Resource:
    """Takes the lock from its holder, whose STANDBY carries the epoch that it held."""
    old_id = resource.holder
    if old_id is None:
        return resource
    old = resource.endpoints[old_id]
    # Also if the reason is another one: a frozen holder may have been FAILING without consequence so far.
    status = Status.FAILING if old.verdict(now) is Status.FAILING else Status.STANDBY
    released = announce(old, status, reason, old.epoch, now)
    if reason in (Reason.DEMOTED, Reason.FAILING, Reason.LEASE_EXPIRED):
        losses = 1 + (old.losses if now - old.lost_at <= LOSSES_KEPT_MS else 0)
        released = replace(released, losses=losses, lost_at=now)
    return replace(resource.having(old_id, released), holder=None)


def held_until(e: Endpoint) -> int:
    """When the hold of an endpoint ends or ended; 0 if its losses are too few for a hold."""
    if e.losses < LOSSES:
        return 0
    return e.lost_at + min(MAX_HOLD_MS, HOLD_MS << min(e.losses - LOSSES, 10))


def on_hold(e: Endpoint, now: int) -> bool:
    """Whether it cannot be elected while an endpoint is ready that is not on hold."""
    return now < held_until(e)


def forget_losses(resource: Resource, until: int) -> Resource:
    """The item without the losses up to a time: they no longer count, and an item over 1 KB costs twice as much."""
    for endpoint_id, e in resource.endpoints.items():
        if e.lost_at <= until:
            resource = resource.having(endpoint_id, replace(e, losses=0, lost_at=0, ready_since=0))
    return resource


def elect(resource: Resource, now: int) -> Resource:
    """Ends the leases that ran out, then fills an empty lock with the best ready endpoint."""
    for endpoint_id, end in lease_ends(resource):
        if end <= now:
            resource = _follow(resource, endpoint_id, now)
    if resource.holder is None:
        resource = _grant(resource, _electable(resource, now), Reason.ELECTED, now)
    for endpoint_id, e in resource.endpoints.items():
        if endpoint_id == resource.holder or not e.ready(now):
            continue
        if e.status is Status.BOOTING:
            e = announce(e, Status.STANDBY, Reason.JOINED, resource.epoch, now)
        elif e.status is Status.FAILING and not on_hold(e, now):
            e = announce(e, Status.STANDBY, Reason.RECOVERED, resource.epoch, now)
        resource = resource.having(endpoint_id, e)
    return resource


def _electable(resource: Resource, now: int) -> list[str]:
    """The ready endpoints that are not on hold; if there is none, those that have been ready for `STEADY_MS`."""
    ready = {endpoint_id: e for endpoint_id, e in resource.endpoints.items() if e.ready(now)}
    free = [endpoint_id for endpoint_id, e in ready.items() if not on_hold(e, now)]
    # ● Without the second list a resource would have no holder although a host is ready.
    return free or [endpoint_id for endpoint_id, e in ready.items() if now >= _steady_at(e)]


def _steady_at(e: Endpoint) -> int:
    return max(e.lost_at, e.ready_since) + STEADY_MS


def hold_ends(resource: Resource, now: int) -> list[int]:
    """The moments at which an endpoint on hold can be elected or announced, if it is ready then."""
    ends = []
    for e in resource.endpoints.values():
        end = held_until(e)
        if resource.holder is None:
            end = min(end, _steady_at(e))
        elif e.status is not Status.FAILING:
            continue
        end = max(end, now)
        if e.losses >= LOSSES and e.ready(end):
            ends.append(end)
    return ends


def lacks_holder(resource: Resource) -> bool:
    """Whether no endpoint holds the lock although there was a report. A change of its observers can remove its word."""
    reported = (e for e in resource.endpoints.values() if e.words or e.status is not Status.BOOTING)
    return resource.holder is None and any(not e.deleting for e in reported)


def lease_ends(resource: Resource) -> list[tuple[str, int]]:
    """(endpoint_id, end) of each lease whose end takes the lock or the status from its endpoint.

    Not those of the holder while it is frozen.
    """
    ends = []
    for endpoint_id, e in resource.endpoints.items():
        holds, end = resource.holder == endpoint_id, e.lease_expires_at
        if end is None or e.deleting or (holds and resource.frozen):
            continue
        # Under ReadyWhen.ANY the words of the others can be enough.
        verdict = e.verdict(end)
        if (holds and verdict is Status.STANDBY) or (verdict is Status.FAILING and e.status in _CANDIDATES):
            ends.append((endpoint_id, end))
    return ends


def _grant(resource: Resource, ready: Iterable[str], reason: Reason, now: int) -> Resource:
    def order(endpoint_id: str) -> tuple[int, int, str]:
        e = resource.endpoints[endpoint_id]
        return (-e.priority, e.joined, endpoint_id)

    best = min(ready, key=order, default=None)
    if best is None:
        return resource
    epoch = resource.epoch + 1
    winner = announce(resource.endpoints[best], Status.ACTIVATED, reason, epoch, now)
    return replace(resource.having(best, winner), epoch=epoch, holder=best)


def registered(resource: Resource, endpoint_id: str) -> Endpoint:
    """The entry of an endpoint that is not being deleted; raises NotFound."""
    e = resource.endpoints.get(endpoint_id)
    if e is None or e.deleting:
        raise NotFound("Endpoint not found")
    return e


def is_registered(resource: Resource | None, endpoint_id: str) -> bool:
    """Whether the item has an entry for this endpoint that is not being deleted."""
    e = resource.endpoints.get(endpoint_id) if resource else None
    return e is not None and not e.deleting


def failover(resource: Resource, endpoint_id: str, now: int, *, to: str | None, command: str) -> Resource:
    """Hands the lock to another ready endpoint (to `to`, if given); Conflict if there is none.

    ● `command` identifies the request and has no blanks. The same command, repeated after a lost answer, changes
    nothing, even if other failovers came in between.
    """
    registered(resource, endpoint_id)
    if command in resource.commands:
        return resource
    if resource.holder != endpoint_id:
        raise Conflict("this node is not master of this endpoint")
    others = [i for i, e in resource.endpoints.items() if i != endpoint_id and e.ready(now)]
    if to is not None:
        if to not in others:
            why = _why_unready(resource, to, now)
            raise Conflict(f"{to} is not another endpoint of this resource that is ready: it {why}")
        others = [to]
    if not others:
        raise Conflict("no other nodes are listening for this endpoint: " + _why_nobody(resource, endpoint_id, now))
    others = [i for i in others if not on_hold(resource.endpoints[i], now)] or others
    resource = release(resource, Reason.FAILOVER, now)
    commands = (command, *resource.commands)[:MAX_COMMANDS]
    return replace(_grant(resource, others, Reason.FAILOVER, now), commands=commands)


def _why_nobody(resource: Resource, endpoint_id: str, now: int) -> str:
    """Why no other endpoint is ready: each one's reason."""
    others = [i for i, e in resource.endpoints.items() if i != endpoint_id and not e.deleting]
    if not others:
        return "the resource has no other endpoint"
    more = len(others) - _EXPLAINED
    explained = "; ".join(f"{i} {_why_unready(resource, i, now)}" for i in others[:_EXPLAINED])
    return explained + (f"; and {more} more" if more > 0 else "")


def _why_unready(resource: Resource, endpoint_id: str, now: int) -> str:
    e = resource.endpoints.get(endpoint_id)
    if e is None or e.deleting:
        return "is not registered for this resource"
    if resource.holder == endpoint_id:
        return "is the holder"
    host = f"({e.host}) " if e.host else ""
    if e.drained_at:
        return f"{host}is drained"
    return host + "is not ready: " + ", ".join(f"its {observer} {_said(e, observer, now)}" for observer in e.observers)


def _said(e: Endpoint, observer: Observer, now: int) -> str:
    word = e.word(observer, now)
    if word is None:
        return "has not reported"
    return f"says {word}" if word is e.words[observer].status else "has a lease that ended"


def register(resource: Resource, endpoint_id: str, *, entry: Endpoint, plugin: str = "") -> Resource:
    """Adds a BOOTING entry.

    Raises Conflict if its host is registered already, or if the resource is full or has another plugin.
    """
    current = {i: e for i, e in resource.endpoints.items() if not e.deleting}
    if resource.endpoints and resource.plugin != plugin:
        raise Conflict("the endpoints of this resource have another plugin: use another resource_id", "assigned")
    there = next((i for i, e in current.items() if entry.host and e.host == entry.host), None)
    if there is not None:
        raise Conflict(f"An endpoint with the same election key already exists on that host: {there}", "assigned")
    if len(resource.endpoints) >= MAX_ENTRIES:
        raise Conflict(
            f"{len(resource.endpoints) - len(current)} deleted endpoints of this resource wait for their receivers: "
            "repair the receivers, or delete them again with force=true",
            "assigned",
        )
    if len(current) >= MAX_ENDPOINTS_PER_RESOURCE:
        raise Conflict(
            f"Too many endpoints for this resource: {len(current)}, max allowed: {MAX_ENDPOINTS_PER_RESOURCE}",
            "assigned",
        )
    return replace(resource.having(endpoint_id, entry), plugin=plugin)


def delete(resource: Resource, endpoint_id: str, now: int, *, force: bool = False) -> Resource:
    """Removes an entry: at once if its receiver cannot believe it active, or with `force`; else after its STANDBY."""
    e = resource.endpoints.get(endpoint_id)
    if e is None or (e.deleting and not force):
        raise NotFound("Endpoint not found")
    if resource.frozen and resource.holder == endpoint_id:
        raise Conflict("it holds a frozen resource: fail over to another endpoint, or unfreeze the resource, first")
    if force:
        holder = None if resource.holder == endpoint_id else resource.holder
        return elect(replace(resource.without(endpoint_id), holder=holder), now)
    resource = resource.having(endpoint_id, replace(e, deleting=True))
    if resource.holder == endpoint_id:
        resource = release(resource, Reason.DELETED, now)
    elif e.believed_until is None:
        resource = resource.without(endpoint_id)
    # ● Otherwise the entry stays until its STANDBY got a 2xx. Without it, the receiver would believe for ever that a
    # deleted endpoint is active.
    return elect(resource, now)


def freeze(resource: Resource, now: int) -> Resource:
    """Keeps the holder from now on; Conflict when there is none, or when its lease has ended."""
    if resource.holder is None:
        raise Conflict("no endpoint holds this resource: there is nothing to keep as it is")
    if elect(resource, now).holder != resource.holder:
        raise Conflict(
            f"the lease of its holder {resource.holder} has ended: freeze the resource after the next election, "
            "which follows within a minute"
        )
    return replace(resource, frozen=True)


def unfreeze(resource: Resource, now: int) -> Resource:
    """Ends freezing, and applies what was reported about the holder in the meantime."""
    resource = replace(resource, frozen=False)
    if resource.holder is not None:
        resource = _follow(resource, resource.holder, now)
    return elect(resource, now)


def drain(resource: Resource, endpoint_id: str, now: int, *, drained: bool, force: bool = False) -> Resource:
    """Keeps an endpoint from being elected until that is taken back; a holder hands over.

    Raises Conflict for the holder of a frozen resource, and for the last ready endpoint without `force`. ● An undecided
    holder counts as ready.
    """
    e = registered(resource, endpoint_id)
    if drained == (e.drained_at > 0):
        return resource
    if drained and resource.frozen and resource.holder == endpoint_id:
        raise Conflict("it holds a frozen resource: fail over to another endpoint, or unfreeze the resource, first")
    others = [one for i, one in resource.endpoints.items() if i != endpoint_id and one.ready(now)]
    counts = e.ready(now) or (resource.holder == endpoint_id and e.verdict(now) is None)
    if drained and counts and not others and not force:
        raise Conflict(
            f"no other endpoint of this resource is ready ({_why_nobody(resource, endpoint_id, now)}): make one ready "
            "first, or use force to have no active endpoint"
        )
    return _judged(resource, endpoint_id, replace(e, drained_at=now if drained else 0), now)


def change(
    resource: Resource,
    endpoint_id: str,
    now: int,
    *,
    revision: int,
    priority: int,
    lease_seconds: int | None,
    observers: tuple[Observer, ...] = (Observer.HOST,),
    ready_when: ReadyWhen = ReadyWhen.ALL,
    new_receiver: bool = False,
) -> Resource:
    """Applies a changed registration that was made from the one at `revision`.

    Conflict when the entry is no longer at that revision, or when a new receiver is not allowed now.
    """
    e = registered(resource, endpoint_id)
    if e.revision != revision:
        raise Conflict(
            f"the endpoint was changed concurrently (expected revision {revision}, found {e.revision}): "
            "fetch it and retry"
        )
    # ● The old receiver, if it believes the endpoint active, would never get a STANDBY.
    if new_receiver and (resource.holder == endpoint_id or e.pending or e.believed_until is not None):
        raise Conflict("its url can change only on standby, with its last status delivered: fail over first")
    end = e.lease_expires_at
    # ● A lease that has ended stays ended: only a report revives a host.
    if lease_seconds != e.lease_seconds and e.word(Observer.HOST, now) is Status.ACTIVATED:
        end = _lease_end(now, lease_seconds)
    e = replace(
        e,
        revision=revision + 1,
        priority=priority,
        lease_seconds=lease_seconds,
        observers=observers,
        ready_when=ready_when,
        # An observer that is added again has to report again.
        words={observer: word for observer, word in e.words.items() if observer in observers},
        lease_expires_at=end if Observer.HOST in observers else None,
    )
    return _judged(resource, endpoint_id, e, now)


def redeliver(resource: Resource, endpoint_id: str, now: int) -> Resource:
    """Requests another delivery of the current status, under its sequence; Conflict if there is no status yet."""
    e = registered(resource, endpoint_id)
    if not e.sequence:
        raise Conflict("nothing has been announced for this endpoint yet: its host has not reported")
    # ● An attempt under way may have left before the request: its answer must not settle the request.
    claim = None if e.claim is None else replace(e.claim, sequence=0)
    return resource.having(endpoint_id, replace(e, requested_at=now, next_attempt_at=now, claim=claim))


def restore(current: Resource, backup: Resource, now: int, *, registered: Mapping[str, Endpoint]) -> Resource:
    """The item of a backup, newer than everything that was ever sent for its resource.

    `current` is the item in force; the same as `backup` when the table itself is an old one. `registered`: a new entry
    for each endpoint that has a registration. No number that counts changes of an item can have reached the time in
    milliseconds: DynamoDB does not write an item a thousand times a second.
    """
    seen = [n for r in (current, backup) for n in (r.version, r.epoch, *(e.sequence for e in r.endpoints.values()))]
    floor = max([now, *seen])
    holder = backup.holder if backup.holder in registered else None
    restored = replace(
        backup,
        version=floor,
        epoch=floor,
        holder=None,
        frozen=backup.frozen and holder is not None,
        endpoints={i: _gone(e) for i, e in backup.endpoints.items() if i not in registered},
    )
    for endpoint_id, new in registered.items():
        e = backup.endpoints.get(endpoint_id, new)
        in_force = current.endpoints.get(endpoint_id)
        # An attempt may be under way. It carries old numbers, so its outcome says nothing.
        claim = in_force.claim if in_force else None
        e = replace(
            e,
            revision=new.revision,
            priority=new.priority,
            lease_seconds=new.lease_seconds,
            observers=new.observers,
            ready_when=new.ready_when,
            words={observer: word for observer, word in e.words.items() if observer in new.observers},
            lease_expires_at=e.lease_expires_at if Observer.HOST in new.observers else None,
            # ● An operator may have drained it since.
            drained_at=in_force.drained_at if in_force else e.drained_at,
            sequence=floor,
            # The receiver of each endpoint may have been told ACTIVATED since.
            believed_until=NEVER,
            claim=None if claim is None else replace(claim, token=""),
        )
        if endpoint_id != holder:
            e = announce(e, e.status, Reason(e.reason or Reason.JOINED), floor, now)
        restored = restored.having(endpoint_id, e)
    if holder is not None:
        restored = _grant(restored, [holder], Reason.ELECTED, now)
    # ● By another registration or a drain it may be no longer ready.
    for endpoint_id in registered:
        restored = _follow(restored, endpoint_id, now)
    return restored


def _gone(e: Endpoint) -> Endpoint:
    """An entry without a registration, which is removed like one that is deleted and has its STANDBY delivered."""
    status = Status.STANDBY if e.status is Status.ACTIVATED else e.status
    return replace(e, status=status, deleting=True, delivered_sequence=e.sequence, requested_at=0, believed_until=None)


def drop_delivered(resource: Resource) -> Resource:
    """Removes entries being deleted whose last status is delivered, at most `MAX_REMOVALS`."""
    for endpoint_id in removable(resource)[:MAX_REMOVALS]:
        resource = resource.without(endpoint_id)
    return resource


def removable(resource: Resource) -> list[str]:
    """The entries being deleted whose last status is delivered."""
    return [endpoint_id for endpoint_id, e in resource.endpoints.items() if e.deleting and not e.pending]
