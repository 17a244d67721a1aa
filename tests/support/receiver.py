"""A receiver on loopback that keeps every request as it arrived."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request, with its headers in the order of arrival."""

    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        (value,) = [v for n, v in self.headers if n.lower() == name.lower()]
        return value

    def brief(self) -> tuple[str, str, int, int, str]:
        """(endpoint id, status, epoch, sequence, reason)."""
        fields = json.loads(self.body)
        return (
            fields["endpoint_id"],
            fields["status"],
            int(self.header("X-Link-Webhook-Epoch")),
            int(self.header("X-Link-Webhook-Sequence")),
            self.header("X-Link-Webhook-Reason"),
        )


@dataclass
class LoopbackReceiver:
    """Answers `status` to every POST, or what `answer` says, after `takes()` seconds. Use as a context manager."""

    status: int = 204
    answer: Callable[[], int] | None = None
    takes: Callable[[], float] = lambda: 0.0
    tls: ssl.SSLContext | None = None
    requests: list[Received] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> LoopbackReceiver:
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.changed:
                    status = receiver.answer() if receiver.answer else receiver.status
                    receiver.requests.append(Received(self.path, list(self.headers.items()), body))
                    receiver.answers.append(status)
                    receiver.changed.notify_all()
                time.sleep(receiver.takes())
                self.send_response(status)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                pass  # The client has closed the connection before the answer.

        self._server = Server(("127.0.0.1", 0), Handler)
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        scheme = "http" if self.tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}/hook"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, condition: Callable[[list[Received]], bool], seconds: float = 120) -> None:
        """Return as soon as the requests fulfil the condition; fail after `seconds`."""
        with self.changed:
            fulfilled = self.changed.wait_for(lambda: condition(self.requests), seconds)
        assert fulfilled, f"after {seconds} s only {[r.brief() for r in self.requests]} had arrived"


def create_slots_table(dynamodb: Any) -> None:
    """Create the table in which a receiver keeps its slots, as docs/receiving.md describes it."""
    dynamodb.create_table(
        TableName="slots",
        AttributeDefinitions=[{"AttributeName": "resource_id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "resource_id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
