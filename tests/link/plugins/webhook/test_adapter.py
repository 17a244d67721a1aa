"""What the adapter needs of requests, urllib3 and http.client, each by itself: after an upgrade, the name of the test
that fails says what has changed. None of it is a private name; some of it is not documented.
"""

from __future__ import annotations

import ast
import http.client
import inspect
import io
import ssl
from pathlib import Path
from typing import Any

import pytest
from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.util import SKIP_HEADER
from urllib3.util.ssltransport import SSLTransport

from link import trust
from link.plugins.webhook import adapter
from tests.hostile.certificates import Authority

HEADERS = {"Host": b"paris", "Content-Length": b"2", "X-Site": "Besançon".encode()}


def prepared(**skipped: str) -> PreparedRequest:
    request = PreparedRequest()
    request.method, request.url, request.body = "POST", "http://paris/", b"{}"
    request.headers = CaseInsensitiveDict({**HEADERS, **skipped})  # type: ignore[arg-type]
    return request


class Stopped(Exception):
    """An error that the libraries do not know."""


class Adapter(HTTPAdapter):
    """Replaces what `GuardedAdapter` replaces."""

    def __init__(self, answer: HTTPResponse | Exception) -> None:
        super().__init__()
        self.answer = answer
        self.calls: list[Any] = []

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
        return self

    def request_url(self, *_: Any) -> str:
        return "/%2f"

    def cert_verify(self, *_: Any) -> None:
        pass

    def urlopen(self, **arguments: Any) -> HTTPResponse:
        self.calls.append([arguments[name] for name in ("method", "url", "body")])
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_http_adapter_sends_by_one_urlopen_of_what_get_connection_with_tls_context_returns() -> None:
    offline = Adapter(HTTPResponse(status=503, headers={"Retry-After": "7"}, preload_content=False))
    response = offline.send(prepared())
    assert offline.calls == [["POST", "/%2f", b"{}"]]
    assert (response.status_code, response.headers) == (503, {"Retry-After": "7"})


def test_http_adapter_lets_an_error_pass_that_it_does_not_know() -> None:
    with pytest.raises(Stopped):
        Adapter(Stopped()).send(prepared())


def test_an_http_connection_writes_a_request_by_send_and_does_not_connect_before() -> None:
    class Offline(HTTPConnection):
        written = b""

        def send(self, data: Any) -> None:
            self.written += data

        def connect(self) -> None:
            raise AssertionError("connected before the request was whole")

    offline = Offline("paris")
    skipped = dict.fromkeys(("Accept-Encoding", "User-Agent"), SKIP_HEADER)
    offline.request("POST", "/%2f/..", b"{}", prepared(**skipped).headers)
    head = "POST /%2f/.. HTTP/1.1\r\nHost: paris\r\nContent-Length: 2\r\nX-Site: Besançon\r\n\r\n"
    assert offline.written == head.encode() + b"{}"


def test_ssl_transport_needs_recv_and_sendall_of_a_socket_and_makes_the_handshake_itself(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = authority.server_context("paris.example").wrap_bio(incoming, outgoing, server_side=True)

    class Socket:
        """The two methods that `connection.Wire` has. The server answers in memory."""

        def sendall(self, data: bytes) -> None:
            incoming.write(data)

        def recv(self, size: int) -> bytes:
            try:
                server.do_handshake()
                server.write(server.read(16_384).upper())
            except ssl.SSLWantReadError:
                pass
            return outgoing.read(size)

    tls = SSLTransport(Socket(), trust.context(str(authority.path)), "paris.example")  # type: ignore[arg-type]
    tls.sendall(b"paris")
    assert tls.recv(16_384) == b"PARIS"


def test_parse_headers_reads_to_the_empty_line_and_no_further() -> None:
    received = io.BytesIO(b"Retry-After: 7\r\nretry-after: 8\r\n\r\nHTTP/1.1 200 OK")
    assert http.client.parse_headers(received).get_all("Retry-After") == ["7", "8"]
    assert received.read() == b"HTTP/1.1 200 OK"


def test_no_private_name_of_a_library_is_used_or_hidden() -> None:
    tree = ast.parse(inspect.getsource(adapter))
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    defined = {
        node.name
        for one in ast.walk(tree)
        if isinstance(one, ast.ClassDef)
        for node in one.body
        if isinstance(node, ast.FunctionDef)
    }
    private = {name for name in named | defined if name.startswith("_") and not name.endswith("__")}
    theirs = [HTTPAdapter(), HTTPConnectionPool("paris"), HTTPConnection("paris"), PreparedRequest(), http.client]
    assert "_unsent" in private
    assert private.isdisjoint(name for one in theirs for name in dir(one))
