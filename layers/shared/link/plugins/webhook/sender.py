"""One POST: over in five seconds at most and sent to public addresses only, whatever the other side does.

Straight on a socket. An HTTP client would have to be kept from following redirects, reading bodies and `.netrc`, asking
proxies, keeping connections and looking names up again, and has no place for a last look at the clock between the
handshake and the first byte.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import certifi

from link.clock import Clock
from link.election.result import Result, ResultKind
from link.fields import HEADER_VALUE
from link.plugins.webhook import connection, networks
from link.plugins.webhook import url as urls
from link.plugins.webhook.config import HEADER_NAME
from link.plugins.webhook.connection import AddressInfo, Deadline, Malformed, Plain, Tls
from link.settings import Network, SettingsError

MAX_RETRY_AFTER_SECONDS = 600
MAX_ADDRESSES = 8
"""Of a name that are tried: each gets its share of the time."""
MAX_INFORMATIONAL = 8

_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?![^ \r])")
_FRAMING = {"host", "content-length", "connection", "transfer-encoding"}


class Sender:
    """Sends webhooks. Holds only the deployment's settings and trust store, so threads can share it.

    `ca_bundle` is PEM text or the path of a PEM file, trusted in addition to certifi's. `look_up` and `connect` are
    the network; the simulator replaces them.
    """

    def __init__(
        self,
        *,
        allowed_networks: Sequence[Network] = (),
        require_https: bool = False,
        ca_bundle: str = "",
        seconds: float = 5.0,
        clock: Clock | None = None,
        look_up: Callable[[urls.Target, Deadline], list[AddressInfo]] = connection.look_up,
        connect: Callable[[list[AddressInfo], Deadline], socket.socket] = connection.connect,
    ) -> None:
        self._allowed = tuple(allowed_networks)
        self._require_https = require_https
        self._seconds = seconds
        self._clock = clock or Clock()
        self._look_up = look_up
        self._connect = connect
        # Made once: loading the trust store costs 30 ms of CPU.
        self._tls = _tls_context(ca_bundle)

    def post(self, url: str, body: bytes, headers: Mapping[str, str], *, not_after: int) -> Result:
        """Makes one attempt. Its bytes leave in one write, at `not_after` (Unix ms) at the latest, or never."""
        deadline = Deadline(self._clock, self._seconds)
        try:
            target = urls.target(url)
        except urls.BadUrl:
            return Result(ResultKind.REFUSED, "url_invalid")
        if self._require_https and target.scheme != "https":
            return Result(ResultKind.REFUSED, "https_required")
        if not _sendable(headers):
            return Result(ResultKind.REFUSED, "header_invalid")
        request = _request(target, body, headers)

        sent = False
        stage = "dns"
        try:
            infos = self._look_up(target, deadline)
            if any(networks.refusing_block(connection.address(info), self._allowed) is not None for info in infos):
                return Result(ResultKind.REFUSED, "address_refused")
            stage = "connect"
            with self._connect(infos[:MAX_ADDRESSES], deadline) as socket_:
                plain = Plain(socket_, deadline)
                stage = "tls"
                wire = Tls(plain, self._tls, target.host) if target.scheme == "https" else plain
                sealed = wire.seal(request)
                plain.abort_on_close(True)
                if deadline.passed:
                    return Result(ResultKind.NOT_SENT, "timeout")
                if self._clock.now() > not_after:
                    return Result(ResultKind.TOO_LATE, "claim_ending")
                # From here on bytes may have left, whatever happens.
                sent, stage = True, "reset"
                plain.send(sealed)
                result = _answer(wire, self._clock.now)
                plain.abort_on_close(False)
                return result
        except ssl.SSLCertVerificationError:
            return Result(ResultKind.REFUSED, "certificate")
        except OSError as error:
            reason = "timeout" if isinstance(error, TimeoutError) else stage
            if not sent:
                return Result(ResultKind.NOT_SENT, reason)
            return Result(ResultKind.MAYBE_RECEIVED, "malformed" if isinstance(error, Malformed) else reason)


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
    """Whether these headers arrive as they are, even if they came into the table without our validation."""
    names = [name.lower() for name in headers]
    return (
        all(HEADER_NAME.fullmatch(name) and HEADER_VALUE.fullmatch(value) for name, value in headers.items())
        and len(set(names)) == len(names)
        and _FRAMING.isdisjoint(names)
    )


def _request(target: urls.Target, body: bytes, headers: Mapping[str, str]) -> bytes:
    head = {"Host": target.authority, "Content-Length": str(len(body)), "Connection": "close", **headers}
    lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def _answer(wire: Plain | Tls, now: Callable[[], int]) -> Result:
    """The result of the first answer that is not informational; its body is not read."""
    lines = _lines(wire)
    for _ in range(MAX_INFORMATIONAL + 1):
        status, retry_after = _head(lines)
        # 101 is informational by number only: nothing follows it.
        if status >= 200 or status == 101:
            break
    else:
        raise Malformed
    if 200 <= status < 300:
        return Result(ResultKind.DELIVERED, status_code=status)
    return Result(
        ResultKind.ANSWERED,
        "redirect" if 300 <= status < 400 else f"status_{status}",
        status_code=status,
        retry_after_seconds=_seconds(retry_after, now()) if status in (429, 503) else None,
    )


def _head(lines: Iterator[bytes]) -> tuple[int, bytes]:
    """Status and Retry-After of the next head."""
    found = _STATUS.match(next(lines))
    if found is None:
        raise Malformed
    retry_after = b""
    while line := next(lines).rstrip(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"retry-after":
            retry_after = value.strip()
    return int(found[1]), retry_after


def _lines(wire: Plain | Tls) -> Iterator[bytes]:
    """The lines of an answer, as far as they are read."""
    unread = b""
    while received := wire.receive():
        *lines, unread = (unread + received).split(b"\n")
        yield from lines
    raise ConnectionResetError


def _seconds(retry_after: bytes, now: int) -> int | None:
    """Seconds to wait from `now` (Unix ms) on, out of a number or an HTTP date; None when it is neither.

    >>> [_seconds(value, 784111757000) for value in (b"120", b"86400", b"Sun, 06 Nov 1994 08:49:37 GMT", b"soon")]
    [120, 600, 20, None]
    """
    text = retry_after.decode("latin-1")
    if re.fullmatch("[0-9]{1,9}", text):
        return min(int(text), MAX_RETRY_AFTER_SECONDS)
    try:
        at = datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        return None
    return min(max(0, round(at.timestamp() - now / 1000)), MAX_RETRY_AFTER_SECONDS)
