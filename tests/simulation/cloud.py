"""A deployment on virtual time: processes, clocks, queues, the sweep and a receiver, one seeded order of everything.

The code that runs in it is the product's: control plane, reports, reconcile, locks, plugin and sender. Replaced are
its narrowest edges, so that a seed decides everything and hours take milliseconds:

- the clients of AWS (`Edge`): each call takes time and may meet one of `FAULTS` before, in or after it. Behind them is
  the store of `tests.simulation.store`, or any other client, for instance moto's;
- the clock (`VirtualClock`) and chance (`CloudChance`);
- the threads of `Sends` (`VirtualSends`): greenlets, of which one runs at a time;
- the resolver and the socket under the sender (`Connection`), and the receiver behind them (`Receiver`).

The default is a quiet cloud: no latency, no fault, one clock. The random histories (`tests.simulation.histories`) make
it loud; `tests.world` drives the quiet one step by step, from a test.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import greenlet  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from link import deployment, key_rotation, prober, reconcile, settings, signaller, sweep
from link.chance import Chance
from link.clock import Clock
from link.deployment import ControlPlane
from link.election.deliveries import Begun, Outcome
from link.election.result import Result
from link.election.state import NEVER, Observer, Status
from link.errors import Conflict, Contended, Invalid, NotFound, Rejected
from link.key_rotation import KeyRotation, Unfinished
from link.plugins.webhook.sender import Sender
from link.prober import Prober, Untold
from link.probing.checks import Check
from link.probing.looks import Looks
from link.probing.states import SLOT_MS
from link.reconcile import Reconciler, Sends
from link.reports import Report
from link.signaller import Signaller
from link.signals.words import Said
from link.store import bus, locks, queues
from link.store.lock_item import due_shard
from link.sweep import Sweep
from tests.simulation.promises import Broken, Promises, Request
from tests.simulation.store import Item, Keys, Store, refused
from tests.support.deployed import environment
from tests.support.ids import NOW, RESOURCE

START = NOW
"""When every cloud begins. Unix milliseconds."""
FAULTS = ("crash before", "crash after", "pause", "slow", "lost answer", "error", "conflict")
"""What can happen at a call of AWS: the process dies before or after it took place; the process stops for minutes
before it; it takes seconds; it took place, unheard of; it did not take place; a transaction is in its way."""
RECEIVER_FAULTS = ("crash before", "crash after", "pause", "slow", "unreachable", "fails", "busy", "hangs", "deaf")
"""What can happen at a POST: as above, and after a pause the bytes take seconds; no connection; 500; 503 with
Retry-After; no answer though it was taken in, or though it was not."""
SOURCES = {"link.probe": Observer.PROBE, "link.signal": Observer.SIGNAL}
INVOCATION_MS = 30_000
CHAIN = 16
"""How many invocations of a function Lambda allows in one chain, unless the function has `RecursiveLoop: Allow`."""
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
    cloud: Cloud
    dead: bool = False
    frozen_until: int = 0
    ends_at: int = 0
    request: Report | Request | None = None
    """What its present invocation was called for, unless it is a wake-up."""
    chain: int = 0
    """How many wake-ups led to its present invocation, each put by the invocation before it."""
    tasks: list[Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._clock = self.cloud.clock or VirtualClock(self.cloud, self.skew)
        self._edges = {name: Edge(self.cloud, service, name, self) for name, service in self.cloud.services.items()}

    @functools.cached_property
    def reconciler(self) -> Reconciler:
        return deployment.reconciler(
            self.cloud.env,
            client=self._edges.__getitem__,
            clock=self._clock,
            chance=CloudChance(self.cloud),
            post=self.cloud.receiver.post,
            sends=VirtualSends,
        )

    @functools.cached_property
    def control(self) -> ControlPlane:
        return deployment.control_plane(
            self.cloud.env, client=self._edges.__getitem__, clock=self._clock, chance=CloudChance(self.cloud)
        )

    @functools.cached_property
    def key_rotation(self) -> KeyRotation:
        return deployment.key_rotation(self.cloud.env, client=self._edges.__getitem__, clock=self._clock)

    @functools.cached_property
    def sweep(self) -> Sweep:
        return deployment.sweep(self.cloud.env, client=self._edges.__getitem__, clock=self._clock)

    @functools.cached_property
    def prober(self) -> Prober:
        return deployment.prober(
            self.cloud.env,
            client=self._edges.__getitem__,
            clock=self._clock,
            look=lambda wanted: self.cloud.look(wanted),
        )

    @functools.cached_property
    def signaller(self) -> Signaller:
        return deployment.signaller(
            self.cloud.env,
            client=self._edges.__getitem__,
            clock=self._clock,
            look=lambda keys: self.cloud.look_at_signals(keys),
        )


class Task:
    """A thread of a process."""

    __slots__ = ("done", "greenlet", "process", "turn")

    def __init__(self, process: Process, run: Callable[[], None], hub: greenlet.greenlet) -> None:
        self.process = process
        self.greenlet = greenlet.greenlet(run, hub)
        self.turn = 0
        self.done = False


class Time:
    """Virtual time: it passes when something sleeps."""

    now = START

    def sleep(self, after_ms: int) -> None:
        """Lets the time pass."""
        self.now += after_ms


class Cloud(Time):
    """Everything around the code. `fault(number, what)` names the fault at a call, or None.

    `latency` is that of one way, `call_ms` of both at most. `recursion_allowed` is the `RecursiveLoop` of the function
    that wake-ups invoke: without it a wake-up that would make its chain too long is dropped. `services` makes the
    clients behind the edges, and `watch` whatever sees each call, write and request; without them it is the store in
    memory, and all promises.
    """

    survived: tuple[type[Exception], ...] = (ClientError, BotoCoreError, Contended, Unfinished)
    """What an invocation may end with: the platform repeats it. Anything else is a fault of the code."""
    clock: Clock | None = None
    """The clock of every process, in place of one for each."""
    one_at_a_time = False
    """Whether an invocation waits until the one before it has ended."""
    point: Callable[[str, str, Process], None] | None = None
    """Called before and after everything that leaves a process."""

    def __init__(
        self,
        *,
        seed: int = 0,
        fault: Callable[[int, str], str | None] = lambda number, what: None,
        latency: Callable[[], int] = lambda: 0,
        call_ms: int = 0,
        skews: tuple[int, ...] = (0,),
        duplicates: float = 0.0,
        handover_ms: int = 1_000,
        refresh_ms: int = 120_000,
        traced: bool = False,
        watch: Callable[[Cloud], Any] | None = None,
        services: Callable[[Cloud], dict[str, Any]] | None = None,
        key: str = "key",
        tables: str = "",
        recursion_allowed: bool = True,
    ) -> None:
        self.random, self.call_ms = random.Random(seed), call_ms
        self.recursion_allowed = recursion_allowed
        self.fault, self.latency, self.skews, self.duplicates = fault, latency, skews, duplicates
        self.now = START
        self.calls = 0
        self.faults: Counter[str] = Counter()
        self.last_fault = START
        self.trace: list[str] | None = [] if traced else None
        self.env = environment(tables, key=key, handover_ms=handover_ms, refresh_ms=refresh_ms)
        self.settings = settings.load(self.env, probes=True, signals=True)
        self.promises = Promises(self) if watch is None else watch(self)
        self.queue = Sqs(self)
        if services is None:
            self.store = Store(self.settings, self.promises.written)
            clients = {"dynamodb": self.store, "kms": Keys(), "sqs": self.queue, "events": Bus(self)}
            self.services: dict[str, Any] = clients
        else:
            self.services = services(self)
        self.receiver = Receiver(self)
        self.serving = True
        self._heap: list[tuple[int, int, Any, int]] = []
        self._serial = itertools.count()
        self._idle: dict[str, list[Process]] = {
            "handlers": [], "api": [], "refresh": [], "key_rotation": [], "probe": [], "signal": [],
        }  # fmt: skip
        self.look: Callable[[Mapping[Check, int]], Looks] = lambda wanted: Looks(dict.fromkeys(wanted, ""), 0)
        """What a probe finds."""
        self.look_at_signals: Callable[[Iterable[str]], list[Said]] = lambda keys: []
        """What a look at signals finds, by their keys."""
        self.running: list[Process] = []
        self._waiting: list[Callable[[], None]] = []
        self.current: Task = None  # type: ignore[assignment]
        """The thread that runs; None while what runs is outside every process."""
        self._hub = greenlet.getcurrent()
        self.at(60_000, self._sweep)

    # Time

    def at(self, after_ms: int, happening: Callable[[], None]) -> None:
        """Something that happens outside every process."""
        heapq.heappush(self._heap, (self.now + after_ms, next(self._serial), happening, 0))

    def _resume(self, task: Task, after_ms: int = 0) -> None:
        heapq.heappush(self._heap, (self.now + after_ms, next(self._serial), task, task.turn))

    def sleep(self, after_ms: int) -> None:
        """Lets the current thread wait. A test that calls the code itself is no thread: for it, time just passes."""
        if self.current is None:
            self.wait_outside(after_ms)
        else:
            self._resume(self.current, after_ms)
            self._switch()

    def travel(self) -> None:
        """Lets the current thread wait for one way over the network."""
        took = self.latency()
        if took:
            self.sleep(took)

    def wait_outside(self, at_most_ms: int, until: Callable[[], bool] = lambda: False) -> None:
        """Lets time pass outside every process. Messages stay in the queue, as in front of a function that is busy."""
        end, serving = self.now + at_most_ms, self.serving
        self.serving = False
        try:
            while not until() and self.next_at() <= end:
                self.step()
        finally:
            self.serving = serving
        if not until():
            self.now = max(self.now, end)
        self._serve_next()

    def aside(self, happening: Callable[[], None]) -> None:
        """Has something happen outside while the current thread stands still, and with it its invocation."""
        if self.current is None:
            happening()
            return
        task, stopped = self.current, self.running

        def outside() -> None:
            self.running = []
            happening()
            # Those whose time was over meanwhile are gone.
            self.running += [process for process in stopped if not process.dead]
            self._resume(task)

        self.at(0, outside)
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
            self.step()
        self.now = until
        self.promises.time_passed()

    def step(self) -> None:
        """Lets the next thing happen."""
        at, _, what, turn = heapq.heappop(self._heap)
        # A test may have set the clock past it.
        self.now = max(self.now, at)
        if not isinstance(what, Task):
            what()
        elif not what.done and what.turn == turn and not what.process.dead:
            if what.process.frozen_until > self.now:
                heapq.heappush(self._heap, (what.process.frozen_until, next(self._serial), what, turn))
            else:
                self._switch_to(what)
        if self.promises.broken is not None:
            raise Broken(self.promises.broken)

    def next_at(self) -> int:
        """When the next thing happens."""
        return self._heap[0][0] if self._heap else NEVER

    def _switch_to(self, task: Task) -> None:
        task.turn += 1
        before, self.current = self.current, task
        task.greenlet.switch()
        self.current = before

    def note(self, text: str) -> None:
        if self.trace is not None:
            who = self.current.process.name if self.current is not None else "-"
            self.trace.append(f"{(self.now - START) / 1000:9.3f}  {who:12} {text}")

    def jitter(self) -> float:
        """The next jitter of a process, in [0, 1)."""
        return self.random.random()

    # Processes

    def start(self, process: Process, run: Callable[[], None]) -> Task:
        """A new thread of a process."""

        def guarded() -> None:
            try:
                run()
            except (Crash, Broken):
                pass
            except Exception as error:
                self.failed(error)
            finally:
                task.done = True

        task = Task(process, guarded, self._hub)
        process.tasks.append(task)
        self._resume(task)
        return task

    def failed(self, error: Exception) -> None:
        """Takes note of an error that the platform would only log and repeat for ever."""
        self.promises.broken = self.promises.broken or f"{type(error).__name__}: {error}"

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
        return Process(f"{kind}-{next(self._serial)}", self.random.choice(self.skews), self)

    def idle(self, kind: str) -> Process:
        """The instance of a function that takes the next invocation."""
        idle = self._idle[kind]
        if not idle:
            idle.append(self.process(kind))
        return idle[-1]

    def forget(self) -> None:
        """Ends every idle instance: what it remembered is lost."""
        for idle in self._idle.values():
            idle.clear()

    @property
    def busy(self) -> bool:
        """Whether an invocation is under way, or waits for its turn."""
        return bool(self.running or self._waiting)

    def invoke(
        self,
        kind: str,
        work: Callable[[Process], None],
        repeat: Callable[[], None],
        request: Report | Request | None = None,
        chain: int = 0,
    ) -> None:
        """One invocation. `repeat` follows when it did not end well; it is killed when its time is over."""
        if self.one_at_a_time and (self.running or not self.serving):
            self._waiting.append(lambda: self.invoke(kind, work, repeat, request, chain))
            return
        process = self.process(kind)
        self.running.append(process)
        process.tasks = [task for task in process.tasks if not task.done]
        process.ends_at = self.now + INVOCATION_MS
        process.request, process.chain = request, chain
        ended = succeeded = False

        def run() -> None:
            nonlocal ended, succeeded
            try:
                work(process)
                succeeded = True
            except self.survived as error:
                self.note(f"failed: {type(error).__name__} {error}")
            finally:
                if process in self.running:
                    self.running.remove(process)
                self._serve_next()
            ended = True
            self._idle[kind].append(process)

        def time_is_over() -> None:
            # A process that is stopped cannot be killed either: the worst case.
            if not ended and not process.dead and process.frozen_until <= self.now:
                self.note(f"{process.name}: its time is over")
                self.faults["out of time"] += 1
                self.last_fault = self.now
                self.promises.faulted(process, "out of time")
                self.kill(process)

        def seen_again() -> None:
            if not succeeded:
                repeat()

        self.start(process, run)
        self.at(INVOCATION_MS, time_is_over)
        self.at(VISIBILITY_MS, seen_again)

    def _serve_next(self) -> None:
        """Begins the invocation that has waited for longest."""
        if self._waiting:
            self.at(0, self._waiting.pop(0))

    # What triggers them

    def report(
        self,
        endpoint_id: str,
        status: Status,
        *,
        at: int,
        delay: int = 0,
        observer: Observer = Observer.HOST,
        host: str | None = None,
        forged: bool = False,
    ) -> None:
        """An observer's report, on its way through bus and status queue for `delay`. A forged one must not count."""
        if not forged:
            self.promises.reported(endpoint_id, observer, status, at)
        event = Report(endpoint_id, status, at, RESOURCE, None, f"event-{next(self._serial)}", observer, host)
        copies = 2 if self.random.random() < self.duplicates else 1
        for copy in range(copies):
            self.at(delay + copy * self.random.choice((0, 300, 20_000)), functools.partial(self._receive, event))

    def _receive(self, event: Report) -> None:
        def work(process: Process) -> None:
            self.note(
                f"receives {event.endpoint_id} {event.status} of {event.observer} at {(event.at - START) / 1000:.3f}"
            )
            try:
                process.reconciler.receive(event, functools.partial(self._seconds_left, process))
            except Rejected as rejected:
                self.note(f"rejected: {rejected.code}")

        self.invoke("handlers", work, lambda: self._receive(event), event)

    def message(self, body: str) -> None:
        """A status event as its queue has it."""

        def work(process: Process) -> None:
            process.reconciler.take(body, "message", functools.partial(self._seconds_left, process))

        self.invoke("handlers", work, lambda: self.message(body))

    def wake_up(self, message: dict[str, Any], times: int = 3, *, chain: int = 1) -> None:
        """An invocation for a wake-up, the last one of a chain of this length."""
        if chain > CHAIN and not self.recursion_allowed:
            self.note(f"woken for {(message['due_at'] - START) / 1000:.3f}: dropped, the chain is too long")
            self.queue.dropped.append(message)
            return

        def work(process: Process) -> None:
            self.note(f"woken for {(message['due_at'] - START) / 1000:.3f}")
            seconds_left = functools.partial(self._seconds_left, process)
            process.reconciler.wake_up(message["resource_id"], message["due_at"], "message", seconds_left)

        if times:
            self.invoke("handlers", work, lambda: self.wake_up(message, times - 1, chain=chain), chain=chain)

    def probe(self, slot: int) -> None:
        """A slot of the probes."""

        def work(process: Process) -> None:
            self.note(f"slot {slot - START // SLOT_MS}")
            try:
                process.prober.run(0, 1, slot)
            except Untold as untold:
                self.note(f"failed: {untold}")

        self.invoke("probe", work, lambda: None)

    def signal(self, body: str, times: int = 5) -> None:
        """An invocation for an event of AWS. SQS repeats one that failed."""

        def again() -> None:
            if times:
                self.at(1_000, lambda: self.signal(body, times - 1))

        def work(process: Process) -> None:
            self.note(f"hears {body}")
            try:
                process.signaller.take(body, "message")
            except signaller.Untold as untold:
                self.note(f"failed: {untold}")
                again()

        self.invoke("signal", work, again)

    def look_once(self, minute_ms: int) -> None:
        """The look at signals of a minute."""

        def work(process: Process) -> None:
            self.note("looks at signals")
            try:
                process.signaller.look(minute_ms)
            except signaller.Untold as untold:
                self.note(f"failed: {untold}")

        self.invoke("signal", work, lambda: None)

    def rotate_key(self) -> None:
        """A key rotation."""

        def work(process: Process) -> None:
            self.note("rotates the key")
            process.key_rotation.run(functools.partial(self._seconds_left, process))

        self.invoke("key_rotation", work, self.rotate_key)

    def _seconds_left(self, process: Process) -> float:
        return -1.0 if process.dead else (process.ends_at - self.now) / 1000

    def _sweep(self) -> None:
        self.at(60_000, self._sweep)

        def work(process: Process) -> None:
            # The other shards hold other resources, of which there are none here.
            process.sweep.run(shards=[due_shard(RESOURCE)])

        self.invoke("refresh", work, lambda: None)

    def operator(
        self,
        command: Callable[[ControlPlane], Any],
        done: Callable[[Any], None] = lambda answer: None,
        request: Request | None = None,
    ) -> None:
        """A call of the API; `done` gets its answer or the error it came to, None when the process crashed."""

        def work(process: Process) -> None:
            answer: Any = None
            try:
                answer = command(process.control)
            except (Conflict, Invalid, NotFound) as error:
                answer = error
            except (ClientError, BotoCoreError, Contended):
                answer = None
            except Crash:
                self.at(100, lambda: done(None))
                raise
            done(answer)

        self.invoke("api", work, lambda: None, request)


class VirtualClock(Clock):
    """Virtual time as one process reads it: that of a cloud, or time of its own."""

    def __init__(self, time: Time | None = None, skew: int = 0) -> None:
        self._time, self._skew = time or Time(), skew

    @property
    def at(self) -> int:
        """The time. A test may set it, also back."""
        return self._time.now + self._skew

    @at.setter
    def at(self, at: int) -> None:
        self._time.now = at - self._skew

    def now(self) -> int:
        return self._time.now + self._skew

    def monotonic(self) -> float:
        return self._time.now / 1000

    def pause(self, seconds: float) -> None:
        self._time.sleep(round(seconds * 1000))


class CloudChance(Chance):
    """Chance out of the history's seed."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def jitter(self) -> float:
        return self._cloud.jitter()

    def nonce(self) -> str:
        return f"nonce-{next(self._cloud._serial)}"

    def uuid(self) -> str:
        """In whatever order: the last resort of an election is told by it."""
        return f"{self._cloud.random.getrandbits(32):08x}-0000-4000-8000-000000000000"


class Edge:
    """A client of AWS whose calls take time and meet faults."""

    def __init__(self, cloud: Cloud, service: Any, name: str, process: Process) -> None:
        self._cloud, self._service, self._name, self._process = cloud, service, name, process

    def __getattr__(self, method: str) -> Callable[..., Any]:
        act = getattr(self._service, method)
        if method == "get_paginator":
            return lambda name: Pages(self, name)
        cloud, process, what = self._cloud, self._process, f"{self._name}.{method}"

        def call(**arguments: Any) -> Any:
            if cloud.point is not None:
                cloud.point(what, "before", process)
            fault = cloud.fault(cloud.calls, what)
            cloud.calls += 1
            if fault is None:
                cloud.promises.calling(process, arguments)
                cloud.travel()
                answer = _tried(act, arguments)
                cloud.travel()
            else:
                answer = self._faulty(fault, act, arguments, what)
            if cloud.point is not None:
                cloud.point(what, "after", process)
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.__dict__[method] = call
        return call

    def _faulty(self, fault: str, act: Callable[..., Any], arguments: dict[str, Any], what: str) -> Any:
        cloud, process = self._cloud, self._process
        cloud.faults[f"{fault} at {what}"] += 1
        cloud.last_fault = cloud.now
        cloud.note(f"{what}: {fault}")
        cloud.promises.calling(process, arguments)
        cloud.promises.faulted(process, "pause before a call" if fault == "pause" else fault)
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
    """The queues: at least once, and a wake-up up to a second early because delays are whole seconds."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._sent = itertools.count()
        self.messages: list[tuple[int, int, dict[str, Any]]] = []
        """The wake-ups that are not yet visible: when they will be, a number, the message. A test may remove some."""
        self.rejected: list[dict[str, Any]] = []
        self.dropped: list[dict[str, Any]] = []
        """The wake-ups that Lambda dropped as a loop. In AWS they go to the dead-letter queue."""

    def send_message(self, QueueUrl: str, MessageBody: str, DelaySeconds: int = 0) -> dict[str, Any]:
        cloud, body = self._cloud, json.loads(MessageBody)
        if QueueUrl == cloud.settings.rejected_events_queue_url:
            self.rejected.append(body)
            return {}
        chain = 0 if cloud.current is None else cloud.current.process.chain
        copies = 2 if cloud.random.random() < cloud.duplicates else 1
        for _ in range(copies):
            after_ms = DelaySeconds * 1000 + cloud.latency()
            message = (cloud.now + after_ms, next(self._sent), body)
            self.messages.append(message)
            cloud.at(after_ms, functools.partial(self._visible, message, chain + 1))
        return {}

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        for entry in Entries:
            self.send_message(QueueUrl, entry["MessageBody"], entry["DelaySeconds"])
        return {"Failed": []}

    def _visible(self, message: tuple[int, int, dict[str, Any]], chain: int) -> None:
        if message in self.messages:
            self.messages.remove(message)
            self._cloud.wake_up(message[2], chain=chain)


class Bus:
    """The event bus: at least once, in no order. `loses` says whether it loses an event that it took."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.loses: Callable[[], bool] = lambda: False
        self.takes: Callable[[str, Status, int], None] = lambda endpoint_id, status, at: None
        """Is told of each event that it takes."""

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        cloud = self._cloud
        for entry in Entries:
            detail = json.loads(entry["Detail"])
            endpoint_id, status = detail["endpoint_id"], Status(detail["status"])
            self.takes(endpoint_id, status, detail["reported_at"])
            if not self.loses():
                delay = cloud.latency()
                cloud.report(
                    endpoint_id, status, at=detail["reported_at"], delay=delay, observer=SOURCES[entry["Source"]]
                )
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in Entries]}


class VirtualSends(Sends):
    """`Sends` with threads of the simulated process. Code that a test calls directly sends in the test's own thread."""

    def __init__(self) -> None:
        self._cloud = _clouds[0]
        self._said: list[Begun | Outcome] = []
        self._waiting: Task | None = None
        self.under_way = 0

    def start(self, attempt: Callable[[], Outcome], unsent: Callable[[], Outcome]) -> None:
        def run() -> None:
            self._say(attempt())

        self.under_way += 1
        if self._cloud.current is None:
            run()
        else:
            self._cloud.start(self._cloud.current.process, run)

    def begin(self, attempt: Begun) -> None:
        self._say(attempt)

    def _say(self, word: Begun | Outcome) -> None:
        self._said.append(word)
        if self._waiting is not None:
            self._cloud._resume(self._waiting)
            self._waiting = None

    def wait(self, seconds: float) -> list[Begun | Outcome]:
        if not self._said and seconds > 0:
            self._waiting = self._cloud.current
            self._cloud.sleep(round(seconds * 1000) + 1)
            self._waiting = None
        said, self._said = self._said, []
        self.under_way -= sum(isinstance(word, Outcome) for word in said)
        return said


# The sender's edge: its clock, the resolver and the socket.

_clouds: list[Cloud] = [None]  # type: ignore[list-item]
_ADDRESS = [(2, 1, 6, "", ("8.8.8.8", 80))]
"""Public, so that the sender takes it. Nothing is connected to."""


class CurrentClock(Clock):
    """The clock of the process that runs."""

    def now(self) -> int:
        cloud = _clouds[0]
        return cloud.now + (0 if cloud.current is None else cloud.current.process.skew)

    def monotonic(self) -> float:
        return _clouds[0].now / 1000


class Receiver:
    """Takes in every request and answers 204, unless the fault that was drawn for the request says otherwise."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.post: Callable[..., Result] = SENDER.post

    def look_up(self) -> Any:
        """The addresses of its name."""
        return _ADDRESS

    def connected(self, fault: str | None) -> Connection:
        """A connection to it, or what the operating system raises."""
        if fault == "unreachable":
            raise ConnectionRefusedError
        return Connection(self._cloud, fault, self)

    def travel_ms(self) -> int:
        """How long a request takes to arrive."""
        return self._cloud.latency()

    def answer(self, connection: Connection) -> bytes | None:
        """What it answers to a request that has arrived, None for nothing."""
        fault = connection.fault
        self._cloud.promises.arrived(connection, connection.open and fault not in ("fails", "busy", "deaf"))
        if fault in ("hangs", "deaf"):
            return None
        status = {"fails": 500, "busy": 503}.get(fault or "", 204)
        return ANSWER % (status, b"Retry-After: 20\r\n" if status == 503 else b"")


class Connection:
    """A connection to the receiver; one request and its answer."""

    def __init__(self, cloud: Cloud, fault: str | None, receiver: Receiver) -> None:
        self._cloud, self.fault, self._receiver = cloud, fault, receiver
        self.wire: Any = None
        """What `watch` made of the request."""
        self.request = b""
        self.open = True
        self._seconds = 5.0
        self._answer: bytes | OSError | None = None
        self._waiting: Task | None = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        # A process that was killed hangs up, too, but what it wrote is on its way.
        if self._cloud.current is None or not self._cloud.current.process.dead:
            self.open = False
            self._cloud.promises.hung_up(self)

    def setsockopt(self, *_: Any) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        self._seconds = seconds

    def sendall(self, request: bytes) -> None:
        """The bytes leave. Between the look at the clock and here nothing can happen: see the residual windows."""
        cloud, self.request = self._cloud, request
        cloud.promises.sent(self, request)
        takes = self._receiver.travel_ms() + (3_000 if self.fault in ("slow", "pause") else 0)
        cloud.at(takes, self.arrive)
        if self.fault == "crash after":
            cloud.kill(cloud.current.process)
            raise Crash

    def arrive(self) -> None:
        """The request has arrived."""
        answer = self._receiver.answer(self)
        if answer is not None:
            self.answered(answer)

    def answered(self, answer: bytes | OSError) -> None:
        """The receiver has answered, or the operating system knows that it will not."""
        self._answer = answer
        if self._waiting is not None and self.open:
            self._cloud._resume(self._waiting, self._cloud.latency())

    def recv(self, _: int) -> bytes:
        if self._answer is None and self._cloud.current is None:
            self._cloud.wait_outside(round(self._seconds * 1000), lambda: self._answer is not None)
        elif self._answer is None:
            self._waiting = self._cloud.current
            self._cloud.sleep(round(self._seconds * 1000))
            self._waiting = None
        if self._cloud.point is not None:
            self._cloud.point("post", "after", _process(self._cloud))
        if self._answer is None:
            raise TimeoutError
        if isinstance(self._answer, OSError):
            raise self._answer
        return self._answer


def _process(cloud: Cloud) -> Process:
    """The process that runs; that of the handlers while a test calls the code itself."""
    return cloud.idle("handlers") if cloud.current is None else cloud.current.process


def _connected(infos: Any, deadline: object) -> Any:
    cloud = _clouds[0]
    process = _process(cloud)
    if cloud.point is not None:
        cloud.point("post", "before", process)
    fault = cloud.fault(cloud.calls, "post")
    cloud.calls += 1
    if fault is not None:
        cloud.faults[f"{fault} at post"] += 1
        cloud.last_fault = cloud.now
        cloud.note(f"post: {fault}")
        cloud.promises.faulted(process, fault)
        if fault == "crash before":
            cloud.kill(process)
            raise Crash
        if fault == "pause":
            process.frozen_until = cloud.now + cloud.random.choice((3_000, 9_000, 13_000, 20_000, 200_000))
            cloud.last_fault = process.frozen_until
    cloud.travel()
    return cloud.receiver.connected(fault)


SENDER = Sender(
    clock=CurrentClock(),
    look_up=lambda target, deadline: _clouds[0].receiver.look_up(),
    connect=_connected,
)
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
        mock.patch.object(key_rotation, "logger", quiet),
        mock.patch.object(queues, "logger", quiet),
        mock.patch.object(prober, "logger", quiet),
        mock.patch.object(prober, "metric", quiet.metric),
        mock.patch.object(signaller, "logger", quiet),
        mock.patch.object(signaller, "metric", quiet.metric),
        mock.patch.object(bus, "logger", quiet),
    ):
        yield


def enter(cloud: Cloud) -> None:
    """Makes this cloud the sender's."""
    _clouds[0] = cloud
