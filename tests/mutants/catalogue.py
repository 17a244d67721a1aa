"""The catalogue: what breaks each promise and each rule, as a named function, and which check finds it.

A variant takes the place of the product's function wherever the package imported it. Where a whole function is much
longer than the difference, the variant calls the original and undoes its effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from itertools import islice
from threading import Semaphore
from types import SimpleNamespace
from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from link import key_rotation, sqs_batch
from link.control.commands import Commands
from link.election import deliveries, rules, wake_up
from link.election.deliveries import Begun, Delivery, Outcome, due
from link.election.result import Result, ResultKind
from link.election.state import NEVER, Endpoint, Observer, ReadyWhen, Reason, Resource, Status, Word
from link.plugins.seam import Config
from link.plugins.webhook import factory, sealed
from link.plugins.webhook.factory import WebhookFactory
from link.plugins.webhook.sender import Sender
from link.reconcile import MAX_SENDS, Reconciler, Sends, Trigger
from link.registration import Registration
from link.store import locks, queues
from link.store.endpoints import Registrations
from link.store.locks import Cause, Committed, Locks, Step
from link.store.queues import Queues

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
    family: str = ""
    """One of `FAMILIES` in tests/simulation/__main__.py; empty: histories with a single observer and no restore."""


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


def any_report_supersedes(word: Word | None, status: Status, at: int) -> bool:
    """The last report to arrive wins, not the last one made."""
    return True


def later_arrival_wins_within_a_second(word: Word | None, status: Status, at: int) -> bool:
    """Of two reports with the same time, the later to arrive wins."""
    return word is None or at >= word.at


def lease_starts_on_arrival(at: int, now: int) -> int:
    """A lease counts from when its report arrives."""
    return now


_report, _verdict = rules.report, Endpoint.verdict


def verdict_of_the_last(self: Endpoint, now: int) -> Status | None:
    """The last observer to report decides alone."""
    last = max(self.words, key=lambda observer: self.words[observer].at, default=None)
    return None if last is None else _verdict(replace(self, observers=(last,)), now)


def verdict_of_those_who_reported(self: Endpoint, now: int) -> Status | None:
    """Whoever has not reported is left out."""
    return _verdict(replace(self, observers=tuple(self.words) or self.observers), now)


def verdict_when_all_have_reported(self: Endpoint, now: int) -> Status | None:
    """Nothing counts before all observers have reported."""
    all_of_them = self.ready_when is ReadyWhen.ANY or len(self.words) == len(self.observers)
    return _verdict(self, now) if all_of_them else None


def verdict_waits_for_any(self: Endpoint, now: int) -> Status | None:
    """With `any`, an observer that has not reported could still say ACTIVATED."""
    verdict = _verdict(self, now)
    waits = self.ready_when is ReadyWhen.ANY and len(self.words) < len(self.observers)
    return None if waits and verdict is not Status.ACTIVATED else verdict


def verdict_ends_with_the_lease(self: Endpoint, now: int) -> Status | None:
    """A lease that has ended is the end, whatever other observers say."""
    host = self.words.get(Observer.HOST)
    ended = host is not None and host.status is Status.ACTIVATED and self.word(Observer.HOST, now) is Status.FAILING
    return Status.FAILING if ended else _verdict(self, now)


def drain_as_a_report(
    resource: Resource, endpoint_id: str, now: int, *, drained: bool, force: bool = False
) -> Resource:
    """A drain is a STANDBY of the host."""
    if not drained:
        return resource
    return _report(resource, endpoint_id, Status.STANDBY, now, now)


def verdict_undecided_and_drained(self: Endpoint, now: int) -> Status | None:
    """A drain counts only for those whose observers have decided."""
    return _verdict(self, now) if _verdict(replace(self, drained_at=0), now) else None


_drain = rules.drain


def drain_of_a_ready_one(
    resource: Resource, endpoint_id: str, now: int, *, force: bool = False, **more: Any
) -> Resource:
    """Only a ready endpoint can be the last one."""
    ready = resource.endpoints[endpoint_id].ready(now)
    return _drain(resource, endpoint_id, now, force=force or not ready, **more)


def report_of_any_host(*arguments: Any, host: str | None = None, **more: Any) -> Resource:
    """The host in the source is not compared with the endpoint's."""
    return _report(*arguments, **more)


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


def change_and_keep_words(resource: Resource, endpoint_id: str, now: int, **options: Any) -> Resource:
    """The words of removed observers stay."""
    before, after = resource.endpoints[endpoint_id], _change(resource, endpoint_id, now, **options)
    e = after.endpoints[endpoint_id]
    return after.having(endpoint_id, replace(e, words={**before.words, **e.words}))


_restore = rules.restore


def restore_with_old_drains(current: Resource, backup: Resource, now: int, **more: Any) -> Resource:
    """What operators drained is that of the backup."""
    endpoints = {
        i: replace(e, drained_at=backup.endpoints[i].drained_at if i in backup.endpoints else 0)
        for i, e in current.endpoints.items()
    }
    return _restore(replace(current, endpoints=endpoints), backup, now, **more)


def restore_and_follow_nobody(*arguments: Any, **more: Any) -> Resource:
    """The holder of the backup keeps the lock, whatever its observers say."""
    original, rules._follow = rules._follow, lambda resource, endpoint_id, now: resource
    try:
        return _restore(*arguments, **more)
    finally:
        rules._follow = original


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


def due_unless_claimed(resource: Resource, endpoint_id: str, refresh_ms: int) -> int:
    """A claim never ends: what its sender did not send before it died is not sent by another one."""
    return NEVER if resource.endpoints[endpoint_id].claim is not None else due(resource, endpoint_id, refresh_ms)


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


# Wiring, batches and limits


def sender_without_https(**options: Any) -> Sender:
    """The functions' sender is made without `RequireHttps`."""
    return Sender(**{**options, "require_https": False})


def sender_without_ca_bundle(**options: Any) -> Sender:
    """The functions' sender is made without `CaBundle`."""
    return Sender(**{**options, "ca_bundle": ""})


def sender_without_networks(**options: Any) -> Sender:
    """The functions' sender is made without `AllowedNetworks`."""
    return Sender(**{**options, "allowed_networks": ()})


_new_reconciler = Reconciler.__init__


def handover_from_refresh(self: Reconciler, *arguments: Any) -> None:
    """The new holder waits for `RefreshInterval`."""
    _new_reconciler(self, *arguments)
    self._handover_ms = arguments[4].refresh_ms


def damping_off(self: Reconciler, *arguments: Any) -> None:
    """`FlapDamping` is off, whatever the parameter says."""
    _new_reconciler(self, *arguments)
    self._damping = False


def refresh_in_seconds(self: WebhookFactory) -> Config:
    """`RefreshInterval` counts as if it were in seconds."""
    return Config(refresh_every=self._settings.refresh_ms // 1000)


def no_limit(self: Commands) -> None:
    """`MaxEndpoints` is not enforced."""


def wake_up_for_nothing(self: Reconciler, resource_id: str, due_at: int, message_id: str, seconds_left: Any) -> None:
    """A wake-up does not say what it was for."""
    self.run(resource_id, Trigger(Cause("wake_up", message_id)), seconds_left)


class _FirstPages:
    """A client of DynamoDB whose lists end after a page."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def get_paginator(self, name: str) -> Any:
        paginator = self._client.get_paginator(name)
        return SimpleNamespace(paginate=lambda **asked: islice(paginator.paginate(**asked), 1))


def _of_first_pages(table: Any) -> Any:
    shortened = copy(table)
    shortened._dynamodb = _FirstPages(table._dynamodb)
    return shortened


_due_in, _scan, _count = Locks.due_in, Registrations.scan, Registrations.count


def due_in_first_page(self: Locks, shard: int, until: int) -> Iterator[tuple[str, int]]:
    """The sweep reads only the first page of a shard."""
    return _due_in(_of_first_pages(self), shard, until)


def scan_first_page(self: Registrations) -> Iterator[Registration]:
    """A key rotation reads only the first page of the table."""
    return _scan(_of_first_pages(self))


def count_first_page(self: Registrations) -> int:
    """The limit counts only the first page of the table."""
    return _count(_of_first_pages(self))


_two_threads = ThreadPoolExecutor(2)


def in_one_of_two_threads(handle: Callable[[SQSRecord], None], record: SQSRecord) -> Future[None]:
    """The records of a batch share two threads."""
    return _two_threads.submit(handle, record)


_side_by_side = sqs_batch.side_by_side


def every_record_succeeds(event: Any, context: LambdaContext, handle: Any, retry_later: Any) -> Any:
    """A record that fails counts as handled."""

    def silently(record: SQSRecord) -> None:
        try:
            handle(record)
        except Exception:
            retry_later(record.receipt_handle, 1)

    return _side_by_side(event, context, silently, retry_later)


def the_first_comes_back(event: Any, context: LambdaContext, handle: Any, retry_later: Any) -> Any:
    """Not the record that failed is put off, but the first one of the batch."""
    first = event["Records"][0]["receiptHandle"]
    return _side_by_side(event, context, handle, lambda _, receives: retry_later(first, receives))


_retry_later = Queues.retry_later


def retry_in_the_other_queue(self: Queues, queue: str, receipt_handle: str, receives: int) -> None:
    """A failed message is put off in the queue that it did not come from."""
    _retry_later(self, "wake_up" if queue == "status" else "status", receipt_handle, receives)


def retry_in_its_time(self: Reconciler, queue: str, receipt_handle: str, receives: int) -> None:
    """A failed message comes back after its visibility timeout."""


def reject_into_the_status_queue(self: Queues, code: str, message: str, event: object, now: int) -> None:
    """A rejected event goes back into the status queue."""
    body = queues.rejected_message(code, message, event, now)
    self._sqs.send_message(QueueUrl=self._status_url, MessageBody=body)


_wake_up_message = queues.wake_up_message


def late_wake_up_message(resource_id: str, due_at: int, now: int) -> dict[str, Any]:
    """A wake-up comes up to a second late."""
    message = _wake_up_message(resource_id, due_at, now)
    return {**message, "DelaySeconds": message["DelaySeconds"] + 1}


_wake_up_all = Queues.wake_up_all


def every_wake_up_is_taken(self: Queues, *arguments: Any) -> tuple[int, int]:
    """What SQS did not take of a sweep's messages is not counted."""
    return _wake_up_all(self, *arguments)[0], 0


_commit_command = Commands._commit


def command_without_wake_up(self: Commands, *arguments: Any) -> Committed:
    """A command puts no wake-up message: its webhooks wait for the sweep."""
    self._queues = _NoQueues()  # type: ignore[assignment]
    return _commit_command(self, *arguments)


class _NoQueues:
    def wake_up(self, *_: Any) -> None:
        """Puts nothing."""


_new_sends = Sends.__init__


def sends_of_a_record(self: Sends, free: Semaphore) -> None:
    """Each record of a batch may have as many attempts under way as the process."""
    _new_sends(self, Semaphore(MAX_SENDS))


_started = Sends._started


def started_without_a_look(self: Sends, attempt: Callable[[], Outcome]) -> bool:
    """An attempt whose thread cannot start counts as under way."""
    _started(self, attempt)
    return True


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
        History(0, promise=7),
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
        protocol="`ACTIVATED` of a host with a lease sets",
    ),
    Mutant(
        "verdict: a word each",
        "each observer has a word of its own",
        "the last one to report decides",
        History(1, promise=7, family="observers"),
        (Attribute(Endpoint, "verdict", verdict_of_the_last),),
        protocol="Each observer has a word of its own",
    ),
    Mutant(
        "verdict: undecided",
        "with `all`, an endpoint is undecided until each observer has reported",
        "whoever has not reported is left out",
        History(1, promise=6, family="observers"),
        (Attribute(Endpoint, "verdict", verdict_of_those_who_reported),),
        protocol="an endpoint whose observers have not all reported is",
    ),
    Mutant(
        "verdict: STANDBY and FAILING",
        "STANDBY and FAILING count before the other observers have reported",
        "nothing counts before all have reported",
        History(5, promise=6, family="observers"),
        (Attribute(Endpoint, "verdict", verdict_when_all_have_reported),),
        protocol="`STANDBY` and `FAILING` count without the others",
    ),
    Mutant(
        "verdict: any",
        "with `any`, an observer that has not reported does not count",
        "the endpoint is undecided until it has reported",
        History(12, promise=7, family="observers"),
        (Attribute(Endpoint, "verdict", verdict_waits_for_any),),
        protocol="Whoever has not reported does not count",
    ),
    Mutant(
        "verdict: drained",
        "a drain is a veto above all words",
        "a drain is a report of the host",
        History(1, promise=6, family="observers"),
        (Function(rules.drain, drain_as_a_report),),
        protocol="If the endpoint is drained, `STANDBY` in place of `ACTIVATED`",
    ),
    Mutant(
        "verdict: undecided and drained",
        "a drain counts for an undecided endpoint, too",
        "it does not",
        History(119, promise=6, family="observers"),
        (Attribute(Endpoint, "verdict", verdict_undecided_and_drained),),
        protocol="in place of undecided [undecided as before",
    ),
    Mutant(
        "drain: the last",
        "without `force`, an undecided holder is not drained while no other endpoint is ready",
        "a ready endpoint is not",
        History(43, promise=7, family="observers"),
        (Function(rules.drain, drain_of_a_ready_one),),
        protocol="Without `force` it is also refused for a ready endpoint",
    ),
    Mutant(
        "restore: drains",
        "what is drained is that of the item in force",
        "that of the backup",
        History(6, promise=6, family="restores"),
        (Function(rules.restore, restore_with_old_drains),),
        protocol="`drained_at` comes from the item in force",
    ),
    Mutant(
        "restore: follow",
        "every endpoint follows its observers and its drain",
        "nobody follows",
        History(6, promise=6, family="restores"),
        (Function(rules.restore, restore_and_follow_nobody),),
        protocol="Then every endpoint follows",
    ),
    Mutant(
        "report: host of the source",
        "a source that names a host reports for that host only",
        "it reports for every host",
        Node("tests/simulation/test_simulation.py::test_a_host_cannot_report_for_another_one"),
        (Function(rules.report, report_of_any_host),),
        protocol="It is also rejected when its source names another host",
    ),
    Mutant(
        "elect: a lease that counts",
        "with `any`, a lease that ended takes the lock only if no other observer says ACTIVATED",
        "every lease that ended takes the lock",
        History(2, promise=7, family="observers"),
        (Attribute(Endpoint, "verdict", verdict_ends_with_the_lease),),
        protocol="With `any`, the words of the others can be enough",
    ),
    Mutant(
        "change: words",
        "the words of removed observers are removed",
        "they stay",
        History(1, promise=6, family="observers"),
        (Function(rules.change, change_and_keep_words),),
        protocol="The words of observers that are removed are removed",
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
        History(8, promise=4),
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
        protocol="After an unfreeze, the holder follows",
    ),
    Mutant(
        "change: an ended lease",
        "a lease that has ended stays ended",
        "every changed lease counts from now",
        History(432, promise=6),
        (Function(rules.change, change_every_lease),),
        protocol="Otherwise it does not change: a lease",
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
        History(652, promise=3),
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
        History(25, promise=3),
        (Attribute(deliveries, "CLAIM_MS", 0),),
    ),
    Mutant(
        "simulator: an invocation that dies between commit and send",
        "a claim ends, and then another sender sends what it was for",
        "it never ends",
        History(0, promise=3),
        (Function(deliveries.due, due_unless_claimed),),
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

_PARAMETER = "tests/functions/test_wiring.py::test_a_parameter_changes_what_leaves_or_is_refused"
_BATCH = "tests/functions/test_batches.py::test_"
_FAILED = f"{_BATCH}only_the_message_that_fails_comes_back_from_its_queue_and_soon"

WIRING = (
    Mutant(
        "wiring: RequireHttps",
        "with RequireHttps nothing is sent over http",
        "the functions' sender is made without it",
        Node(f"{_PARAMETER}[RequireHttps: true, attempt]"),
        (Function(Sender, sender_without_https),),
    ),
    Mutant(
        "wiring: CaBundle",
        "receivers with a certificate by an authority of CaBundle are trusted",
        "the functions' sender is made without it",
        Node(f"{_PARAMETER}[CaBundle: the path of the authority's certificate, attempt]"),
        (Function(Sender, sender_without_ca_bundle),),
    ),
    Mutant(
        "wiring: AllowedNetworks",
        "private receivers in AllowedNetworks are called",
        "the functions' sender is made without it",
        Node(f"{_PARAMETER}[AllowedNetworks: 10.0.0.0/8,127.0.0.0/8, attempt]"),
        (Function(Sender, sender_without_networks),),
    ),
    Mutant(
        "wiring: HandoverTimeout",
        "a new holder waits for HandoverTimeout at most",
        "it waits for RefreshInterval",
        Node(f"{_PARAMETER}[HandoverTimeout: 250ms, until_the_new_holder_is_active]"),
        (Attribute(Reconciler, "__init__", handover_from_refresh),),
    ),
    Mutant(
        "wiring: RefreshInterval",
        "an ACTIVATED is sent again after RefreshInterval",
        "it is taken for seconds and is milliseconds",
        Node(f"{_PARAMETER}[RefreshInterval: 1h30m, until_the_refresh]"),
        (Attribute(WebhookFactory, "config", refresh_in_seconds),),
    ),
    Mutant(
        "wiring: FlapDamping",
        "an endpoint that lost the lock three times is passed over",
        "it is elected, whatever the parameter says",
        Node(f"{_PARAMETER}[FlapDamping: true, after_three_losses]"),
        (Attribute(Reconciler, "__init__", damping_off),),
    ),
    Mutant(
        "wiring: MaxEndpoints",
        "MaxEndpoints endpoints may be registered",
        "the API does not look at it",
        Node(f"{_PARAMETER}[MaxEndpoints: 2, three_registrations]"),
        (Attribute(Commands, "_check_limit", no_limit),),
    ),
    Mutant(
        "wiring: count of endpoints",
        "every endpoint counts for MaxEndpoints",
        "those of the table's first page",
        Node("tests/link/store/test_endpoints.py::test_scan_and_count_go_on_to_the_second_page"),
        (Attribute(Registrations, "count", count_first_page),),
    ),
    Mutant(
        "wake-up: what it is for",
        "a wake-up message is judged by the due_at that it carries",
        "the invocation does not learn it",
        Node(
            f"{_BATCH}a_wake_up_is_judged_by_the_due_at_that_it_carries"
            "[the due_at of the item: it is the message that came early, and is put again]"
        ),
        (Attribute(Reconciler, "wake_up", wake_up_for_nothing),),
    ),
    Mutant(
        "wake-up: its delay",
        "a wake-up comes up to a second early and never late",
        "its delay is rounded up",
        Node(f"{_BATCH}a_wake_up_is_judged_by_the_due_at_that_it_carries"),
        (Function(queues.wake_up_message, late_wake_up_message),),
    ),
    Mutant(
        "wake-up: after a command",
        "a command puts a wake-up message",
        "its webhooks wait for the sweep",
        Node("tests/functions/endpoints_api/test_app.py::test_failover"),
        (Attribute(Commands, "_commit", command_without_wake_up),),
    ),
    Mutant(
        "sweep: a shard's second page",
        "the sweep reads every page of a shard",
        "only the first one",
        Node("tests/link/test_sweep.py::test_the_second_page_of_a_shard_is_swept"),
        (Attribute(Locks, "due_in", due_in_first_page),),
    ),
    Mutant(
        "sweep: what SQS did not take",
        "a sweep fails if SQS did not take all of its messages",
        "it does not look",
        Node("tests/link/store/test_queues.py::test_many_wake_ups_go_ten_in_a_call_and_failures_are_counted"),
        (Attribute(Queues, "wake_up_all", every_wake_up_is_taken),),
    ),
    Mutant(
        "batch: a thread for each record",
        "the records of a batch are handled side by side",
        "ten of them share two threads",
        Node("tests/link/test_sqs_batch.py::test_ten_records_are_handled_at_the_same_time"),
        (Function(sqs_batch._in_a_thread, in_one_of_two_threads),),
    ),
    Mutant(
        "batch: a record that fails",
        "a record that fails is returned",
        "it counts as handled",
        Node(f"{_FAILED}[endpoint_status-reports-status]"),
        (Function(sqs_batch.side_by_side, every_record_succeeds),),
    ),
    Mutant(
        "batch: which record is put off",
        "the record that fails comes back soon",
        "the first one of the batch does",
        Node(f"{_FAILED}[endpoint_status-reports-status]"),
        (Function(sqs_batch.side_by_side, the_first_comes_back),),
    ),
    Mutant(
        "batch: in which queue",
        "a record that fails is put off in its own queue",
        "in the other one",
        Node(f"{_FAILED}[reconcile-wake_ups-wake-up]"),
        (Attribute(Queues, "retry_later", retry_in_the_other_queue),),
    ),
    Mutant(
        "batch: when it comes back",
        "a record that fails comes back after a second",
        "after its visibility timeout of three minutes",
        Node(f"{_FAILED}[reconcile-wake_ups-wake-up]"),
        (Attribute(Reconciler, "retry_later", retry_in_its_time),),
    ),
    Mutant(
        "queues: rejected events",
        "a rejected event goes to its own queue",
        "it goes back into the status queue",
        Node("tests/functions/test_wiring.py::test_each_table_and_queue_is_used_for_what_it_is"),
        (Attribute(Queues, "reject", reject_into_the_status_queue),),
    ),
    Mutant(
        "sends: the bound of a process",
        "a process has a bounded number of attempts under way",
        "each of its records has",
        Node("tests/link/test_sends.py::test_a_thousand_due_deliveries_stay_within_the_bound_and_are_all_delivered"),
        (Attribute(Sends, "__init__", sends_of_a_record),),
    ),
    Mutant(
        "sends: a thread that cannot start",
        "an attempt whose thread cannot start is unsent",
        "it counts as under way, and is waited for",
        Node("tests/link/test_reconcile.py::test_an_attempt_whose_thread_cannot_start_is_unsent_at_once"),
        (Attribute(Sends, "_started", started_without_a_look),),
    ),
    Mutant(
        "key rotation: second page",
        "a key rotation renews every ciphertext",
        "those of the table's first page",
        Node("tests/link/store/test_endpoints.py::test_scan_and_count_go_on_to_the_second_page"),
        (Attribute(Registrations, "scan", scan_first_page),),
    ),
    Mutant(
        "key rotation: its time",
        "a key rotation ends before the platform ends it, and says what is left",
        "it uses up all of its time",
        Node(
            "tests/link/test_key_rotation.py::test_a_run_that_is_cut_off_says_what_is_left_and_the_next_one_starts_there"
        ),
        (Attribute(key_rotation, "SPARE_SECONDS", 0),),
    ),
    Mutant(
        "commit: its time",
        "a call of the API gives up a commit after 10 s, before API Gateway gives up the call",
        "after a minute",
        Node("tests/link/store/test_locks.py::test_pauses_double_up_to_a_fifth_of_a_second_and_end_after_ten"),
        (Attribute(locks, "COMMIT_SECONDS", 60),),
    ),
)
"""How the functions are wired to the template, what a batch does with each record, and what is limited."""

CATALOGUE = PROMISES + RULES + SIMULATOR + WIRING
