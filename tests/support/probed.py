"""Endpoints that a probe looks at: a prober on the simulated cloud, whose targets a test switches off and on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from link import deployment
from link.prober import Prober
from link.probing.checks import Check
from link.probing.looks import Looks
from link.probing.states import SLOT_MS, Shard
from link.store.probes import ProbeStates
from tests.support.deployed import environment
from tests.world import World

REFERENCE = "reference.example.com"


class Probing:
    """A world in which the bus delivers at once, and a look takes no time.

    `down`: why a host does not answer, by its name; `REFERENCE` is one of the hosts. `lost`: the bus takes the events,
    and nobody gets them. `refusing`: the bus does not take them.
    """

    def __init__(self, **more: Any) -> None:
        self.world = World(in_memory=True)
        self.down: dict[str, str] = {}
        self.lost = self.refusing = False
        self.lag_ms = 0
        self.looked_at: list[dict[str, int]] = []
        """The hosts of each look, with their tries."""
        self.events: list[tuple[str, str]] = []
        """Host and status of each event that the bus took."""
        self.environment = {**environment(self._suffix()), **more}
        self.new_process()

    def _suffix(self) -> str:
        return self.world.settings.locks_table.removeprefix("locks")

    def new_process(self) -> None:
        """Start the prober again, so that it reads its targets anew."""
        self.clients: dict[str, Any] = {"dynamodb": self.world._dynamodb, "events": self}
        self.prober: Prober = deployment.prober(
            self.environment, client=self.clients.__getitem__, clock=self.world.clock, look=self.look
        )

    def register(self, *hosts: str, **more: Any) -> list[str]:
        """Registers endpoints with a check each; returns their ids."""
        ids = []
        for host in hosts:
            check = {"type": "TCP", "host": f"{host}.example.com", "port": 80}
            ids.append(self.world.register(host, checks=[check], **more))
        self.new_process()
        return ids

    def look(self, wanted: Mapping[Check, int]) -> Looks:
        hosts = {check.host.removesuffix(".example.com") if check.host != REFERENCE else REFERENCE: n
                 for check, n in wanted.items()}  # fmt: skip
        self.looked_at.append(hosts)
        reasons = dict(zip(wanted, (self.down.get(host, "") for host in hosts), strict=True))
        return Looks(reasons, self.lag_ms)

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        if self.refusing:
            return {"FailedEntryCount": len(Entries), "Entries": [{"ErrorCode": "InternalFailure"}] * len(Entries)}
        for entry in Entries:
            assert (entry["EventBusName"], entry["DetailType"]) == ("events", "Endpoint Status Change")
            detail = json.loads(entry["Detail"])
            self.events.append((self.world.name(detail["endpoint_id"]), detail["status"]))
            if not self.lost:
                at, source = detail["reported_at"], entry["Source"]
                self.world.report(detail["endpoint_id"], detail["status"], at=at, source=source)
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in Entries]}

    def slots(self, number: int = 1) -> None:
        """The next slots, each at its time."""
        for _ in range(number):
            slot = self.world.clock.now() // SLOT_MS + 1
            self.world.settle(slot * SLOT_MS - self.world.clock.now())
            self.prober.run(0, 1, slot)
            self.world.settle(0)

    def until(self, holder: str | None, within: int) -> int:
        """How many slots it takes until this host holds the lock; fails if it does not within so many."""
        for number in range(within + 1):
            if self.world.holder() == holder:
                return number
            self.slots()
        raise AssertionError(f"{self.world.holder()} holds the lock after {within} slots, not {holder}")

    def id(self, host: str) -> str:
        """The id of a host's endpoint."""
        return next(i for i, name in self.world.names.items() if name == host)

    def known(self) -> Shard:
        """What the prober has stored."""
        return ProbeStates(self.world._dynamodb, self.world.settings).read(0, 1)
