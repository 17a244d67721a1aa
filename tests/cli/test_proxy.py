"""What the signing proxy refuses, over raw sockets: nothing of it reaches the API."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest

from linkctl import proxy
from linkctl.api import Deployment
from tests.support.refused_requests import REFUSED, Refused


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Api:
    """An API that remembers the request lines, and whether each was signed."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.unsigned: list[str] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                api.requests.append(f"{self.command} {self.path}")
                if not self.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 "):
                    api.unsigned.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    api = Api()
    with serving(api.server):
        yield api


@pytest.fixture
def port(api: Api) -> Iterator[int]:
    """Yield the port of a proxy. The URL of its API has no path, so that a target could change the host."""
    url = f"http://127.0.0.1:{api.server.server_port}"
    session = boto3.Session(region_name="eu-west-1")
    with serving(proxy.Server(Deployment("stack", api_url=url, session=session), 0)) as port:
        yield port


def send(port: int, request: bytes) -> tuple[int, str]:
    """Send the bytes and no more, and return status and body of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body.decode()


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_a_refused_request_never_reaches_the_api_and_its_client_reads_what_to_do(
    refused: Refused, api: Api, port: int
) -> None:
    request = refused.request.replace(b"<host>", b"127.0.0.1:%d" % port)
    status, body = send(port, request.replace(b"<api>", b"127.0.0.1:%d" % api.server.server_port))
    assert api.requests == []
    assert status == refused.status
    assert refused.words in json.loads(body)["error"]


@pytest.mark.parametrize(
    "lines",
    [
        "Host: 127.0.0.1:<port>",
        "Host: localhost:<port>",
        "host: LOCALHOST:<port>",
        "Host: 127.0.0.1:<port>\r\nSec-Fetch-Site: none",
        "Host: 127.0.0.1:<port>\r\nSec-Fetch-Site: same-origin",
        "Host: 127.0.0.1:<port>\r\nContent-Length: 0",
    ],
)
def test_a_request_of_a_local_client_is_signed_and_sent(lines: str, api: Api, port: int) -> None:
    request = f"GET /resources?resource_id=ip%201 HTTP/1.1\r\n{lines}\r\n\r\n".replace("<port>", str(port))
    assert send(port, request.encode()) == (200, "{}")
    assert (api.requests, api.unsigned) == (["GET /resources?resource_id=ip%201"], [])


def test_a_body_of_one_mebibyte_is_sent(api: Api, port: int) -> None:
    head = f"POST /endpoints HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {1 << 20}\r\n\r\n"
    assert send(port, head.encode() + b" " * (1 << 20))[0] == 200
    assert api.requests == ["POST /endpoints"]


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("/x?a=b+c", "https://link.example.com/v3/x?a=b%20c"),
        ("/x/...", "https://link.example.com/v3/x/..."),
        ("/../x", None),
        ("/x/%2E./y", None),
    ],
)
def test_a_target_is_a_path_below_the_deployments_url(target: str, url: str | None) -> None:
    assert proxy.upstream("https://link.example.com/v3", target) == url


@pytest.mark.parametrize("target", ["@other.example/x", ".other.example/x", ":443/x"])
def test_no_target_changes_the_host(target: str) -> None:
    assert proxy.upstream("https://link.example.com", target) is None


@pytest.mark.parametrize(
    ("error", "printed"),
    [(BrokenPipeError, False), (ConnectionResetError, False), (TimeoutError, False), (KeyError, True)],
)
def test_a_client_that_goes_away_leaves_no_traceback(
    error: type[Exception], printed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with proxy.Server(Deployment("stack", api_url="http://127.0.0.1:1"), 0) as server:
        try:
            raise error
        except error:
            server.handle_error(None, ("127.0.0.1", 1))
    assert ("Traceback" in capsys.readouterr().err) == printed
