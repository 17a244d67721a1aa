"""The checks: does a port accept, does a server answer, does a command succeed. Each has one deadline for everything.

Nothing of what a server or a command answers is kept but a status: the reason in the log is a few words of ours.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from linkctl.agent.config import Check

MAX_HEAD_BYTES = 16_384
"""How much of an answer is read to find its status. Informational answers (1xx) come before it."""
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])[ \r]")
_HIDDEN_FROM_COMMANDS = ("AWS_", "NOTIFY_", "WATCHDOG_")


@dataclass(frozen=True, slots=True)
class Result:
    """How one check went. `reason` is empty when it passed."""

    reason: str
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.reason


class Commands:
    """The commands that run now, so that they can be killed together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    @contextlib.contextmanager
    def started(self, command: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command in a process group of its own; kill the group at the end if the command still runs."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN_FROM_COMMANDS)}
        with self._lock:
            if self._stopped:
                raise InterruptedError
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
            self._running.add(process)
        try:
            yield process
        finally:
            with self._lock:
                self._running.discard(process)
                _kill(process)
            process.wait()

    def kill(self) -> None:
        """Kill all that run, and start no more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Once we have waited for it, its number can be another group's.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def run(check: Check, commands: Commands) -> Result:
    """Run a check once. A name server that hangs can hold it beyond its deadline."""
    began = time.monotonic()
    deadline = began + check.timeout_seconds
    try:
        reason = _command(check, commands) if check.type == "command" else _connection(check, deadline)
    except TimeoutError:
        reason = f"no answer within {check.timeout_seconds:g} s"
    except ConnectionRefusedError:
        reason = "refused"
    except ssl.SSLError:
        reason = "no TLS"
    except (socket.gaierror, UnicodeError):
        reason = "name not found"
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else type(error).__name__
    return Result(reason, time.monotonic() - began)


def _command(check: Check, commands: Commands) -> str:
    with commands.started(check.command) as process:
        try:
            status = process.wait(check.timeout_seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
    if status < 0:
        return f"killed by signal {-status}"
    return f"exit status {status}" if status else ""


def _connection(check: Check, deadline: float) -> str:
    with _connected(check, deadline) as connection:
        if check.type == "TCP":
            return ""
        if check.type == "HTTPS":
            # The certificate is not judged: the check asks whether this host serves, and often by its address.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection.settimeout(_left(deadline))
            with context.wrap_socket(connection, server_hostname=check.host) as secure:
                return _answer(check, secure, deadline)
        return _answer(check, connection, deadline)


def _connected(check: Check, deadline: float) -> socket.socket:
    """Return a connection to the first address of the host that accepts."""
    failure = OSError()
    for family, kind, protocol, _, address in socket.getaddrinfo(check.host, check.port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left(deadline))
            connection.connect(address)
            return connection
        except OSError as error:
            connection.close()
            failure = error
    raise failure


def _answer(check: Check, connection: socket.socket, deadline: float) -> str:
    """Send a GET and read no more than the head of its answer. A redirect is an answer, and is not followed."""
    host = f"[{check.host}]" if ":" in check.host else check.host
    request = (
        f"GET {check.path} HTTP/1.1\r\nHost: {host}:{check.port}\r\n"
        "User-Agent: linkctl-agent\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    connection.settimeout(_left(deadline))
    connection.sendall(request.encode())
    head = b""
    while True:
        line = _STATUS_LINE.match(head)
        if line is not None and not line[1].startswith(b"1"):
            status = int(line[1])
            return "" if check.expect[0] <= status <= check.expect[1] else f"status {status}"
        end = head.find(b"\r\n\r\n")
        if line is not None and end >= 0:
            head = head[end + 4 :]  # an informational answer; another one follows
            continue
        if len(head) >= MAX_HEAD_BYTES or (line is None and len(head) >= len("HTTP/1.1 200 ")):
            return "no HTTP"
        connection.settimeout(_left(deadline))
        received = connection.recv(MAX_HEAD_BYTES)
        if not received:
            return "closed without an answer"
        head += received


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
