"""One slot of a shard: look, judge, tell, keep. And the clock that puts the slots of a minute.

AWS calls. A slot in which nothing changes: 1 GetItem, and 1 Query per MiB every 30 s; every fifth minute 1 BatchGetItem
per 100 resources more. A change: 1 PutEvents per ten endpoints, 1 PutItem (if it is refused, 1 GetItem and 1 PutItem
more); before the first DOWN of a slot 1 BatchGetItem per 100 resources. The clock: 1 Query per shard, 1
SendMessageBatch per ten slots.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from link.clock import Clock
from link.election.state import Endpoint, Observer, Resource, Status, Word
from link.probing import states
from link.probing.checks import Check, CheckType, read
from link.probing.connection import Starved
from link.probing.looks import Looks
from link.probing.states import MANY, SLOT_MS, Probed, Shard
from link.settings import Settings
from link.store.bus import Bus, StatusEvent
from link.store.locks import Locks
from link.store.probes import ProbeQueue, ProbeStates, Target, Targets
from link.telemetry import logger, metric

SOURCE = "link.probe"
KEPT_TARGETS_MS = 30_000
"""How long a process uses the list of targets that it has read."""
LATE_MS = 5_000
"""A slot that comes later than so long after its end is left out: the next ones are under way."""
COMPARE_SLOTS = 30
"""Every so many slots the states are compared with the words in the lock items."""
MINUTE_MS = 60_000
SLOTS_A_MINUTE = MINUTE_MS // SLOT_MS


class Untold(Exception):
    """Something that was found has not been told: the alarm on errors of the function has to notice."""


class Look(Protocol):
    """Looks at checks, each with its number of tries."""

    def __call__(self, wanted: Mapping[Check, int]) -> Looks: ...


class Prober:
    """Probes the endpoints of a shard."""

    def __init__(
        self,
        targets: Targets,
        probe_states: ProbeStates,
        locks: Locks,
        bus: Bus,
        look: Look,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._targets = targets
        self._states = probe_states
        self._locks = locks
        self._bus = bus
        self._look = look
        self._references = [Check(CheckType.TCP, host, port) for host, port in settings.probe_references]
        self._keep_last = settings.probe_keep_last
        self._clock = clock
        self._known: dict[tuple[int, int], tuple[int, dict[str, Target]]] = {}

    def run(self, shard: int, of: int, slot: int) -> None:
        """Does what a slot is for; nothing if it is too late, or done already."""
        if self._clock.now() > (slot + 1) * SLOT_MS + LATE_MS:
            logger.warning("slot.late", shard=shard, slot=slot)
            metric("ProbeSlotsLate")
            return
        targets = self._targets_of(shard, of)
        before = self._states.read(shard, of)
        if slot <= before.slot:
            return
        # ● Not when it is told: a process that stops after its look would overtake what later slots told.
        at = self._clock.now()
        after = states.only(before, targets.keys())
        if slot % COMPARE_SLOTS == shard % COMPARE_SLOTS:
            after = states.compared(after, self._words(targets))
        after = self._looked(after, targets, slot)
        # ● Before the write: if we end here, the next slot finds and tells the same. The other way round nobody would.
        untold = [
            StatusEvent(i, targets[i].resource_id, Status.ACTIVATED if after.endpoints[i].up else Status.FAILING, at)
            for i in states.untold(after)
        ]
        told = self._bus.tell(untold)
        after = states.with_told(after, told)
        if after != before and not self._states.write(shard, of, before, replace(after, slot=slot)):
            logger.warning("slot.doubled", shard=shard, slot=slot)
            # ● What is stored now does not know what we told: the next slot tells it again.
            current = self._states.read(shard, of, consistent=True)
            doubted = states.compared(current, dict.fromkeys(told))
            if doubted != current:
                self._states.write(shard, of, current, doubted)
        metric("ProbeSlots")
        if len(told) < len(untold):
            missing = len(untold) - len(told)
            raise Untold(f"the event bus did not take {missing} of {len(untold)} states: the next slot repeats them")

    def look_at(self, checks: Iterable[Mapping[str, Any]]) -> list[str]:
        """Looks at checks once and changes nothing; returns the reason of each, empty when it passed."""
        wanted = [read(check) for check in checks]
        reasons = self._look(dict.fromkeys(wanted, 1)).reasons
        return [reasons[check] for check in wanted]

    def _targets_of(self, shard: int, of: int) -> dict[str, Target]:
        now = self._clock.now()
        read_at, targets = self._known.get((shard, of), (0, {}))
        if now >= read_at + KEPT_TARGETS_MS:
            targets = {target.endpoint_id: target for target in self._targets.of_shard(shard, of)}
            self._known[shard, of] = (now, targets)
        return targets

    def _words(self, targets: Mapping[str, Target]) -> dict[str, bool | None]:
        """What the lock items say that the probe reported last."""
        resources = self._locks.read_all({target.resource_id for target in targets.values()}, skip_newer=True)
        words: dict[str, bool | None] = {}
        for i, target in targets.items():
            e = _observed(resources.get(target.resource_id), i)
            if e is not None:
                word = e.words.get(Observer.PROBE)
                words[i] = None if word is None else word.status is Status.ACTIVATED
        return words

    def _looked(self, shard: Shard, targets: Mapping[str, Target], slot: int) -> Shard:
        """The shard after the looks of this slot."""
        due = {
            i: target
            for i, target in targets.items()
            if states.is_due(i, shard.endpoints.get(i, Probed()), target.interval_seconds, slot)
        }
        if not due:
            return shard
        wanted = dict.fromkeys(self._references, 1)
        for i, target in due.items():
            for check in target.checks:
                wanted[check] = max(wanted.get(check, 0), states.tries(shard.endpoints.get(i, Probed())))
        try:
            looks = self._look(wanted)
        except Starved as starved:
            logger.warning("slot.starved", slot=slot, reason=str(starved))
            metric("ProbesLagging")
            return shard
        reasons = {i: _reason(target.checks, looks.reasons) for i, target in due.items()}
        failed = [reason for reason in reasons.values() if reason]
        if failed and self._blind(looks):
            logger.warning("slot.blind", slot=slot, failed=len(failed))
            metric("ProbesBlind")
            return shard
        lost = [reason for i, reason in reasons.items() if reason and shard.endpoints.get(i, Probed()).up]
        nameless = sum(reason.endswith(":dns") for reason in lost)
        # ● It was our name server. Names that were never found do not count: a few wrong registrations would be many.
        if len(lost) >= MANY and 2 * nameless > len(lost):
            logger.warning("slot.nameless", slot=slot, failed=nameless)
            metric("ProbesBlind")
            reasons = {i: reason for i, reason in reasons.items() if not reason.endswith(":dns")}
        lagging = looks.lag_ms > states.MAX_LAG_MS
        if lagging and failed:
            logger.warning("slot.lagged", slot=slot, failed=len(failed), lag_ms=looks.lag_ms)
            metric("ProbesLagging")
        now = self._clock.now()
        again = {i for i in due if shard.endpoints.get(i, Probed()).reason}
        shard, falling = states.judge(shard, reasons, now, lagging=lagging)
        resources = self._locks.read_all({targets[i].resource_id for i in falling}, consistent=True, skip_newer=True)
        # ● The list of targets can be half a minute old, and has those that are being deleted: their hosts may go.
        falling = frozenset(i for i in falling if _observed(resources.get(targets[i].resource_id), i))
        kept = self._last(shard, falling, resources.values()) if self._keep_last else set()
        shard, held_back = states.fall(shard, falling - kept, again, reasons.keys(), now)
        if kept:
            metric("ProbesKept", len(kept))
        if held_back:
            metric("ProbesHeldBack", held_back)
        return shard

    def _blind(self, looks: Looks) -> bool:
        """Whether this slot says nothing about the endpoints, because it was our own network.

        ● A reference has to answer beside the looks and after them. One of the two is not enough: the network can
        break down in between.
        """
        if not self._references:
            return False
        if all(looks.reasons[one] for one in self._references):
            return True
        return all(self._look(dict.fromkeys(self._references, 1)).reasons.values())

    def _last(self, shard: Shard, falling: Collection[str], resources: Iterable[Resource]) -> set[str]:
        """Those of the endpoints without which no endpoint of their resource would be ready.

        ● Otherwise nobody would be active because of us.
        """
        now = self._clock.now()

        def stands(i: str, e: Endpoint) -> bool:
            if i in falling or shard.endpoints.get(i, Probed()).up is False:
                # ● It may be ready without us: ReadyWhen.ANY.
                e = replace(e, words={**e.words, Observer.PROBE: Word(Status.FAILING, now)})
            return e.ready(now)

        last = set()
        for resource in resources:
            if not any(stands(i, e) for i, e in resource.endpoints.items()):
                last |= {i for i, e in resource.endpoints.items() if e.ready(now) or resource.holder == i}
        return last.intersection(falling)


def _observed(resource: Resource | None, endpoint_id: str) -> Endpoint | None:
    """The entry of an endpoint if a probe may report about it; None for a resource that this version cannot read."""
    e = resource.endpoints.get(endpoint_id) if resource else None
    return e if e is not None and not e.deleting and Observer.PROBE in e.observers else None


def _reason(checks: Iterable[Check], reasons: Mapping[Check, str]) -> str:
    """Position and reason of the first check that failed; empty when all passed."""
    return next((f"{position}:{reasons[check]}" for position, check in enumerate(checks) if reasons[check]), "")


class ProbeClock:
    """Puts the slots of the minute that begins."""

    def __init__(self, targets: Targets, probe_queue: ProbeQueue, settings: Settings, clock: Clock) -> None:
        self._targets = targets
        self._queue = probe_queue
        self._shards = settings.probe_shards
        self._clock = clock

    def run(self, minute_ms: int, at_once: Callable[..., Iterable[bool]] = map) -> int:
        """Puts a message for each shard that has a target and each of the minute's six slots that is not over.

        `minute_ms` is any moment of the minute. ● Its slots begin 10 s later than itself, the last one with the next
        minute: a schedule's event comes some seconds after the minute began, and seldom at the same second. Returns
        the number of messages; raises RuntimeError when SQS did not take all.
        """
        of = self._shards
        probed = at_once(lambda shard: self._targets.any_in(shard, of), range(of))
        shards = [shard for shard, found in enumerate(probed) if found]
        first, now = minute_ms // MINUTE_MS * SLOTS_A_MINUTE + 1, self._clock.now()
        messages = [
            ({"shard": shard, "of": of, "slot": slot}, max(0, -(-(slot * SLOT_MS - now) // 1_000)))
            for slot in range(first, first + SLOTS_A_MINUTE)
            if (slot + 1) * SLOT_MS > now
            for shard in shards
        ]
        failed = self._queue.put(messages)
        metric("ProbeSlots", 0 if shards else 1)
        if failed:
            raise RuntimeError(f"SQS did not take {failed} of {len(messages)} slots: they are not probed")
        return len(messages)
