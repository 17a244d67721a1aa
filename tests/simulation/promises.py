"""The promises, checked at every write, at every byte that leaves and at the end of a history.

What is expected comes from what hosts reported, what operators asked and what went over the wire. From the code under
test only the stored item's form is taken.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from link.election.state import NEVER, Endpoint, Resource, Status
from link.store.lock_item import from_item
from tests.support.ids import NOW as START
from tests.support.ids import RESOURCE

if TYPE_CHECKING:
    from tests.simulation.cloud import Cloud, Connection, Process

RANK = {Status.ACTIVATED: 0, Status.STANDBY: 1, Status.FAILING: 2}
ATTEMPT_MS = 5_000
PROMPT_MS = 2_500
PROMPT_CALLS = 20
"""Within this and the time of so many calls, without any fault, a lease's end is seen and a status is told."""
CONNECTING = 1
"""The calls between the begin of an attempt and its bytes."""
GONE = ("crash before", "crash after", "pause before a call", "out of time")
CLAIM_MS = 15_000
LEAVES_MS = 8_000
"""How long after its claim a byte of an attempt may leave."""
FLAPS, FLAPPING_MS, STEADY_MS = 3, 3 * 1_200_000, 5_000
"""An endpoint that lost the lock so often, each time within 20 minutes of the last, may have to be ready that long."""
CLOCKS_MS = 2_000
SWEEP_MS = 75_000
"""Within this whatever was lost is found: a sweep, and an invocation."""


class Broken(BaseException):
    """A promise, and how it was broken. The code under test must not catch it."""


@dataclass
class Wire:
    """One request as the receiver can read it."""

    endpoint_id: str
    status: str
    epoch: int
    sequence: int
    reason: str
    sent_at: int


@dataclass
class Claimed:
    """A STANDBY that was claimed and of which no byte has left yet."""

    process: Process
    at: int
    """When, by the clock of the claimer."""
    since: int
    excuse_ms: int = NEVER
    """How long after it a fault that met the claimer lets an ACTIVATED leave, HandoverTimeout aside."""


@dataclass
class Belief:
    """A receiver that was told ACTIVATED: what its STANDBY has come to."""

    claims: list[Claimed] = field(default_factory=list)
    left_at: int | None = None
    """When the first byte of a STANDBY left."""


class Promises:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.broken: str | None = None
        self.resource = Resource(RESOURCE)
        self.reports: dict[str, list[tuple[int, int, Status]]] = defaultdict(list)
        self.epochs: dict[int, str] = {}
        self.commands: set[str] = set()
        self.changed_at: dict[str, int] = {}
        self.requests: list[Wire] = []
        self.slot: str | None = None
        self._highest = 0
        self._applied: dict[str, int] = defaultdict(int)
        self._last: dict[str, Wire] = {}
        self._told: dict[tuple[str, int], tuple[str, int]] = {}
        self._flying: dict[str, tuple[Connection, Wire]] = {}
        self._believed: dict[str, Belief] = {}
        self._called_at: dict[int, int] = {}
        self._at_fault: dict[int, int] = {}
        """The processes whose present call meets a fault, and what it excuses."""
        self._lease_end: dict[str, int | None] = {}
        """Until when an endpoint may be elected on its last report; None: for ever."""
        self._urls: dict[str, str] = {}
        self._losses: dict[str, list[int]] = defaultdict(list)
        """When an endpoint lost the lock by its own report or silence."""
        self._up_since: dict[str, int] = {}
        self._asked: list[tuple[str, int, int]] = []
        """(endpoint, its sequence, when it was asked for once more)."""
        self._taken: list[Wire] = []

    def hold(self, promise: int, holds: bool, *says: object) -> None:
        if not holds and self.broken is None:
            self.broken = f"promise {promise} at {(self._cloud.now - START) / 1000:.3f}: {' '.join(map(str, says))}"
        if self.broken is not None:
            raise Broken(self.broken)

    # What the world does

    def reported(self, endpoint_id: str, status: Status, at: int) -> None:
        self.reports[endpoint_id].append((at, RANK[status], status))

    def calling(self, process: Process, arguments: dict[str, Any]) -> None:
        """No time has passed since the code looked at its clock."""
        self._called_at[id(process)] = self._cloud.now + process.skew
        self._at_fault.pop(id(process), None)

    def faulted(self, process: Process, fault: str) -> None:
        """A fault meets a process, in the call that it makes now."""
        # A process that is gone says nothing more; but for so long its bytes could still have left.
        excuse_ms = LEAVES_MS if fault in GONE else 0
        self._at_fault[id(process)] = excuse_ms
        for belief in self._believed.values():
            for claim in belief.claims:
                if claim.process is process and self._cloud.now <= claim.since + CLAIM_MS:
                    claim.excuse_ms = min(claim.excuse_ms, excuse_ms)

    # Every write

    def written(self, items: dict[str, Any]) -> None:
        settings = self._cloud.settings
        if settings.locks_table not in items:
            return
        old, new = self.resource, from_item(items[settings.locks_table])
        row = items.get(settings.transitions_table)
        self.resource = new
        process = self._cloud.current.process
        called_at = self._called_at[id(process)]
        if self._cloud.trace is not None:
            self._cloud.note(f"writes {new.version}: {shown(new)}")

        self.hold(2, new.version == old.version + 1, "version", old.version, "->", new.version)
        active = [i for i, e in new.endpoints.items() if e.status is Status.ACTIVATED]
        self.hold(1, active == ([new.holder] if new.holder else []), "active", active, "holder", new.holder)
        kind = row["cause"]["M"]["kind"]["S"] if row else ""
        kept = not (old.frozen and new.frozen) or new.holder == old.holder or kind == "failover"
        self.hold(1, kept, "frozen, and yet the holder changed from", old.holder, "to", new.holder)
        self.hold(1, not new.frozen or new.holder is not None, "frozen without a holder")
        were_up = {i for i, e in old.endpoints.items() if self._is_up(i, e, called_at)}
        for i, e in new.endpoints.items():
            self._follow_lease(i, old.endpoints.get(i), e, called_at)
            asked_before = old.endpoints[i].requested_at if i in old.endpoints else 0
            if e.requested_at and e.requested_at != asked_before:
                self._asked.append((i, e.sequence, self._cloud.now))
        granted = new.holder is not None and (new.holder != old.holder or new.epoch != old.epoch)
        self.hold(2, new.epoch == old.epoch + granted, "epoch", old.epoch, "->", new.epoch, "holder", new.holder)
        if granted:
            self.hold(2, self.epochs.setdefault(new.epoch, new.holder or "") == new.holder, "shared", new.epoch)
            self._lease_is_on(new, called_at)
        for i, e in new.endpoints.items():
            was = old.endpoints.get(i)
            if was is None or was.status is not e.status:
                self.changed_at[i] = self._cloud.now
                if was is not None:
                    changes = [c["M"] for c in row["changes"]["L"]] if row else []
                    told = any(c["endpoint_id"]["S"] == i and c["to"]["S"] == e.status for c in changes)
                    self.hold(3, told, "no row in the audit for", i, was.status, "->", e.status)
            claimed = e.claim is not None and (was is None or was.claim is None or was.claim.token != e.claim.token)
            if claimed and e.status is not Status.ACTIVATED and i in self._believed:
                self._believed[i].claims.append(
                    Claimed(process, called_at, self._cloud.now, self._at_fault.get(id(process), NEVER))
                )
        self._follow_losses(old, new, were_up, called_at)
        self._in_time(old)
        registration = items.get(settings.endpoints_table)
        if registration is not None:
            i, url = registration["endpoint_id"]["S"], registration["url"]["S"]
            stays = self._urls.get(i, url) == url
            self.hold(3, stays or i not in self._believed, i, "moved while its old receiver believes it active")
            self._urls[i] = url
        if kind == "failover" and row is not None:
            command = row["cause"]["M"]["id"]["S"]
            self.hold(3, command not in self.commands, "the command was carried out twice:", command)
            self.commands.add(command)

    def _is_up(self, i: str, e: Endpoint, called_at: int) -> bool:
        end = self._lease_end.get(i)
        return e.reported is Status.ACTIVATED and not e.deleting and (end is None or called_at < end)

    def _follow_losses(self, old: Resource, new: Resource, were_up: set[str], called_at: int) -> None:
        """Without a holder no endpoint is ready, except one that lost the lock again and again and is just back."""
        lost = new.endpoints.get(old.holder or "")
        if lost is not None and old.holder != new.holder and lost.reason in ("demoted", "failing", "lease_expired"):
            self._losses[old.holder or ""].append(called_at)
        for i, e in new.endpoints.items():
            if not self._is_up(i, e, called_at):
                continue
            if i not in were_up or i == old.holder:
                self._up_since[i] = called_at
            waits = self._flaps(i, called_at) and called_at < self._up_since[i] + STEADY_MS + CLOCKS_MS
            self.hold(7, new.holder is not None or waits, i, "is ready, and nobody holds the lock")

    def _flaps(self, i: str, now: int) -> bool:
        return len([at for at in self._losses[i] if now - at < FLAPPING_MS]) >= FLAPS

    def _lease_is_on(self, new: Resource, called_at: int) -> None:
        i = new.holder or ""
        self.hold(6, any(status is Status.ACTIVATED for _, _, status in self.reports[i]), i, "never asked for it")
        end = self._lease_end.get(i)
        self.hold(6, end is None or called_at < end, i, "has been silent too long")

    def _follow_lease(self, i: str, was: Endpoint | None, e: Endpoint, called_at: int) -> None:
        """A lease runs from the report, and anew from a change of its length, unless it had ended."""
        news = was is None or (e.reported, e.reported_at) != (was.reported, was.reported_at)
        if news and e.reported is Status.ACTIVATED:
            self._lease_end[i] = _later(min(called_at, e.reported_at), e.lease_seconds)
        end = self._lease_end.get(i)
        if was is not None and e.lease_seconds != was.lease_seconds and (end is None or called_at < end):
            self._lease_end[i] = _later(called_at, e.lease_seconds)

    def _in_time(self, before: Resource) -> None:
        """A holder whose lease has ended does not go on for long."""
        holder = before.endpoints.get(before.holder or "")
        if holder is not None and holder.lease_expires_at is not None and not before.frozen:
            self._prompt(holder.lease_expires_at, f"the lease of {before.holder} ended long ago")

    def _prompt(self, since: int, says: str) -> None:
        cloud = self._cloud
        if cloud.faults:
            self.hold(7, cloud.now <= max(since, cloud.last_fault) + SWEEP_MS, says)
        else:
            self.hold(7, cloud.now <= since + PROMPT_MS + PROMPT_CALLS * cloud.call_ms, says)

    # Every byte

    def sent(self, connection: Connection, request: bytes) -> None:
        """The bytes of one request leave."""
        cloud = self._cloud
        wire = connection.wire = read(request, cloud.now)
        i = wire.endpoint_id
        cloud.note(f"sends {i} {wire.status} epoch {wire.epoch} sequence {wire.sequence} {wire.reason}")
        last = self._last.get(i)
        self.hold(4, last is None or wire.sequence >= last.sequence, wire, "after", last)
        _, other = self._flying.get(i, (None, None))
        self.hold(4, other is None or cloud.now >= other.sent_at + ATTEMPT_MS, wire, "while under way:", other)
        same = self._told.setdefault((i, wire.sequence), (wire.status, wire.epoch))
        self.hold(3, same == (wire.status, wire.epoch), wire, "was", same)
        if wire.status == "ACTIVATED":
            self.hold(
                2, self.epochs.get(wire.epoch) == i, wire, "but the epoch is that of", self.epochs.get(wire.epoch)
            )
            self._broken_before(wire, cloud.current.process.skew)
            self._believed[i] = Belief()
        else:
            self.hold(8, wire.reason != "refresh", wire)
            if i in self._believed and self._believed[i].left_at is None:
                self._believed[i].left_at = cloud.now
        self._last[i] = wire
        self._flying[i] = (connection, wire)
        self.requests.append(wire)

    def _broken_before(self, wire: Wire, skew: int) -> None:
        for o, belief in self._believed.items():
            if o == wire.endpoint_id:
                continue
            self.hold(5, self._waited(belief, skew), wire, "while the receiver believes", o, "active:", belief)
            other = self._flying.get(o)
            ended = other is None or other[1].status != "ACTIVATED" or wire.sent_at >= other[1].sent_at + ATTEMPT_MS
            self.hold(5, ended, wire, "while under way:", other)

    def _waited(self, belief: Belief, skew: int) -> bool:
        """Whether a byte of a STANDBY has left, and HandoverTimeout has passed since its first attempt began.

        Besides, only the windows of docs/guarantees.md are allowed: the difference of two clocks, and a fault that
        met the claimer between the claim and the bytes. With HandoverTimeout 0 the two may leave side by side.
        """
        now, handover_ms = self._cloud.now, self._cloud.settings.handover_ms
        if handover_ms == 0:
            return bool(belief.claims)
        if belief.left_at is None:
            return any(
                now + skew >= c.at + handover_ms + (0 if c.process.skew != skew else c.excuse_ms) for c in belief.claims
            )
        if self._cloud.faults or len(self._cloud.skews) > 1:
            return any(now + skew >= c.at + handover_ms for c in belief.claims)
        return now >= belief.left_at + handover_ms - CONNECTING * self._cloud.call_ms

    def arrived(self, connection: Connection, taken: bool) -> None:
        """The receiver has read a request, and keeps its rule if it took it in."""
        wire = connection.wire
        i = wire.endpoint_id
        if self._cloud.trace is not None:
            self._cloud.note(f"{i} {wire.status} {wire.sequence} {'is taken in' if taken else 'is not taken in'}")
        if not taken:
            return
        self._taken.append(wire)
        if not self._cloud.faults and wire.sequence > self._applied[i]:
            self._prompt(self.changed_at[i], f"{i} was told late")
        if wire.status == "STANDBY":
            self._believed.pop(i, None)
        if wire.sequence < self._applied[i]:
            return
        self._applied[i] = wire.sequence
        if wire.status == "ACTIVATED":
            if wire.epoch >= self._highest:
                self.slot, self._highest = i, wire.epoch
        elif self.slot == i:
            self.slot = None

    def hung_up(self, connection: Connection) -> None:
        for i, (c, _) in list(self._flying.items()):
            if c is connection:
                del self._flying[i]

    # The end

    def time_passed(self) -> None:
        self._in_time(self.resource)

    def settled(self, deleted: set[str]) -> None:
        """Nothing is under way, and everyone knows the truth."""
        cloud, resource = self._cloud, self.resource
        rows = {key[0][1] for key in cloud.store.tables[cloud.settings.endpoints_table]}
        self.hold(3, rows == set(resource.endpoints), "rows", rows, "entries", set(resource.endpoints))
        gone = deleted & set(resource.endpoints)
        self.hold(3, not gone, "deleted, and still there:", gone)
        for i, e in resource.endpoints.items():
            self.hold(3, e.delivered_sequence == e.sequence, i, "is owed", e)
            newest = max(self.reports[i], default=None)
            known = (e.reported_at, RANK[e.reported], e.reported) if e.reported is not None else None
            self.hold(6, known == newest, i, "reported", newest, "and is known as", known)
        ready = [i for i in resource.endpoints if self._is_ready(i)]
        holds = resource.frozen or (resource.holder in ready if ready else resource.holder is None)
        self.hold(7, holds, "ready", ready, "holder", resource.holder)
        for i, sequence, at in self._asked:
            again = any(w.endpoint_id == i and w.sequence >= sequence and w.sent_at >= at for w in self._taken)
            self.hold(3, again or i not in resource.endpoints, i, "was not told once more since", at - START)
        for i, e in resource.endpoints.items():
            if i != resource.holder and self.reports[i]:
                newest_status = max(self.reports[i])[2]
                wanted = {Status.STANDBY if i in ready else newest_status}
                if newest_status is Status.ACTIVATED and i not in ready:
                    # Its lease ended; BOOTING, if it had ended before the report came.
                    wanted = {Status.FAILING, Status.BOOTING}
                elif newest_status is Status.ACTIVATED and self._flaps(i, cloud.now):
                    # On hold: it is announced when the hold is over.
                    wanted.add(Status.FAILING)
                self.hold(6, e.status in wanted, i, "is", e.status, "and should be", wanted)
        self.hold(3, self.slot == resource.holder, "the receiver believes", self.slot, "holder", resource.holder)

    def _is_ready(self, endpoint_id: str) -> bool:
        reports, end = self.reports[endpoint_id], self._lease_end.get(endpoint_id)
        if not reports or max(reports)[2] is not Status.ACTIVATED:
            return False
        return end is None or self._cloud.now < end


def _later(start: int, seconds: int | None) -> int | None:
    return None if seconds is None else start + seconds * 1000


def read(request: bytes, now: int) -> Wire:
    """The parts of a request that the receiver's rule needs."""
    head, _, body = request.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    text = body.decode()
    return Wire(
        endpoint_id=text.split('"', 4)[3],
        status="ACTIVATED" if text.endswith('"status":"ACTIVATED"}') else "STANDBY",
        epoch=int(fields["X-Link-Webhook-Epoch"]),
        sequence=int(fields["X-Link-Webhook-Sequence"]),
        reason=fields["X-Link-Webhook-Reason"],
        sent_at=now,
    )


def shown(resource: Resource) -> str:
    """An item in one line of a trace."""

    def second(at: int) -> str:
        return "ever" if at == NEVER else f"{(at - START) / 1000:.3f}"

    def entry(i: str, e: Endpoint) -> str:
        claim = f" claim until {second(e.claim.until)}" if e.claim else ""
        believed = "" if e.believed_until is None else f" believed until {second(e.believed_until)}"
        return f"{i[:12]} {e.status} {e.delivered_sequence}/{e.sequence}{claim}{believed}{' deleting' * e.deleting}"

    due = "-" if resource.due_at is None else second(resource.due_at)
    return f"epoch {resource.epoch} due {due}; " + "; ".join(entry(i, e) for i, e in resource.endpoints.items())
