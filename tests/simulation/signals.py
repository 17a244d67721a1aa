"""Endpoints that only AWS's signals observe: events that are lost, doubled and disordered, and a look once a minute.

The signaller is the product's, in a process that meets every fault. A history knows how each instance really is, and
whether AWS has warned of its end. Its oracles: nothing is reported of an instance that was never so; and at the end,
when every event has come or is lost and looks were made, each word is the truth: what a warning says as long as it
holds, otherwise what the instance is.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from link.election.state import Observer, Status
from link.signals.events import SPOT_MS
from link.signals.words import Kind, Said
from tests.simulation.cloud import START, Bus
from tests.simulation.histories import CHAOS_MS, SOON_MS, A, Story, Told, play, watched_cloud

NAMES = ("paris", "london", "berlin")
MINUTE_MS = 60_000
COMPARED_MS = 300_000
"""Within this a status event that was lost is told again."""
STATES = {"running": A, "stopping": Status.STANDBY, "stopped": Status.FAILING}
EVENTS = {
    "stopping": ("aws.ec2", "EC2 Instance State-change Notification"),
    "stopped": ("aws.ec2", "EC2 Instance State-change Notification"),
    "warned": ("aws.ec2", "EC2 Spot Instance Interruption Warning"),
    "kept": ("aws.autoscaling", "EC2 Instance Terminate Unsuccessful"),
}


class Instances:
    """What AWS knows, and what it sends of it."""

    def __init__(self, story: Story, draw: random.Random) -> None:
        self.story, self.draw = story, draw
        self.state = dict.fromkeys(NAMES, "running")
        self.warned_at: dict[str, int] = {}
        self.was: dict[str, set[Status]] = {name: {A} for name in NAMES}
        """What could rightly be reported of each at some time until now."""
        self.loss = 0.0
        cloud = story.cloud
        cloud.look_at_signals = self.look
        self.bus: Bus = cloud.services["events"]
        self.bus.takes = self.takes

    def truth(self, name: str) -> Status:
        """What its signals come to now."""
        warned = self.warned_at.get(name)
        holds = warned is not None and self.story.cloud.now < warned + SPOT_MS
        state = STATES[self.state[name]]
        return Status.STANDBY if holds and state is A else state

    def becomes(self, name: str, what: str) -> None:
        """A state, a warning, or its end; the event about it may be lost, late or doubled."""
        cloud = self.story.cloud
        sent = what in EVENTS and self.draw.random() >= self.loss
        # A look finds neither a warning nor that one was taken back: without the event nobody can know.
        if what == "warned" and sent:
            self.warned_at[name] = cloud.now
        elif what in ("stopped", "kept") and sent:
            self.warned_at.pop(name, None)
        if what not in ("warned", "kept"):
            self.state[name] = what
        # Of an instance whose end was lost, the warning is all that is known.
        self.was[name] |= {self.truth(name)} | ({Status.STANDBY} if what == "warned" else set())
        if sent:
            body = self._event(name, what, cloud.now)
            for _ in range(self.draw.choice((1, 1, 2, 3))):
                cloud.at(self.draw.choice((50, 300, 5_000, 40_000)), functools.partial(cloud.signal, body))

    def _event(self, name: str, what: str, now: int) -> str:
        source, kind = EVENTS[what]
        moment = datetime.fromtimestamp(now / 1_000, UTC)
        detail = {"state": what, "instance-id": _instance(name), "EC2InstanceId": _instance(name)}
        time = moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        return json.dumps({"source": source, "detail-type": kind, "time": time, "detail": detail})

    def look(self, keys: Iterable[str]) -> list[Said]:
        """What a look finds, as it is when it begins."""
        now = self.story.cloud.now
        names = {f"ec2:{_instance(name)}": name for name in NAMES}
        found = []
        for key in keys:
            state = self.state[names[key]]
            found.append(Said(key, Kind.STATE, now, state, STATES[state]))
            if state == "stopped":
                self.warned_at.pop(names[key], None)
                found.append(Said(key, Kind.END, now, state))
        return found

    def takes(self, endpoint_id: str, status: Status, at: int) -> None:
        """A status event of the signaller is on its way."""
        promises = self.story.cloud.promises
        host = promises.resource.endpoints[endpoint_id].host
        promises.hold("only what was", 6, status in self.was[host], host, "is reported", status, "and never was it")

    def told_the_truth(self) -> str | None:
        """What is wrong with the words that the lock item has at the end; None if nothing is."""
        endpoints = self.story.cloud.promises.resource.endpoints
        entries = {name: endpoints[str(host.id)] for name, host in self.story.hosts.items()}
        words = {name: e.words.get(Observer.SIGNAL) for name, e in entries.items()}
        said = {name: word.status if word else None for name, word in words.items()}
        truth = {name: self.truth(name) for name in said}
        for name, e in entries.items():
            if e.joined >= self.warned_at.get(name, START + CHAOS_MS) and said[name] is STATES[self.state[name]]:
                # The warning may have come before the endpoint was there.
                truth[name] = STATES[self.state[name]]
        return None if said == truth else f"promise 6 at the end: {truth} and the words are {said}"


def _instance(name: str) -> str:
    return f"i-{NAMES.index(name):08x}"


def signalled_history(seed: int, *, traced: bool = False) -> Told:
    """A history of hosts that signals observe: what happens to them comes from the seed."""
    draw = random.Random(seed)
    cloud = watched_cloud(seed, draw, traced=traced)
    worlds = []

    def tell(story: Story) -> None:
        instances = Instances(story, draw)
        worlds.append(instances)
        names = NAMES[: draw.choice((2, 2, 3))]
        for name in names:
            signals: list[dict[str, Any]] = [{"type": "ec2", "instance_id": _instance(name)}]
            story.host(name, observers=(Observer.SIGNAL,), signals=signals, priority=draw.choice((0, 5)))
            story.register(name)
        first = START // MINUTE_MS + 1
        for number in range((CHAOS_MS + SOON_MS + COMPARED_MS) // MINUTE_MS + 12):
            late = draw.choice((0, 0, 300, 4_000))
            minute = (first + number) * MINUTE_MS
            cloud.at(minute - START + late, functools.partial(cloud.look_once, minute))
        for _ in range(draw.choice((2, 4, 8))):
            at, name = draw.randrange(5_000, CHAOS_MS - 5_000), draw.choice(names)
            cloud.at(at, functools.partial(instances.becomes, name, draw.choice((*EVENTS, "running", "running"))))
        instances.loss = draw.choice((0.0, 0.3, 1.0))
        loss = draw.choice((0.0, 0.0, 0.3))
        instances.bus.loses = lambda: cloud.now < START + CHAOS_MS and draw.random() < loss

    told = play(cloud, tell, recovery_ms=SOON_MS, and_refresh=False, calm_ms=COMPARED_MS + 150_000)
    return replace(told, broken=told.broken or worlds[0].told_the_truth())
