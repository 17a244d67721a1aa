"""linkctl against the API's function, which runs on moto behind a small HTTP gateway."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from linkctl.main import main
from tests.support.functions import Deployment, event

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def api(deployment: Deployment) -> Iterator[str]:
    """Yield the URL of the API; each request becomes the event that API Gateway would make of it."""

    class Gateway(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            path = parts.path.removeprefix("/v3")
            endpoint_id = re.match(r"/endpoints/([^/]+)", path)
            request = event("api_show") | {
                "httpMethod": self.command,
                "path": path,
                "resource": path.replace(endpoint_id[1], "{id}") if endpoint_id else path,
                "pathParameters": {"id": endpoint_id[1]} if endpoint_id else None,
                "headers": dict(self.headers.items()),
                "queryStringParameters": dict(parse_qsl(parts.query)) or None,
                "body": body or None,
            }
            request["requestContext"]["requestId"] = str(uuid.uuid4())
            answer: dict[str, Any]
            if not self.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 Credential="):
                answer = {"statusCode": 403, "body": json.dumps({"message": "Missing Authentication Token"})}
            else:
                answer = deployment.invoke("endpoints_api", request)
            self.send_response(answer["statusCode"])
            self.send_header("Content-Length", str(len(answer["body"].encode())))
            self.end_headers()
            self.wfile.write(answer["body"].encode())

        do_GET = do_POST = do_PATCH = do_DELETE = handle_one

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v3"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def linkctl(api: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs linkctl and returns its exit status, output and errors."""
    monkeypatch.setenv("LINKCTL_API_URL", api)
    monkeypatch.setenv("LINKCTL_EVENT_BUS", "bus")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["linkctl", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
                status = 0
            except SystemExit as ended:
                status = int(ended.code or 0)
        return status, out.getvalue(), err.getvalue()

    return run
