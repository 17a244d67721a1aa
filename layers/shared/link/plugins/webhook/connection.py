"""A connection to a receiver whose every read and write ends with the attempt's time."""

from __future__ import annotations

import queue
import socket
import struct
import threading

from link.clock import Clock
from link.networks import AddressInfo
from link.plugins.webhook.url import Target

MAX_READ_BYTES = 262_144
READ_COST_BYTES = 256
"""All that is read of a connection: a byte costs one, each read costs this much more. Floods and trickles both end."""

_ABORT, _ORDERLY = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


class Malformed(OSError):
    """The receiver's answer is not HTTP, or does not end."""


class Deadline:
    """The moment at which an attempt is over."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._at = clock.monotonic() + seconds

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self._clock.monotonic() >= self._at

    def left(self) -> float:
        """Seconds that are left; raises TimeoutError when there are none."""
        left = self._at - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def look_up(target: Target, deadline: Deadline) -> list[AddressInfo]:
    """Every address of the host. Nothing can interrupt the resolver, so it gets a thread, which we wait for."""
    answers: queue.SimpleQueue[list[AddressInfo] | Exception] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            answers.put([*socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)])
        except Exception as error:
            answers.put(error)

    try:
        threading.Thread(target=resolve, daemon=True).start()
    except RuntimeError:
        raise OSError("no thread left") from None
    try:
        found = answers.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found


def connect(infos: list[AddressInfo], deadline: Deadline) -> socket.socket:
    """A connection to the first address that accepts one; no name is looked up again."""
    fault = OSError("no address")
    for tried, info in enumerate(infos):
        try:
            return _connect(info, deadline.left() / (len(infos) - tried))
        except OSError as error:
            fault = error
    raise fault


def _connect(info: AddressInfo, seconds: float) -> socket.socket:
    family, kind, protocol, _, sockaddr = info
    connection = socket.socket(family, kind, protocol)
    try:
        connection.settimeout(seconds)
        connection.connect(sockaddr)
    except OSError:
        connection.close()
        raise
    return connection


class Wire:
    """A connection that ends with the attempt's time or with its budget of bytes, whichever comes first.

    It has what urllib3's SSLTransport needs of a socket.
    """

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self._budget = MAX_READ_BYTES

    def recv(self, size: int) -> bytes:
        """What arrives next; empty at the end."""
        self._connection.settimeout(self._deadline.left())
        received = self._connection.recv(size)
        self._budget -= len(received) + READ_COST_BYTES
        if self._budget < 0:
            raise Malformed
        return received

    def sendall(self, data: bytes) -> None:
        """Writes all of it."""
        if data:
            # sendall's timeout is that of the whole call.
            self._connection.settimeout(self._deadline.left())
            self._connection.sendall(data)

    def abort_on_close(self, abort: bool) -> None:
        """Says whether closing discards unsent bytes, so that nothing leaves after we gave up (SO_LINGER 0)."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT if abort else _ORDERLY)
