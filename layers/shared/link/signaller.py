"""Hears what AWS says of endpoints, looks once a minute whether it is so, and tells the event bus.

● What was heard is stored first, with what it comes to and a time later than all before; then it is told; then it is
stored that it was. Whichever process ends in between, the last version's word counts, and the look tells it. [Told
first: of two events at once, the one whose write is refused has told what never was.]

AWS calls. An event: 1 Query per key, one or two. For each endpoint that it is about: 1 GetItem; if it is news, 2
UpdateItem and 1 PutEvents more. A lifecycle hook of ours: 1 BatchGetItem, and in the end 1 CompleteLifecycleAction. The
look: 1 Query per MiB and what `link.signal_look` needs; every fifth minute 1 BatchGetItem per 100 resources; for each
endpoint that is news as above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from botocore.exceptions import ClientError

from link import reports
from link.clock import Clock
from link.election.state import Observer, Resource, Status
from link.errors import Contended, Rejected
from link.signals import events, words
from link.signals.events import Hook
from link.signals.words import Observed, Said
from link.sqs_batch import NotYet
from link.store.aws import FAULTS, error_code
from link.store.bus import Bus, StatusEvent
from link.store.locks import Locks
from link.store.queues import Queues
from link.store.signals import Signals
from link.telemetry import logger, metric

SOURCE = "link.signal"
COMPARE_MINUTES = 5
"""Every so many minutes what was told is compared with the words in the lock items."""
TRIES = 10
"""Of a write that others refuse. Eight signals of an endpoint can speak at once."""

AtOnce = Callable[..., Iterable[Any]]
"""`map`, or a thread pool's."""


class Untold(Exception):
    """The event bus did not take a status. The message comes back, and the next look repeats it."""


class Look(Protocol):
    """Asks AWS about signals, by their keys. What could not be asked is not in the answer."""

    def __call__(self, keys: Iterable[str]) -> list[Said]: ...


class Signaller:
    """Follows the signals of all endpoints."""

    def __init__(
        self,
        signals: Signals,
        locks: Locks,
        bus: Bus,
        queues: Queues,
        look: Look,
        auto_scaling: Callable[[], Any],
        clock: Clock,
        at_once: AtOnce,
    ) -> None:
        self._signals = signals
        self._locks = locks
        self._bus = bus
        self._queues = queues
        self._look = look
        self._auto_scaling = auto_scaling
        self._clock = clock
        self._at_once = at_once

    def take(self, body: str, message_id: str) -> None:
        """Hears the event in a message; one that cannot be read goes to the rejected-events queue.

        Raises NotYet while a lifecycle hook of ours has to wait.
        """
        event: Any = body
        try:
            event = reports.decode(body)
            said = events.translate(event)
            hook = events.hook(event)
        except Rejected as rejected:
            self._queues.reject(rejected.code, str(rejected), event, self._clock.now())
            logger.warning("event.rejected", reason=rejected.code, message_id=message_id)
            metric("RejectedEvents")
            return
        about: dict[str, list[Said]] = {}
        for key in dict.fromkeys(one.key for one in said):
            for endpoint_id in self._signals.followers(key):
                about.setdefault(endpoint_id, []).extend(one for one in said if one.key == key)
        observed = [*filter(None, self._at_once(lambda i: self._hear(i, about[i]), about))]
        if hook is not None and observed:
            self._complete(hook, observed)

    def retry_later(self, receipt_handle: str, receives: int) -> None:
        """Has a message come back soon. If this fails, too, it comes back after its visibility timeout."""
        try:
            self._queues.retry_later("signal", receipt_handle, receives)
        except FAULTS as error:
            logger.warning("message.not_hurried", reason=error_code(error))

    def look(self, minute_ms: int) -> dict[str, int]:
        """Looks at every signal once; returns how many endpoints have signals, and of how many there was news."""
        observed = {one.endpoint_id: one for one in self._signals.all()}
        said: dict[str, list[Said]] = {}
        for each in self._look({signal.key for one in observed.values() for signal in one.signals}):
            said.setdefault(each.key, []).append(each)
        news: dict[str, list[Said]] = {}
        for i, one in observed.items():
            new = words.news(one, [each for signal in one.signals for each in said.get(signal.key, ())])
            # A warning that ran out is news, too, and so is what the bus did not take.
            if one.untold or words.heard(one, new, self._clock.now()) is not one:
                news[i] = new
        doubted: dict[str, int] = {}
        if minute_ms // 60_000 % COMPARE_MINUTES == 0:
            doubted = self._compared([one for i, one in observed.items() if i not in news])
        found = {**news, **doubted}
        failed = sum(self._at_once(partial(self._told_late, news, doubted), found))
        metric("SignalLooks")
        if failed:
            raise Untold(f"{failed} of {len(found)} endpoints could not be told: the next look repeats them")
        return {"endpoints": len(observed), "news": len(found)}

    def _told_late(self, news: dict[str, list[Said]], doubted: dict[str, int], endpoint_id: str) -> bool:
        """Whether it failed. ● One endpoint that fails must not keep the others from being told."""
        try:
            self._hear(endpoint_id, news.get(endpoint_id, ()), doubted.get(endpoint_id))
        except (*FAULTS, Contended, Untold) as error:
            logger.warning("signal.failed", endpoint_id=endpoint_id, reason=error_code(error))
            return True
        return False

    def _compared(self, told: list[Observed]) -> dict[str, int]:
        """The endpoints whose lock items do not have what was told, with the time of the word there."""
        resources = self._locks.read_all({one.resource_id for one in told}, skip_newer=True)
        doubted = {}
        for one in told:
            resource = resources.get(one.resource_id)
            e = resource.endpoints.get(one.endpoint_id) if resource is not None else None
            if e is None or one.status is None:
                continue
            word = e.words.get(Observer.SIGNAL)
            if word is None or word.status is not one.status:
                doubted[one.endpoint_id] = word.at if word else 0
        return doubted

    def _hear(self, endpoint_id: str, said: Iterable[Said], doubted_at: int | None = None) -> Observed | None:
        """Stores what was said of an endpoint and tells what it comes to; None if it has no signals any more.

        `doubted_at`: the lock item has another word, of that time.
        """
        said = [*said]
        for _ in range(TRIES):
            before = self._signals.read(endpoint_id)
            if before is None:
                return None
            after = words.heard(before, said, self._clock.now())
            if doubted_at is not None:
                after = words.doubted(after, doubted_at)
            stored = before if after is before else self._signals.write(before, after)
            if stored is not None:
                self._tell(before, stored)
                return stored
        raise Contended(f"{endpoint_id}: {TRIES} conditional writes lost")

    def _tell(self, before: Observed, observed: Observed) -> None:
        if not observed.untold or observed.status is None:
            return
        logger.info(
            "signal.changed",
            resource_id=observed.resource_id,
            endpoint_id=observed.endpoint_id,
            status=observed.status,
            before=before.status,
            reason=observed.reason(self._clock.now()),
        )
        event = StatusEvent(observed.endpoint_id, observed.resource_id, observed.status, observed.at)
        if not self._bus.tell([event]):
            raise Untold(f"the event bus did not take the status of {observed.endpoint_id}")
        self._signals.confirm(observed)

    def _complete(self, hook: Hook, observed: Iterable[Observed]) -> None:
        """Lets Auto Scaling go on, if the endpoints have handed over or the time is up. Raises NotYet otherwise."""
        resources = self._locks.read_all({one.resource_id for one in observed}, consistent=True)
        late = self._clock.now() >= hook.until
        if not late and not all(handed_over(resources.get(one.resource_id), one.endpoint_id) for one in observed):
            raise NotYet
        try:
            self._auto_scaling().complete_lifecycle_action(
                AutoScalingGroupName=hook.group,
                LifecycleHookName=hook.name,
                LifecycleActionToken=hook.token,
                InstanceId=hook.instance_id,
                LifecycleActionResult="CONTINUE",
            )
        except ClientError as error:
            # Another delivery of the event was faster, or the hook's own time was up.
            if error_code(error) != "ValidationError":
                raise
        logger.info("hook.completed", instance_id=hook.instance_id, hook=hook.name, late=late)
        if late:
            metric("HooksLate")


def handed_over(resource: Resource | None, endpoint_id: str) -> bool:
    """Whether the host of an endpoint may end: another one is active, or nobody can be, and both have been told."""
    e = resource.endpoints.get(endpoint_id) if resource is not None else None
    if resource is None or e is None:
        return True
    word = e.words.get(Observer.SIGNAL)
    if word is None or word.status is Status.ACTIVATED or resource.holder == endpoint_id:
        return False
    holder = resource.endpoints.get(resource.holder or "")
    return not e.pending and (holder is None or not holder.pending)
