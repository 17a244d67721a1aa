"""What happens to a resource: random histories by seed, and small scenarios for every plan of up to two faults."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from link.deployment import ControlPlane
from link.election.state import Observer, Status
from link.errors import Conflict
from tests.simulation import cloud as simulation
from tests.simulation.cloud import FAULTS, RECEIVER_FAULTS, START, Cloud
from tests.simulation.promises import Broken, Request
from tests.support.ids import RESOURCE

A, S, F = Status.ACTIVATED, Status.STANDBY, Status.FAILING
CHAOS_MS = 90_000
"""Faults and happenings fall into this; afterwards everything is well and the truth has to come out."""
CALM_MS = 80_000
"""How long that may take when nothing went wrong: a report that was late, and a sweep."""
RECOVERY_MS = 500_000
"""How long after the last fault: a message comes back after 180 s, a receiver is asked again after at most 256 s."""
SOON_MS = 270_000
"""The same after one or two faults: nobody waits that long for a receiver."""
REFRESH_MS = 120_000
SHORT_REFRESH_MS = 20_000


@dataclass
class Host:
    """A host, its current registration if it has one, and what an operator wants of it."""

    name: str
    lease: int | None = None
    priority: int = 0
    skew: int = 0
    id: str | None = None
    whole_seconds: bool = False
    observers: tuple[Observer, ...] = (Observer.HOST,)
    ready_when: str = "all"
    checks: list[dict[str, Any]] = field(default_factory=list)
    signals: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Story:
    """The hosts and operators of one resource, at work in a cloud."""

    cloud: Cloud
    hosts: dict[str, Host] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    commands: int = 0

    def host(self, name: str, **more: Any) -> Host:
        self.hosts[name] = Host(name, **more)
        return self.hosts[name]

    def register(self, name: str) -> None:
        """Repeated until it is answered; a host that is registered already finds its id by name."""
        host = self.hosts[name]
        body = {
            "plugin": "webhook",
            "plugin_config": {
                "url": "http://receiver.example.com/hook",
                "resource_id": RESOURCE,
                "secret": f"secret-{name}",
            },
            "host": name,
            "priority": host.priority,
        } | ({} if host.lease is None else {"lease_seconds": host.lease})
        if host.observers != (Observer.HOST,):
            body |= {"observers": list(host.observers), "ready_when": host.ready_when, "checks": host.checks}
            body |= {"signals": host.signals} if host.signals else {}

        def done(answer: Any) -> None:
            if isinstance(answer, dict):
                host.id = answer["id"]
            elif host.id is None:
                # It may be there although nobody said so.
                entries = self.cloud.promises.resource.endpoints
                host.id = next((i for i, e in entries.items() if e.host == name and not e.deleting), None)
                if host.id is None:
                    self.register(name)

        request = Request("register", "", self.cloud.now, body)
        self.cloud.operator(lambda control: control.commands.create(body, "register"), done, request)

    def report(
        self,
        name: str,
        status: Status,
        *,
        ago: int = 0,
        delay: int = 0,
        observer: Observer = Observer.HOST,
        source: str | None = None,
    ) -> None:
        """A report; `source`: the host that its event's source names."""
        host = self.hosts[name]
        at = self.cloud.now + (host.skew if observer is Observer.HOST else 0) - ago
        if host.whole_seconds:
            at -= at % 1000
        if host.id is not None:
            forged = source not in (None, name)
            self.cloud.report(host.id, status, at=at, delay=delay, observer=observer, host=source, forged=forged)

    def drain(self, name: str, drained: bool, *, force: bool = True) -> None:
        """Repeated until it is answered."""
        endpoint_id = self.hosts[name].id
        if endpoint_id is None:
            return
        request = Request("drain", endpoint_id, self.cloud.now, {"drained": drained}, force=force)

        def drain(control: ControlPlane) -> str:
            control.commands.change(endpoint_id, {"drained": drained}, "drain", force=force)
            return "done"

        self.cloud.operator(drain, request=request)

    def fail_over(self, name: str, to: str | None = None) -> None:
        host, target = self.hosts[name], self.hosts[to].id if to else None
        if host.id is None or (to and target is None):
            return
        endpoint_id = host.id
        self.commands += 1
        command = f"failover-{self.commands}"

        def done(answer: Any) -> None:
            if isinstance(answer, Conflict):
                promises = self.cloud.promises
                refused = command not in promises.commands
                # Shares: nothing; the operator was answered.
                promises.hold("failover answer", 3, refused, command, "was carried out and refused:", answer)

        request = Request("failover", endpoint_id, self.cloud.now, command=command)
        self.cloud.operator(lambda control: control.commands.failover(endpoint_id, command, to=target), done, request)

    def delete(self, name: str) -> None:
        """Repeated until the endpoint is gone."""
        host = self.hosts[name]
        if host.id is None:
            return
        endpoint_id, host.id = host.id, None
        self.deleted.add(endpoint_id)

        def call() -> None:
            def delete(control: ControlPlane) -> str:
                control.commands.delete(endpoint_id, "delete")
                return "done"

            self.cloud.operator(delete, done, Request("delete", endpoint_id, self.cloud.now))

        def done(answer: Any) -> None:
            if answer is None:
                self.cloud.at(1_000, call)
            elif isinstance(answer, Conflict):
                # The holder of a frozen resource.
                host.id = endpoint_id
                self.deleted.discard(endpoint_id)

        call()

    def freeze(self, frozen: bool) -> None:
        self.commands += 1
        command = f"freeze-{self.commands}"
        self.cloud.operator(lambda control: control.commands.freeze(RESOURCE, frozen, command))

    def change(self, name: str, body: dict[str, Any]) -> None:
        endpoint_id = self.hosts[name].id
        if endpoint_id is not None:
            request = Request("change", endpoint_id, self.cloud.now, body)
            self.cloud.operator(lambda control: control.commands.change(endpoint_id, body, "change"), request=request)

    def rotate_key(self) -> None:
        self.cloud.rotate_key()

    def redeliver(self, name: str) -> None:
        endpoint_id = self.hosts[name].id
        if endpoint_id is None:
            return
        request = Request("redeliver", endpoint_id, self.cloud.now)

        def redeliver(control: ControlPlane) -> str:
            control.commands.redeliver(endpoint_id, "redeliver")
            return "done"

        def done(answer: Any) -> None:
            if answer == "done":
                self.cloud.promises.redelivered(request)

        self.cloud.operator(redeliver, done, request)


@dataclass
class Told:
    """What a history came to."""

    broken: str | None
    calls: int
    faults: Counter[str]
    requests: int
    trace: list[str] | None


def watched_cloud(seed: int, draw: random.Random, *, traced: bool) -> Cloud:
    """The cloud of a history with an observer of ours, slow or fast. In two of three histories it has no faults."""
    slowest, chance = draw.choice((3, 30, 200)), draw.choice((0.0, 0.0, 0.03))

    def fault(number: int, what: str) -> str | None:
        return draw.choice(RECEIVER_FAULTS if what == "post" else FAULTS) if draw.random() < chance else None

    return Cloud(
        seed=seed,
        fault=fault,
        latency=lambda: 1 + int(draw.random() * slowest),
        call_ms=2 * (1 + slowest),
        duplicates=draw.choice((0.0, 0.2)),
        refresh_ms=REFRESH_MS,
        traced=traced,
    )


def play(
    cloud: Cloud, tell: Callable[[Story], None], *, recovery_ms: int, and_refresh: bool, calm_ms: int = CALM_MS
) -> Told:
    """One history from its beginning until the truth has come out, and one refresh more."""
    simulation.enter(cloud)
    story = Story(cloud)
    broken = None
    try:
        tell(story)
        cloud.run(START + CHAOS_MS)
        cloud.fault = lambda number, what: None
        cloud.run(START + CHAOS_MS + calm_ms)
        while cloud.faults and cloud.now < cloud.last_fault + recovery_ms:
            cloud.run(cloud.last_fault + recovery_ms)
        cloud.promises.settled(story.deleted)
        if and_refresh:
            _refreshed(cloud)
    except Broken as error:
        broken = str(error)
        cloud.note(f"BROKEN: {broken}")
    return Told(broken, cloud.calls, cloud.faults, len(cloud.promises.requests), cloud.trace)


def _refreshed(cloud: Cloud) -> None:
    """In peace, the holder is told again when its time has come, and nobody else is told anything."""
    promises, before = cloud.promises, len(cloud.promises.requests)
    holder = promises.resource.holder
    since = cloud.now
    cloud.run(cloud.now + cloud.settings.refresh_ms + 62_000)
    later = promises.requests[before:]
    if promises.resource.holder == holder:
        # Shares: nothing but the holder.
        only = all(r.endpoint_id == holder and r.reason == "refresh" for r in later)
        promises.hold("only refreshes", 8, only, later)
        # Shares: the setting.
        promises.hold("refreshes", 8, bool(later) or holder is None, "no refresh since", since - START, "of", holder)


# Random histories


def random_history(seed: int, *, traced: bool = False, observed: bool = False) -> Told:
    """The history of a seed: the same at every run. `observed`: its endpoints have several observers, and drains."""
    draw = random.Random(seed)
    slowest = draw.choice((0, 3, 30, 300))
    chance = draw.choice((0.0, 0.0, 0.01, 0.03, 0.1))
    bad_receiver = draw.choice((0.0, 0.0, 0.1, 0.5)) if chance else 0.0

    def fault(number: int, what: str) -> str | None:
        if what == "post":
            return draw.choice(RECEIVER_FAULTS) if draw.random() < max(chance, bad_receiver) else None
        return draw.choice(FAULTS) if draw.random() < chance else None

    cloud = Cloud(
        seed=seed,
        fault=fault,
        latency=lambda: 1 + int(draw.random() * slowest),
        call_ms=2 * (1 + slowest),
        skews=draw.choice(((0,), (-1_000, 0, 1_000))),
        duplicates=draw.choice((0.0, 0.2)),
        handover_ms=draw.choice((0, 1_000, 1_000, 5_000)),
        refresh_ms=_refresh_ms(seed, draw.choice((REFRESH_MS, 5 * REFRESH_MS))),
        traced=traced,
    )

    def tell(story: Story) -> None:
        names = ["paris", "london", "berlin"][: draw.choice((2, 2, 2, 3))]
        for name in names:
            story.host(
                name,
                lease=draw.choice((None, None, 20)),
                priority=draw.choice((0, 0, 5)),
                skew=draw.choice((0, 0, -900, 900)),
                whole_seconds=draw.random() < 0.2,
            )
            if observed:
                _observed(story.hosts[name], random.Random(f"{seed} {name}"))
            story.register(name)
        # Many things at the same moments: that is where they meet.
        moments = [1_000 + int(draw.random() * 60_000) for _ in range(draw.choice((1, 2, 4, 8)))]
        for _ in range(draw.choice((2, 4, 6, 9))):
            _happening(story, draw, names, draw.choice(moments) + draw.choice((0, 0, 0, 1, 40, 700)))
        for name in names:
            if story.hosts[name].lease:
                _heartbeats(story, draw, name)
        if seed % 5 == 2:
            _commands(story, random.Random(seed), names, moments)
        if seed % 20 == 17:
            _flapping(story, random.Random(seed), names)
        if observed:
            _observers(story, random.Random(seed), names, moments)
            if seed % 4 == 3:
                _drained_while_undecided(story, random.Random(seed), names)
        if seed % 10 == 8:
            _beside_handovers(story, random.Random(seed), names)
        # So that most histories have somebody ready.
        if draw.random() < 0.6:
            _at(story, 500, *(functools.partial(story.report, name, A) for name in names))

    return play(cloud, tell, recovery_ms=RECOVERY_MS, and_refresh=draw.random() < 0.2)


def _refresh_ms(seed: int, drawn: int) -> int:
    """The drawn interval, but in every twentieth history one so short that refreshes meet the faults."""
    return SHORT_REFRESH_MS if seed % 20 == 19 else drawn


def _happening(story: Story, draw: random.Random, names: list[str], at: int) -> None:
    name, other = draw.sample(names, 2)
    what = draw.choices(("report", "fail over", "delete"), (8, 2, 1))[0]
    if what == "report":
        status, delay = draw.choice((A, A, S, F)), draw.choice((0, 0, 0, 30, 3_000, 40_000))
        story.cloud.at(at, lambda: story.report(name, status, delay=delay))
    elif what == "fail over":
        to = draw.choice((None, other))
        story.cloud.at(at, lambda: story.fail_over(name, to))
        if draw.random() < 0.5:
            # Somebody writes right after it.
            story.cloud.at(at + draw.choice((0, 20, 60)), lambda: story.report(other, A))
    else:
        again = draw.choice((None, 0, 50, 5_000))
        story.cloud.at(at, lambda: story.delete(name))
        if again is not None:
            story.cloud.at(at + again, lambda: story.register(name))


def _commands(story: Story, draw: random.Random, names: list[str], moments: list[int]) -> None:
    """What only operators do, in every fifth history, by numbers of its own: the others stay what they were."""

    def sometime() -> int:
        return draw.choice(moments) + draw.choice((0, 0, 1, 40, 700, 5_000))

    if draw.random() < 0.5:
        begin = sometime()
        story.cloud.at(begin, lambda: story.freeze(True))
        if draw.random() < 0.8:
            story.cloud.at(begin + draw.choice((0, 50, 3_000, 30_000)), lambda: story.freeze(False))
    for _ in range(draw.choice((0, 1, 3))):
        story.cloud.at(sometime(), functools.partial(story.redeliver, draw.choice(names)))
    for i in range(draw.choice((0, 1, 3))):
        secret = {"secret": f"new-secret-{i}", "headers": {}}
        body = draw.choice(
            (
                {"priority": draw.choice((-5, 9))},
                {"lease_seconds": draw.choice((None, 5, 20, 60))},
                {"lease_seconds": 60},
                {"plugin_config": {**secret, "url": f"http://receiver.example.com/moved-{i}"}},
                {"plugin_config": {**secret, "headers": {"X-Mine": str(i)}}},
                {"plugin_config": {**secret, "previous_secret_until": START + 3_600_000}},
            )
        )
        story.cloud.at(sometime(), functools.partial(story.change, draw.choice(names), body))


def handover_history(seed: int, *, traced: bool = False) -> Told:
    """One handover without any fault, and within 100 ms of it what operators do to either side of it."""
    draw = random.Random(seed)
    slowest = draw.choice((60, 200))
    cloud = Cloud(
        seed=seed,
        latency=lambda: 1 + int(draw.random() * slowest),
        call_ms=2 * (1 + slowest),
        refresh_ms=REFRESH_MS,
        traced=traced,
    )

    def tell(story: Story) -> None:
        names = ["paris", "london"]
        for name in names:
            story.host(name, priority=5 * (name == "paris"))
            story.register(name)
        _at(story, 2_000, *(functools.partial(story.report, name, A) for name in names))
        _handover(story, draw, names, 12_000)

    return play(cloud, tell, recovery_ms=RECOVERY_MS, and_refresh=False)


def _beside_handovers(story: Story, draw: random.Random, names: list[str]) -> None:
    """Handovers with something right beside them, in every tenth history, by numbers of its own."""
    _at(story, 1_000, *(functools.partial(story.report, name, A) for name in names))
    for at in (5_000, 12_000, 21_000):
        _handover(story, draw, names, at + int(draw.random() * 5_000))


OBSERVERS = (
    (Observer.HOST, Observer.PROBE), (Observer.HOST, Observer.PROBE), (Observer.HOST, Observer.SIGNAL),
    (Observer.PROBE,), (Observer.HOST,), tuple(Observer),
)  # fmt: skip


def observed_history(seed: int, *, traced: bool = False) -> Told:
    """A random history with several observers for each endpoint."""
    return random_history(seed, traced=traced, observed=True)


def _observed(host: Host, draw: random.Random) -> None:
    host.observers, host.ready_when = draw.choice(OBSERVERS), draw.choice(("all", "all", "any"))
    if Observer.HOST not in host.observers:
        host.lease = None


def _observers(story: Story, draw: random.Random, names: list[str], moments: list[int]) -> None:
    """Several observers for each endpoint, and drains beside them, by numbers of its own."""

    def sometime() -> int:
        return draw.choice(moments) + draw.choice((0, 0, 1, 40, 700, 5_000))

    # One that is never set up.
    silent = draw.choice((None, None, Observer.PROBE, Observer.SIGNAL))

    def says(name: str, observer: Observer, at: int, statuses: tuple[Status, ...]) -> None:
        if observer is silent:
            return
        word = functools.partial(story.report, name, draw.choice(statuses), observer=observer)
        story.cloud.at(at, functools.partial(word, delay=draw.choice((0, 0, 30, 3_000, 20_000))))

    for name in names:
        for observer in Observer:
            says(name, observer, 500 + draw.choice((0, 0, 40, 9_000)), (A,))
            says(name, observer, CHAOS_MS - 22_000, (A, A, A, S, F))

    def again() -> None:
        # So that what counts does not depend on a change that a pause made late.
        for name in names if story.cloud.faults else ():
            for observer in Observer:
                if observer is not silent:
                    story.report(name, draw.choice((A, A, A, S, F)), observer=observer)

    story.cloud.at(CHAOS_MS + 300_000, again)
    for _ in range(draw.choice((4, 8, 16))):
        says(draw.choice(names), draw.choice(tuple(Observer)), sometime(), (A, A, S, F))
    for _ in range(draw.choice((0, 1, 3))):
        name, begin, force = draw.choice(names), sometime(), draw.random() < 0.3
        story.cloud.at(begin, functools.partial(story.drain, name, True, force=force))
        story.cloud.at(begin + draw.choice((0, 40, 3_000, 90_000)), functools.partial(story.drain, name, False))
    for _ in range(draw.choice((0, 0, 1, 2))):
        name = draw.choice(names)
        body: dict[str, Any] = {"ready_when": draw.choice(("all", "any"))}
        if draw.random() < 0.7:
            leased = story.hosts[name].lease is not None
            body["observers"] = list(draw.choice([o for o in OBSERVERS if Observer.HOST in o or not leased]))
        story.cloud.at(sometime(), functools.partial(story.change, name, body))


def _flapping(story: Story, draw: random.Random, names: list[str]) -> None:
    """Hosts that fail and come back again and again, in every twentieth history, by numbers of its own."""
    period, until = draw.choice((300, 1_000, 4_000, 9_000)), draw.choice((20_000, 60_000))
    for number, name in enumerate(names[: draw.choice((1, 2, 2))]):
        for turn, at in enumerate(range(1_000, until, period)):
            status = A if (turn + number) % 2 else draw.choice((F, F, F, S))
            story.cloud.at(at + int(draw.random() * 50), functools.partial(story.report, name, status))


def _drained_while_undecided(story: Story, draw: random.Random, names: list[str]) -> None:
    """An observer is added to the holder, which is drained before that has reported, in every fourth history."""
    name, at = _holder(story, names), 62_000 + int(draw.random() * 3_000)
    observers: dict[str, Any] = {"observers": list(Observer), "ready_when": "all"}
    story.cloud.at(at, lambda: story.change(name(), observers))
    story.cloud.at(at + draw.choice((0, 40, 3_000)), lambda: story.drain(name(), True, force=draw.random() < 0.5))


def _holder(story: Story, names: list[str]) -> Callable[[], str]:
    """Who holds the lock when that is asked."""

    def holder() -> str:
        i = story.cloud.promises.resource.holder
        return next((name for name in names if story.hosts[name].id == i), names[0])

    return holder


def _handover(story: Story, draw: random.Random, names: list[str], at: int) -> None:
    """The holder reports FAILING, or is failed over; a change, a redeliver or a key rotation within 100 ms of it."""
    holder = _holder(story, names)

    def end() -> None:
        name = holder()
        story.report(name, F)
        story.cloud.at(2_500, lambda: story.report(name, A))

    story.cloud.at(at, draw.choice((end, end, lambda: story.fail_over(holder()))))
    secret = {"plugin_config": {"secret": f"secret-{at}", "headers": {}}}
    story.cloud.at(at + int(draw.random() * 200) - 100, lambda: story.change(holder(), secret))
    for number in range(draw.choice((0, 0, 1, 2))):
        name = draw.choice(names)
        headers = {"plugin_config": {"secret": f"secret-{at}", "headers": {"X-Mine": str(number)}}}
        beside = draw.choice(
            (
                functools.partial(story.change, name, headers),
                functools.partial(story.change, name, {"priority": number}),
                functools.partial(story.redeliver, name),
                story.rotate_key,
            )
        )
        story.cloud.at(at + int(draw.random() * 200) - 100, beside)


def _heartbeats(story: Story, draw: random.Random, name: str) -> None:
    """Every 8 s for a while; most hosts fall silent before the end."""
    at, last = 1_000 + int(draw.random() * 8_000), draw.choice((20_000, 50_000, 80_000))
    while at < last:
        story.cloud.at(at, lambda: story.report(name, A, delay=draw.choice((0, 0, 500))))
        at += 8_000


# Small scenarios


def boot_race(story: Story) -> None:
    _two(story)
    _at(story, 1_000, lambda: story.report("paris", A), lambda: story.report("london", A))


def handover(story: Story) -> None:
    _two_up(story)
    _at(story, 3_000, lambda: story.report("paris", F))


def failover(story: Story) -> None:
    _two_up(story)
    _at(story, 3_000, lambda: story.fail_over("paris"))


def lease_end_and_heartbeat(story: Story) -> None:
    _two(story, lease=5)
    _at(story, 1_000, lambda: story.report("paris", A))
    _at(story, 1_500, lambda: story.report("london", A))
    _at(story, 5_995, lambda: story.report("paris", A))
    _at(story, 6_400, lambda: story.report("london", A))


def delete_the_holder(story: Story) -> None:
    _two_up(story)
    _at(
        story, 3_000, lambda: story.delete("paris"), lambda: story.report("paris", A), lambda: story.report("london", A)
    )


def delete_the_demoted(story: Story) -> None:
    _two_up(story)
    _at(story, 3_000, lambda: story.report("paris", S))
    _at(story, 3_008, lambda: story.delete("paris"))


def flapping(story: Story) -> None:
    _two_up(story)
    for i, status in enumerate((F, A, F, A)):
        _at(story, 3_000 + 30 * i, lambda status=status: story.report("paris", status))  # type: ignore[misc]


def register_delete_register(story: Story) -> None:
    story.host("paris"), story.host("london")
    story.register("paris")
    _at(story, 500, lambda: story.report("paris", A))
    _at(story, 1_000, lambda: story.delete("paris"))
    _at(story, 1_010, lambda: story.register("paris"), lambda: story.register("london"))
    _at(story, 2_000, lambda: story.report("london", A), lambda: story.report("paris", A))


def frozen_and_failing(story: Story) -> None:
    _two_up(story)
    _at(story, 3_000, lambda: story.freeze(True))
    _at(story, 3_005, lambda: story.report("paris", F))
    _at(story, 3_040, lambda: story.freeze(False))


def redeliver_against_failover(story: Story) -> None:
    _two_up(story)
    _at(
        story,
        3_000,
        lambda: story.redeliver("paris"),
        lambda: story.redeliver("london"),
        lambda: story.fail_over("paris"),
    )


def change_against_report(story: Story) -> None:
    _two_up(story)
    moved = {"url": "http://receiver.example.com/moved", "secret": "secret-moved"}
    _at(story, 3_000, lambda: story.report("paris", F), lambda: story.change("paris", {"plugin_config": moved}))
    _at(story, 3_030, lambda: story.change("paris", {"lease_seconds": 5}), lambda: story.report("paris", A))


BOTH = (Observer.HOST, Observer.PROBE)


def host_and_probe_disagree(story: Story) -> None:
    """A heartbeat beside a probe that fails, and the other way round."""
    _observed_two_up(story)
    _at(story, 3_000, lambda: story.report("paris", F, observer=Observer.PROBE), lambda: story.report("paris", A))
    _at(story, 3_040, lambda: story.report("paris", A))
    _at(story, 6_000, lambda: story.report("london", F), lambda: story.report("london", A, observer=Observer.PROBE))
    _at(story, 6_030, lambda: story.report("paris", A, observer=Observer.PROBE))


def any_of_two(story: Story) -> None:
    """A blind probe and a dead host, one after the other: only both together take the lock away."""
    _two(story, lease=5, observers=BOTH, ready_when="any")
    _at(story, 1_000, lambda: story.report("paris", A), lambda: story.report("paris", A, observer=Observer.PROBE))
    _at(story, 1_500, lambda: story.report("london", A, observer=Observer.PROBE))
    _at(story, 3_000, lambda: story.report("paris", F, observer=Observer.PROBE))
    _at(story, 5_995, lambda: story.report("paris", A))
    _at(story, 10_980, lambda: story.report("paris", A, observer=Observer.PROBE))
    _at(story, 14_000, lambda: story.report("paris", F, observer=Observer.PROBE))


def drain_against_heartbeat(story: Story) -> None:
    _two_up(story)
    _at(story, 3_000, lambda: story.drain("paris", True), lambda: story.report("paris", A))
    _at(story, 3_030, lambda: story.report("paris", A))
    _at(story, 6_000, lambda: story.drain("paris", False), lambda: story.report("paris", A))


def drain_of_the_last(story: Story) -> None:
    """Both are drained at the same moment, without force, and one is taken back."""
    _two_up(story)
    drain = functools.partial(story.drain, force=False)
    _at(story, 3_000, lambda: drain("paris", True), lambda: drain("london", True))
    _at(story, 3_040, lambda: drain("paris", False), lambda: story.report("paris", A))


def observers_changed_under_way(story: Story) -> None:
    _two_up(story)
    both = {"observers": ["host", "probe"]}
    _at(story, 3_000, lambda: story.change("paris", both), lambda: story.report("paris", A))
    _at(story, 3_030, lambda: story.change("london", both), lambda: story.report("paris", F, observer=Observer.PROBE))
    # Its probe says so again, also when the longest pause of a change is over, and the longest two.
    for at in (60_000, 210_000, 440_000):
        _at(story, at, lambda: story.report("paris", F, observer=Observer.PROBE))
        _at(story, at + 1_000, lambda: story.report("london", A, observer=Observer.PROBE))


def host_identity_changed_under_way(story: Story) -> None:
    """The events of paris change their source, and london reports for paris, which must not count."""
    _two_up(story)
    _at(story, 3_000, lambda: story.report("paris", A, source="paris"))
    _at(story, 3_005, lambda: story.report("paris", F, source="london"), lambda: story.report("paris", A))
    _at(story, 3_030, lambda: story.report("paris", S, source="paris"), lambda: story.report("london", A))
    _at(story, 6_000, lambda: story.report("paris", A, source="london"))


SCENARIOS: dict[str, Callable[[Story], None]] = {
    "boot race": boot_race,
    "handover": handover,
    "failover": failover,
    "lease end and heartbeat": lease_end_and_heartbeat,
    "delete the holder": delete_the_holder,
    "delete the demoted": delete_the_demoted,
    "flapping": flapping,
    "register, delete, register": register_delete_register,
    "frozen and failing": frozen_and_failing,
    "redeliver against failover": redeliver_against_failover,
    "change against report": change_against_report,
    "host and probe disagree": host_and_probe_disagree,
    "any of two": any_of_two,
    "drain against heartbeat": drain_against_heartbeat,
    "drain of the last": drain_of_the_last,
    "observers changed under way": observers_changed_under_way,
    "host identity changed under way": host_identity_changed_under_way,
}


def _two(story: Story, **more: Any) -> None:
    for name in ("paris", "london"):
        story.host(name, **more)
        story.register(name)


def _two_up(story: Story) -> None:
    _two(story)
    _at(story, 1_000, lambda: story.report("paris", A))
    _at(story, 2_000, lambda: story.report("london", A))


def _observed_two_up(story: Story) -> None:
    _two(story, observers=BOTH)
    for at, name in ((1_000, "paris"), (2_000, "london")):
        _at(story, at, *(functools.partial(story.report, name, A, observer=observer) for observer in BOTH))


def _at(story: Story, at: int, *happenings: Callable[[], None]) -> None:
    """Has all of them happen at that time, one right after the other."""

    def happen() -> None:
        for happening in happenings:
            happening()

    story.cloud.at(at, happen)


Plan = tuple[tuple[int, str], ...]


def planned(scenario: str, plan: Plan, *, traced: bool = False) -> tuple[Told, list[str]]:
    """A scenario with a fault at each of the plan's calls; also what every call was."""
    at, seen = dict(plan), []

    def fault(number: int, what: str) -> str | None:
        seen.append(what)
        return at.get(number)

    cloud = Cloud(fault=fault, latency=lambda: 5, call_ms=10, refresh_ms=5 * REFRESH_MS, traced=traced)
    told = play(cloud, SCENARIOS[scenario], recovery_ms=SOON_MS, and_refresh=len(plan) < 2)
    return told, seen


def plans(seen: list[str], after: Plan = ()) -> Iterator[Plan]:
    """Every plan that adds one fault behind those of `after` to the calls seen."""
    first = after[-1][0] + 1 if after else 0
    for number in range(first, len(seen)):
        for kind in RECEIVER_FAULTS if seen[number] == "post" else FAULTS:
            yield (*after, (number, kind))
