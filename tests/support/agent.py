"""A host with an agent, by a clock of the test; and an agent in a process of its own, with a systemd around it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linkctl.agent.checks import Result
from linkctl.agent.config import Config, parse
from linkctl.agent.core import CheckKey, Core
from linkctl.agent.outbox import Outcome
from tests.support.ids import NOW

CLI = Path(__file__).parents[2] / "cli"
SECONDS = 120.0
"""What a test waits for comes much earlier, also on a busy machine."""


def config(*endpoints: str, lease_seconds: int = 60, top: str = "") -> Config:
    """A host named paris. `vip-…:5432` is an endpoint with a TCP check of that port."""
    text = f'host = "paris"\nevent_bus = "bus"\nregion = "eu-west-1"\n{top}\n'
    for one in endpoints:
        id, *ports = one.split(":")
        text += f'[[endpoints]]\nendpoint_id = "{id}"\nresource_id = "ip of {id}"\nlease_seconds = {lease_seconds}\n'
        for port in ports:
            text += f'[[endpoints.checks]]\ntype = "TCP"\nhost = "localhost"\nport = {port}\n'
    return parse(text, "agent.toml")


class Host:
    """A host on which the agent runs; checks and puts end at once, as `down` and `cloud` say."""

    def __init__(self, config: Config, cloud: str = "", down: set[int] | None = None) -> None:
        self.now = 1_000.0
        self.clock_ms = NOW
        self.down = down or set()
        self.cloud = cloud
        """The problem of every put; "hang": no answer."""
        self.offset: float | None = 0.0
        self.puts: list[tuple[float, dict[str, Any]]] = []
        self.numbers: list[int] = []
        self.log_lines: list[str] = []
        self.notes: list[str] = []
        self.pending: list[tuple[float, Callable[[], None]]] = []
        self.hanging_checks: set[int] = set()
        self.check_seconds = 0.0
        self.started_checks: list[CheckKey] = []
        self.core = Core(config, self)

    def monotonic(self) -> float:
        return self.now

    def unix_ms(self) -> int:
        return self.clock_ms + round((self.now - 1_000.0) * 1_000)

    def chance(self, low: float, high: float) -> float:
        return (low + high) / 2

    def check(self, key: CheckKey) -> None:
        self.started_checks.append(key)
        if key[1].port not in self.hanging_checks:
            result = Result("refused" if key[1].port in self.down else "", 0.01)
            self.pending.append((self.now + self.check_seconds, lambda: self.core.checked(key, result)))

    def put(self, number: int, details: Sequence[str]) -> None:
        self.puts += [(self.now, json.loads(one)) for one in details]
        self.numbers.append(number)
        if self.cloud != "hang":
            outcome = Outcome(self.cloud, None if self.cloud else self.offset)
            self.pending.append((self.now, lambda: self.core.put_ended(number, outcome)))

    def log(self, text: str) -> None:
        self.log_lines.append(text)

    def notify(self, *lines: str) -> None:
        self.notes += lines

    def run(self, seconds: float) -> None:
        """Let the time pass; everything that begins also ends, unless it hangs."""
        end, turns = self.now + seconds, 0
        while True:
            self.core.turn()
            if self.core.finished:
                return
            wake_at = min([self.core.wake_at(), *[at for at, _ in self.pending]])
            if wake_at > end:
                self.now = end
                return
            turns = turns + 1 if wake_at <= self.now else 0
            assert turns < 100, "the core wants to be woken and does nothing"
            self.now = max(self.now, wake_at)
            happened = [one for at, one in self.pending if at <= self.now]
            self.pending = [(at, one) for at, one in self.pending if at > self.now]
            for one in happened:
                one()

    def told(self) -> dict[str, str]:
        """The last event's words."""
        return {one["endpoint_id"]: one["status"] for one in self.puts[-1][1]["reports"]}


@dataclass
class Supervisor:
    """What systemd is to the agent: it reads the notifications. Use as a context manager."""

    path: Path
    notes: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> Supervisor:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self) -> None:
        while datagram := self._socket.recv(65_536):
            with self.changed:
                self.notes += datagram.decode().splitlines()
                self.changed.notify_all()

    def wait_for(self, condition: Callable[[list[str]], bool]) -> None:
        """Return as soon as the notes fulfil the condition."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.notes), SECONDS), self.notes


@dataclass
class Running:
    """An agent in a process of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.send(number)
        return self.process.wait(SECONDS)

    def wait_for_log(self, text: str) -> None:
        """Return as soon as the log has a text."""
        until = time.monotonic() + SECONDS
        while text not in self.log.read_text():
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)


@contextlib.contextmanager
def running(file: Path, url: str, *arguments: str, **environment: str) -> Iterator[Running]:
    """Run an agent with a configuration file against the event bus at a URL; at the end nothing of it is left."""
    given = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CLI),
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    } | environment
    log = file.with_suffix(".log")
    command = [sys.executable, "-m", "linkctl", "agent", "run", "--config", str(file), *arguments]
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command, env=given, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield Running(process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
