"""A connection to a receiver whose every read and write ends with the attempt's time."""

from __future__ import annotations

import queue
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, TypeVar

from link.clock import Clock
from link.plugins.webhook.networks import Address
from link.plugins.webhook.url import Target

MAX_READ_BYTES = 262_144
READ_COST_BYTES = 256
"""All that is read of a connection: a byte costs one, each read costs this much more. Floods and trickles both end."""

_ABORT, _ORDERLY = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
_T = TypeVar("_T")

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]


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

    threading.Thread(target=resolve, daemon=True).start()
    try:
        found = answers.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found


def address(info: AddressInfo) -> Address:
    """The address of an answer of the resolver, without its zone."""
    return ip_address(str(info[4][0]).partition("%")[0])


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


class Plain:
    """A connection that ends with the attempt's time or with its budget of bytes, whichever comes first."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self._budget = MAX_READ_BYTES

    def receive(self) -> bytes:
        """What arrives next; empty at the end."""
        self._connection.settimeout(self._deadline.left())
        received = self._connection.recv(16_384)
        self._budget -= len(received) + READ_COST_BYTES
        if self._budget < 0:
            raise Malformed
        return received

    def seal(self, request: bytes) -> bytes:
        """The bytes that carry a request on the wire."""
        return request

    def send(self, sealed: bytes) -> None:
        """Writes all of it."""
        # sendall's timeout is that of the whole call.
        self._connection.settimeout(self._deadline.left())
        self._connection.sendall(sealed)

    def abort_on_close(self, abort: bool) -> None:
        """Says whether closing discards unsent bytes, so that nothing leaves after we gave up (SO_LINGER 0)."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT if abort else _ORDERLY)


class Tls:
    """TLS over a connection. OpenSSL works in memory, so that time and budget hold within a handshake, too."""

    def __init__(self, plain: Plain, context: ssl.SSLContext, host: str) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # Certificates are issued for names without the root's dot.
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host.removesuffix("."))
        self._fed(self._tls.do_handshake)

    def receive(self) -> bytes:
        """What arrives next, decrypted; empty at the end."""
        return self._fed(lambda: self._tls.read(16_384))

    def seal(self, request: bytes) -> bytes:
        """The records that carry a request on the wire."""
        unsealed = memoryview(request)
        while unsealed:
            unsealed = unsealed[self._tls.write(unsealed) :]
        return self._outgoing.read()

    def _fed(self, step: Callable[[], _T]) -> _T:
        """Repeats a step of OpenSSL and gives it what it waits for, until it succeeds."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                if self._outgoing.pending:
                    self._plain.send(self._outgoing.read())
                if received := self._plain.receive():
                    self._incoming.write(received)
                else:
                    self._incoming.write_eof()
