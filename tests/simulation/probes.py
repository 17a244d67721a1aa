"""Endpoints that only a probe observes: hosts that die, and a prober that is blind, late or cut off from a host.

The prober is the product's, in a process that meets every fault. A history knows which hosts are really well, and what
the prober can reach. Its oracles: a blind prober says nothing about anybody; no endpoint is reported FAILING without
which no endpoint of its resource is ready; and at the end, when everything answers again, each word is the truth.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from dataclasses import replace

from link.election.state import Observer, Status
from link.probing.checks import Check
from link.probing.looks import Looks
from link.probing.states import SLOT_MS
from tests.simulation.cloud import START, Bus
from tests.simulation.histories import CHAOS_MS, SOON_MS, A, Story, Told, play, watched_cloud

NAMES = ("paris", "london", "berlin")
REFERENCE = "reference.example.com"
COMPARED_MS = 300_000
"""Within this an event that was lost is told again."""


class Network:
    """What answers the prober. `dead`: hosts that do not; `cut`: it cannot reach them; `blind`: it reaches none."""

    def __init__(self, story: Story, draw: random.Random) -> None:
        self.story, self.draw = story, draw
        self.dead: set[str] = set()
        self.cut: set[str] = set()
        self.blind = False
        self.lag_ms = 0
        self._seen_down: set[str] = set()
        """The hosts that were dead or cut off at a try of a look, since they were last reported up."""
        self._told_at: dict[str, int] = {}
        cloud = story.cloud
        cloud.look = self.look
        self.bus: Bus = cloud.services["events"]
        self.bus.takes = self.takes

    def answers(self, host: str) -> bool:
        """A prober that is late finds everybody slow but the nearest, its references."""
        return not self.blind and not self.lag_ms and host not in self.dead | self.cut

    def look(self, wanted: Mapping[Check, int]) -> Looks:
        """A try each 1.5 s, as long as none passes; each sees the network of its moment."""
        reasons, lag_ms = dict.fromkeys(wanted, "timeout"), 0
        for number in range(max(wanted.values())):
            lag_ms = max(lag_ms, self.lag_ms)
            for check, tries in wanted.items():
                host = check.host.removesuffix(".example.com")
                if number < tries and (not self.blind if check.host == REFERENCE else self.answers(host)):
                    reasons[check] = ""
                elif host in self.dead | self.cut:
                    self._seen_down.add(host)
            if all(reasons[check] == "" or tries <= number + 1 for check, tries in wanted.items()):
                break
            self.story.cloud.sleep(1_500)
        return Looks(reasons, lag_ms)

    def told_the_truth(self) -> str | None:
        """What is wrong with the words that the lock item has at the end; None if nothing is."""
        endpoints = self.story.cloud.promises.resource.endpoints
        words = {name: endpoints[str(host.id)].words.get(Observer.PROBE) for name, host in self.story.hosts.items()}
        said = {name: word is not None and word.status is A for name, word in words.items()}
        truth = {name: name not in self.dead for name in said}
        return None if said == truth else f"promise 6 at the end: {truth} and the words are {said}"

    def takes(self, endpoint_id: str, status: Status, at: int) -> None:
        """An event of the prober is on its way."""
        promises, now = self.story.cloud.promises, self.story.cloud.now
        if at <= self._told_at.get(endpoint_id, 0):
            return  # From a process that had stopped: it does not count any more.
        self._told_at[endpoint_id] = at
        host = promises.resource.endpoints[endpoint_id].host
        if status is not Status.FAILING:
            self._seen_down.discard(host)
            return
        down = host in self._seen_down
        promises.hold("blind prober", 6, down, host, "is reported FAILING, and it answered all the time")
        holder = promises.resource.holder
        others = [i for i in promises.resource.endpoints if i != endpoint_id and promises._is_up(i, now)]
        # It may repeat what it said before.
        again = promises._verdict(endpoint_id, now) is Status.FAILING or holder is None
        promises.hold("last one", 7, bool(others) or again, host, "is reported FAILING, and no other one is ready")


def probed_history(seed: int, *, traced: bool = False) -> Told:
    """A history of hosts that are probed: what happens to them and to the prober comes from the seed."""
    draw = random.Random(seed)
    cloud = watched_cloud(seed, draw, traced=traced)

    networks = []

    def tell(story: Story) -> None:
        network = Network(story, draw)
        networks.append(network)
        names = NAMES[: draw.choice((2, 2, 3))]
        for name in names:
            check = {"type": "TCP", "host": f"{name}.example.com", "port": 80}
            story.host(name, observers=(Observer.PROBE,), checks=[check], priority=draw.choice((0, 5)))
            story.register(name)
        for number in range(1, (CHAOS_MS + SOON_MS + COMPARED_MS) // SLOT_MS + 60):
            late = draw.choice((0, 0, 0, 300, 4_000))
            cloud.at(number * SLOT_MS + late, functools.partial(cloud.probe, START // SLOT_MS + number))
        for _ in range(draw.choice((2, 4, 8))):
            _happening(network, draw, names)
        loss = draw.choice((0.0, 0.0, 0.3))
        network.bus.loses = lambda: cloud.now < START + CHAOS_MS and draw.random() < loss
        well = draw.sample(names, draw.choice((1, len(names))))

        def heal() -> None:
            network.blind, network.lag_ms = False, 0
            network.cut.clear()
            network.dead = set(names) - set(well)

        cloud.at(CHAOS_MS - 1, heal)

    told = play(cloud, tell, recovery_ms=SOON_MS, and_refresh=False, calm_ms=COMPARED_MS + 150_000)
    return replace(told, broken=told.broken or networks[0].told_the_truth())


def _happening(network: Network, draw: random.Random, names: tuple[str, ...]) -> None:
    """A host dies, is cut off, or comes back; or the prober sees nothing for a while, or is late."""
    cloud, at, name = network.story.cloud, draw.randrange(5_000, CHAOS_MS - 5_000), draw.choice(names)
    lasts = draw.choice((500, 4_000, 15_000, 40_000))
    what = draw.choice(("dies", "dies", "flaps", "cut", "all cut", "blind", "late"))
    if what in ("dies", "cut", "all cut"):
        group = network.dead if what == "dies" else network.cut
        who = set(names) if what == "all cut" else {name}
        cloud.at(at, lambda: group.update(who))
        cloud.at(at + lasts, lambda: group.difference_update(who))
    elif what == "flaps":
        for turn in range(8):
            switch = network.dead.add if turn % 2 == 0 else network.dead.discard
            cloud.at(at + 3_000 * turn, functools.partial(switch, name))
    else:
        cloud.at(at, lambda: setattr(network, *(("blind", True) if what == "blind" else ("lag_ms", 3_000))))
        cloud.at(at + lasts, lambda: setattr(network, *(("blind", False) if what == "blind" else ("lag_ms", 0))))
