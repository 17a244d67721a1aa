"""A deployment on virtual time: processes, clocks, queues, the sweep and a receiver, one seeded order of everything.

What runs in it is the real code: control plane, intake's reports, reconcile, lock, plugin and sender. Replaced are its
narrowest edges: the clients of AWS, the clock, the threads of `Sends`, and the socket under the sender. Every call
over such an edge takes time, and may meet one of `FAULTS` before, in or after it.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import greenlet
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from link import deployment, reconcile, settings, sweep
from link.chance import Chance
from link.clock import Clock
from link.deployment import ControlPlane
from link.election.deliveries import Outcome
from link.election.state import Status
from link.errors import Conflict, Contended, NotFound, Rejected
from link.plugins.webhook.sender import Sender
from link.reconcile import Reconciler, Sends
from link.reports import Report
from link.store import locks
from link.store.lock_item import due_shard
from link.sweep import Sweep
from tests.simulation.promises import Broken, Promises, Wire
from tests.simulation.store import Item, Keys, Store, refused
from tests.support.deployed import environment
from tests.support.ids import RESOURCE
from tests.world import START

FAULTS = ("crash before", "crash after", "pause", "slow", "lost answer", "error", "conflict")
"""What can happen at a call of AWS: the process dies before or after it took place; the process stops for minutes
before it; it takes seconds; it took place, unheard of; it did not take place; a transaction is in its way."""
RECEIVER_FAULTS = ("crash before", "crash after", "pause", "slow", "unreachable", "fails", "busy", "hangs", "deaf")
"""What can happen at a POST: as above, and after a pause the bytes take seconds; no connection; 500; 503 with
Retry-After; no answer though it was taken in, or though it was not."""
INVOCATION_MS = 30_000
VISIBILITY_MS = 180_000
ANSWER = b"HTTP/1.1 %d x\r\n%s\r\n"


class Crash(BaseException):
    """The process is gone. Nothing in the code catches it."""


class Lost(ReadTimeoutError):
    def __init__(self) -> None:
        super().__init__(endpoint_url="https://aws.invalid")


@dataclass
class Process:
    """One instance of a function: a skewed clock, what it remembers, and whether it is alive."""

    name: str
    skew: int
    dead: bool = False
    frozen_until: int = 0
    ends_at: int = 0
    tasks: list[Task] = None  # type: ignore[assignment]
    reconciler: Reconciler = None  # type: ignore[assignment]
    control: ControlPlane = None  # type: ignore[assignment]
    sweep: Sweep = None  # type: ignore[assignment]


class Task:
    """A thread of a process."""

    __slots__ = ("done", "greenlet", "process", "turn")

    def __init__(self, process: Process, run: Callable[[], None], hub: greenlet.greenlet) -> None:
        self.process = process
        self.greenlet = greenlet.greenlet(run, hub)
        self.turn = 0
        self.done = False


class Cloud:
    """Everything around the code. `fault(number, what)` names the fault at a call, or None.

    `latency` is that of one way, `call_ms` of both at most.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        fault: Callable[[int, str], str | None] = lambda number, what: None,
        latency: Callable[[], int] = lambda: 5,
        call_ms: int = 10,
        skews: tuple[int, ...] = (0,),
        duplicates: float = 0.0,
        handover_ms: int = 1_000,
        refresh_ms: int = 120_000,
        traced: bool = False,
    ) -> None:
        self.random, self.call_ms = random.Random(seed), call_ms
        self.fault, self.latency, self.skews, self.duplicates = fault, latency, skews, duplicates
        self.now = START
        self.calls = 0
        self.faults: Counter[str] = Counter()
        self.last_fault = START
        self.trace: list[str] | None = [] if traced else None
        self.env = environment(handover_ms=handover_ms, refresh_ms=refresh_ms)
        self.settings = settings.load(self.env)
        self.promises = Promises(self)
        self.store = Store(self.settings, self.promises.written)
        self.keys = Keys()
        self.rejected: list[str] = []
        self._heap: list[tuple[int, int, Any, int]] = []
        self._serial = itertools.count()
        self._idle: dict[str, list[Process]] = {"handlers": [], "api": [], "refresh": []}
        self.current: Task = None  # type: ignore[assignment]
        self._hub = greenlet.getcurrent()
        self.at(60_000, self._sweep)

    # Time

    def at(self, after_ms: int, happening: Callable[[], None]) -> None:
        """Something that happens outside every process."""
        heapq.heappush(self._heap, (self.now + after_ms, next(self._serial), happening, 0))

    def _resume(self, task: Task, after_ms: int = 0) -> None:
        heapq.heappush(self._heap, (self.now + after_ms, next(self._serial), task, task.turn))

    def sleep(self, after_ms: int) -> None:
        """Lets the current thread wait."""
        self._resume(self.current, after_ms)
        self._switch()

    def _switch(self) -> None:
        task = self.current
        self._hub.switch()
        if task.process.dead:
            raise Crash

    def run(self, until: int) -> None:
        """Lets everything happen up to a time."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, what, turn = heapq.heappop(heap)
            if not isinstance(what, Task):
                what()
            elif not what.done and what.turn == turn and not what.process.dead:
                if what.process.frozen_until > self.now:
                    heapq.heappush(heap, (what.process.frozen_until, next(self._serial), what, turn))
                else:
                    self._switch_to(what)
            if self.promises.broken is not None:
                raise Broken(self.promises.broken)
        self.now = until
        self.promises.time_passed()

    def _switch_to(self, task: Task) -> None:
        task.turn += 1
        before, self.current = self.current, task
        task.greenlet.switch()
        self.current = before

    def note(self, text: str) -> None:
        if self.trace is not None:
            who = self.current.process.name if self.current is not None else "-"
            self.trace.append(f"{(self.now - START) / 1000:9.3f}  {who:12} {text}")

    # Processes

    def start(self, process: Process, run: Callable[[], None]) -> Task:
        """A new thread of a process."""

        def guarded() -> None:
            try:
                run()
            except (Crash, Broken):
                pass
            except Exception as error:
                # Whatever the platform would only log and repeat for ever.
                self.promises.broken = self.promises.broken or f"{type(error).__name__}: {error}"
            finally:
                task.done = True

        task = Task(process, guarded, self._hub)
        process.tasks.append(task)
        self._resume(task)
        return task

    def kill(self, process: Process) -> None:
        """The process and all of its threads end here. What is on the wire stays there."""
        process.dead = True
        for task in process.tasks:
            if task is not self.current and not task.done and task.greenlet:
                # So that nothing of it runs later, when it is collected.
                before, self.current = self.current, task
                task.greenlet.parent = greenlet.getcurrent()
                task.greenlet.throw(Crash)
                self.current = before

    def process(self, kind: str) -> Process:
        """An idle instance of a function, or a new one."""
        idle = self._idle[kind]
        if idle and (len(self.skews) == 1 or self.random.random() < 0.8):
            return idle.pop()
        p = Process(f"{kind}-{next(self._serial)}", self.random.choice(self.skews), tasks=[])
        clock, chance = ProcessClock(self, p), CloudChance(self)
        edges = {
            "dynamodb": Edge(self, self.store, "dynamodb"),
            "kms": Edge(self, self.keys, "kms"),
            "sqs": Edge(self, Sqs(self), "sqs"),
        }
        p.reconciler = deployment.reconciler(
            self.env,
            client=edges.__getitem__,
            clock=clock,
            chance=chance,
            post=SENDER.post,
            sends=lambda: VirtualSends(self),
        )
        p.control = deployment.control_plane(self.env, client=edges.__getitem__, clock=clock, chance=chance)
        p.sweep = deployment.sweep(self.env, client=edges.__getitem__, clock=clock)
        return p

    def invoke(self, kind: str, work: Callable[[Process], None], repeat: Callable[[], None]) -> None:
        """One invocation. `repeat` follows when it did not end well; it is killed when its time is over."""
        process = self.process(kind)
        process.tasks = [task for task in process.tasks if not task.done]
        process.ends_at = self.now + INVOCATION_MS
        ended = succeeded = False

        def run() -> None:
            nonlocal ended, succeeded
            try:
                work(process)
                succeeded = True
            except (ClientError, BotoCoreError, Contended) as error:
                self.note(f"failed: {type(error).__name__} {error}")
            ended = True
            self._idle[kind].append(process)

        def time_is_over() -> None:
            # A process that is stopped cannot be killed either: the worst case.
            if not ended and not process.dead and process.frozen_until <= self.now:
                self.note(f"{process.name}: its time is over")
                self.faults["out of time"] += 1
                self.last_fault = self.now
                self.kill(process)

        def seen_again() -> None:
            if not succeeded:
                repeat()

        self.start(process, run)
        self.at(INVOCATION_MS, time_is_over)
        self.at(VISIBILITY_MS, seen_again)

    # What triggers them

    def report(self, endpoint_id: str, status: Status, *, at: int, delay: int = 0) -> None:
        """A host's report, on its way through bus and status queue for `delay`."""
        self.promises.reported(endpoint_id, status, at)
        event = Report(endpoint_id, status, at, RESOURCE, None, f"event-{next(self._serial)}")
        copies = 2 if self.random.random() < self.duplicates else 1
        for copy in range(copies):
            self.at(delay + copy * self.random.choice((0, 300, 20_000)), functools.partial(self._receive, event))

    def _receive(self, event: Report) -> None:
        def work(process: Process) -> None:
            self.note(f"receives {event.endpoint_id} {event.status} at {(event.at - START) / 1000:.3f}")
            try:
                process.reconciler.receive(event, functools.partial(self._seconds_left, process))
            except Rejected as rejected:
                self.note(f"rejected: {rejected.code}")
                self.rejected.append(rejected.code)

        self.invoke("handlers", work, lambda: self._receive(event))

    def wake_up(self, message: dict[str, Any], times: int = 3) -> None:
        def work(process: Process) -> None:
            self.note(f"woken for {(message['due_at'] - START) / 1000:.3f}")
            seconds_left = functools.partial(self._seconds_left, process)
            process.reconciler.wake_up(message["resource_id"], message["due_at"], "message", seconds_left)

        if times:
            self.invoke("handlers", work, lambda: self.wake_up(message, times - 1))

    def _seconds_left(self, process: Process) -> float:
        return -1.0 if process.dead else (process.ends_at - self.now) / 1000

    def _sweep(self) -> None:
        self.at(60_000, self._sweep)

        def work(process: Process) -> None:
            # The other shards hold other resources, of which there are none here.
            process.sweep.run(shards=[due_shard(RESOURCE)])

        self.invoke("refresh", work, lambda: None)

    def operator(
        self, command: Callable[[ControlPlane], Any], done: Callable[[Any], None] = lambda answer: None
    ) -> None:
        """A call of the API; `done` gets its answer or the error it came to, None when the process crashed."""

        def work(process: Process) -> None:
            answer: Any = None
            try:
                answer = command(process.control)
            except (Conflict, NotFound) as error:
                answer = error
            except (ClientError, BotoCoreError, Contended):
                answer = None
            except Crash:
                self.at(100, lambda: done(None))
                raise
            done(answer)

        self.invoke("api", work, lambda: None)


class ProcessClock(Clock):
    """Wall time as one process reads it."""

    def __init__(self, cloud: Cloud, process: Process) -> None:
        self._cloud, self._process = cloud, process

    def now(self) -> int:
        return self._cloud.now + self._process.skew

    def monotonic(self) -> float:
        return self._cloud.now / 1000

    def pause(self, seconds: float) -> None:
        self._cloud.sleep(round(seconds * 1000))


class CloudChance(Chance):
    """Chance out of the history's seed."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def jitter(self) -> float:
        return self._cloud.random.random()

    def nonce(self) -> str:
        return f"nonce-{next(self._cloud._serial)}"

    def uuid(self) -> str:
        """In whatever order: the last resort of an election is told by it."""
        return f"{self._cloud.random.getrandbits(32):08x}-0000-4000-8000-000000000000"


class Edge:
    """A client of AWS whose calls take time and meet faults."""

    def __init__(self, cloud: Cloud, service: Any, name: str) -> None:
        self._cloud, self._service, self._name = cloud, service, name

    def __getattr__(self, method: str) -> Callable[..., Any]:
        act = getattr(self._service, method)
        if method == "get_paginator":
            return lambda name: Pages(self, name)
        cloud, what = self._cloud, f"{self._name}.{method}"

        def call(**arguments: Any) -> Any:
            process = cloud.current.process
            fault = cloud.fault(cloud.calls, what)
            cloud.calls += 1
            if fault is None:
                cloud.promises.calling(process, arguments)
                cloud.sleep(cloud.latency())
                answer = _tried(act, arguments)
                cloud.sleep(cloud.latency())
            else:
                answer = self._faulty(fault, act, arguments, what)
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.__dict__[method] = call
        return call

    def _faulty(self, fault: str, act: Callable[..., Any], arguments: dict[str, Any], what: str) -> Any:
        cloud, process = self._cloud, self._cloud.current.process
        cloud.faults[f"{fault} at {what}"] += 1
        cloud.last_fault = cloud.now
        cloud.note(f"{what}: {fault}")
        cloud.promises.calling(process, arguments)
        if fault == "crash before":
            cloud.kill(process)
            raise Crash
        if fault == "pause":
            process.frozen_until = cloud.now + cloud.random.choice((9_000, 20_000, 70_000, 200_000))
            cloud.last_fault = process.frozen_until
        cloud.sleep(cloud.latency() + (6_000 if fault == "slow" else 0))
        if fault == "error":
            return refused("InternalServerError", what)
        conflict = refused("TransactionConflictException", what)
        if what == "dynamodb.transact_write_items":
            conflict = refused(
                "TransactionCanceledException", what, CancellationReasons=[{"Code": "TransactionConflict"}]
            )
        if fault == "conflict":
            cloud.sleep(cloud.latency())
            return conflict if what.endswith(("put_item", "write_items")) else refused("ThrottlingException", what)
        answer = _tried(act, arguments)
        if fault == "lost answer" and what == "dynamodb.transact_write_items":
            # botocore repeats it with the same token: the same answer, or a conflict with itself; or it gives up.
            cloud.sleep(2_000)
            return cloud.random.choice((answer, conflict, Lost()))
        if fault == "lost answer":
            cloud.sleep(2_000)
            # botocore repeats it after its read timeout, or gives up.
            answer = _tried(act, arguments) if cloud.random.random() < 0.7 else Lost()
        if fault == "crash after":
            cloud.kill(process)
            raise Crash
        cloud.sleep(cloud.latency())
        return answer


def _tried(act: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return act(**arguments)
    except ClientError as error:
        return error


class Pages:
    def __init__(self, edge: Edge, method: str) -> None:
        self._call = getattr(edge, method)

    def paginate(self, **arguments: Any) -> Iterator[Item]:
        yield self._call(**arguments)


class Sqs:
    """The wake-up queue: at least once, up to a second early because delays are whole seconds."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def send_message(self, QueueUrl: str, MessageBody: str, DelaySeconds: int = 0) -> dict[str, Any]:
        cloud, message = self._cloud, json.loads(MessageBody)
        copies = 2 if cloud.random.random() < cloud.duplicates else 1
        for _ in range(copies):
            cloud.at(DelaySeconds * 1000 + cloud.latency(), functools.partial(cloud.wake_up, message))
        return {}

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        for entry in Entries:
            self.send_message(QueueUrl, entry["MessageBody"], entry["DelaySeconds"])
        return {"Failed": []}


class VirtualSends(Sends):
    """`Sends` with threads of the simulated process."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._outcomes: list[Outcome] = []
        self._waiting: Task | None = None
        self.under_way = 0

    def start(self, attempt: Callable[[], Outcome]) -> None:
        def run() -> None:
            outcome = attempt()
            self._outcomes.append(outcome)
            if self._waiting is not None:
                self._cloud._resume(self._waiting)
                self._waiting = None

        self.under_way += 1
        self._cloud.start(self._cloud.current.process, run)

    def wait(self, seconds: float) -> list[Outcome]:
        if not self._outcomes and seconds > 0:
            self._waiting = self._cloud.current
            self._cloud.sleep(round(seconds * 1000) + 1)
            self._waiting = None
        outcomes, self._outcomes = self._outcomes, []
        self.under_way -= len(outcomes)
        return outcomes


# The sender's edge: its clock, the resolver and the socket.

_clouds: list[Cloud] = [None]  # type: ignore[list-item]
_ADDRESS = [(2, 1, 6, "", ("8.8.8.8", 80))]
"""Public, so that the sender takes it. Nothing is connected to."""


class CurrentClock(Clock):
    """The clock of the process that runs."""

    def now(self) -> int:
        cloud = _clouds[0]
        return cloud.now + cloud.current.process.skew

    def monotonic(self) -> float:
        return _clouds[0].now / 1000


class Connection:
    """A connection to the receiver; one request and its answer."""

    def __init__(self, cloud: Cloud, fault: str | None) -> None:
        self._cloud, self._fault = cloud, fault
        self.wire: Wire = None  # type: ignore[assignment]
        self._seconds = 5.0
        self._answer: bytes | None = None
        self._waiting: Task | None = None
        self._open = True

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        # A process that was killed hangs up, too, but what it wrote is on its way.
        if not self._cloud.current.process.dead:
            self._open = False
            self._cloud.promises.hung_up(self)

    def setsockopt(self, *_: Any) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        self._seconds = seconds

    def sendall(self, request: bytes) -> None:
        """The bytes leave. Between the look at the clock and here nothing can happen: see the residual windows."""
        cloud = self._cloud
        cloud.promises.sent(self, request)
        takes = cloud.latency() + (3_000 if self._fault in ("slow", "pause") else 0)
        cloud.at(takes, self._arrive)
        if self._fault == "crash after":
            cloud.kill(cloud.current.process)
            raise Crash

    def _arrive(self) -> None:
        cloud = self._cloud
        status = {"fails": 500, "busy": 503}.get(self._fault or "", 204)
        taken = self._open and self._fault not in ("fails", "busy", "deaf")
        cloud.promises.arrived(self, taken)
        if self._fault in ("hangs", "deaf"):
            return
        self._answer = ANSWER % (status, b"Retry-After: 20\r\n" if status == 503 else b"")
        if self._waiting is not None and self._open:
            cloud._resume(self._waiting, cloud.latency())

    def recv(self, _: int) -> bytes:
        if self._answer is None:
            self._waiting = self._cloud.current
            self._cloud.sleep(round(self._seconds * 1000))
            self._waiting = None
        if self._answer is None:
            raise TimeoutError
        return self._answer


def _connected(infos: Any, deadline: object) -> Any:
    cloud = _clouds[0]
    process = cloud.current.process
    fault = cloud.fault(cloud.calls, "post")
    cloud.calls += 1
    if fault is not None:
        cloud.faults[f"{fault} at post"] += 1
        cloud.last_fault = cloud.now
        cloud.note(f"post: {fault}")
        if fault == "crash before":
            cloud.kill(process)
            raise Crash
        if fault == "pause":
            process.frozen_until = cloud.now + cloud.random.choice((3_000, 9_000, 13_000, 20_000, 200_000))
            cloud.last_fault = process.frozen_until
    cloud.sleep(cloud.latency())
    if fault == "unreachable":
        raise ConnectionRefusedError
    return Connection(cloud, fault)


SENDER = Sender(clock=CurrentClock(), look_up=lambda target, deadline: _ADDRESS, connect=_connected)  # type: ignore[arg-type,return-value]
"""The real sender; its trust store takes longer to load than a history."""


class _Quiet:
    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None


@contextmanager
def simulated() -> Iterator[None]:
    """Without log lines and metrics, which would take as long as the history."""
    quiet = _Quiet()
    with (
        mock.patch.object(locks, "logger", quiet),
        mock.patch.object(reconcile, "logger", quiet),
        mock.patch.object(reconcile, "metric", quiet.metric),
        mock.patch.object(sweep, "logger", quiet),
    ):
        yield


def enter(cloud: Cloud) -> None:
    """Makes this cloud the sender's."""
    _clouds[0] = cloud
