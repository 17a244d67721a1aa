"""The catalogue: what breaks each promise and each rule, as a named function, and which check finds it.

A variant takes the place of the product's function wherever the package imported it. Where a whole function is much
longer than the difference, the variant calls the original and undoes its effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from link.election import deliveries, rules, wake_up
from link.election.deliveries import Begun, Delivery, Outcome, due
from link.election.result import Result, ResultKind
from link.election.state import NEVER, Endpoint, Reason, Resource, Status
from link.plugins.webhook import factory, sealed
from link.reconcile import Reconciler
from link.store.locks import Cause, Committed, Locks, Step

# Who finds it


@dataclass(frozen=True)
class Promise:
    """The test of tests/test_promises.py with this number."""

    number: int


@dataclass(frozen=True)
class History:
    """The simulator's random history with this number, in which promise `promise` is seen broken."""

    number: int
    promise: int


@dataclass(frozen=True)
class Node:
    """A test by its node id."""

    node: str


# What is replaced


@dataclass(frozen=True)
class Function:
    """A function of a module, under each name by which the package imported it."""

    original: Callable[..., Any]
    variant: Callable[..., Any]


@dataclass(frozen=True)
class Attribute:
    """A constant of a module, or a method of a class."""

    owner: Any
    name: str
    variant: Any


@dataclass(frozen=True)
class Mutant:
    """One way to break the product. `breaks` and `instead` are the rule and its variant, in plain words."""

    name: str
    breaks: str
    instead: str
    caught_by: Promise | History | Node
    replaced: tuple[Function | Attribute, ...]
    protocol: str = ""
    """How the rule begins in docs/protocol.md, after its ●."""


# The variants, in the order of docs/protocol.md


def any_report_supersedes(endpoint: Endpoint, status: Status, at: int) -> bool:
    """The last report to arrive wins, not the last one made."""
    return True


def later_arrival_wins_within_a_second(endpoint: Endpoint, status: Status, at: int) -> bool:
    """Of two reports with the same time, the later to arrive wins."""
    return endpoint.reported is None or at >= endpoint.reported_at


def lease_starts_on_arrival(at: int, now: int) -> int:
    """A lease counts from when its report arrives."""
    return now


def release_without_standby(resource: Resource, reason: Reason, now: int) -> Resource:
    """The endpoint that loses the lock stays ACTIVATED."""
    return replace(resource, holder=None)


_failover = rules.failover


def failover_without_ids(resource: Resource, *arguments: Any, **options: Any) -> Resource:
    """A repeated failover is not recognised."""
    return _failover(replace(resource, commands=()), *arguments, **options)


_delete = rules.delete


def delete_standby_at_once(resource: Resource, endpoint_id: str, now: int, *, force: bool = False) -> Resource:
    """An endpoint that does not hold the lock is removed, whatever its receiver believes."""
    e = resource.endpoints.get(endpoint_id)
    if e is not None and resource.holder != endpoint_id:
        resource = resource.having(endpoint_id, replace(e, believed_until=None))
    return _delete(resource, endpoint_id, now, force=force)


def unfreeze_and_elect(resource: Resource, now: int) -> Resource:
    """What the holder reported while it was frozen is not applied."""
    return rules.elect(replace(resource, frozen=False), now)


_change = rules.change


def change_every_lease(
    resource: Resource, endpoint_id: str, now: int, *, lease_seconds: int | None, **options: Any
) -> Resource:
    """A changed lease counts from now, even if it has ended."""
    changed = _change(resource, endpoint_id, now, lease_seconds=lease_seconds, **options)
    if lease_seconds == resource.endpoints[endpoint_id].lease_seconds:
        return changed
    end = None if lease_seconds is None else now + lease_seconds * 1000
    return changed.having(endpoint_id, replace(changed.endpoints[endpoint_id], lease_expires_at=end))


def change_url_at_any_time(*arguments: Any, new_receiver: bool = False, **options: Any) -> Resource:
    """A receiver is replaced without regard to what it believes."""
    return _change(*arguments, **options)


_redeliver = rules.redeliver


def redeliver_and_keep_claim(resource: Resource, endpoint_id: str, now: int) -> Resource:
    """An attempt that left before the request may settle it."""
    requested = _redeliver(resource, endpoint_id, now)
    claim = resource.endpoints[endpoint_id].claim
    return requested.having(endpoint_id, replace(requested.endpoints[endpoint_id], claim=claim))


def due_despite_others(resource: Resource, endpoint_id: str, refresh_ms: int) -> int:
    """The holder does not wait for what other receivers believe."""
    return due(replace(resource, holder=None), endpoint_id, refresh_ms)


def due_despite_a_claim(resource: Resource, endpoint_id: str, refresh_ms: int) -> int:
    """A claimed attempt does not keep other senders from theirs."""
    unclaimed = {i: replace(e, claim=None) for i, e in resource.endpoints.items()}
    return due(replace(resource, endpoints=unclaimed), endpoint_id, refresh_ms)


def due_once(resource: Resource, endpoint_id: str, refresh_ms: int) -> int:
    """A delivered ACTIVATED is never sent again."""
    return due(resource, endpoint_id, refresh_ms) if resource.endpoints[endpoint_id].pending else NEVER


_claim_due = deliveries.claim_due


def claim_without_handover_timeout(*arguments: Any, handover_ms: int, **options: Any) -> Resource:
    """The next holder's wait is over before it begins."""
    return _claim_due(*arguments, handover_ms=-10_000, **options)


def claim_begins_the_wait(resource: Resource, now: int, *, handover_ms: int, **options: Any) -> Resource:
    """HandoverTimeout counts from the claim of the STANDBY."""
    claimed = _claim_due(resource, now, handover_ms=handover_ms, **options)
    for i, e in claimed.endpoints.items():
        if e.believed_until != resource.endpoints[i].believed_until and e.believed_until != NEVER:
            claimed = claimed.having(i, replace(e, believed_until=now + handover_ms))
    return claimed


_update = Locks.update


def update_with_the_message_id(
    self: Locks, resource_id: str, step: Callable[[Resource, str], Step], cause: Cause, **options: Any
) -> Committed:
    """The id of the message that is worked on is the token of its claims."""
    committed = _update(self, resource_id, lambda resource, nonce: step(resource, cause.id), cause, **options)
    return replace(committed, claimed=deliveries.deliveries(committed.after, cause.id) if committed.written else [])


_deliveries = deliveries.deliveries


def deliveries_standby_first(resource: Resource, token: str) -> list[Delivery]:
    """The claimed attempts, those of STANDBY first."""
    return sorted(_deliveries(resource, token), key=lambda delivery: delivery.status is Status.ACTIVATED)


_attempt = Reconciler._attempt
_standbys_under_way: list[tuple[Reconciler, str]] = []


def attempt_one_after_the_other(self: Reconciler, d: Delivery, tell: Callable[[Begun], None]) -> Outcome:
    """The order of STANDBY and ACTIVATED is kept by the process that sends both, and by nothing that is stored."""
    mine = (self, d.resource_id)
    if d.status is Status.ACTIVATED:
        while mine in _standbys_under_way:
            self._clock.pause(0.005)
        return _attempt(self, d, tell)
    _standbys_under_way.append(mine)
    try:
        return _attempt(self, d, tell)
    finally:
        _standbys_under_way.remove(mine)


_outcome = deliveries.outcome


def outcome_not_sent_is_delivered(resource: Resource, o: Outcome, now: int, jitter: float) -> Resource:
    """A webhook that was not sent counts as delivered, as a STANDBY does in LinK."""
    if o.result.kind is ResultKind.NOT_SENT:
        o = replace(o, result=Result(ResultKind.DELIVERED))
    return _outcome(resource, o, now, jitter)


def outcome_too_late_uses_up_the_wait(resource: Resource, o: Outcome, now: int, jitter: float) -> Resource:
    """A STANDBY that was too late leaves believed_until as it is."""
    after = _outcome(resource, o, now, jitter)
    before, e = resource.endpoints.get(o.endpoint_id), after.endpoints.get(o.endpoint_id)
    if before is None or e is None or o.result.kind is not ResultKind.TOO_LATE:
        return after
    return after.having(o.endpoint_id, replace(e, believed_until=before.believed_until))


def electable_after_the_hold(resource: Resource, now: int) -> list[str]:
    """An endpoint on hold is never elected, whoever else is ready."""
    return [i for i, e in resource.endpoints.items() if e.ready(now) and not rules.on_hold(e, now)]


def next_due_without_leases(resource: Resource, now: int, refresh_ms: int) -> int:
    """The end of a lease wakes up no process."""
    return min([NEVER, *(due(resource, endpoint_id, refresh_ms) for endpoint_id in resource.endpoints)])


def keep_due_at_until_lowered(
    resource: Resource, now: int, *, carried: int | None, refresh_ms: int
) -> tuple[Resource, bool]:
    """Once set, due_at stays until something is due sooner."""
    wanted = wake_up.next_due(resource, now, refresh_ms)
    if resource.due_at is not None and resource.due_at <= wanted:
        return resource, False
    return replace(resource, due_at=None if wanted == NEVER else wanted), wanted < now + wake_up.NEAR_MS


_keep_due_at = wake_up.keep_due_at


def keep_due_at_until_past(
    resource: Resource, now: int, *, carried: int | None, refresh_ms: int
) -> tuple[Resource, bool]:
    """A message that comes before the due_at that it carries may not raise it."""
    return _keep_due_at(resource, now, carried=None, refresh_ms=refresh_ms)


_commit = Locks.commit


def commit_over_anything(self: Locks, before: Resource, after: Resource, *more: Any) -> Resource:
    """The write is conditional on nothing: it succeeds over a version that its step has never seen."""
    return _commit(self, replace(before, version=self.read(before.resource_id).version), after, *more)


_context = sealed.context


def context_without_url(endpoint_id: str, resource_id: str, url: str) -> dict[str, str]:
    """A ciphertext is bound to its endpoint, and not to its url."""
    return _context(endpoint_id, resource_id, "")


# The catalogue

PROMISES = (
    Mutant(
        "the loser stays active",
        "promise 1: one holder",
        "the endpoint that loses the lock stays ACTIVATED",
        Promise(1),
        (Function(rules.release, release_without_standby),),
    ),
    Mutant(
        "an unconditional write",
        "promise 2: fencing",
        "a commit overwrites what another one wrote: two grants share an epoch",
        Promise(2),
        (Attribute(Locks, "commit", commit_over_anything),),
    ),
    Mutant(
        "not sent counts as delivered",
        "promise 3: nothing is lost",
        "a webhook that was not sent counts as delivered, as a STANDBY does in LinK",
        Promise(3),
        (Function(deliveries.outcome, outcome_not_sent_is_delivered),),
    ),
    Mutant(
        "two attempts at a time",
        "promise 4: order",
        "another sender's live claim is ignored",
        Promise(4),
        (Function(deliveries.due, due_despite_a_claim),),
    ),
    Mutant(
        "the new holder does not wait",
        "promise 5: break before make",
        "the new holder's receiver is sent ACTIVATED without waiting for the old one's STANDBY",
        Promise(5),
        (Function(deliveries.due, due_despite_others),),
    ),
    Mutant(
        "the last to arrive wins",
        "promise 6: convergence",
        "the last report to arrive wins, not the last one made",
        Promise(6),
        (Function(rules.supersedes, any_report_supersedes),),
    ),
    Mutant(
        "no wake-up for a lease's end",
        "promise 7: liveness",
        "no process wakes up when a lease ends",
        Promise(7),
        (Function(wake_up.next_due, next_due_without_leases),),
    ),
    Mutant(
        "no refresh",
        "promise 8: refresh",
        "a delivered ACTIVATED is never sent again",
        Promise(8),
        (Function(deliveries.due, due_once),),
    ),
    Mutant(
        "a ciphertext without its url",
        "promise 9: secrets",
        "a ciphertext is not bound to its url",
        Promise(9),
        (Function(sealed.context, context_without_url),),
    ),
)
"""Each promise, and what its own test finds."""

RULES = (
    Mutant(
        "report: time and rank",
        "the greater pair of time and rank wins",
        "the last report to arrive wins",
        History(0, promise=6),
        (Function(rules.supersedes, any_report_supersedes),),
        protocol="A report is accepted only if",
    ),
    Mutant(
        "report: rank within a second",
        "of two reports with the same time the graver one wins",
        "the later to arrive wins",
        History(11, promise=6),
        (Function(rules.supersedes, later_arrival_wins_within_a_second),),
        protocol="A report is accepted only if",
    ),
    Mutant(
        "report: start of a lease",
        "a lease counts from the report",
        "it counts from the report's arrival",
        History(9, promise=6),
        (Function(rules.lease_start, lease_starts_on_arrival),),
        protocol="`ACTIVATED` with a lease sets",
    ),
    Mutant(
        "failover: ids",
        "the item keeps the ids of the last failovers",
        "no id",
        History(4_626, promise=3),
        (Function(rules.failover, failover_without_ids),),
        protocol="The item keeps the ids",
    ),
    Mutant(
        "failover: three ids",
        "three ids are kept",
        "only the last one",
        History(58_820, promise=3),
        (Attribute(rules, "MAX_COMMANDS", 1),),
        protocol="The item keeps the ids",
    ),
    Mutant(
        "delete: until its STANDBY is delivered",
        "an entry with believed_until stays until its STANDBY got a 2xx",
        "an endpoint that is not the holder is removed at once",
        History(233, promise=5),
        (Function(rules.delete, delete_standby_at_once),),
        protocol="An endpoint that is not the holder is removed at once",
    ),
    Mutant(
        "due: others' believed_until",
        "the holder waits for believed_until of every other entry",
        "it does not wait",
        History(0, promise=5),
        (Function(deliveries.due, due_despite_others),),
        protocol="For the holder: not before",
    ),
    Mutant(
        "claim_due: new token",
        "a token is new with every commit",
        "it is the id of the message that is worked on",
        History(12, promise=4),
        (Attribute(Locks, "update", update_with_the_message_id),),
        protocol="The token is new with every commit",
    ),
    Mutant(
        "claim_due: believed_until",
        "believed_until is stored, and is break before make",
        "one process sends STANDBY and ACTIVATED one after the other",
        History(9, promise=5),
        (
            Function(deliveries.due, due_despite_others),
            Function(deliveries.deliveries, deliveries_standby_first),
            Attribute(Reconciler, "_attempt", attempt_one_after_the_other),
        ),
        protocol="`believed_until`: for an `ACTIVATED`",
    ),
    Mutant(
        "begun: not the claim",
        "HandoverTimeout counts from when the attempt of a STANDBY begins",
        "it counts from the claim",
        History(44, promise=5),
        (
            Function(deliveries.claim_due, claim_begins_the_wait),
            Function(deliveries.outcome, outcome_too_late_uses_up_the_wait),
        ),
        protocol="An attempt of a `STANDBY` begins",
    ),
    Mutant(
        "hold: nobody else is ready",
        "an endpoint on hold is elected after 5 s when no other is ready",
        "it is not elected before its hold is over",
        History(17, promise=7),
        (Function(rules._electable, electable_after_the_hold),),
        protocol="If every ready endpoint is on hold",
    ),
    Mutant(
        "send: latest time",
        "a byte leaves 7 s before the claim's end at the latest",
        "before the claim's end",
        History(8_544, promise=4),
        (Attribute(factory, "SEND_MS", 0),),
        protocol="Then read the clock",
    ),
    Mutant(
        "due_at: bookkeeping",
        "due_at itself records that a wake-up is arranged",
        "once set it stays until it is lowered",
        History(15, promise=7),
        (Function(wake_up.keep_due_at, keep_due_at_until_lowered),),
        protocol="`due_at` itself records",
    ),
    Mutant(
        "due_at: carried",
        "the message that carries due_at may raise it",
        "only when it is past: a message that comes early is lost",
        History(23, promise=7),
        (Function(wake_up.keep_due_at, keep_due_at_until_past),),
        protocol="`due_at` itself records",
    ),
    Mutant(
        "unfreeze: what was reported",
        "unfreezing applies what the holder reported in the meantime",
        "it elects, and nothing else",
        History(32, promise=7),
        (Function(rules.unfreeze, unfreeze_and_elect),),
        protocol="Unfreezing applies what the holder reported",
    ),
    Mutant(
        "change: an ended lease",
        "a lease that has ended stays ended",
        "every changed lease counts from now",
        History(432, promise=6),
        (Function(rules.change, change_every_lease),),
        protocol="For an endpoint that is not ready",
    ),
    Mutant(
        "change: url",
        "a url changes only when its receiver is told and not active",
        "it changes at any time",
        History(52, promise=3),
        (Function(rules.change, change_url_at_any_time),),
        protocol="The url changes only while",
    ),
    Mutant(
        "redeliver: an attempt under way",
        "an attempt from before the request does not settle it",
        "its claim stays as it is",
        History(1_068, promise=3),
        (Function(rules.redeliver, redeliver_and_keep_claim),),
        protocol="If there is a claim, its `sequence` becomes 0",
    ),
)
"""Each rule marked ● in docs/protocol.md, the simpler one that stands there in brackets, and the first history that
finds it."""

SIMULATOR = (
    Mutant(
        "simulator: promise 3",
        "an attempt is claimed for longer than it takes",
        "a claim ends when it begins",
        History(0, promise=3),
        (Attribute(deliveries, "CLAIM_MS", 0),),
    ),
    Mutant(
        "simulator: promise 4",
        "one attempt at a time",
        "another sender's live claim is ignored",
        History(3, promise=4),
        (Function(deliveries.due, due_despite_a_claim),),
    ),
    Mutant(
        "simulator: promise 5",
        "the next holder waits for HandoverTimeout",
        "the wait is over before it begins",
        History(0, promise=5),
        (Function(deliveries.claim_due, claim_without_handover_timeout),),
    ),
    Mutant(
        "simulator: promise 7",
        "what is due within a minute gets a wake-up",
        "it waits for the sweep",
        History(15, promise=7),
        (Attribute(wake_up, "NEAR_MS", 0),),
    ),
)
"""More ways that the simulator must see; its promises 3 to 7 each have a mutant here or among the rules."""

CATALOGUE = PROMISES + RULES + SIMULATOR
