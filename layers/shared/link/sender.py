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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, BinaryIO

import certifi

from link import address
from link.endpoint import Kind, Result
from link.registration import HEADER_NAME, HEADER_VALUE
from link.settings import Network, SettingsError

RETRY_AFTER_SECONDS = 600
ADDRESSES = 8
"""At most this many addresses of a name are tried: each gets its share of the time."""
HEAD_BYTES = 65_536
"""All of an answer that is ever read: status lines and headers, the informational ones included."""
INFORMATIONAL = 8

_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})[ \r\n]")
_FRAMING = {"host", "content-length", "connection", "transfer-encoding"}
_RESET, _GRACEFUL = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)

_AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]


class _Malformed(Exception):
    """The answer is not HTTP."""


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

        stage = "dns"
        try:
            infos = _look_up(target, until)
            if any(address.refusing_block(_ip(info), self._allowed) is not None for info in infos):
                return Result(Kind.REFUSED, "address_refused")
            stage = "connect"
            with _connected(infos[:ADDRESSES], until) as plain, _Watchdog(plain, until):
                stage = "tls"
                with self._wrapped(plain, target) as connection:
                    if isinstance(connection, ssl.SSLSocket):
                        # wrap_socket would skip it, and send in clear, if the connection was reset just before.
                        connection.do_handshake()
                    if time.monotonic() >= until:
                        raise TimeoutError
                    if time.time() * 1000 > not_after:
                        return Result(Kind.TOO_LATE, "claim_ending")
                    stage = "reset"
                    connection.sendall(request)
                    result = _answer(connection)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _GRACEFUL)
                    return result
        except ssl.SSLCertVerificationError:
            return Result(Kind.REFUSED, "certificate")
        except _Malformed:
            return Result(Kind.MAYBE_RECEIVED, "malformed")
        except OSError as error:
            timed_out = isinstance(error, TimeoutError) or time.monotonic() >= until
            kind = Kind.MAYBE_RECEIVED if stage == "reset" else Kind.NOT_SENT
            return Result(kind, "timeout" if timed_out else stage)

    def _wrapped(self, plain: socket.socket, target: address.Target) -> socket.socket:
        if target.scheme == "http":
            return plain
        # Certificates are made out to names without the root's dot.
        name = target.host.removesuffix(".")
        return self._tls.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False)


class _Watchdog:
    """Shuts a connection down when its time is up: that ends any read, handshake or write, also inside OpenSSL."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        # A duplicate, because wrap_socket takes the connection out of its socket object.
        self._connection = connection.dup()
        self._timer = threading.Timer(until - time.monotonic(), self._shut_down)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()
        # Else it could shut down whatever gets the file descriptor next.
        self._timer.join()
        self._connection.close()

    def _shut_down(self) -> None:
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


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
        found = answers.get(timeout=max(0.0, until - time.monotonic()))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found


def _ip(info: _AddressInfo) -> address.Address:
    return ip_address(str(info[4][0]).partition("%")[0])


def _connected(infos: list[_AddressInfo], until: float) -> socket.socket:
    """A connection to the first address that takes one; what they were judged by is what is connected to."""
    fault: OSError = TimeoutError()
    for tried, (family, kind, protocol, _, sockaddr) in enumerate(infos):
        left = until - time.monotonic()
        if left <= 0:
            break
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(left / (len(infos) - tried))
            connection.connect(sockaddr)
            connection.settimeout(left)
            # Closing it without an answer drops what the kernel still holds: it must not leave after we gave up.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError as error:
            fault = error
            connection.close()
        else:
            return connection
    raise fault


def _answer(connection: socket.socket) -> Result:
    """What the first answer that is not informational comes to; its body is not read."""
    with connection.makefile("rb") as stream:
        left = HEAD_BYTES
        for _ in range(INFORMATIONAL + 1):
            status, retry_after, left = _head(stream, left)
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


def _head(stream: BinaryIO, left: int) -> tuple[int, bytes, int]:
    """One head: its status, its Retry-After, and how many of `left` bytes remain for the next."""
    retry_after = status = b""
    while True:
        line = stream.readline(left)
        left -= len(line)
        if not line.endswith(b"\n"):
            # Cut off by the limit, or by the end of the connection.
            raise _Malformed if left <= 0 else ConnectionResetError
        if not status:
            if not (found := _STATUS.match(line)):
                raise _Malformed
            status = found[1]
        elif not line.strip(b"\r\n"):
            return int(status), retry_after, left
        elif line[:12].lower() == b"retry-after:":
            retry_after = line[12:].strip()


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
