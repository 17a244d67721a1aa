"""The adapter for `requests`: its connection goes to checked addresses only and ends with the attempt's time."""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.util import SKIP_HEADER
from urllib3.util.ssltransport import SSLTransport

from link import networks
from link.clock import Clock
from link.election.result import Result, ResultKind
from link.networks import AddressInfo
from link.plugins.webhook.connection import Deadline, Malformed, Wire
from link.plugins.webhook.url import Target
from link.settings import Network

MAX_ADDRESSES = 8
"""Of a name that are tried: each gets its share of the time."""
MAX_INFORMATIONAL = 8

_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?![^ \r\n])")


class Ended(Exception):
    """The attempt is over without an answer. Neither requests nor urllib3 wraps an exception that it does not know."""

    def __init__(self, kind: ResultKind, reason: str) -> None:
        super().__init__(f"{kind} {reason}")
        self.result = Result(kind, reason)


class WebhookRequest(PreparedRequest):
    """A POST that leaves as it was registered. `not_after` is Unix ms.

    requests would normalise the url, and http.client would encode header values as Latin-1.
    """

    def __init__(
        self, target: Target, body: bytes, headers: Mapping[str, str], *, deadline: Deadline, not_after: int
    ) -> None:
        super().__init__()
        self.target, self.deadline, self.not_after = target, deadline, not_after
        self.method, self.body = "POST", body
        self.url = f"{target.scheme}://{target.authority}{target.path}"
        framing = {"Host": target.authority, "Content-Length": str(len(body)), "Connection": "close"}
        self.headers = CaseInsensitiveDict({name: value.encode() for name, value in {**framing, **headers}.items()})
        for name in ("Accept-Encoding", "User-Agent"):
            self.headers.setdefault(name, SKIP_HEADER)


class GuardedAdapter(HTTPAdapter):
    """Sends a `WebhookRequest` to public addresses, within its time, over a connection of its own.

    Threads can share it. `look_up` and `connect` are the network.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        allowed_networks: Sequence[Network],
        clock: Clock,
        look_up: Callable[[Target, Deadline], list[AddressInfo]],
        connect: Callable[[list[AddressInfo], Deadline], socket.socket],
    ) -> None:
        super().__init__()
        self.tls = tls
        self.allowed = tuple(allowed_networks)
        self.clock = clock
        self.look_up = look_up
        self.connect = connect

    def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> HTTPConnectionPool:
        """The only connection of this request; no proxy."""
        return _Pool(_Connection(self, request))

    def request_url(self, request: Any, proxies: Any) -> str:
        """The path as it was registered."""
        return str(request.target.path)

    def cert_verify(self, *_: Any) -> None:
        """Nothing: `tls` verifies."""


class _Pool(HTTPConnectionPool):
    """One connection, where requests expects a pool."""

    def __init__(self, only: _Connection) -> None:
        super().__init__(only.host, only.port)
        self._only = only

    def urlopen(self, method: str, url: str, body: Any = None, headers: Any = None, *_: Any, **__: Any) -> HTTPResponse:
        """The answer. urllib3's own method would change the path, repeat the request and write its url to the log."""
        self._only.request(method, url, body, headers)
        return self._only.getresponse()


class _Connection(HTTPConnection):
    """Writes a request as urllib3 does, but connects only when the whole of it is there."""

    def __init__(self, guard: GuardedAdapter, request: WebhookRequest) -> None:
        super().__init__(request.target.host, request.target.port)
        self._guard = guard
        self._request = request
        self._unsent = b""

    def send(self, data: Any) -> None:
        """Keeps head and body together."""
        self._unsent += data

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        """The head of the answer; raises Ended when none arrives."""
        guard, target, deadline = self._guard, self._request.target, self._request.deadline
        sent = False
        stage = "dns"
        try:
            infos = guard.look_up(target, deadline)
            if not networks.permitted(infos, guard.allowed):
                raise Ended(ResultKind.REFUSED, "address_refused")
            stage = "connect"
            with guard.connect(infos[:MAX_ADDRESSES], deadline) as socket_:
                plain = Wire(socket_, deadline)
                stage = "tls"
                wire = plain if target.scheme == "http" else _tls(plain, guard.tls, target.host)
                plain.abort_on_close(True)
                if deadline.passed:
                    raise Ended(ResultKind.NOT_SENT, "timeout")
                if guard.clock.now() > self._request.not_after:
                    raise Ended(ResultKind.TOO_LATE, "claim_ending")
                # From here on bytes may have left, whatever happens. One write: a webhook fits into one TLS record.
                sent, stage = True, "reset"
                wire.sendall(self._unsent)
                response = _answer(io.BufferedReader(_Received(wire), 16_384))
                plain.abort_on_close(False)
                return response
        except ssl.SSLCertVerificationError:
            raise Ended(ResultKind.REFUSED, "certificate") from None
        except (OSError, http.client.HTTPException) as error:
            reason = "timeout" if isinstance(error, TimeoutError) else stage
            if not sent:
                raise Ended(ResultKind.NOT_SENT, reason) from None
            malformed = isinstance(error, Malformed | http.client.HTTPException)
            raise Ended(ResultKind.MAYBE_RECEIVED, "malformed" if malformed else reason) from None


def _tls(plain: Wire, context: ssl.SSLContext, host: str) -> SSLTransport:
    """TLS over a wire. OpenSSL works in memory, so that time and budget hold within a handshake, too."""
    # Certificates are issued for names without the root's dot.
    return SSLTransport(plain, context, host.removesuffix("."))  # type: ignore[arg-type]


class _Received(io.RawIOBase):
    """What a wire receives, as a file for http.client."""

    def __init__(self, wire: Wire | SSLTransport) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        received = self._wire.recv(len(buffer))
        if not received:
            # http.client would take the end of the connection for the end of the head.
            raise ConnectionResetError
        assert isinstance(received, bytes)
        buffer[: len(received)] = received
        return len(received)


def _answer(received: io.BufferedReader) -> HTTPResponse:
    """The first answer that is not informational; its body is not read."""
    for _ in range(MAX_INFORMATIONAL + 1):
        # http.client would take `+200` and `2_00` for 200, and of the informational ones it knows 100 only.
        found = _STATUS.match(received.readline())
        if found is None:
            raise Malformed
        head = http.client.parse_headers(received)
        status = int(found[1])
        # 101 is informational by number only: nothing follows it.
        if status >= 200 or status == 101:
            # The libraries would act on lengths, encodings and cookies; nothing here needs them.
            retry_after = head.get_all("Retry-After")
            headers = {"Retry-After": retry_after[-1]} if retry_after else {}
            return HTTPResponse(status=status, headers=headers, preload_content=False)
    raise Malformed
