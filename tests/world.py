"""The simulator's cloud for tests that go step by step: without faults, with one process of each function.

`tests.simulation.cloud` says what is replaced and why. Here nothing is random and no call takes time, except that the
receiver needs 20 ms to answer. The store and the keys are moto's behind real boto3 clients, or the simulator's own,
which are a hundred times as fast (`in_memory`). The test is outside every process: it registers, reports, lets time
pass (`settle`) and looks at what was delivered.

Each call and each request of a process passes a *point* before and after it. At any point, a test can crash the process
or let something else happen.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import boto3

from link.chance import Chance
from link.deployment import ControlPlane
from link.election.result import Result, ResultKind
from link.election.state import Resource, Status
from link.key_rotation import KeyRotation
from link.receiver import parse_and_validate_webhook
from link.reconcile import Reconciler
from link.store.locks import Locks
from tests.simulation import cloud as simulation
from tests.simulation.cloud import START, VISIBILITY_MS, Cloud, Connection, Crash, Process, Sqs, VirtualClock
from tests.simulation.cloud import VirtualSends as InlineSends
from tests.support.deployed import create_tables
from tests.support.ids import RESOURCE

__all__ = ["START", "VISIBILITY_MS", "InlineSends", "VirtualClock", "World", "size", "tables"]

SECRETS = {"paris": "paris-secret-0123456789abcdef0123", "london": "london-secret-0123456789abcdef01"}
_serial = itertools.count()


class QuietCloud(Cloud):
    """One invocation at a time. An error in an invocation is raised in the test."""

    survived = ()
    one_at_a_time = True
    error: Exception | None = None

    def jitter(self) -> float:
        return 0.5

    def _sweep(self) -> None:
        # A message that is visible at the same moment comes first.
        self.at(0, super()._sweep)

    def failed(self, error: Exception) -> None:
        self.error = error

    def step(self) -> None:
        super().step()
        if self.error is not None:
            error, self.error = self.error, None
            raise error


class Unwatched:
    """Takes the place of the simulator's checks: here the test itself checks."""

    broken = None

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None


@dataclass
class Request:
    """A webhook as it arrived. `answered` is False if the receiver did not answer 2xx."""

    at: int
    endpoint_id: str
    status: str
    epoch: int
    sequence: int
    reason: str
    attempt: int
    message_id: str
    answered: bool


class Receiver(simulation.Receiver):
    """Verifies and remembers each request. `answers` has the answers to the next requests.

    An answer is given as the result that the sender must get. The real sender gets it as a status, a timeout or a
    refused connection. A result that no receiver can cause, as a secret that cannot be read, replaces the sender's.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world.cloud)
        self.world = world
        self.requests: list[Request] = []
        self.secrets: dict[str, str] = {}
        self.answers: list[Result] = []
        self.always: Result | None = None
        self.refuses: Callable[[bytes, dict[str, str], int], bool] = self._verify
        """Whether it answers 401 to a body with headers at a time (Unix seconds)."""
        self.takes_ms = 20
        self.answers_after_ms = 0
        """Time from the request's arrival to the answer. The sender waits for at most 5 s in all."""
        self._send = self.post
        self.post = self._post
        self._scripted: dict[Connection, Result] = {}

    def _post(self, url: str, body: bytes, headers: dict[str, str], *, not_after: int) -> Result:
        scripted = self.always or (self.answers[0] if self.answers else None)
        if scripted is not None and scripted.kind in (ResultKind.REFUSED, ResultKind.UNREADABLE, ResultKind.TOO_LATE):
            return self._next()
        return self._send(url, body, headers, not_after=not_after)

    def _next(self) -> Result:
        return self.always or (self.answers.pop(0) if self.answers else Result(ResultKind.DELIVERED, "", 204))

    def look_up(self) -> Any:
        if self.always is not None and self.always.reason == "dns":
            raise OSError("no such name")
        return super().look_up()

    def connected(self, fault: str | None) -> Connection:
        scripted = self._next()
        if scripted.kind is ResultKind.NOT_SENT:
            raise TimeoutError if scripted.reason == "timeout" else ConnectionRefusedError
        connection = super().connected(fault)
        self._scripted[connection] = scripted
        return connection

    def travel_ms(self) -> int:
        return self.takes_ms

    def answer(self, connection: Connection) -> bytes | None:
        if not connection.open:
            return None
        scripted, now = self._scripted.pop(connection), self.world.clock.now()
        head, _, body = connection.request.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:])
        if self.refuses(body, headers, now // 1000):
            scripted = Result(ResultKind.ANSWERED, "status_401", 401)
        event = json.loads(body)
        self.requests.append(
            Request(
                at=now,
                endpoint_id=event["endpoint_id"],
                status=event["status"],
                epoch=int(headers["X-Link-Webhook-Epoch"]),
                sequence=int(headers["X-Link-Webhook-Sequence"]),
                reason=headers["X-Link-Webhook-Reason"],
                attempt=int(headers["X-Link-Webhook-Attempt"]),
                message_id=headers["webhook-id"],
                answered=scripted.kind is ResultKind.DELIVERED,
            )
        )
        if scripted.kind is ResultKind.MAYBE_RECEIVED:
            connection.answered(TimeoutError() if scripted.reason == "timeout" else ConnectionResetError())
            return None
        retry_after = scripted.retry_after_seconds
        more = b"" if retry_after is None else b"Retry-After: %d\r\n" % retry_after
        answer = simulation.ANSWER % (scripted.status_code or 204, more)
        if not self.answers_after_ms:
            return answer
        self.world.cloud.at(self.answers_after_ms, lambda: connection.answered(answer))
        return None

    def _verify(self, body: bytes, headers: dict[str, str], now: int) -> bool:
        """Raises if the signature is wrong, so the test fails; never answers 401."""
        parse_and_validate_webhook(self.secrets[json.loads(body)["endpoint_id"]], headers, body, now=now)
        return False

    def delivered(self, endpoint_id: str | None = None) -> list[tuple[str, str, int, int]]:
        """(endpoint, status, epoch, sequence) of each webhook that was answered with 2xx, in order of arrival."""
        return [
            (self.world.name(r.endpoint_id), r.status, r.epoch, r.sequence)
            for r in self.requests
            if r.answered and endpoint_id in (None, r.endpoint_id)
        ]

    def active(self) -> str | None:
        """The active endpoint for a receiver that follows the receiver's rule."""
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


@dataclass
class World:
    """One deployment, its hosts, its operator and its receiver."""

    refresh_ms: int = 300_000
    handover_ms: int = 1_000
    in_memory: bool = False
    """Whether the simulator's store and keys take the place of moto's."""
    crash_at: int | None = None
    """Number of the point at which the process is killed."""
    meanwhile: dict[int, Callable[[], None]] = field(default_factory=dict)
    """What happens besides at a point, by its number."""
    points: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    """Calls of clients, by method."""
    wire: Counter[str] = field(default_factory=Counter)
    """Requests that left botocore, by operation, and the items they read and wrote."""

    def __post_init__(self) -> None:
        _watching[0] = self
        self.cloud = QuietCloud(
            refresh_ms=self.refresh_ms,
            handover_ms=self.handover_ms,
            watch=lambda cloud: Unwatched(),
            services=None if self.in_memory else _moto,
            key="key" if self.in_memory else _key(),
            tables=f"-{next(_serial)}",
        )
        simulation.enter(self.cloud)
        self.settings = self.cloud.settings
        self.clock = self.cloud.clock = VirtualClock(self.cloud)
        self.receiver = self.cloud.receiver = Receiver(self)
        self.queue: Sqs = self.cloud.queue
        self.cloud.point = self._pass
        self._dynamodb: Any = self.cloud.services["dynamodb"]
        self._indexed: dict[str, str] | None = None
        self.names: dict[str, str] = {}

    # What a process is made of

    @property
    def reconciler(self) -> Reconciler:
        return self.cloud.idle("handlers").reconciler

    @property
    def control(self) -> ControlPlane:
        return self.cloud.idle("api").control

    @property
    def rotation(self) -> KeyRotation:
        return self.cloud.idle("handlers").key_rotation

    def new_process(self) -> None:
        """Start all processes again, so that their caches are empty."""
        self.cloud.forget()

    def _pass(self, what: str, when: str, process: Process) -> None:
        """One point."""
        number = len(self.points)
        self.points.append(f"{what} {when}")
        if when == "before":
            self.calls[what.rpartition(".")[2]] += 1
        if number == self.crash_at:
            self.crash_at = None
            self.cloud.kill(process)
            raise Crash
        if number in self.meanwhile:
            self.cloud.aside(self.meanwhile.pop(number))

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

    # What hosts, operators and time do

    def register(self, host: str, **more: Any) -> str:
        """Registers an endpoint of paris or london; returns its id."""
        secret = SECRETS.get(host, f"{host}-secret-0123456789abcdef0123456")
        body = {
            "plugin": "webhook",
            "plugin_config": {"url": "http://receiver.example.com/hook", "resource_id": RESOURCE, "secret": secret},
            "host": host,
            **more,
        }
        try:
            endpoint_id: str = self.control.commands.create(body, f"register-{host}")["id"]
        except Crash:
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

    def event(
        self, endpoint_id: str, status: str, *, at: int | None = None, source: str = "link", **more: Any
    ) -> dict[str, Any]:
        """The event that a host, or another observer, sends now."""
        return {
            "id": f"event-{next(_serial)}",
            "source": source,
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

    def report(self, endpoint_id: str, status: str, *, at: int | None = None, source: str = "link") -> None:
        """A report, through the status queue."""
        self.cloud.message(json.dumps(self.event(endpoint_id, status, at=at, source=source)))
        self.settle(0)

    def invoke(self, message: dict[str, Any]) -> None:
        """One invocation for one message, a status event or a wake-up."""
        if "event" in message:
            self.cloud.message(json.dumps(message["event"]))
        else:
            self.cloud.wake_up(message)
        while self.cloud.busy:
            self.cloud.step()

    def operator(self, command: Callable[[], object]) -> None:
        """An API call. If the process crashes, the caller gets an error and repeats the call."""
        try:
            command()
        except Crash:
            self.new_process()
            command()
        self.settle(0)

    def settle(self, milliseconds: int) -> None:
        """Lets this time pass and runs everything that is due in it."""
        simulation.enter(self.cloud)
        end = self.clock.now() + milliseconds
        while self.cloud.busy or self.cloud.next_at() <= max(end, self.clock.now()):
            self.cloud.step()
        self.clock.at = max(end, self.clock.at)

    # What a test can look at

    def resource(self) -> Resource:
        """The lock item, read without faults."""
        return Locks(self._dynamodb, self.settings, self.clock, Chance()).read(RESOURCE)

    def holder(self) -> str | None:
        """The name of the endpoint that is ACTIVATED in the table."""
        holders = [i for i, e in self.resource().endpoints.items() if e.status is Status.ACTIVATED]
        assert holders == ([self.resource().holder] if self.resource().holder else [])
        return self.name(holders[0]) if holders else None

    def transitions(self) -> list[dict[str, Any]]:
        """The audit, oldest first."""
        items: list[dict[str, Any]] = self._dynamodb.query(
            TableName=self.settings.transitions_table,
            KeyConditionExpression="resource_id = :r",
            ExpressionAttributeValues={":r": {"S": RESOURCE}},
        )["Items"]
        return items

    def changes(self) -> list[list[dict[str, str]]]:
        """The changes of each transition, oldest first, as plain values."""
        return [
            [
                {name: next(iter(value.values())) for name, value in change["M"].items()}
                for change in item["changes"]["L"]
            ]
            for item in self.transitions()
        ]

    def registered(self) -> set[str]:
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
    """One table, which a test reads and writes without the product's code."""

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
    """The world's tables, without faults."""
    return Tables(
        Table(world._dynamodb, world.settings.locks_table, "resource_id"),
        Table(world._dynamodb, world.settings.endpoints_table, "endpoint_id"),
    )


_watching: list[World] = [None]  # type: ignore[list-item]


@functools.cache
def _client(service: str) -> Any:
    """One client for all worlds, because making one takes longer than most tests. The newest world counts its calls."""
    client: Any = boto3.client(service, region_name="eu-west-1")  # type: ignore[call-overload]
    client.meta.events.register_first("before-send", lambda **sent: _watching[0].on_the_wire(**sent))
    return client


def _moto(cloud: Cloud) -> dict[str, Any]:
    """Real clients, and tables for this world only."""
    dynamodb = _client("dynamodb")
    create_tables(dynamodb, cloud.settings)
    return {"dynamodb": dynamodb, "kms": _client("kms"), "sqs": cloud.queue}


def _key() -> str:
    """One key of moto for all worlds, because making a key takes longer than the rest of a world."""
    kms = _client("kms")
    keys = kms.list_keys()["Keys"]
    arn: str = keys[0]["KeyArn"] if keys else kms.create_key()["KeyMetadata"]["Arn"]
    return arn
