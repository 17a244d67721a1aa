"""The API's function on moto behind a small HTTP gateway on loopback."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.functions import Deployment, event


@contextlib.contextmanager
def gateway(deployment: Deployment) -> Iterator[str]:
    """Yield the URL of the API; each request becomes the event that API Gateway would make of it."""
    # As many as a process of Lambda handles.
    one_at_a_time = threading.Lock()

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
                with one_at_a_time:
                    answer = deployment.invoke("endpoints_api", request, warm=True)
            self.send_response(answer["statusCode"])
            self.send_header("Content-Length", str(len(answer["body"].encode())))
            self.end_headers()
            self.wfile.write(answer["body"].encode())

        do_GET = do_POST = do_PATCH = do_DELETE = handle_one

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v3"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
