"""A table that is restored from a backup: the system goes back in time, and the receivers do not.

Each history has hosts and operators at work, a backup in the midst, more work, and a stop of all functions. Then the
tables are as in the backup, or the backup is beside them, `restore` runs, and the functions start again. In a quarter
of the histories nothing stops. Afterwards every host reports again, as docs/restore.md says. The oracles are the
simulator's; what the receivers saw counts from the beginning.
"""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from link.election.state import Observer, Resource
from link.reports import Report
from link.store.endpoints import Registrations
from link.store.locks import Locks
from scripts.restore import CAUSE, Tables
from tests.simulation.cloud import FAULTS, RECEIVER_FAULTS, START, Cloud, CloudChance, Process
from tests.simulation.histories import OBSERVERS, REFRESH_MS, SOON_MS, A, F, Host, S, Story, Told, play
from tests.simulation.promises import CLAIM_MS, PROMPT_MS, Promises, Request
from tests.support.ids import RESOURCE

NAMES = ("paris", "london", "berlin")
REGISTERED = ("_lease", "_observers")
BACKUP_AT, STOP_AT, RESTORE_AT, START_AT = 15_000, 32_000, 64_000, 66_000
"""The stop is longer than an invocation."""


class Returning(Promises):
    """The simulator's oracles, of which two know that a restore leaps over the numbers that were used before."""

    kept: dict[str, Any] | None = None
    """The backup that is being restored."""
    kept_until = 0
    """When the restore began: a lease that ended since the backup ends then."""
    in_place = False
    """Whether the table itself is that of the backup."""
    registrations_too = False
    """Whether that of the registrations is, too."""
    _leaps = False
    _claims_end = 0
    """Until when an attempt that was under way during the restore may block the next one."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self._taken_in: list[Report | Request | None] = []
        self._lost: list[Report | Request | None] = []
        """The reports and requests that were taken in before the restore."""

    def hold(self, oracle: str, promise: int, holds: bool, *says: object) -> None:
        expected = self._leaps and oracle in ("versions", "epochs")
        if self._leaps and oracle == "granted to ready":
            # By observers that were added since the backup and have not reported yet.
            expected = self._verdict(str(self.resource.holder), self._cloud.now) is None
        if not expected and not (oracle == "told in time" and self._cloud.now < self._claims_end):
            super().hold(oracle, promise, holds, *says)

    def backup(self) -> dict[str, Any]:
        """What the system knows, and not what it was told since or what the receivers know."""
        names = ("resource", "_heard", "_lease_end", "_leaving", "_losses", "_up_since", *REGISTERED, "_drained")
        return {name: copy.deepcopy(getattr(self, name)) for name in names}

    def written(self, items: dict[str, Any]) -> None:
        item = items.get(self._cloud.settings.locks_table)
        if item is not None and self.kept is not None:
            self._leaps = max(int(item[name]["N"]) for name in ("version", "epoch")) >= START
        if self._leaps and self.kept is not None:
            self._go_back(self.kept)
            self.kept = None
        super().written(items)
        if self._leaps:
            self._claims_end = self._cloud.now + CLAIM_MS + PROMPT_MS
            # The next sweep finds it.
            self.changed_at = dict.fromkeys(self.changed_at, self._cloud.now + 60_000)
        self._leaps = False

    def _heed(self, request: Report | Request | None, new: Resource, called_at: int) -> None:
        # A later write of its invocation does not take it in again.
        if not any(request is lost for lost in self._lost):
            super()._heed(request, new, called_at)
            self._taken_in.append(request)

    def _go_back(self, kept: dict[str, Any]) -> None:
        """The system knows what it knew then."""
        current = self.resource
        if kept["resource"].version or self.in_place:
            stays = (() if self.in_place else ("_drained",)) + (() if self.registrations_too else REGISTERED)
            self.__dict__.update(copy.deepcopy({name: value for name, value in kept.items() if name not in stays}))
            self._lost, self._taken_in = self._taken_in, []
            for i, (observers, _) in self._observers.items():
                self._heard[i] = {o: word for o, word in self._heard[i].items() if o in observers}
        ends = self._lease_end.items()
        self._lease_end = {i: None if end is None else max(end, self.kept_until) for i, end in ends}
        self.resource = kept["resource"] if self.in_place else current


class Held(Locks):
    """The lock items of a backup."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource

    def read(self, resource_id: str) -> Resource:
        return self._resource


class Disaster:
    """A backup, the loss of what came after it, and the restore."""

    def __init__(self, story: Story, way: str) -> None:
        self.story, self.cloud, self.way = story, story.cloud, way
        self.promises: Any = story.cloud.promises
        self.tables = self.cloud.store.tables
        self.held: list[Callable[[], None]] = []
        self.audit: dict[Any, Any] = {}
        self.afterwards: Callable[[], None]

    def back_up(self) -> None:
        settings = self.cloud.settings
        self.kept = {name: dict(self.tables[name]) for name in (settings.locks_table, settings.endpoints_table)}
        self.known = self.promises.backup()

    def stop(self) -> None:
        """The event sources are off: what should be invoked waits."""
        if self.way == "beside":
            return
        invoke = self.cloud.invoke

        def hold(*arguments: Any, **options: Any) -> None:
            self.held.append(functools.partial(invoke, *arguments, **options))

        self.cloud.invoke = hold  # type: ignore[method-assign]

    def restore(self) -> None:
        settings = self.cloud.settings
        self.audit = dict(self.tables[settings.transitions_table])
        self.promises.kept, self.promises.kept_until = self.known, self.cloud.now
        self.promises.in_place = self.way in ("locks only", "both tables")
        self.promises.registrations_too = self.way == "both tables"
        if self.promises.in_place:
            self.tables[settings.locks_table] = self.kept[settings.locks_table]
        if self.way == "both tables":
            self.tables[settings.endpoints_table] = self.kept[settings.endpoints_table]
        registered = {key[0][1] for key in self.tables[settings.endpoints_table]}
        for host in self.story.hosts.values():
            host.id = host.id if host.id in registered else None
        # Those that come back: one that was being deleted, too, has its registration until its STANDBY is delivered.
        for i in self.story.deleted & registered:
            self.story.hosts[i] = Host(i, id=i)
        # Lost with its registration: nothing is left that could tell its receiver.
        self.promises._believed = {i: b for i, b in self.promises._believed.items() if i in registered}
        if self.promises.slot not in registered:
            self.promises.slot = None
        type(self.cloud).invoke(self.cloud, "api", self._run, lambda: None)

    def _run(self, process: Process) -> None:
        dynamodb: Any = process._edges["dynamodb"]
        clock = process._clock
        locks = Locks(dynamodb, self.cloud.settings, clock, CloudChance(self.cloud))
        source = None if self.promises.in_place else Held(self.known["resource"])
        registrations = Registrations(dynamodb, self.cloud.settings)
        tables = Tables(locks, registrations, self.cloud.settings, clock, source)
        endpoint_ids = {registration.endpoint_id for registration in registrations.scan()}
        locks.update(RESOURCE, tables.step(RESOURCE, endpoint_ids), CAUSE)
        self.cloud.at(START_AT - RESTORE_AT, self.afterwards)

    def start(self) -> None:
        self.cloud.__dict__.pop("invoke", None)
        for invocation in self.held:
            invocation()


def restore_history(seed: int, *, traced: bool = False) -> Told:
    """A history with a restore: what happens before and after it, and which tables go back, come from the seed."""
    draw = random.Random(seed)
    slowest, chance = draw.choice((3, 30, 200)), draw.choice((0.0, 0.0, 0.03))
    way = ("locks only", "both tables", "copied", "beside")[seed % 4]

    def fault(number: int, what: str) -> str | None:
        # The restore itself meets no fault: an operator repeats it before the hosts report again.
        if (RESTORE_AT if way == "beside" else STOP_AT) < cloud.now - began < START_AT + 2_000:
            return None
        return draw.choice(RECEIVER_FAULTS if what == "post" else FAULTS) if draw.random() < chance else None

    cloud = Cloud(
        seed=seed,
        fault=fault,
        latency=lambda: 1 + int(draw.random() * slowest),
        call_ms=2 * (1 + slowest),
        refresh_ms=REFRESH_MS,
        traced=traced,
        watch=Returning,
    )
    began = cloud.now
    disasters = []

    def tell(story: Story) -> None:
        disaster = Disaster(story, way)
        disasters.append(disaster)
        for name in NAMES:
            story.host(name, priority=draw.choice((0, 5)), lease=draw.choice((None, None, 20)))
            cloud.at(draw.choice((0, 0, 0, BACKUP_AT + 500)), functools.partial(story.register, name))
            cloud.at(1_000, functools.partial(story.report, name, A))
        for _ in range(draw.choice((3, 6, 10))):
            _happening(story, draw, 1_000, STOP_AT - 1_000)
        for _ in range(draw.choice((0, 6))):
            _handover(story, draw.randrange(BACKUP_AT, STOP_AT - 1_000))
        cloud.at(BACKUP_AT, disaster.back_up)
        cloud.at(STOP_AT, disaster.stop)
        cloud.at(RESTORE_AT, disaster.restore)
        cloud.at(START_AT, disaster.start)
        statuses = {(name, Observer.HOST): draw.choice((A, A, F, S)) for name in NAMES}
        others = random.Random(f"{seed} afterwards")
        statuses |= {
            (name, o): others.choice((A, A, F, S)) for name in NAMES for o in (Observer.PROBE, Observer.SIGNAL)
        }
        if seed % 8 >= 4:
            _observed(story, random.Random(f"{seed} observed"))

        def afterwards() -> None:
            _repeat_commands(story)
            for (name, observer), status in statuses.items():
                cloud.at(3_000, functools.partial(story.report, name, status, observer=observer))

        disaster.afterwards = afterwards
        for _ in range(draw.choice((0, 3))):
            _happening(story, draw, START_AT + 6_000, 88_000)
        if way == "beside":
            for _ in range(draw.choice((0, 8))):
                _happening(story, draw, RESTORE_AT - 300, RESTORE_AT + 300)

    told = play(cloud, tell, recovery_ms=SOON_MS, and_refresh=False)
    [disaster] = disasters
    rows = cloud.store.tables[cloud.settings.transitions_table]
    overwritten = [key for key, row in disaster.audit.items() if rows[key] is not row]
    return replace(told, broken=told.broken or (f"audit: {overwritten}" if overwritten else None))


def _happening(story: Story, draw: random.Random, earliest: int, latest: int) -> None:
    name, at = draw.choice(NAMES), draw.randrange(earliest, latest)
    what = draw.choices(("report", "fail over", "delete"), (8, 2, 1))[0]
    if what == "report":
        story.cloud.at(at, functools.partial(story.report, name, draw.choice((A, A, A, F, S))))
    elif what == "fail over":
        story.cloud.at(at, functools.partial(story.fail_over, name))
    else:
        story.cloud.at(at, functools.partial(story.delete, name))
        story.cloud.at(at + 300, functools.partial(story.register, name))


def _observed(story: Story, draw: random.Random) -> None:
    """Several observers, which operators change before and after the backup, and drains, in half of the histories."""
    for name in NAMES:
        story.hosts[name].lease = None
        story.hosts[name].observers = draw.choice(OBSERVERS)
        story.hosts[name].ready_when = draw.choice(("all", "any"))
        for observer in Observer:
            story.cloud.at(1_000, functools.partial(story.report, name, A, observer=observer))
    for _ in range(draw.choice((2, 6))):
        name, observer, at = draw.choice(NAMES), draw.choice(tuple(Observer)), draw.randrange(2_000, STOP_AT - 1_000)
        story.cloud.at(at, functools.partial(story.report, name, draw.choice((A, A, F, S)), observer=observer))
    for _ in range(draw.choice((1, 2, 4))):
        name, drained = draw.choice(NAMES), draw.random() < 0.7
        story.cloud.at(draw.randrange(2_000, STOP_AT - 1_000), functools.partial(story.drain, name, drained))
    for _ in range(draw.choice((1, 2))):
        body = {"observers": list(draw.choice(OBSERVERS)), "ready_when": draw.choice(("all", "any"))}
        at = draw.randrange(2_000, STOP_AT - 1_000)
        story.cloud.at(at, functools.partial(story.change, draw.choice(NAMES), body))


def _handover(story: Story, at: int) -> None:
    """The holder steps down and is ready again."""

    def step_down() -> None:
        holder = story.cloud.promises.resource.holder
        name = next((name for name, host in story.hosts.items() if host.id == holder), NAMES[0])
        story.report(name, S)
        story.cloud.at(500, functools.partial(story.report, name, A))

    story.cloud.at(at, step_down)


def _repeat_commands(story: Story) -> None:
    """What operators did since the backup and have to do again: delete and register."""
    for name, host in list(story.hosts.items()):
        if name not in NAMES:
            story.delete(name)
        elif host.id is None:
            story.register(name)
