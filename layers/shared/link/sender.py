"""One POST: over in five seconds at most and sent to public addresses only, whatever the other side does.

Straight on a socket. An HTTP client would have to be stopped from following redirects, reading bodies and
`.netrc`, asking proxies, keeping connections and looking names up again, and gives no place for a last
look at the clock between the handshake and the first byte.
"""

from __future__ import annotations

import queue
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, TypeVar

import certifi

from link import address
from link.endpoint import Kind, Result
from link.registration import HEADER_NAME, HEADER_VALUE
from link.settings import Network, SettingsError

RETRY_AFTER_SECONDS = 600
ADDRESSES = 8
"""At most this many addresses of a name are tried: each gets its share of the time."""
WIRE_BUDGET = 262_144
WAKE_UP_COST = 256
"""All that is read of a connection: a byte costs one, waking up for some as much as this. Floods and trickles end."""
INFORMATIONAL = 8

_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?![^ \r])")
_FRAMING = {"host", "content-length", "connection", "transfer-encoding"}
_ABORT, _ORDERLY = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
_T = TypeVar("_T")

_AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]


class _Malformed(OSError):
    """What the receiver says is not HTTP, or there is no end to it."""


class Sender:
    """Sends webhooks. Holds nothing but the deployment's settings and trust store, so threads may share it.

    `ca_bundle` is PEM text or the path of a PEM file: trusted in addition to certifi's.
    """

    def __init__(
        self,
        *,
        allowed_networks: Sequence[Network] = (),
        require_https: bool = False,
        ca_bundle: str = "",
        seconds: float = 5.0,
    ) -> None:
        self._allowed = tuple(allowed_networks)
        self._require_https = require_https
        self._seconds = seconds
        # Made once: loading the trust store costs 30 ms of CPU.
        self._tls = _tls_context(ca_bundle)

    def post(self, url: str, body: bytes, headers: Mapping[str, str], *, not_after: int) -> Result:
        """One attempt. Its bytes leave in one write, at `not_after` (Unix milliseconds) at the latest, or never."""
        until = time.monotonic() + self._seconds
        try:
            target = address.target(url)
        except address.BadUrl:
            return Result(Kind.REFUSED, "url_invalid")
        if self._require_https and target.scheme != "https":
            return Result(Kind.REFUSED, "https_required")
        if not _sendable(headers):
            return Result(Kind.REFUSED, "header_invalid")
        request = _request(target, body, headers)

        # The reason, should it break from here on.
        stage = "dns"
        try:
            infos = _look_up(target, until)
            if any(address.refusing_block(_ip(info), self._allowed) is not None for info in infos):
                return Result(Kind.REFUSED, "address_refused")
            stage = "connect"
            with _connected(infos[:ADDRESSES], until) as connection:
                plain = _Plain(connection, until)
                stage = "tls"
                wire: _Plain | _Tls = _Tls(plain, self._tls, target.host) if target.scheme == "https" else plain
                sealed = wire.seal(request)
                # Closed without an answer, it drops what the kernel still holds: that must not leave after we gave up.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                if time.monotonic() >= until:
                    return Result(Kind.NOT_SENT, "timeout")
                if time.time() * 1000 > not_after:
                    return Result(Kind.TOO_LATE, "claim_ending")
                stage = "reset"
                plain.send(sealed)
                result = _answer(wire)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ORDERLY)
                return result
        except ssl.SSLCertVerificationError:
            return Result(Kind.REFUSED, "certificate")
        except OSError as error:
            reason = "timeout" if isinstance(error, TimeoutError) else stage
            if stage != "reset":
                return Result(Kind.NOT_SENT, reason)
            return Result(Kind.MAYBE_RECEIVED, "malformed" if isinstance(error, _Malformed) else reason)


class _Plain:
    """A connection that ends with the attempt's time, or with its budget, whichever comes first."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._connection = connection
        self._until = until
        self._budget = WIRE_BUDGET

    def receive(self) -> bytes:
        self._connection.settimeout(_left(self._until))
        received = self._connection.recv(16_384)
        self._budget -= len(received) + WAKE_UP_COST
        if self._budget < 0:
            raise _Malformed
        return received

    def seal(self, request: bytes) -> bytes:
        return request

    def send(self, sealed: bytes) -> None:
        # sendall's timeout is that of the whole call.
        self._connection.settimeout(_left(self._until))
        self._connection.sendall(sealed)


class _Tls:
    """TLS over a connection. OpenSSL works in memory, so that time and budget hold within a handshake, too."""

    def __init__(self, plain: _Plain, context: ssl.SSLContext, host: str) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # Certificates are made out to names without the root's dot.
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host.removesuffix("."))
        self._fed(self._tls.do_handshake)

    def receive(self) -> bytes:
        return self._fed(lambda: self._tls.read(16_384))

    def seal(self, request: bytes) -> bytes:
        unsealed = memoryview(request)
        while unsealed:
            unsealed = unsealed[self._tls.write(unsealed) :]
        return self._outgoing.read()

    def _fed(self, step: Callable[[], _T]) -> _T:
        """A step of OpenSSL that is given what it asks for."""
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


def _tls_context(ca_bundle: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_verify_locations(certifi.where())
    if ca_bundle:
        try:
            if ca_bundle.lstrip().startswith("-----BEGIN"):
                context.load_verify_locations(cadata=ca_bundle)
            else:
                context.load_verify_locations(ca_bundle)
        except (OSError, ValueError) as error:
            raise SettingsError(f"CA_BUNDLE is neither PEM certificates nor a file of them: {error}") from None
    return context


def _sendable(headers: Mapping[str, str]) -> bool:
    """Whether these headers mean what they say on the wire, whoever wrote them into the registration."""
    names = [name.lower() for name in headers]
    return (
        all(HEADER_NAME.fullmatch(name) and HEADER_VALUE.fullmatch(value) for name, value in headers.items())
        and len(set(names)) == len(names)
        and _FRAMING.isdisjoint(names)
    )


def _request(target: address.Target, body: bytes, headers: Mapping[str, str]) -> bytes:
    head = {"Host": target.authority, "Content-Length": str(len(body)), "Connection": "close", **headers}
    lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def _look_up(target: address.Target, until: float) -> list[_AddressInfo]:
    """Every address of the host. Nothing interrupts the resolver, so a thread waits for it and we for the thread."""
    answers: queue.SimpleQueue[list[_AddressInfo] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put([*socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)])
        except Exception as error:
            answers.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        found = answers.get(timeout=_left(until))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _ip(info: _AddressInfo) -> address.Address:
    return ip_address(str(info[4][0]).partition("%")[0])


def _connected(infos: list[_AddressInfo], until: float) -> socket.socket:
    """A connection to the first address that takes one: the very addresses that were judged."""
    fault = OSError("no address")
    for tried, info in enumerate(infos):
        try:
            return _connect(info, _left(until) / (len(infos) - tried))
        except OSError as error:
            fault = error
    raise fault


def _connect(info: _AddressInfo, seconds: float) -> socket.socket:
    family, kind, protocol, _, sockaddr = info
    connection = socket.socket(family, kind, protocol)
    try:
        connection.settimeout(seconds)
        connection.connect(sockaddr)
    except OSError:
        connection.close()
        raise
    return connection


def _answer(wire: _Plain | _Tls) -> Result:
    """What the first answer that is not informational comes to; its body is not read."""
    lines = _lines(wire)
    for _ in range(INFORMATIONAL + 1):
        status, retry_after = _head(lines)
        # 101 is informational by number only: nothing follows it.
        if status >= 200 or status == 101:
            break
    else:
        raise _Malformed
    if 200 <= status < 300:
        return Result(Kind.DELIVERED, status_code=status)
    return Result(
        Kind.ANSWERED,
        "redirect" if 300 <= status < 400 else f"status_{status}",
        status_code=status,
        retry_after_seconds=_seconds(retry_after) if status in (429, 503) else None,
    )


def _head(lines: Iterator[bytes]) -> tuple[int, bytes]:
    """Status and Retry-After of the next head."""
    found = _STATUS.match(next(lines))
    if found is None:
        raise _Malformed
    retry_after = b""
    while line := next(lines).rstrip(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"retry-after":
            retry_after = value.strip()
    return int(found[1]), retry_after


def _lines(wire: _Plain | _Tls) -> Iterator[bytes]:
    """The lines of an answer, as far as they are read."""
    unread = b""
    while received := wire.receive():
        *lines, unread = (unread + received).split(b"\n")
        yield from lines
    raise ConnectionResetError


def _seconds(retry_after: bytes) -> int | None:
    """Seconds to wait, from a number or an HTTP date; None when it is neither.

    >>> _seconds(b"120"), _seconds(b"86400"), _seconds(b"Sun, 06 Nov 1994 08:49:37 GMT"), _seconds(b"soon")
    (120, 600, 0, None)
    """
    text = retry_after.decode("latin-1")
    if re.fullmatch("[0-9]{1,9}", text):
        return min(int(text), RETRY_AFTER_SECONDS)
    try:
        at = datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        return None
    return min(max(0, round(at.timestamp() - time.time())), RETRY_AFTER_SECONDS)
