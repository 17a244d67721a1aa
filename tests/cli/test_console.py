"""How the console is guarded, over raw sockets. tests/console has what it shows, in a browser."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from linkctl.api import Deployment
from linkctl.console import Console, page_files
from tests.cli.test_proxy import Api, api, serving
from tests.support.ids import LONDON, PARIS
from tests.support.refused_requests import REFUSED, Refused

__all__ = ["api"]

JSON = {"error": "this browser has no session: open the newest link that linkctl console printed"}


class Client:
    """A browser, as far as it matters here."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.host = f"127.0.0.1:{console.server_port}"
        self.headers: dict[str, str] = {}

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str, str]:
        """Return status, headers and body of the answer."""
        given = {"Host": self.host, "Content-Length": str(len(body)), **self.headers, **headers}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
        return raw(self.console.server_port, f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)

    def log_in(self, secret: str) -> int:
        """Bring the secret of a link, as the page does, and remember what comes back."""
        status, head, body = self.send("POST", "/session", secret.encode(), Origin=f"http://{self.host}")
        if status == 200:
            cookie = re.search(r"Set-Cookie: ([^;]+)", head)
            assert cookie
            self.headers = {"Cookie": cookie[1], "X-Linkctl-Token": json.loads(body)["token"]}
        return status

    def api(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        status, _, text = self.send(method, f"/api{path}", body)
        return status, json.loads(text)


def raw(port: int, request: bytes) -> tuple[int, str, str]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head.decode(), body.decode()


def made(api: Api, *, read_only: bool = False) -> Console:
    url = f"http://127.0.0.1:{api.server.server_port}"
    session = boto3.Session(region_name="eu-west-1")
    return Console(Deployment("stack", api_url=url, session=session), 0, read_only=read_only)


@pytest.fixture
def console(api: Api) -> Iterator[Console]:
    console = made(api)
    with serving(console):
        yield console


@pytest.fixture
def client(console: Console) -> Client:
    """Return the browser of the operator."""
    client = Client(console)
    assert client.log_in(console.sessions.secret) == 200
    return client


# A segment .. is not in the list of what the page sends: NOT_NEEDED has it.
REFUSED_BY_BOTH = {name: refused for name, refused in REFUSED.items() if not name.startswith("the segment")}


@pytest.mark.parametrize("refused", REFUSED_BY_BOTH.values(), ids=REFUSED_BY_BOTH)
def test_what_the_proxy_refuses_the_console_refuses_too(refused: Refused, api: Api, client: Client) -> None:
    request = refused.request.replace(b"<host>", client.host.encode())
    cookies = "".join(f"\r\n{name}: {value}" for name, value in client.headers.items()).encode()
    # Refused although it is of the operator's browser.
    request = request.replace(b"HTTP/1.1", b"HTTP/1.1" + cookies, 1)
    status, _, body = raw(
        client.console.server_port, request.replace(b"<api>", b"127.0.0.1:%d" % api.server.server_port)
    )
    assert (api.requests, status) == ([], refused.status)
    assert refused.words in json.loads(body)["error"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST"])
def test_another_users_server_at_localhost_has_another_origin(host: str, api: Api, client: Client) -> None:
    # Over IPv6 the same port may be somebody else's, whose page has the origin http://localhost:<port>.
    at = f"{host}:{client.console.server_port}"
    assert client.send("GET", "/api/resources", Host=at)[0] == 403
    assert client.send("GET", "/api/resources", Origin=f"http://{at}")[0] == 403
    assert api.requests == []


def test_the_page_itself_is_answered(api: Api, client: Client) -> None:
    assert client.send("GET", "/api/resources", Origin=f"http://{client.host}", Sec_Fetch_Site="same-origin")[0] == 200
    assert (api.requests, api.unsigned) == (["GET /resources"], [])


def test_a_link_opens_one_browser_once_and_the_next_one_is_printed(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = console.sessions.secret
    assert [Client(console).log_in(secret) for _ in range(2)] == [200, 403]
    (link,) = re.findall(r"^http://127\.0\.0\.1:\d+/#(\S+)$", capsys.readouterr().out, re.MULTILINE)
    assert link != secret
    assert Client(console).log_in(link) == 200


@pytest.mark.parametrize("guess", ["", "x" * 43, "\xff" * 43, "prefix"])
def test_a_guess_opens_nothing_and_does_not_use_the_link_up(guess: str, api: Api, console: Console) -> None:
    other = Client(console)
    secret = console.sessions.secret
    status, _, _ = other.send(
        "POST", "/session", secret[:-1].encode() if guess == "prefix" else guess.encode("latin-1")
    )
    assert (status, other.api("GET", "/resources"), api.requests) == (403, (401, JSON), [])
    assert Client(console).log_in(secret) == 200


def test_a_cookie_without_the_token_and_a_token_without_the_cookie_open_nothing(api: Api, client: Client) -> None:
    # The browser sends the cookie to every port of 127.0.0.1, so another user's server there can learn it.
    other = Client(client.console)
    for name, value in client.headers.items():
        other.headers = {name: value}
        assert other.api("GET", "/resources") == (401, JSON)
    second = Client(client.console)
    second.log_in(client.console.sessions.secret)
    other.headers = {**client.headers, "Cookie": second.headers["Cookie"]}
    assert other.api("GET", "/resources") == (401, JSON)
    assert api.requests == []


def test_the_cookie_is_for_this_page_only(console: Console) -> None:
    _, head, body = Client(console).send("POST", "/session", console.sessions.secret.encode())
    (cookie,) = re.findall(r"Set-Cookie: (.*)\r", head)
    assert re.fullmatch(rf"linkctl-{console.server_port}=[\w-]{{43}}; Path=/; HttpOnly; SameSite=Strict", cookie)
    assert json.loads(body)["token"] not in cookie


def test_other_cookies_of_the_machine_do_no_harm(client: Client) -> None:
    client.headers["Cookie"] = f'path=1; other={{"a": 1}}; {client.headers["Cookie"]}; linkctl-1=x'
    assert client.api("GET", "/resources") == (200, {})


NEEDED = [
    ("GET", "/resources?limit=1000&after=ip%201", b""),
    ("GET", "/resources?resource_id=ip%201", b""),
    ("GET", "/transitions?resource_id=ip%201&limit=100", b""),
    ("GET", f"/endpoints/{PARIS}", b""),
]
WRITES = [
    ("POST", f"/endpoints/{PARIS}/failover?dry_run=true", b""),
    ("POST", f"/endpoints/{PARIS}/failover", json.dumps({"to": LONDON}, separators=(",", ":")).encode()),
    ("POST", f"/endpoints/{PARIS}/redeliver", b""),
    ("PATCH", f"/endpoints/{PARIS}?force=true&dry_run=true", b'{"drained":true}'),
    ("PATCH", "/resources?resource_id=ip", b'{"frozen":false}'),
]
NOT_NEEDED = [
    ("POST", "/endpoints", b"{}"),
    ("DELETE", f"/endpoints/{PARIS}", b""),
    ("PUT", f"/endpoints/{PARIS}", b'{"drained":true}'),
    ("PATCH", f"/endpoints/{PARIS}", b'{"plugin_config":{"secret":"mine"}}'),
    ("PATCH", f"/endpoints/{PARIS}", b'{"drained":true} {"priority":1}'),
    ("PATCH", "/resources?resource_id=ip", b'{"frozen":true,"x":1}'),
    ("GET", f"/endpoints/{PARIS}/preview", b""),
    ("POST", "/encrypted_storage/key_rotation", b""),
    ("GET", "/endpoints/../version", b""),
    ("GET", "/version", b""),
    ("GET", "/endpoints?limit=1000", b""),
    ("GET", "/resources", b"x"),
]


@pytest.mark.parametrize(("method", "path", "body"), NEEDED + WRITES)
def test_what_the_page_needs_is_signed(method: str, path: str, body: bytes, api: Api, client: Client) -> None:
    assert client.api(method, path, body) == (200, {})
    assert (api.requests, api.unsigned) == ([f"{method} {path}"], [])


@pytest.mark.parametrize(("method", "path", "body"), NOT_NEEDED)
def test_nothing_else_is(method: str, path: str, body: bytes, api: Api, client: Client) -> None:
    assert client.api(method, path, body) == (403, {"error": "the console does not send this request"})
    assert api.requests == []


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_console_that_only_reads_signs_no_write(method: str, path: str, body: bytes, api: Api) -> None:
    console = made(api, read_only=True)
    with serving(console):
        client = Client(console)
        client.log_in(console.sessions.secret)
        assert json.loads(client.send("GET", "/session")[2])["read_only"] is True
        assert client.api(method, path, body)[0] == 403
        assert api.requests == []
        assert client.api("GET", "/resources")[0] == 200


@pytest.mark.parametrize("path", [*page_files(), "/nothing", "/session", "/api/resources"])
def test_every_answer_tells_the_browser_to_load_nothing_from_elsewhere(path: str, client: Client) -> None:
    _, head, _ = client.send("GET", path)
    assert "\r\nContent-Security-Policy: default-src 'none'; " in head
    assert "\r\nReferrer-Policy: no-referrer" in head
    assert "\r\nX-Content-Type-Options: nosniff" in head
    assert "\r\nCache-Control: no-store" in head
    assert "frame-ancestors 'none'" in head and "unsafe" not in head


def test_the_page_has_no_address_of_another_machine_and_writes_no_html() -> None:
    for name, (content, _) in page_files().items():
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|style=", text), name


def test_ctrl_c_ends_the_console_while_the_api_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "linkctl", "--api-url", url, "--region", "eu-west-1", "console"]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2] / "cli", stdout=subprocess.PIPE, text=True)
        assert process.stdout
        words, link = process.stdout.readline(), process.stdout.readline()
        assert words == f"The console of {url}, until Ctrl-C:\n"
        port, secret = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/#([\w-]{43})\n", link).groups()  # type: ignore[union-attr]
        _, head, body = raw(int(port), post_session(port, secret))
        cookie = re.search(r"Set-Cookie: ([^;]+)", head)
        assert cookie
        with socket.create_connection(("127.0.0.1", int(port)), timeout=60) as waiting:
            waiting.sendall(
                f"GET /api/resources HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie[1]}\r\n"
                f"X-Linkctl-Token: {json.loads(body)['token']}\r\n\r\n".encode()
            )
            unanswered, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            # Without an answer: the console did not wait for one.
            assert waiting.makefile("rb").read() == b""
            unanswered.close()
        process.stdout.close()
        assert process.wait(60) == 130


def post_session(port: str, secret: str) -> bytes:
    head = f"POST /session HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(secret)}\r\n\r\n"
    return (head + secret).encode()


def test_a_port_that_is_in_use_is_an_error_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "linkctl", "--api-url", "http://127.0.0.1:1", "console", "--port", str(port)]
        ended = subprocess.run(command, cwd=Path(__file__).parents[2] / "cli", capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (
        1,
        f"linkctl: port {port} cannot be used: Address already in use. --port takes another one, 0 any that is free\n",
    )
