"""The loop, and the one way anything is sent: read, one pure step, one conditional write, send what was claimed, again.

Every trigger ends in `Reconciler.run`; see "reconcile(trigger)" in docs/protocol.md.
AWS calls: 1 GetItem, then per step 1 PutItem (1 TransactWriteItems if holder or status changed), per
delivery 1 GetItem and 1 Decrypt (both cached), at most 1 SendMessage per step.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from link import reports
from link.chance import Chance
from link.clock import Clock
from link.election import rules
from link.election.deliveries import Begun, Delivery, Outcome, begun, outcome
from link.election.result import Result, ResultKind, next_step
from link.election.state import Reason, Resource, Status
from link.election.wake_up import Claiming, Then, next_due, next_move, settle
from link.errors import Rejected
from link.plugins.seam import Plugins
from link.reports import Report
from link.settings import Settings
from link.store.aws import FAULTS, error_code
from link.store.endpoints import Registrations
from link.store.locks import Cause, Committed, Locks, Step
from link.store.queues import Queues
from link.telemetry import MetricUnit, logger, metric

CLAIM_SECONDS_LEFT = 12
"""An attempt with its reads and the commit of its outcome takes up to this much of the invocation."""
SIDE_BY_SIDE = 32
"""Reports of a `Host Report` at a time."""
MAX_SENDS = 128
"""Attempts at a time in one process. More would not get enough of the function's CPU within their 5 s, and Lambda gives
a process 1,024 threads and as many file descriptors: an attempt can need two threads and a connection."""


class Sends:
    """The deliveries under way in one invocation, each in a thread of its own. Each ends by itself.

    `free` counts how many more the process may have under way; the records of a batch share it.
    """

    def __init__(self, free: threading.Semaphore) -> None:
        self._free = free
        self._arrived: queue.SimpleQueue[Begun | Outcome] = queue.SimpleQueue()
        self.under_way = 0

    def start(self, attempt: Callable[[], Outcome], unsent: Callable[[], Outcome]) -> None:
        """Runs `attempt` in a thread, or `unsent` in this one if there is none for it. Neither may raise."""
        if not self._started(attempt):
            self._arrived.put(unsent())
        self.under_way += 1

    def _started(self, attempt: Callable[[], Outcome]) -> bool:
        if not self._free.acquire(blocking=False):
            return False

        def run() -> None:
            outcome = attempt()
            self._free.release()
            self._arrived.put(outcome)

        try:
            threading.Thread(target=run, daemon=True).start()
        except RuntimeError:
            # The operating system has no thread left.
            self._free.release()
            return False
        return True

    def begin(self, attempt: Begun) -> None:
        """Takes note that an attempt begins."""
        self._arrived.put(attempt)

    def wait(self, seconds: float) -> list[Begun | Outcome]:
        """The begins and outcomes that have arrived; waits for the first one, at most `seconds`."""
        arrived = []
        try:
            arrived.append(self._arrived.get(timeout=max(0.0, seconds)))
            while True:
                arrived.append(self._arrived.get_nowait())
        except queue.Empty:
            self.under_way -= sum(isinstance(one, Outcome) for one in arrived)
            return arrived


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why an invocation looks at a resource: a report, or a wake-up that carries a due_at."""

    cause: Cause
    report: Report | None = None
    woken_for: int | None = None


class Reconciler:
    """Brings resources and their receivers up to date."""

    def __init__(
        self,
        locks: Locks,
        registrations: Registrations,
        queues: Queues,
        plugins: Plugins,
        settings: Settings,
        clock: Clock,
        chance: Chance,
        sends: Callable[[], Sends],
    ) -> None:
        self._locks = locks
        self._registrations = registrations
        self._queues = queues
        self._plugins = plugins
        self._handover_ms = settings.handover_ms
        self._damping = settings.flap_damping
        self._require_host_identity = settings.require_host_identity
        self._clock = clock
        self._chance = chance
        self._sends = sends

    def take(self, body: str, message_id: str, seconds_left: Callable[[], float]) -> None:
        """Applies the reports in a message; one that can never be applied goes to the rejected-events queue alone."""
        event: object = body
        try:
            event = reports.decode(body)
            events = reports.split(event, require_host_identity=self._require_host_identity)
        except Rejected as rejected:
            self._reject(rejected, event, message_id)
            return
        if len(events) == 1:
            self._take_one(events[0], message_id, seconds_left)
        else:
            self._take_all(events, message_id, seconds_left)

    def _take_one(self, event: Any, message_id: str, seconds_left: Callable[[], float]) -> None:
        try:
            self.receive(reports.parse(event, require_host_identity=self._require_host_identity), seconds_left)
        except Rejected as rejected:
            self._reject(rejected, event, message_id)

    def _take_all(self, events: list[Any], message_id: str, seconds_left: Callable[[], float]) -> None:
        """Applies the reports of a host. Those that a fault met, or that there is no time for, become own messages.

        If the message itself came back, what could never be applied would be rejected again each time.
        """

        def failed(event: Any) -> bool:
            if seconds_left() < CLAIM_SECONDS_LEFT:
                return True
            try:
                self._take_one(event, message_id, seconds_left)
            except Exception as error:
                logger.warning("report.failed", message_id=message_id, reason=error_code(error))
                metric("FailedRecords")
                return True
            return False

        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            left = [event for event, again in zip(events, pool.map(failed, events), strict=True) if again]
        if left:
            self._queues.put_back(left)

    def _reject(self, rejected: Rejected, event: object, message_id: str) -> None:
        self._queues.reject(rejected.code, str(rejected), event, self._clock.now())
        logger.warning("event.rejected", reason=rejected.code, message_id=message_id)
        metric("RejectedEvents")

    def retry_later(self, queue: Literal["status", "wake_up"], receipt_handle: str, receives: int) -> None:
        """Has a failed message come back soon. If this fails, too, it comes back after its visibility timeout."""
        try:
            self._queues.retry_later(queue, receipt_handle, receives)
        except FAULTS as error:
            logger.warning("message.not_hurried", reason=error_code(error))

    def receive(self, report: Report, seconds_left: Callable[[], float]) -> None:
        """Applies a host's report and sends what follows; raises Rejected if it can never be applied."""
        resource_id = report.resource_id or self._resource_of(report.endpoint_id)
        trigger = Trigger(Cause("report", report.event_id), report=report)
        try:
            self.run(resource_id, trigger, seconds_left)
        except Rejected as rejected:
            if (
                rejected.code == "unknown_endpoint"
                and report.resource_id
                and self._registrations.get(report.endpoint_id)
            ):
                raise Rejected(
                    "resource_mismatch", f"{report.endpoint_id} is registered for another resource than the event says"
                ) from None
            raise

    def _resource_of(self, endpoint_id: str) -> str:
        registration = self._registrations.get(endpoint_id)
        if registration is None:
            raise Rejected("unknown_endpoint", f"{endpoint_id} is not registered: register it first")
        return registration.resource_id

    def wake_up(self, resource_id: str, due_at: int, message_id: str, seconds_left: Callable[[], float]) -> None:
        """Does what a wake-up message is for."""
        self.run(resource_id, Trigger(Cause("wake_up", message_id), woken_for=due_at), seconds_left)

    def run(self, resource_id: str, trigger: Trigger, seconds_left: Callable[[], float]) -> None:
        """Steps until no attempt is under way and nothing is due within a second."""
        sends = self._sends()
        try:
            resource = self._run(resource_id, trigger, seconds_left, sends)
        finally:
            # Also on errors: when we return, Lambda stops the process; a thread would send when it resumes.
            while sends.under_way and seconds_left() > 0:
                sends.wait(seconds_left())
        if rules.lacks_holder(resource):
            metric("ResourcesWithoutHolder")
        if resource.frozen:
            metric("ResourcesFrozen")
        if on_hold := sum(rules.on_hold(e, self._clock.now()) for e in resource.endpoints.values()):
            metric("EndpointsOnHold", on_hold)
        pending_since = [e.pending_since for e in resource.endpoints.values() if e.pending]
        if pending_since:
            metric("UndeliveredSeconds", (self._clock.now() - min(pending_since)) / 1000, unit=MetricUnit.Seconds)

    def _run(self, resource_id: str, trigger: Trigger, seconds_left: Callable[[], float], sends: Sends) -> Resource:
        report, said = trigger.report, list[Begun | Outcome]()
        resource: Resource | None = None
        responsible = trigger.woken_for is not None
        while True:
            may_claim = seconds_left() >= CLAIM_SECONDS_LEFT
            committed = self._step(resource_id, trigger, report, said, may_claim, resource)
            report, said, resource = None, [], committed.after
            for delivery in committed.claimed:
                unsent = Result(ResultKind.TOO_LATE, "no_thread")
                sends.start(partial(self._attempt, delivery, sends.begin), partial(self._ended, delivery, unsent))
            needs_wake_up = committed.needs_wake_up
            while not any(isinstance(one, Outcome) for one in said):
                now = self._clock.now()
                move = next_move(
                    due=next_due(self._with(resource, said, now), now, self._refresh_ms(resource)),
                    due_at=resource.due_at,
                    now=now,
                    needs_wake_up=needs_wake_up,
                    woken_for=trigger.woken_for,
                    sending=sends.under_way > 0,
                    may_claim=may_claim,
                    responsible=responsible,
                    seconds_left=seconds_left(),
                )
                responsible, needs_wake_up = move.responsible, False
                if move.wake_up and resource.due_at is not None:
                    self._queues.wake_up(resource_id, resource.due_at, now)
                if move.then is Then.STOP:
                    return resource
                if move.then is Then.SLEEP:
                    self._clock.pause(move.seconds)
                    break
                # The begin of an attempt needs no write of its own: the next write has it.
                if not (arrived := sends.wait(move.seconds)):
                    break
                said += arrived

    def _step(
        self,
        resource_id: str,
        trigger: Trigger,
        report: Report | None,
        said: list[Begun | Outcome],
        may_claim: bool,
        known: Resource | None,
    ) -> Committed:
        """Steps 1-3 of the protocol."""

        def step(resource: Resource, nonce: str) -> Step:
            now = self._clock.now()
            if report is not None:
                self._check_plugin(resource, report)
                resource = rules.report(
                    resource,
                    report.endpoint_id,
                    report.status,
                    report.at,
                    now,
                    observer=report.observer,
                    host=report.host,
                )
            resource = self._with(resource, said, now)
            claiming = Claiming(nonce, self._chance.jitter(), self._handover_ms) if may_claim else None
            return Step(
                *settle(
                    resource,
                    now,
                    refresh_ms=self._refresh_ms(resource),
                    damping=self._damping,
                    carried=trigger.woken_for,
                    claiming=claiming,
                )
            )

        committed = self._locks.update(resource_id, step, trigger.cause, known=known)
        if report is not None:
            e = committed.before.endpoints.get(report.endpoint_id)
            if e is not None and not rules.supersedes(e.words.get(report.observer), report.status, report.at):
                logger.info(
                    "report.ignored", resource_id=resource_id, endpoint_id=report.endpoint_id, reason="older_than_last"
                )
                metric("ReportsIgnored")
        return committed

    def _with(self, resource: Resource, said: list[Begun | Outcome], now: int) -> Resource:
        """The resource after these begins and outcomes."""
        for one in said:
            if isinstance(one, Begun):
                resource = begun(resource, one, self._handover_ms)
            else:
                resource = outcome(resource, one, now, self._chance.jitter())
        return resource

    def _check_plugin(self, resource: Resource, report: Report) -> None:
        plugin = self._plugins.name(resource.plugin)
        if report.plugin not in (None, plugin) and report.endpoint_id in resource.endpoints:
            raise Rejected("plugin_mismatch", f"{report.endpoint_id} is registered with plugin {plugin!r}")

    def _attempt(self, d: Delivery, tell: Callable[[Begun], None]) -> Outcome:
        """Makes one delivery. Any fault in it is a failed attempt with its reason: nothing is raised."""

        def begin() -> None:
            if d.status is Status.STANDBY:
                tell(Begun(d.endpoint_id, d.token, self._clock.now()))

        try:
            result = self._send(replace(d, begin=begin))
        except Exception as error:
            # Without its text: a library may have put a header's value there.
            where = traceback.extract_tb(error.__traceback__)[-1]
            logger.error(
                "webhook.crashed",
                resource_id=d.resource_id,
                endpoint_id=d.endpoint_id,
                reason=type(error).__name__,
                where=f"{where.filename}:{where.lineno}",
            )
            result = Result(ResultKind.UNREADABLE, f"crashed_{type(error).__name__}")
        if result.kind is not ResultKind.TOO_LATE:
            # Repeats the begin, or is the first one if the plugin did not call it.
            begin()
        return self._ended(d, result)

    def _ended(self, d: Delivery, result: Result) -> Outcome:
        """The outcome of a delivery, logged and counted."""
        logger.info(
            "webhook.attempted",
            resource_id=d.resource_id,
            endpoint_id=d.endpoint_id,
            status=d.status,
            epoch=d.epoch,
            sequence=d.sequence,
            reason=d.reason,
            attempt=d.attempt,
            result=result.kind,
            result_reason=result.reason,
            status_code=result.status_code,
            next_step=next_step(result.kind, result.reason),
        )
        metric("Webhooks", result=result.kind, reason=result.category)
        if result.kind is ResultKind.REFUSED:
            metric("ReceiversRefused")
        return Outcome(d.endpoint_id, d.token, d.sequence, d.status, result)

    def _send(self, d: Delivery) -> Result:
        try:
            registration = self._registrations.at_revision(d.endpoint_id, d.revision)
        except FAULTS as error:
            return Result(ResultKind.UNREADABLE, f"registration_unreadable_{error_code(error)}")
        # Registration and entry change in one transaction, so an older registration was edited by hand.
        if registration is None or registration.revision < d.revision:
            return Result(ResultKind.UNREADABLE, "registration_missing")
        if registration.revision > d.revision:
            return Result(ResultKind.TOO_LATE, "registration_changed")
        plugin = self._plugins[registration.plugin].create(registration)
        if d.status is Status.STANDBY:
            result = plugin.deactivate(d)
        else:
            result = plugin.ensure(d) if d.reason == Reason.REFRESH else plugin.activate(d)
        if result.kind is ResultKind.UNREADABLE:
            # A key rotation may have replaced the ciphertext since the registration was cached.
            self._registrations.forget(d.endpoint_id)
        return result

    def _refresh_ms(self, resource: Resource) -> int:
        return self._plugins[self._plugins.name(resource.plugin)].config().refresh_every
