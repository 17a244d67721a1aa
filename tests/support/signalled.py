"""Endpoints with signals: a signaller on the simulated cloud, whose events and looks a test makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from link import deployment
from link.election.state import Status
from link.signaller import Signaller
from link.signals.words import Kind, Observed, Said
from link.sqs_batch import NotYet
from link.store.signals import Signals
from tests.simulation.store import refused
from tests.support.deployed import environment
from tests.support.functions import event
from tests.world import World

INSTANCES = {"paris": "i-0fedcba9876543210", "london": "i-0123456789abcdef0"}


class Signalling:
    """A world in which the bus delivers at once, and a look finds each instance as `seen` says.

    `lost`: the bus takes the events, and nobody gets them. `refusing`: the bus does not take them.
    """

    def __init__(self) -> None:
        self.world = World(in_memory=True)
        self.lost = self.refusing = False
        self.seen: dict[str, Status | None] = {}
        """What a look finds, by the name of the host; None: nothing is known."""
        self.events: list[tuple[str, str, int]] = []
        """Host, status and time of each event that the bus took."""
        self.completed: list[dict[str, Any]] = []
        """The lifecycle actions that were completed."""
        self.completing: ClientError | None = None
        self.calls: list[str] = []
        """The calls of DynamoDB and SQS."""
        self.before_write: list[Callable[[], None]] = []
        """What happens before the next writes of what was heard, one for each."""
        suffix = self.world.settings.locks_table.removeprefix("locks")
        clients = {"dynamodb": Watched(self, self.world._dynamodb), "events": self, "autoscaling": self, "sqs": self}
        self.rejected: list[dict[str, Any]] = []
        self.signaller: Signaller = deployment.signaller(
            environment(suffix), client=clients.__getitem__, clock=self.world.clock, look=self.found
        )

    def register(self, *hosts: str, **more: Any) -> list[str]:
        """Registers endpoints, each with the signal of its instance; returns their ids."""
        return [
            self.world.register(host, signals=[{"type": "ec2", "instance_id": INSTANCES[host], **more}])
            for host in hosts
        ]

    def settled(self, *hosts: str, **more: Any) -> list[str]:
        """Registers endpoints whose instances run, and lets the first one get the lock."""
        ids = self.register(*hosts, **more)
        for host in hosts:
            self.seen[host] = Status.ACTIVATED
            self.look()
        assert self.world.holder() == hosts[0]
        self.events.clear()
        self.calls.clear()
        return ids

    def now(self, name: str, host: str = "paris", **more: Any) -> dict[str, Any]:
        """A recorded event, as if it were about the host's instance and happened now."""
        recorded = event(f"signal_{name}")
        detail = recorded["detail"]
        for field in ("instance-id", "EC2InstanceId"):
            if field in detail:
                detail[field] = INSTANCES[host]
        seconds, ms = divmod(self.world.clock.now(), 1_000)
        recorded["time"] = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
        detail |= more
        return recorded

    def hear(self, body: Any) -> None:
        """One message with this event."""
        self.signaller.take(body if isinstance(body, str) else json.dumps(body), "message")
        self.world.settle(0)

    def waits(self, body: Any) -> bool:
        """Whether the message has to come back."""
        try:
            self.hear(body)
        except NotYet:
            self.world.settle(0)
            return True
        return False

    def look(self) -> dict[str, int]:
        """The look at the next minute."""
        self.world.settle(60_000 - self.world.clock.now() % 60_000)
        news = self.signaller.look(self.world.clock.now())
        self.world.settle(2_000)
        return news

    def found(self, keys: Iterable[str]) -> list[Said]:
        names = {f"ec2:{instance}": host for host, instance in INSTANCES.items()}
        now = self.world.clock.now()
        seen = {key: self.seen.get(names[key]) for key in keys if key in names}
        return [Said(key, Kind.STATE, now, "checks_passed", status) for key, status in seen.items() if status]

    def known(self, endpoint_id: str) -> Observed:
        """What is stored of an endpoint."""
        observed = Signals(self.world._dynamodb, self.world.settings).read(endpoint_id)
        assert observed is not None
        return observed

    # The clients

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        if self.refusing:
            return {"FailedEntryCount": len(Entries), "Entries": [{"ErrorCode": "InternalFailure"}] * len(Entries)}
        for entry in Entries:
            assert (entry["EventBusName"], entry["Source"]) == ("events", "link.signal")
            detail = json.loads(entry["Detail"])
            at = detail["reported_at"]
            self.events.append((self.world.name(detail["endpoint_id"]), detail["status"], at))
            if not self.lost:
                self.world.report(detail["endpoint_id"], detail["status"], at=at, source="link.signal")
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in Entries]}

    def complete_lifecycle_action(self, **action: Any) -> None:
        if self.completing is not None:
            raise self.completing
        self.completed.append(action)

    def send_message(self, QueueUrl: str, MessageBody: str) -> None:
        assert QueueUrl == "rejected"
        self.rejected.append(json.loads(MessageBody))

    def change_message_visibility(self, **call: Any) -> None:
        self.calls.append(f"ChangeMessageVisibility {call['QueueUrl']} {call['VisibilityTimeout']}")


class Watched:
    """DynamoDB, whose calls are counted."""

    def __init__(self, of: Signalling, dynamodb: Any) -> None:
        self._of, self._dynamodb = of, dynamodb

    def __getattr__(self, name: str) -> Any:
        def call(**given: Any) -> Any:
            if name == "update_item" and "told_at" not in given["UpdateExpression"] and self._of.before_write:
                self._of.before_write.pop(0)()
            self._of.calls.append(name)
            return getattr(self._dynamodb, name)(**given)

        if name == "get_paginator":
            return lambda method: self._dynamodb.get_paginator(method)
        return call


def no_such_action() -> ClientError:
    """What Auto Scaling answers when a lifecycle action is over."""
    return refused("ValidationError", "CompleteLifecycleAction")
