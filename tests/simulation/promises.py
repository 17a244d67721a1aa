"""The promises, checked at every write, at every byte that leaves and at the end of a history.

Every oracle is one `hold`, and docs/testing.md lists them. What is expected comes from what hosts reported, what
operators asked and what went over the wire. From the code under test only the stored item's form is taken: who holds
the lock in which epoch, each endpoint's status and sequence, the last report, a claim's token, whether it is frozen.
`Shares:` says what an oracle has in common with the code, so that both could be wrong together.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from link.election.state import NEVER, Endpoint, Observer, Resource, Status
from link.reports import Report
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
"""How far the clocks of two processes are apart."""
CALLS = 1_500
"""More than any history needs: three times as many as the longest of 100,000."""
SWEEP_MS = 75_000
"""Within this whatever was lost is found: a sweep, and an invocation."""


class Broken(BaseException):
    """A promise, and how it was broken. The code under test must not catch it."""


@dataclass
class Request:
    """What an operator asks."""

    kind: str
    endpoint_id: str
    asked_at: int
    body: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    force: bool = False
    written_at: int | None = None
    """When the first write of the invocation that has it took place."""


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
        self.reports: dict[str, dict[Observer, list[tuple[int, int, Status]]]] = defaultdict(dict)
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
        self._heard: dict[str, dict[Observer, tuple[int, int, Status]]] = defaultdict(dict)
        """The newest report of each observer of an endpoint that a write took in: its time, rank and status."""
        self._observers: dict[str, tuple[set[str], bool]] = {}
        """Whose words count, as an operator registered or last changed it, and whether any one of them is enough."""
        self._drained: set[str] = set()
        self._lease: dict[str, int | None] = {}
        """The lease that an operator registered or last changed, in seconds."""
        self._lease_end: dict[str, int | None] = {}
        """Until when the last ACTIVATED of an endpoint's host counts; None: for ever."""
        self._leaving: set[str] = set()
        self._urls: dict[str, str] = {}
        self._losses: dict[str, list[int]] = defaultdict(list)
        """When an endpoint lost the lock by its own report or silence."""
        self._up_since: dict[str, int] = {}
        self._asked: list[Request] = []
        """The redelivers that were answered."""
        self._taken: list[Wire] = []
        self._confirmed: dict[str, tuple[Wire, int]] = {}
        """The last ACTIVATED that was answered with 2xx and met no fault, and when it was answered."""

    def hold(self, oracle: str, promise: int, holds: bool, *says: object) -> None:
        """One oracle's word on whether a promise is kept."""
        if not holds and self.broken is None:
            self.broken = f"promise {promise} at {(self._cloud.now - START) / 1000:.3f}: {' '.join(map(str, says))}"
        if self.broken is not None:
            raise Broken(self.broken)

    # What the world does

    def reported(self, endpoint_id: str, observer: Observer, status: Status, at: int) -> None:
        self.reports[endpoint_id].setdefault(observer, []).append((at, RANK[status], status))

    def redelivered(self, request: Request) -> None:
        """An operator was told that the status is delivered again."""
        self._asked.append(request)

    def calling(self, process: Process, arguments: dict[str, Any]) -> None:
        """No time has passed since the code looked at its clock."""
        # Shares: nothing.
        self.hold("calls", 7, self._cloud.calls < CALLS, "a process calls without pause")
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
        self._in_time()
        self.resource = new
        process = self._cloud.current.process
        called_at = self._called_at[id(process)]
        if self._cloud.trace is not None:
            self._cloud.note(f"writes {new.version}: {shown(new)}")

        request = process.request
        # Shares: the version, which every conditional write has to match.
        self.hold("versions", 2, new.version == old.version + 1, "version", old.version, "->", new.version)
        active = [i for i, e in new.endpoints.items() if e.status is Status.ACTIVATED]
        # Shares: nothing but the item's form.
        self.hold("one active", 1, active == ([new.holder] if new.holder else []), active, "holder", new.holder)
        fails_over = isinstance(request, Request) and request.kind == "failover"
        kept = not (old.frozen and new.frozen) or new.holder == old.holder or fails_over
        # Shares: nothing but the item's form; the exception is the operator's request.
        self.hold("frozen keeps", 1, kept, "frozen, and yet the holder changed from", old.holder, "to", new.holder)
        # Shares: nothing but the item's form.
        self.hold("frozen has", 1, not new.frozen or new.holder is not None, "frozen without a holder")
        were_up = {i for i in old.endpoints if self._is_up(i, called_at)}
        self._heed(request, new, called_at)
        granted = new.holder is not None and (new.holder != old.holder or new.epoch != old.epoch)
        # Shares: nothing but the item's form. It grows with each grant, so no two grants share one.
        self.hold("epochs", 2, new.epoch == old.epoch + granted, "epoch", old.epoch, "->", new.epoch, new.holder)
        if new.holder is not None and granted:
            self.epochs[new.epoch] = new.holder
            # Shares: from when a lease counts (min of report and arrival). No stored field, but the writer's clock.
            self.hold("granted to ready", 6, self._is_up(new.holder, called_at), new.holder, "is not ready")
        for i, e in new.endpoints.items():
            was = old.endpoints.get(i)
            if was is None or was.status is not e.status:
                self.changed_at[i] = self._cloud.now
                if was is not None:
                    changes = [c["M"] for c in row["changes"]["L"]] if row else []
                    told = any(c["endpoint_id"]["S"] == i and c["to"]["S"] == e.status for c in changes)
                    # Shares: nothing but the form of item and row.
                    self.hold("audit", 3, told, "no row in the audit for", i, was.status, "->", e.status)
            claimed = e.claim is not None and (was is None or was.claim is None or was.claim.token != e.claim.token)
            if claimed and e.status is not Status.ACTIVATED and i in self._believed:
                self._believed[i].claims.append(
                    Claimed(process, called_at, self._cloud.now, self._at_fault.get(id(process), NEVER))
                )
        self._follow_losses(old, new, were_up, called_at)
        if isinstance(request, Request) and request.kind == "drain" and request.body["drained"]:
            lost = old.holder == request.endpoint_id and new.holder is None and not request.force
            waits = any(self._waits(i, called_at) for i in new.endpoints if self._is_up(i, called_at))
            # Shares: nothing but the item's form; whether it is forced is the operator's request.
            self.hold("drain keeps one", 7, not lost or waits, old.holder, "was the only one")
        registration = items.get(settings.endpoints_table)
        if registration is not None:
            i, url = registration["endpoint_id"]["S"], registration["url"]["S"]
            stays = self._urls.get(i, url) == url
            # Shares: nothing; what a receiver believes comes from the wire.
            self.hold("old receiver", 3, stays or i not in self._believed, i, "moved while it is believed active")
            self._urls[i] = url
        # Another election may take place in the write of a failover.
        moved = new.holder is not None and new.holder != old.holder and new.endpoints[new.holder].reason == "failover"
        if moved and isinstance(request, Request) and request.kind == "failover":
            once = request.command not in self.commands
            # Shares: the reason that the new holder's receiver is told.
            self.hold("failover once", 3, once, "the command was carried out twice:", request.command)
            self.commands.add(request.command)

    def _heed(self, request: Report | Request | None, new: Resource, called_at: int) -> None:
        """What a write took in: the report or request of its invocation. The same again in each of its later writes.

        A lease runs from the report, and anew from a change of its length, unless it had ended.
        """
        if request is None:
            return
        i = request.endpoint_id
        if isinstance(request, Report):
            word = (request.at, RANK[request.status], request.status)
            counts = i in new.endpoints and request.observer in self._observers[i][0]
            if counts and word > self._heard[i].get(request.observer, (0, 0, Status.BOOTING)):
                self._heard[i][request.observer] = word
                if request.observer == "host" and request.status is Status.ACTIVATED:
                    self._lease_end[i] = _later(min(called_at, request.at), self._lease[i])
            return
        if request.written_at is None:
            request.written_at = self._cloud.now
        if request.kind == "register":
            for added in new.endpoints.keys() - self._lease.keys():
                self._lease[added] = request.body.get("lease_seconds")
                observers = set(request.body.get("observers", ["host"]))
                self._observers[added] = (observers, request.body.get("ready_when") == "any")
        elif request.kind == "change":
            self._heed_change(i, request.body, called_at)
        elif request.kind == "drain":
            (self._drained.add if request.body["drained"] else self._drained.discard)(i)
        elif request.kind == "delete":
            self._leaving.add(i)

    def _heed_change(self, i: str, body: dict[str, Any], called_at: int) -> None:
        seconds = body.get("lease_seconds", self._lease[i])
        if seconds != self._lease[i]:
            if self._word(i, Observer.HOST, called_at) is Status.ACTIVATED:
                self._lease_end[i] = _later(called_at, seconds)
            self._lease[i] = seconds
        observers, enough = self._observers[i]
        observers = set(body.get("observers", observers))
        self._observers[i] = (observers, body["ready_when"] == "any" if "ready_when" in body else enough)
        for observer in self._heard[i].keys() - observers:
            del self._heard[i][observer]

    def _word(self, i: str, observer: str, now: int) -> Status | None:
        """What an observer says: its newest report that was taken in; a host whose lease has ended is FAILING."""
        heard = self._heard[i].get(Observer(observer))
        if heard is None:
            return None
        end = self._lease_end.get(i)
        if observer == "host" and heard[2] is Status.ACTIVATED and end is not None and now >= end:
            return Status.FAILING
        return heard[2]

    def _is_up(self, i: str, now: int) -> bool:
        """Whether it may be elected: those whose word counts say ACTIVATED, and no operator drained or deleted it."""
        return i in self._observers and i not in self._leaving and self._verdict(i, now) is Status.ACTIVATED

    def _verdict(self, i: str, now: int) -> Status | None:
        """The rule of `ready_when`, written here a second time."""
        observers, one_is_enough = self._observers[i]
        words = [self._word(i, observer, now) for observer in observers]
        if one_is_enough:
            order = [Status.ACTIVATED, Status.STANDBY, Status.FAILING, None]
        else:
            order = [Status.FAILING, Status.STANDBY, None, Status.ACTIVATED]
        verdict = next(word for word in order if word in words)
        return Status.STANDBY if verdict in (Status.ACTIVATED, None) and i in self._drained else verdict

    def _follow_losses(self, old: Resource, new: Resource, were_up: set[str], called_at: int) -> None:
        """Without a holder no endpoint is ready, except one that lost the lock again and again and is just back."""
        request = self._cloud.current.process.request
        taken_away = (
            isinstance(request, Request)
            and request.kind in ("failover", "delete", "drain")
            and request.endpoint_id == old.holder
            and old.holder in were_up
        )
        if old.holder is not None and old.holder != new.holder and not taken_away:
            self._losses[old.holder].append(called_at)
            # Even if it is up by another clock.
            self._up_since[old.holder] = called_at
        for i in new.endpoints:
            if not self._is_up(i, called_at):
                continue
            if i not in were_up or i == old.holder:
                self._up_since[i] = called_at
            # Shares: from when a lease counts; three losses and 5 s, the window of docs/guarantees.md.
            idle = new.holder is None and not self._waits(i, called_at)
            self.hold("no idle lock", 7, not idle, i, "is ready, and nobody holds the lock")

    def _waits(self, i: str, called_at: int) -> bool:
        """Whether it may have to be ready for some time, because it lost the lock again and again."""
        return self._flaps(i, called_at) and called_at < self._up_since[i] + STEADY_MS + CLOCKS_MS

    def _flaps(self, i: str, now: int) -> bool:
        return len([at for at in self._losses[i] if now - at < FLAPPING_MS]) >= FLAPS

    def _in_time(self) -> None:
        """A holder whose lease has ended does not go on for long, and one that was told is told again in time."""
        cloud, resource = self._cloud, self.resource
        holder = resource.holder
        if holder is None:
            return
        end = self._lease_end.get(holder)
        # With `any`, the words of the others can be enough.
        decides = end is not None and self._verdict(holder, end) in (Status.STANDBY, Status.FAILING)
        if end is not None and decides and not resource.frozen:
            # Shares: from when a lease counts.
            self._prompt("lease ends", end, f"the lease of {holder} ended long ago")
        if holder in self._confirmed and not cloud.faults:
            wire, at = self._confirmed[holder]
            late = wire.epoch == resource.epoch and cloud.now > at + cloud.settings.refresh_ms + SWEEP_MS
            # Shares: the setting.
            self.hold("refresh late", 8, not late, holder, "was told last at", at - START)

    def _prompt(self, oracle: str, since: int, says: str) -> None:
        cloud = self._cloud
        if cloud.faults:
            self.hold(oracle, 7, cloud.now <= max(since, cloud.last_fault) + SWEEP_MS, says)
        else:
            self.hold(oracle, 7, cloud.now <= since + PROMPT_MS + PROMPT_CALLS * cloud.call_ms, says)

    # Every byte

    def sent(self, connection: Connection, request: bytes) -> None:
        """The bytes of one request leave."""
        cloud = self._cloud
        wire = connection.wire = read(request, cloud.now)
        i = wire.endpoint_id
        cloud.note(f"sends {i} {wire.status} epoch {wire.epoch} sequence {wire.sequence} {wire.reason}")
        last = self._last.get(i)
        # Shares: nothing; all of it is read from the wire.
        self.hold("sequence order", 4, last is None or wire.sequence >= last.sequence, wire, "after", last)
        _, other = self._flying.get(i, (None, None))
        # Shares: how long an attempt takes at most; the begin and the end are those of the connection.
        alone = other is None or cloud.now >= other.sent_at + ATTEMPT_MS
        self.hold("one attempt", 4, alone, wire, "while under way:", other)
        same = self._told.setdefault((i, wire.sequence), (wire.status, wire.epoch))
        # Shares: nothing; all of it is read from the wire.
        self.hold("one meaning", 3, same == (wire.status, wire.epoch), wire, "was", same)
        if wire.status == "ACTIVATED":
            granted_to = self.epochs.get(wire.epoch)
            # Shares: nothing but the item's form.
            self.hold("epoch on the wire", 2, granted_to == i, wire, "but the epoch is that of", granted_to)
            self._broken_before(wire, cloud.current.process.skew)
            self._believed[i] = Belief()
        else:
            if i in self._believed and self._believed[i].left_at is None:
                self._believed[i].left_at = cloud.now
        if wire.reason == "refresh":
            # Shares: nothing; all of it is read from the wire.
            self.hold("no standby refreshed", 8, wire.status == "ACTIVATED", wire)
            # Shares: the setting. After a fault the sender may not know of the 2xx.
            self.hold("refresh early", 8, self._may_refresh(i), wire, "last 2xx:", self._confirmed.get(i))
        self._last[i] = wire
        self._flying[i] = (connection, wire)
        self.requests.append(wire)

    def _may_refresh(self, i: str) -> bool:
        cloud = self._cloud
        if i not in self._confirmed:
            return bool(cloud.faults)
        wire, at = self._confirmed[i]
        apart_ms = CLOCKS_MS if len(cloud.skews) > 1 else 0
        return cloud.last_fault >= wire.sent_at or cloud.now >= at + cloud.settings.refresh_ms - apart_ms

    def _broken_before(self, wire: Wire, skew: int) -> None:
        for o, belief in self._believed.items():
            if o == wire.endpoint_id:
                continue
            # Shares: when a claim was written, for the named windows; the bytes' times are from the wire.
            self.hold("broken before", 5, self._waited(belief, skew), wire, "while it believes", o, "active:", belief)
            other = self._flying.get(o)
            ended = other is None or other[1].status != "ACTIVATED" or wire.sent_at >= other[1].sent_at + ATTEMPT_MS
            # Shares: how long an attempt takes at most; the begin and the end are those of the connection.
            self.hold("old attempt ended", 5, ended, wire, "while under way:", other)

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
            # Shares: nothing but the item's form.
            self._prompt("told in time", self.changed_at[i], f"{i} was told late")
        if wire.status == "ACTIVATED" and connection.fault is None:
            self._confirmed[i] = (wire, self._cloud.now)
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
        self._in_time()

    def settled(self, deleted: set[str]) -> None:
        """Nothing is under way, and everyone knows the truth."""
        cloud, resource = self._cloud, self.resource
        rows = {key[0][1] for key in cloud.store.tables[cloud.settings.endpoints_table]}
        # Shares: nothing but the form of item and registration.
        self.hold("rows", 3, rows == set(resource.endpoints), "rows", rows, "entries", set(resource.endpoints))
        gone = deleted & set(resource.endpoints)
        # Shares: nothing.
        self.hold("deleted", 3, not gone, "deleted, and still there:", gone)
        taken = {(w.endpoint_id, w.sequence) for w in self._taken}
        for i, e in resource.endpoints.items():
            # Shares: the sequence of the newest status; that it was delivered is the receiver's word.
            self.hold("delivered", 3, e.sequence == 0 or (i, e.sequence) in taken, i, "is owed", e)
            newest = {o: max(words) for o, words in self.reports[i].items() if o in self._observers[i][0]}
            known = {o: (word.at, RANK[word.status], word.status) for o, word in e.words.items()}
            # Shares: which of two reports at the same time counts, which is the promise itself.
            self.hold("reports", 6, known == newest, i, "reported", newest, "and is known as", known)
        # "reports" has held: what was heard is what was reported.
        ready = [i for i in resource.endpoints if self._is_up(i, cloud.now)]
        undecided = resource.holder is not None and self._verdict(resource.holder, cloud.now) is None
        holds = resource.frozen or undecided or (resource.holder in ready if ready else resource.holder is None)
        # Shares: from when a lease counts.
        self.hold("ready holder", 7, holds, "ready", ready, "holder", resource.holder)
        for request in self._asked:
            i, since = request.endpoint_id, request.written_at or request.asked_at
            again = any(w.endpoint_id == i and w.sent_at >= since for w in self._taken)
            # Shares: nothing; the operator was answered.
            self.hold("redelivered", 3, again or i not in resource.endpoints, i, "not told again since", since - START)
        for i, e in resource.endpoints.items():
            verdict = self._verdict(i, cloud.now)
            if i != resource.holder and verdict is not None and i not in self._leaving:
                wanted = {Status.STANDBY if i in ready else verdict}
                if verdict is not Status.ACTIVATED and self._lease_end.get(i) is not None:
                    # If its lease had ended before the report came.
                    wanted.add(Status.BOOTING)
                elif i in self._drained and not self._heard[i]:
                    # Drained before its first report.
                    wanted.add(Status.BOOTING)
                elif verdict is Status.ACTIVATED and self._flaps(i, cloud.now):
                    # On hold: it is announced when the hold is over.
                    wanted.add(Status.FAILING)
                # Shares: from when a lease counts.
                self.hold("status", 6, e.status in wanted, i, "is", e.status, "and should be", wanted)
        # Shares: the receiver's rule, written here a second time.
        self.hold("receiver agrees", 3, self.slot == resource.holder, "it believes", self.slot, "not", resource.holder)


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
