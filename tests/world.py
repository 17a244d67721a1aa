"""A world for the real code: its clock, queue, receiver and faults are virtual, its store and keys are moto's.

Everything outside a process passes a *point* before and after it happens. A test can crash the process
at any point, or have something else happen there. One thread, so moto's missing atomicity cannot show.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import boto3

from link import deployment
from link import settings as link_settings
from link.chance import Chance
from link.clock import Clock
from link.election.deliveries import Outcome
from link.election.result import Result, ResultKind
from link.election.state import NEVER, Resource, Status
from link.errors import Rejected
from link.receiver import parse_and_validate_webhook
from link.reconcile import Sends
from link.reports import parse
from link.settings import Settings
from link.store.lock_item import due_shard
from link.store.locks import Locks
from tests.simulation.store import Keys, Store
from tests.support.deployed import create_tables, environment
from tests.support.ids import RESOURCE

START = 1_795_435_200_000
"""2026-11-23T12:00:00Z."""
VISIBILITY_MS = 180_000
INVOCATION_MS = 30_000
SECRETS = {"paris": "paris-secret-0123456789abcdef0123", "london": "london-secret-0123456789abcdef01"}
_serial = itertools.count()


class Crash(BaseException):
    """The process is gone: whatever it had not told anyone is lost."""


class VirtualClock(Clock):
    def __init__(self) -> None:
        self.at = START

    def now(self) -> int:
        return self.at

    def pause(self, seconds: float) -> None:
        self.at += round(seconds * 1000)


class SeededChance(Chance):
    """The same jitter in every run."""

    def __init__(self) -> None:
        self._random = random.Random(0)


class InlineSends(Sends):
    """Attempts run when they start; their outcomes arrive when somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self._outcomes: list[Outcome] = []

    def start(self, attempt: Callable[[], Outcome]) -> None:
        self._outcomes.append(attempt())
        self.under_way += 1

    def wait(self, seconds: float) -> list[Outcome]:
        outcomes, self._outcomes = self._outcomes, []
        self.under_way -= len(outcomes)
        return outcomes


@dataclass
class Request:
    """A webhook as it arrived. `answered` is False when the receiver failed it."""

    at: int
    endpoint_id: str
    status: str
    epoch: int
    sequence: int
    reason: str
    attempt: int
    message_id: str
    answered: bool


class Receiver:
    """Verifies what arrives and remembers it. `answers` says how the next requests are answered."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.requests: list[Request] = []
        self.secrets: dict[str, str] = {}
        self.answers: list[Result] = []
        self.always: Result | None = None
        self.takes_ms = 20

    def post(self, url: str, body: bytes, headers: dict[str, str], *, not_after: int) -> Result:
        self.world.point("post", "before")
        if self.world.clock.now() > not_after:
            return Result(ResultKind.TOO_LATE, "claim_ending")
        self.world.clock.at += self.takes_ms
        endpoint_id = json.loads(body)["endpoint_id"]
        seen = parse_and_validate_webhook(self.secrets[endpoint_id], headers, body, now=self.world.clock.now() // 1000)
        answer = self.always or (self.answers.pop(0) if self.answers else Result(ResultKind.DELIVERED, "", 204))
        self.requests.append(
            Request(
                at=self.world.clock.now(),
                endpoint_id=endpoint_id,
                status=seen.status,
                epoch=int(headers["X-Link-Webhook-Epoch"]),
                sequence=int(headers["X-Link-Webhook-Sequence"]),
                reason=headers["X-Link-Webhook-Reason"],
                attempt=int(headers["X-Link-Webhook-Attempt"]),
                message_id=headers["webhook-id"],
                answered=answer.kind is ResultKind.DELIVERED,
            )
        )
        self.world.point("post", "after")
        return answer

    def told(self, endpoint_id: str | None = None) -> list[tuple[str, str, int, int]]:
        """(endpoint, status, epoch, sequence) of what was answered with 2xx, in order of arrival."""
        return [
            (self.world.name(r.endpoint_id), r.status, r.epoch, r.sequence)
            for r in self.requests
            if r.answered and endpoint_id in (None, r.endpoint_id)
        ]

    def active(self) -> str | None:
        """Who is active for a receiver that keeps the four-line rule."""
        slot, highest, last = None, 0, Counter[str]()
        for r in self.requests:
            if not r.answered or r.sequence < last[r.endpoint_id]:
                continue
            last[r.endpoint_id] = r.sequence
            if r.status == "ACTIVATED":
                if r.epoch < highest:
                    continue
                slot, highest = r.endpoint_id, r.epoch
            elif slot == r.endpoint_id:
                slot = None
        return slot


class Outside:
    """An AWS client whose every call passes two points and is counted."""

    def __init__(self, client: Any, service: str, world: World) -> None:
        self._client, self._service, self._world = client, service, world

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name == "get_paginator":
            return method

        def call(**arguments: Any) -> Any:
            self._world.point(f"{self._service}.{name}", "before")
            self._world.calls[name] += 1
            answer = method(**arguments)
            self._world.point(f"{self._service}.{name}", "after")
            return answer

        return call


class VirtualQueue:
    """The wake-up and the rejected-events queue, on virtual time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.messages: list[tuple[int, int, dict[str, Any]]] = []
        self.rejected: list[dict[str, Any]] = []

    def send_message(self, QueueUrl: str, MessageBody: str, DelaySeconds: int = 0) -> None:
        if QueueUrl == "rejected":
            self.rejected.append(json.loads(MessageBody))
        else:
            self.put(json.loads(MessageBody), self.world.clock.now() + DelaySeconds * 1000)

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        for entry in Entries:
            self.send_message(QueueUrl, entry["MessageBody"], entry["DelaySeconds"])
        return {"Failed": []}

    def put(self, message: dict[str, Any], visible_at: int) -> None:
        heapq.heappush(self.messages, (visible_at, next(_serial), message))


@dataclass
class World:
    """One deployment with its outside."""

    refresh_ms: int = 300_000
    handover_ms: int = 1_000
    in_memory: bool = False
    """With the simulation's store and keys in place of moto's, which take a hundred times as long."""
    crash_at: int | None = None
    """Number of the point at which the process is lost."""
    meanwhile: dict[int, Callable[[], None]] = field(default_factory=dict)
    """What else happens at a point, by its number."""
    points: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    """Calls of clients, by method."""
    wire: Counter[str] = field(default_factory=Counter)
    """Requests that left botocore, by operation, and the items they read and wrote."""

    def __post_init__(self) -> None:
        self.clock = VirtualClock()
        self.receiver = Receiver(self)
        self.queue = VirtualQueue(self)
        _watching[0] = self
        self.env = environment(
            f"-{next(_serial)}",
            key="key" if self.in_memory else _key(),
            refresh_ms=self.refresh_ms,
            handover_ms=self.handover_ms,
        )
        self.settings = link_settings.load(self.env)
        self._dynamodb: Any
        kms: Any
        if self.in_memory:
            self._dynamodb, kms = Store(self.settings), Keys()
        else:
            self._dynamodb, kms = _client("dynamodb"), _client("kms")
            create_tables(self._dynamodb, self.settings)
        services = {"dynamodb": self._dynamodb, "kms": kms, "sqs": self.queue}
        self._clients = {name: Outside(client, name, self) for name, client in services.items()}
        self._indexed: dict[str, str] | None = None
        self.next_sweep = START + 60_000
        self.names: dict[str, str] = {}
        self.new_process()

    # What a process is made of

    def new_process(self) -> None:
        """A process without any memory."""
        client, chance = self._clients.__getitem__, SeededChance()
        self.reconciler = deployment.reconciler(
            self.env, client=client, clock=self.clock, chance=chance, post=self.receiver.post, sends=InlineSends
        )
        self.control = deployment.control_plane(self.env, client=client, clock=self.clock, chance=chance)
        self.rotation = deployment.key_rotation(self.env, client=client, clock=self.clock)
        self._sweep = deployment.sweep(self.env, client=client, clock=self.clock)

    def point(self, what: str, when: str) -> None:
        number = len(self.points)
        self.points.append(f"{what} {when}")
        if number == self.crash_at:
            raise Crash
        if number in self.meanwhile:
            self.meanwhile.pop(number)()

    def on_the_wire(self, request: Any, **_: Any) -> None:
        """Counts a request as it leaves botocore, retries included, and what DynamoDB would bill for it."""
        operation = request.headers["X-Amz-Target"].decode().rpartition(".")[2]
        body = json.loads(request.body)
        self.wire[operation] += 1
        if operation == "GetItem":
            # Consistent, and below 4 KB.
            self.wire.update({"items read": 1, "read units": 1})
        elif operation == "PutItem":
            self._written(body, 1)
        elif operation == "TransactWriteItems":
            for write in body["TransactItems"]:
                self._written(next(iter(write.values())), 2)

    def _written(self, write: dict[str, Any], each: int) -> None:
        item = write.get("Item", {})
        self.wire.update({"items written": 1, "write units": each * -(-max(1, size(item)) // 1024)})
        if write["TableName"] == self.settings.locks_table:
            # The index is written only when its key comes, goes or changes; a change is two writes.
            before, self._indexed = self._indexed, item.get("due_at")
            self.wire["write units"] += 0 if before == self._indexed else 2 if before and self._indexed else 1

    # What happens to it

    def register(self, host: str, **more: Any) -> str:
        """Registers an endpoint of paris or london; returns its id."""
        secret = SECRETS.get(host, f"{host}-secret-0123456789abcdef0123456")
        body = {
            "plugin": "webhook",
            "plugin_config": {"url": "https://receiver.example.com/hook", "resource_id": RESOURCE, "secret": secret},
            "host": host,
            **more,
        }
        try:
            endpoint_id: str = self.control.commands.create(body, f"register-{host}")["id"]
        except Crash:
            self.crash_at = None
            self.new_process()
            entries = self.resource().endpoints
            stored = [i for i, e in entries.items() if e.host == host]
            endpoint_id = stored[0] if stored else self.control.commands.create(body, f"register-{host}")["id"]
        self.names[endpoint_id] = host
        self.receiver.secrets[endpoint_id] = secret
        self.clock.at += 1
        return endpoint_id

    def name(self, endpoint_id: str) -> str:
        return self.names.get(endpoint_id, endpoint_id)

    def event(self, endpoint_id: str, status: str, *, at: int | None = None, **more: Any) -> dict[str, Any]:
        """The event a host sends now."""
        return {
            "id": f"event-{next(_serial)}",
            "source": "link",
            "detail-type": "Endpoint Status Change",
            "time": "2026-11-23T12:00:00Z",
            "detail": {
                "endpoint_id": endpoint_id,
                "status": status,
                "resource_id": RESOURCE,
                "reported_at": self.clock.now() if at is None else at,
                **more,
            },
        }

    def report(self, endpoint_id: str, status: str, *, at: int | None = None) -> None:
        """A host's report, through the status queue."""
        self.queue.put({"event": self.event(endpoint_id, status, at=at)}, self.clock.now())
        self.settle(0)

    def invoke(self, message: dict[str, Any]) -> None:
        """One invocation for one message; a crash brings the message back after its visibility timeout."""
        ends_at = self.clock.now() + INVOCATION_MS

        def seconds_left() -> float:
            return (ends_at - self.clock.now()) / 1000

        try:
            if "event" in message:
                try:
                    self.reconciler.receive(parse(message["event"]), seconds_left)
                except Rejected as rejected:
                    self.queue.rejected.append({"reason": rejected.code, "message": str(rejected)})
            else:
                self.reconciler.wake_up(message["resource_id"], message["due_at"], "message", seconds_left)
        except Crash:
            self.crash_at = None
            self.new_process()
            self.queue.put(message, self.clock.now() + VISIBILITY_MS)

    def operator(self, command: Callable[[], object]) -> None:
        """An API call; whoever made it sees a crash as an error and calls again."""
        try:
            command()
        except Crash:
            self.crash_at = None
            self.new_process()
            command()
        self.settle(0)

    def settle(self, milliseconds: int) -> None:
        """Lets the time pass and everything happen that falls into it."""
        end = self.clock.now() + milliseconds
        while True:
            visible = self.queue.messages[0][0] if self.queue.messages else NEVER
            upcoming = min(visible, self.next_sweep)
            if upcoming > max(end, self.clock.now()):
                self.clock.at = max(end, self.clock.at)
                return
            self.clock.at = max(self.clock.at, upcoming)
            if upcoming == visible:
                self.invoke(heapq.heappop(self.queue.messages)[2])
            else:
                self.next_sweep += 60_000
                self.sweep()

    def sweep(self) -> None:
        """What the scheduled function does."""
        # The other shards hold other resources, of which there are none here.
        self._sweep.run(shards=[due_shard(RESOURCE)])

    # What is to be seen

    def resource(self) -> Resource:
        """The lock item, read past every fault."""
        return Locks(self._dynamodb, self.settings, self.clock, Chance()).read(RESOURCE)

    def holder(self) -> str | None:
        """The name of the endpoint that is ACTIVATED in the table."""
        holders = [i for i, e in self.resource().endpoints.items() if e.status is Status.ACTIVATED]
        assert holders == ([self.resource().holder] if self.resource().holder else [])
        return self.name(holders[0]) if holders else None

    def transitions(self) -> list[dict[str, Any]]:
        """The audit, oldest first."""
        return self._dynamodb.query(
            TableName=self.settings.transitions_table,
            KeyConditionExpression="resource_id = :r",
            ExpressionAttributeValues={":r": {"S": RESOURCE}},
        )["Items"]

    def changes(self) -> list[list[dict[str, str]]]:
        """The changes in each row of the audit, oldest first, as plain values."""
        return [
            [
                {name: next(iter(value.values())) for name, value in change["M"].items()}
                for change in item["changes"]["L"]
            ]
            for item in self.transitions()
        ]

    def rows(self) -> set[str]:
        """The registered endpoints' names."""
        items = self._dynamodb.scan(TableName=self.settings.endpoints_table)["Items"]
        return {self.name(item["endpoint_id"]["S"]) for item in items}


def size(item: dict[str, Any]) -> int:
    """Bytes of an item as DynamoDB counts them: names, values, 3 for a map or list and 1 for each member."""

    def of(typed: dict[str, Any]) -> int:
        ((kind, value),) = typed.items()
        if kind == "M":
            return 3 + len(value) + size(value)
        if kind == "L":
            return 3 + len(value) + sum(of(member) for member in value)
        if kind == "N":
            return len(value) // 2 + 1
        return 1 if kind == "BOOL" else len(value.encode() if isinstance(value, str) else value)

    return sum(len(name.encode()) + of(typed) for name, typed in item.items())


class Table:
    """One table as somebody sees it who can write it past the code."""

    def __init__(self, dynamodb: Any, name: str, key: str) -> None:
        self._dynamodb, self._name, self._key = dynamodb, name, key

    def get_item(self, value: str) -> dict[str, Any]:
        item: dict[str, Any] = self._dynamodb.get_item(TableName=self._name, Key={self._key: {"S": value}})["Item"]
        return item

    def put_item(self, item: dict[str, Any]) -> None:
        self._dynamodb.put_item(TableName=self._name, Item=item)

    def all(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._dynamodb.scan(TableName=self._name)["Items"]
        return items


@dataclass
class Tables:
    locks: Table
    endpoints: Table


def tables(world: World) -> Tables:
    """The world's tables, past every fault."""
    return Tables(
        Table(world._dynamodb, world.settings.locks_table, "resource_id"),
        Table(world._dynamodb, world.settings.endpoints_table, "endpoint_id"),
    )


_watching: list[World] = [None]  # type: ignore[list-item]


@functools.cache
def _client(service: str) -> Any:
    """One client for all worlds, because making one takes longer than most worlds last; the newest world counts."""
    client = boto3.client(service, region_name="eu-west-1")
    client.meta.events.register_first("before-send", lambda **sent: _watching[0].on_the_wire(**sent))
    return client


def _key() -> str:
    """A key of moto's: it takes longer to make one than for all the rest."""
    kms = _client("kms")
    keys = kms.list_keys()["Keys"]
    arn: str = keys[0]["KeyArn"] if keys else kms.create_key()["KeyMetadata"]["Arn"]
    return arn
