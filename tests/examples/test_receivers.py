"""The receivers in examples/ run as they are, and the sender itself calls them over HTTP."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest
import uvicorn
from werkzeug.serving import make_server

from link import receiver
from link.election.result import Result, ResultKind
from link.plugins.webhook.sender import Sender
from tests.support.ids import LONDON, PARIS, RESOURCE, SECRETS
from tests.support.receiver import create_slots_table
from tests.support.webhooks import announced, sent

EXAMPLES = Path(__file__).parents[2] / "examples/receivers"
HOSTS = {PARIS: "paris", LONDON: "london"}
HOST_SECRETS = {HOSTS[endpoint_id]: secret for endpoint_id, secret in SECRETS.items()}
SENDER = Sender(allowed_networks=[ip_network("127.0.0.0/8")])


class Switched(list[str | None]):
    """The endpoint ids that an example switched to, in order; None: no endpoint is active."""

    def __init__(self) -> None:
        self.before: Callable[[], None] = lambda: None

    def switch_to(self, target: receiver.Target) -> None:
        self.before()
        self.append(target.endpoint_id)


@contextlib.contextmanager
def flask(app: ModuleType) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, app.app, threaded=True)
    with in_thread(server.serve_forever, server.shutdown):
        yield server.server_port


@contextlib.contextmanager
def fastapi(app: ModuleType) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app.app, log_level="critical", lifespan="off"))

        def stop() -> None:
            server.should_exit = True

        with in_thread(lambda: server.run(sockets=[listening]), stop):
            yield listening.getsockname()[1]


@contextlib.contextmanager
def plain(app: ModuleType) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), app.Receiver)
    with in_thread(server.serve_forever, server.shutdown):
        yield server.server_port
    server.server_close()


def function_url(app: ModuleType) -> contextlib.AbstractContextManager[int]:
    return gateway(app, lambda headers, body: {
        "headers": {name.lower(): ",".join(values) for name, values in headers.items()},
        "body": body.decode("utf-8", "replace"),
        "isBase64Encoded": False,
    })  # fmt: skip


def rest_api(app: ModuleType) -> contextlib.AbstractContextManager[int]:
    return gateway(app, lambda headers, body: {
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    })  # fmt: skip


@contextlib.contextmanager
def gateway(app: ModuleType, event: Callable[[dict[str, list[str]], bytes], dict[str, Any]]) -> Iterator[int]:
    """Serve a Lambda handler over HTTP; `event` makes the event that AWS would make of a request."""

    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name: self.headers.get_all(name, []) for name in self.headers}
            answer = app.handler(event(headers, body), None)
            self.send_response(answer["statusCode"])
            self.end_headers()
            self.wfile.write(answer.get("body", "").encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    with in_thread(server.serve_forever, server.shutdown):
        yield server.server_port
    server.server_close()


@contextlib.contextmanager
def in_thread(run: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(10)
        assert not thread.is_alive()


EXAMPLE_SERVERS = {
    "flask": ("flask_app", flask),
    "fastapi": ("fastapi_app", fastapi),
    "standard library": ("server", plain),
    "function url": ("lambda_function", function_url),
    "rest api": ("lambda_function", rest_api),
}


@pytest.fixture(params=EXAMPLE_SERVERS)
def example(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws: None
) -> Iterator[tuple[str, Switched]]:
    """Yield the URL of a running example beside its copy of receiver.py, and what it switched to."""
    name, serve = EXAMPLE_SERVERS[request.param]
    (tmp_path / "link_receiver.py").write_text(Path(receiver.__file__).read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "link_receiver", raising=False)
    for variable, value in (("SECRETS", json.dumps(HOST_SECRETS)), ("RESOURCE_ID", RESOURCE), ("SLOTS_TABLE", "slots")):
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SLOTS_FILE", str(tmp_path / "slots"))
    create_slots_table(boto3.client("dynamodb"))
    switched = Switched()
    monkeypatch.setitem(sys.modules, "switch", SimpleNamespace(switch_to=switched.switch_to))
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    app = importlib.util.module_from_spec(spec)
    # FastAPI looks up the annotations by the name of the module.
    monkeypatch.setitem(sys.modules, name, app)
    spec.loader.exec_module(app)
    with serve(app) as port:
        yield f"http://127.0.0.1:{port}/link", switched


def send(
    url: str,
    endpoint_id: str,
    *announcement: Any,
    secret: str | None = None,
    change: dict[str, str] | None = None,
    body: bytes = b"",
) -> Result:
    """Send one attempt, with headers and body changed after they were signed."""
    now, host = int(time.time()), HOSTS[endpoint_id]
    announcing = replace(announced(endpoint_id, *announcement), host=host)
    signed, headers = sent(announcing, [secret or HOST_SECRETS[host]], timestamp=now)
    return SENDER.post(url, body or signed, {**headers, **(change or {})}, not_after=(now + 30) * 1000)


STORY = [(PARIS, "ACTIVATED", 1, 1), (LONDON, "STANDBY", 1, 1), (PARIS, "STANDBY", 1, 2), (LONDON, "ACTIVATED", 2, 2)]


def test_an_example_follows_a_handover(example: tuple[str, Switched]) -> None:
    url, switched = example
    results = [send(url, *announcement) for announcement in STORY]
    assert results == [Result(ResultKind.DELIVERED, status_code=204)] * 4
    assert switched == [PARIS, PARIS, None, LONDON]


def test_a_superseded_webhook_is_answered_and_changes_nothing(example: tuple[str, Switched]) -> None:
    url, switched = example
    for announcement in (*STORY, STORY[0]):
        assert send(url, *announcement).status_code == 204
    assert switched[-1] == LONDON and len(switched) == 4


def test_a_slow_switch_of_an_example_does_not_have_the_last_word(example: tuple[str, Switched]) -> None:
    url, switched = example
    begun, go_on = threading.Event(), threading.Event()

    def stop() -> None:
        begun.set()
        assert go_on.wait(60)

    switched.before = stop
    with ThreadPoolExecutor(1) as pool:
        pool.submit(send, url, *STORY[0])
        assert begun.wait(60)
        answers = [send(url, *STORY[3]).status_code]
        go_on.set()
    while answers[-1] == 503:
        answers.append(send(url, *STORY[3]).status_code)
    assert answers[0] == 503 and answers[-1] == 204
    assert switched[0] == PARIS and set(switched[1:]) == {LONDON}


def test_a_webhook_whose_switch_fails_is_not_answered_2xx_and_switches_when_it_comes_again(
    example: tuple[str, Switched],
) -> None:
    url, switched = example

    def fail() -> None:
        switched.before = lambda: None
        raise OSError("no route")

    switched.before = fail
    assert send(url, *STORY[0]).kind is not ResultKind.DELIVERED
    assert send(url, *STORY[0]).kind is ResultKind.DELIVERED
    assert switched == [PARIS]


@pytest.mark.parametrize("length", ["", "65537", "-1", "x", "²"])
@pytest.mark.parametrize("example", ["standard library"], indirect=True)
def test_the_receiver_of_the_standard_library_refuses_a_body_of_no_or_any_length(
    example: tuple[str, Switched], length: str
) -> None:
    url, _ = example

    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]))) as connection:
        connection.sendall(f"POST /link HTTP/1.0\r\nContent-Length: {length}\r\n\r\n".encode("latin-1", "replace"))
        assert connection.makefile("rb").readline().split()[1] == b"413"


@pytest.mark.parametrize(
    ("case", "more"),
    [
        ("another secret", {"secret": "another"}),
        ("the header of another host", {"change": {"X-Link-Webhook-Host": "london"}}),
        ("the header of no host", {"change": {"X-Link-Webhook-Host": "rome"}}),
        ("the header of another resource", {"change": {"X-Link-Webhook-Resource-ID": "unknown"}}),
        ("another body", {"body": b'{"endpoint_id":"x"}'}),
        ("a body that is not JSON and not signed", {"body": b"\xff"}),
        ("the timestamp of an older attempt", {"change": {"X-Link-Webhook-Timestamp": "1700000000"}}),
        ("an empty signature", {"change": {"X-Link-Webhook-Signature": ""}}),
        ("a signature that is not ASCII", {"change": {"X-Link-Webhook-Signature": "é" * 64}}),
    ],
)
def test_a_forged_webhook_gets_401_and_changes_nothing(
    example: tuple[str, Switched], case: str, more: dict[str, Any]
) -> None:
    url, switched = example
    assert send(url, *STORY[0], **more) == Result(ResultKind.ANSWERED, "status_401", status_code=401), case
    assert switched == []
