"""An EventBridge on loopback that speaks PutEvents (JSON 1.1), keeps what it accepted and can misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Put:
    """One accepted entry: source, the fields of its detail, and when it arrived (monotonic seconds)."""

    source: str
    detail_type: str
    detail: dict[str, Any]
    arrived: float

    @property
    def statuses(self) -> dict[str, str]:
        return {one["endpoint_id"]: one["status"] for one in self.detail["reports"]}


@dataclass
class EventBus:
    """Use as a context manager. `mode` is one of ok, hang, close, throttle, reject (FailedEntryCount)."""

    mode: str = "ok"
    clock_error_seconds: float = 0.0
    puts: list[Put] = field(default_factory=list)
    requests: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> EventBus:
        bus = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["X-Amz-Target"] == "AWSEvents.PutEvents"
                with bus.changed:
                    mode = bus.mode
                    bus.requests += 1
                    if mode == "ok":
                        bus.puts += [
                            Put(one["Source"], one["DetailType"], json.loads(one["Detail"]), time.monotonic())
                            for one in body["Entries"]
                        ]
                    bus.changed.notify_all()
                if mode == "hang":
                    bus.released.wait(600)
                if mode in ("hang", "close"):
                    self.close_connection = True
                elif mode == "throttle":
                    self.answer(400, {"__type": "ThrottlingException", "message": "Rate exceeded"})
                else:
                    failed = {"ErrorCode": "InternalFailure", "ErrorMessage": "try\nagain"}
                    entries = [failed if mode == "reject" else {"EventId": "1"} for _ in body["Entries"]]
                    self.answer(200, {"FailedEntryCount": len(entries) * (mode == "reject"), "Entries": entries})

            def answer(self, status: int, body: object) -> None:
                content = json.dumps(body).encode()
                self.send_response_only(status)
                self.send_header("Date", formatdate(time.time() + bus.clock_error_seconds, usegmt=True))
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # The agent has closed the connection before the answer.

        self.released = threading.Event()
        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, condition: Callable[[list[Put]], bool], seconds: float = 120) -> None:
        """Return as soon as the accepted entries fulfil the condition; fail after `seconds`."""
        with self.changed:
            fulfilled = self.changed.wait_for(lambda: condition(self.puts), seconds)
        assert fulfilled, (
            f"after {seconds} s only {[(one.statuses, one.detail['at']) for one in self.puts]} had arrived"
        )
