"""One try at a target: connect, TLS, the status of the answer. Nothing here blocks the event loop."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

from link import VERSION
from link.networks import AddressInfo
from link.probing.checks import Check, CheckType

MAX_ADDRESSES = 8
"""Of a name that are tried: each gets its share of the time."""
MAX_PLAIN_BYTES, MAX_TLS_BYTES = 8_192, 65_536
"""All that is read of a connection, certificates included."""
READ_COST_BYTES = 256
"""What each read costs of that in addition, so that trickles end, too."""
USER_AGENT = f"link-webhook-serverless/{VERSION} (probe)"

_DEFAULT_PORTS = {CheckType.HTTP: 80, CheckType.HTTPS: 443}
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?![^ \r])")
_ABORT = struct.pack("ii", 1, 0)
_OUR_OWN = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_T = TypeVar("_T")


class Starved(Exception):
    """This process has no socket, thread or memory left, so nothing is known about the target."""


class _NoHttp(Exception):
    pass


async def attempt(check: Check, infos: Sequence[AddressInfo], tls: ssl.SSLContext | None, ends: float) -> str:
    """Why a try failed, in one word; empty when it passed.

    `infos` are the judged addresses of the host, `ends` is a time of the event loop.
    """
    try:
        async with asyncio.timeout_at(ends):
            with await _connected(infos[:MAX_ADDRESSES], check.port, ends) as connection:
                return await _answered(check, connection, tls)
    except TimeoutError:
        return "timeout"
    except ConnectionRefusedError:
        return "refused"
    except ConnectionError:
        return "closed"
    except ssl.SSLCertVerificationError:
        return "certificate"
    except ssl.SSLError:
        return "tls"
    except UnicodeError:
        # IDNA refuses what follows an address: a long zone, or after a blank what no name may have.
        return "dns"
    except _NoHttp:
        return "no_http"
    except OSError:
        return "unreachable"


async def _connected(infos: Sequence[AddressInfo], port: int, ends: float) -> socket.socket:
    """A connection to the first address that accepts one."""
    loop = asyncio.get_running_loop()
    fault = OSError("no address")
    for tried, info in enumerate(infos):
        try:
            async with asyncio.timeout((ends - loop.time()) / (len(infos) - tried)):
                return await _connect(info, port)
        except OSError as error:
            fault = error
    raise fault


async def _connect(info: AddressInfo, port: int) -> socket.socket:
    family, kind, protocol, _, (host, _, *zone) = info
    try:
        connection = socket.socket(family, kind, protocol)
    except OSError as error:
        if error.errno in _OUR_OWN:
            raise Starved(str(error)) from None
        raise
    try:
        connection.setblocking(False)
        # Closing is a reset: it needs one packet, and leaves nothing in the kernel.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        await asyncio.get_running_loop().sock_connect(connection, (host, port, *zone))
    except BaseException:
        connection.close()
        raise
    return connection


async def _answered(check: Check, connection: socket.socket, tls: ssl.SSLContext | None) -> str:
    if check.type is CheckType.TCP:
        return ""
    wire: _Wire | _TlsWire
    if tls is None:
        wire = _Wire(connection, MAX_PLAIN_BYTES)
    else:
        wire = _TlsWire(_Wire(connection, MAX_TLS_BYTES), tls, check.host)
        await wire.shake_hands()
    await wire.send(_request(check))
    received = b""
    while (found := status(received)) is None:
        received += await wire.recv()
    lowest, highest = check.expect
    return "" if lowest <= found <= highest else f"status_{found}"


def _request(check: Check) -> bytes:
    authority = f"[{check.host}]" if ":" in check.host else check.host
    if check.port != _DEFAULT_PORTS[check.type]:
        authority += f":{check.port}"
    return (
        f"GET {check.path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {USER_AGENT}\r\nAccept: */*\r\n"
        "Connection: close\r\n\r\n"
    ).encode()


def status(received: bytes) -> int | None:
    r"""The status of the first answer that is not informational; None as long as its line is not complete.

    >>> status(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n")
    204
    """
    while True:
        line, ended, _ = received.partition(b"\n")
        if not ended:
            return None
        if (found := _STATUS.match(line)) is None:
            raise _NoHttp
        # 101 is informational by number only: nothing follows it.
        if (code := int(found[1])) >= 200 or code == 101:
            return code
        _, _, received = received.partition(b"\r\n\r\n")


class _Wire:
    """A connection of which only so much is read."""

    def __init__(self, connection: socket.socket, budget: int) -> None:
        self._connection = connection
        self._budget = budget
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._connection, data)

    async def recv(self) -> bytes:
        """What arrives next."""
        received = await self._loop.sock_recv(self._connection, 4_096)
        if not received:
            raise ConnectionResetError
        self._budget -= len(received) + READ_COST_BYTES
        if self._budget < 0:
            raise _NoHttp
        return received


class _TlsWire:
    """The same over TLS. OpenSSL works in memory: on a socket it would read on as long as something arrives."""

    def __init__(self, plain: _Wire, context: ssl.SSLContext, host: str) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # Certificates are issued for names without the root's dot.
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host.removesuffix("."))

    async def shake_hands(self) -> None:
        await self._done(self._tls.do_handshake)

    async def send(self, data: bytes) -> None:
        await self._done(lambda: self._tls.write(data))

    async def recv(self) -> bytes:
        """What arrives next."""
        received = await self._done(lambda: self._tls.read(4_096))
        if not received:
            raise ConnectionResetError
        return received

    async def _done(self, step: Callable[[], _T]) -> _T:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                self._incoming.write(await self._plain.recv())
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._plain.send(self._outgoing.read())
