"""The one way anything is sent: read, one pure step, one conditional write, send what was claimed, again.

Every trigger ends in `Reconciler.run`; see "reconcile(trigger)" in docs/protocol.md.
AWS calls: 1 GetItem, then per step 1 PutItem (1 TransactWriteItems if holder or status changed), per
delivery 1 GetItem and 1 Decrypt (both remembered), at most 1 SendMessage per step.
"""

from __future__ import annotations

import queue
import random
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from link import election
from link.clock import Clock
from link.delivery import error_code
from link.election import Delivery, Outcome
from link.endpoint import NEVER, NEXT_STEPS, Kind, Reason, Resource, Result, Status
from link.errors import Rejected
from link.intake import Report
from link.lock import Cause, Committed, Locks, Step
from link.plugin import factory
from link.queues import Queues
from link.registry import Registry
from link.settings import Settings
from link.telemetry import MetricUnit, logger, metric
from link.webhook import PLUGIN

CLAIM_SECONDS_LEFT = 12
"""An attempt with its reads and its outcome's commit takes up to this much of the invocation."""
WAIT_IN_PLACE_MS = 1_000
"""SQS delays have whole seconds: whoever is woken up to one early waits for the rest."""


class Sends:
    """The deliveries under way in one invocation, each in a thread of its own. Each ends by itself."""

    def __init__(self) -> None:
        self._arrived: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.under_way = 0

    def start(self, attempt: Callable[[], Outcome]) -> None:
        """Runs `attempt`, which must not raise."""
        self.under_way += 1
        threading.Thread(target=lambda: self._arrived.put(attempt()), daemon=True).start()

    def wait(self, seconds: float) -> list[Outcome]:
        """The outcomes that have arrived; waits for the first one, at most `seconds`."""
        outcomes = []
        try:
            outcomes.append(self._arrived.get(timeout=max(0.0, seconds)))
            while True:
                outcomes.append(self._arrived.get_nowait())
        except queue.Empty:
            self.under_way -= len(outcomes)
            return outcomes


@dataclass(frozen=True, slots=True)
class Trigger:
    """What made an invocation look at a resource: a report, or a wake-up carrying a due_at, or neither."""

    cause: Cause
    report: Report | None = None
    woken_for: int | None = None


class Reconciler:
    """Brings resources and their receivers up to date."""

    def __init__(
        self,
        locks: Locks,
        registry: Registry,
        queues: Queues,
        settings: Settings,
        clock: Clock,
        sends: Callable[[], Sends] = Sends,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._locks = locks
        self._registry = registry
        self._queues = queues
        self._handover_ms = settings.handover_ms
        self._clock = clock
        self._sends = sends
        self._jitter = jitter

    def receive(self, report: Report, seconds_left: Callable[[], float]) -> None:
        """Applies a host's report and sends what follows; raises Rejected if it can never be applied."""
        if report.plugin not in (None, PLUGIN):
            raise Rejected("plugin_mismatch", f"{report.endpoint_id} is registered with plugin {PLUGIN!r}")
        resource_id = report.resource_id or self._resource_of(report.endpoint_id)
        trigger = Trigger(Cause("report", report.event_id), report=report)
        try:
            self.run(resource_id, trigger, seconds_left)
        except Rejected as rejected:
            if rejected.code == "unknown_endpoint" and report.resource_id and self._registry.get(report.endpoint_id):
                raise Rejected(
                    "resource_mismatch", f"{report.endpoint_id} is registered for another resource than the event says"
                ) from None
            raise

    def _resource_of(self, endpoint_id: str) -> str:
        row = self._registry.get(endpoint_id)
        if row is None:
            raise Rejected("unknown_endpoint", f"{endpoint_id} is not registered: register it first")
        return row.resource_id

    def run(self, resource_id: str, trigger: Trigger, seconds_left: Callable[[], float]) -> None:
        """Steps until nothing is under way and nothing is due within a second."""
        sends = self._sends()
        try:
            resource = self._run(resource_id, trigger, seconds_left, sends)
        finally:
            # After a fault: a frozen process must not keep a thread that would write when it thaws.
            while sends.under_way and seconds_left() > 0:
                sends.wait(seconds_left())
        alive = [e for e in resource.endpoints.values() if not e.deleting]
        if resource.holder is None and any(e.reported for e in alive):
            metric("ResourcesWithoutHolder")
        if resource.frozen:
            metric("ResourcesFrozen")
        owed_since = [e.owed_since for e in resource.endpoints.values() if e.owed]
        if owed_since:
            metric("UndeliveredSeconds", (self._clock.now() - min(owed_since)) / 1000, unit=MetricUnit.Seconds)

    def _run(self, resource_id: str, trigger: Trigger, seconds_left: Callable[[], float], sends: Sends) -> Resource:
        outcomes: list[Outcome] = []
        known: Resource | None = None
        report = trigger.report
        stays = trigger.woken_for is not None
        while True:
            may_claim = seconds_left() >= CLAIM_SECONDS_LEFT
            committed, token = self._step(resource_id, trigger, report, outcomes, may_claim, known)
            report, known = None, committed.after
            for delivery in election.deliveries(known, token) if token else ():
                sends.start(lambda delivery=delivery: self._attempt(delivery))  # type: ignore[misc]
            now = self._clock.now()
            if committed.owes_wake_up and known.due_at is not None:
                waits = trigger.woken_for == known.due_at and known.due_at - now <= WAIT_IN_PLACE_MS
                if not (waits and may_claim):
                    self._wake_up(resource_id, known.due_at, now)
                stays = True
            due = election.next_due(known, self._refresh_ms())
            if sends.under_way:
                # An attempt ends by itself: when the time is over there is nothing to do but to wait for it.
                until_due = (due - now) / 1000 if may_claim and due != NEVER else max(1.0, seconds_left())
                outcomes = sends.wait(until_due)
            elif stays and may_claim and due - now <= WAIT_IN_PLACE_MS:
                self._clock.pause(max(0, due - now) / 1000)
                outcomes = []
            else:
                return known

    def _step(
        self,
        resource_id: str,
        trigger: Trigger,
        report: Report | None,
        outcomes: list[Outcome],
        may_claim: bool,
        known: Resource | None,
    ) -> tuple[Committed, str]:
        """Steps 1-3 of the protocol; returns with the commit the token of the claims in it ('' for none)."""
        newer = True

        def step(resource: Resource, nonce: str) -> Step:
            nonlocal newer
            now = self._clock.now()
            if report is not None:
                e = resource.endpoints.get(report.endpoint_id)
                newer = e is None or election.supersedes(e, report.status, report.at)
                resource = election.report(resource, report.endpoint_id, report.status, report.at, now)
            for o in outcomes:
                resource = election.outcome(resource, o, now, self._jitter())
            resource = election.drop_told(election.elect(resource, now))
            if may_claim:
                resource = election.claim_due(
                    resource,
                    now,
                    token=nonce,
                    jitter=self._jitter(),
                    refresh_ms=self._refresh_ms(),
                    handover_ms=self._handover_ms,
                )
            return Step(*election.keep_due_at(resource, now, carried=trigger.woken_for, refresh_ms=self._refresh_ms()))

        committed = self._locks.update(resource_id, step, trigger.cause, known=known)
        if not newer and report is not None:
            logger.info(
                "report.ignored", resource_id=resource_id, endpoint_id=report.endpoint_id, reason="older_than_last"
            )
            metric("ReportsIgnored")
        log_changes(committed, trigger.cause)
        written = committed.after is not committed.before
        return committed, committed.after.nonce if written else ""

    def _attempt(self, d: Delivery) -> Outcome:
        """One delivery, whatever happens in it: any fault is a failed attempt with its reason."""
        try:
            result = self._send(d)
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
            result = Result(Kind.UNREADABLE, f"crashed_{type(error).__name__}")
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
            next_step=NEXT_STEPS[result.kind],
        )
        metric("Webhooks", result=result.kind, reason=result.reason or result.kind)
        if result.kind is Kind.REFUSED:
            metric("ReceiversRefused")
        return Outcome(d.endpoint_id, d.token, d.sequence, d.status, result)

    def _send(self, d: Delivery) -> Result:
        try:
            row = self._registry.at_revision(d.endpoint_id, d.revision)
        except (ClientError, BotoCoreError) as error:
            return Result(Kind.UNREADABLE, f"registration_unreadable_{error_code(error)}")
        # An older one than the entry's is somebody's forgery: rows and entries change together.
        if row is None or row.revision < d.revision:
            return Result(Kind.UNREADABLE, "registration_missing")
        if row.revision > d.revision:
            return Result(Kind.TOO_LATE, "registration_changed")
        plugin = factory(row.plugin).create(row)
        if d.status is Status.STANDBY:
            result = plugin.deactivate(d)
        else:
            result = plugin.ensure(d) if d.reason == Reason.REFRESH else plugin.activate(d)
        if result.kind is Kind.UNREADABLE:
            # The row may have been encrypted anew since it was remembered.
            self._registry.forget(d.endpoint_id)
        return result

    def _wake_up(self, resource_id: str, due_at: int, now: int) -> None:
        try:
            self._queues.wake_up(resource_id, due_at, now)
        except (ClientError, BotoCoreError) as error:
            # Not worth a failed invocation: the sweep finds due_at within a minute.
            logger.warning("wake_up.failed", resource_id=resource_id, reason=error_code(error))

    def _refresh_ms(self) -> int:
        return factory(PLUGIN).config().refresh_every


def log_changes(committed: Committed, cause: Cause) -> None:
    """One line per change of status that was committed."""
    for change in election.changes(committed.before, committed.after):
        logger.info(
            "endpoint.changed",
            resource_id=committed.after.resource_id,
            endpoint_id=change.endpoint_id,
            status=change.after,
            before=change.before,
            epoch=committed.after.epoch,
            sequence=change.sequence,
            reason=change.reason,
            cause=cause.kind,
            cause_id=cause.id,
            tries=committed.tries,
        )
