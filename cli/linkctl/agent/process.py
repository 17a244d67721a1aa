"""The agent's process: threads for checks and puts, signals, the clocks. One loop in one thread decides (`core`)."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linkctl.agent import checks, textfile
from linkctl.agent.bus import Bus
from linkctl.agent.config import Config, load
from linkctl.agent.core import GRACE_SECONDS, CheckKey, Core
from linkctl.agent.outbox import PUT_SECONDS, Outcome
from linkctl.agent.spot import POLL_SECONDS, Metadata
from linkctl.agent.systemd import Notifier
from linkctl.errors import Failed

MAX_HANGING_PUTS = 3
MAX_SLEEP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Checked:
    key: CheckKey
    result: checks.Result


@dataclass(frozen=True, slots=True)
class PutEnded:
    number: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Interrupted:
    action: str


@dataclass(frozen=True, slots=True)
class Signalled:
    number: int


Happened = Checked | PutEnded | Interrupted | Signalled


class Process:
    """The world around a core. Every thread is a daemon, so that none of them can hold the exit."""

    def __init__(self, make_client: Callable[[Config], Any], config: Config, notifier: Notifier) -> None:
        # A signal's handler may put while the same thread is inside `get`; SimpleQueue allows that.
        self.inbox: queue.SimpleQueue[Happened] = queue.SimpleQueue()
        self.commands = checks.Commands()
        self._make_bus: Callable[[], Bus] = lambda: Bus(lambda: make_client(config), config.event_bus, config.source)
        self._bus = self._make_bus()
        self._puts: list[threading.Thread] = []
        self._notifier = notifier

    def monotonic(self) -> float:
        return time.monotonic()

    def unix_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def chance(self, low: float, high: float) -> float:
        return random.uniform(low, high)

    def check(self, key: CheckKey) -> None:
        def work() -> None:
            self.inbox.put(Checked(key, checks.run(key[1], self.commands)))

        threading.Thread(target=work, daemon=True).start()

    def put(self, number: int, details: Sequence[str]) -> None:
        self._puts = [one for one in self._puts if one.is_alive()]
        if len(self._puts) >= MAX_HANGING_PUTS:
            self.inbox.put(PutEnded(number, Outcome(f"{len(self._puts)} earlier requests still hang")))
            return
        if len(self._puts) == MAX_HANGING_PUTS - 1:
            # The others may hang with the lock of the credentials.
            self._bus = self._make_bus()
        bus = self._bus

        def work() -> None:
            self.inbox.put(PutEnded(number, bus.put(details)))

        self._puts.append(threading.Thread(target=work, daemon=True))
        self._puts[-1].start()

    def watch_instance(self, metadata: Metadata, core: Core) -> None:
        """Look for a Spot interruption notice, for ever, while the configuration says so."""

        def work() -> None:
            reached = True
            while True:
                if core.config.spot:
                    try:
                        action = metadata.notice()
                    except OSError as error:
                        if reached:
                            self.log(f"the instance's metadata cannot be read: {str(error) or type(error).__name__}")
                        reached = False
                    else:
                        reached = True
                        if action is not None:
                            self.inbox.put(Interrupted(action))
                time.sleep(POLL_SECONDS)

        threading.Thread(target=work, daemon=True).start()

    def log(self, text: str) -> None:
        # One write per line: threads share the stream. A log that is gone is no reason to stop.
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def notify(self, *lines: str) -> None:
        self._notifier.send(*lines)


def run(path: Path, metrics: Path | None, make_client: Callable[[Config], Any]) -> None:
    """Run the agent until SIGTERM or SIGINT."""
    notifier = Notifier(os.environ)
    config = _load(path, notifier)
    process = Process(make_client, config, notifier)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: process.inbox.put(Signalled(number)))
    process.log(f"host {config.host}: {len(config.endpoints)} endpoints, a beat every {config.beat_seconds:.1f} s")
    core = Core(config, process)
    metadata = Metadata.of(os.environ)
    if metadata is not None:
        process.watch_instance(metadata, core)
    file = _Metrics(metrics, process)
    core.turn()
    while not core.finished:
        for happened in _next(process.inbox, core.wake_at() - time.monotonic()):
            _tell(core, happened, lambda: _load(path, notifier))
        core.turn()
        file.write(core)
    process.commands.kill()


def _next(inbox: queue.SimpleQueue[Happened], seconds: float) -> list[Happened]:
    """Return all that happened; wait until something does, or so many seconds."""
    try:
        found = [inbox.get(timeout=min(max(seconds, 0.0), MAX_SLEEP_SECONDS))]
    except queue.Empty:
        return []
    with contextlib.suppress(queue.Empty):
        while True:
            found.append(inbox.get_nowait())
    return found


def _load(path: Path, notifier: Notifier) -> Config:
    """Return the configuration, if systemd's watchdog has the patience for its rounds."""
    config = load(path)
    needed = 2 * (config.interval_seconds + GRACE_SECONDS + PUT_SECONDS)
    if 0 < notifier.watchdog_seconds < needed:
        raise Failed(
            f"{path}: healthcheck_interval: {config.interval_seconds} needs WatchdogSec={needed:.0f} or more, "
            f"the unit has {notifier.watchdog_seconds:g}"
        )
    return config


def _tell(core: Core, happened: Happened, load: Callable[[], Config]) -> None:
    match happened:
        case Checked(key, result):
            core.checked(key, result)
        case PutEnded(number, outcome):
            core.put_ended(number, outcome)
        case Interrupted(action):
            core.interrupted(action)
        case Signalled(signal.SIGHUP):
            core.reload(load)
        case Signalled(number):
            core.stop(signal.Signals(number).name)


class _Metrics:
    """Writes the metrics after each round and at the end. That the file cannot be written is logged once."""

    def __init__(self, path: Path | None, process: Process) -> None:
        self._path = path
        self._process = process
        self._rounds = 0
        self._problem: str | None = None

    def write(self, core: Core) -> None:
        if self._path is None or (core.rounds == self._rounds and not core.finished):
            return
        self._rounds = core.rounds
        problem = None
        try:
            textfile.write(self._path, textfile.render(core))
        except OSError as error:
            problem = error.strerror
        if problem and problem != self._problem:
            self._process.log(f"{self._path} cannot be written: {problem}")
        self._problem = problem
