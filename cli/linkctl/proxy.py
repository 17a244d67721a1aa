"""A proxy on loopback that signs requests, for clients without SigV4: LinK's own, curl, a browser."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, urlencode

from linkctl.api import Deployment
from linkctl.errors import Unreachable

MAX_BODY_BYTES = 1 << 20
LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}


def signable(path: str) -> str:
    """Return the path with its query escaped as AWS signs it: a blank is %20 and not +. The bytes stay the same."""
    path, _, query = path.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True, encoding="latin-1")
    return f"{path}?{urlencode(pairs, quote_via=quote, encoding='latin-1')}" if pairs else path


def server(deployment: Deployment, port: int) -> ThreadingHTTPServer:
    """Return the server, not yet serving."""

    class Proxy(BaseHTTPRequestHandler):
        timeout = 30

        def handle_one(self) -> None:
            # A web page can make a browser send requests here, but the browser then sends Origin or Sec-Fetch-Site,
            # or, if the page's own host name resolves to loopback, a Host that is not loopback.
            host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host", "")
            if host not in LOOPBACK or self.headers.get("Origin") or self.headers.get("Sec-Fetch-Site") == "cross-site":
                self._answer(
                    403, b'{"error": "the proxy refuses requests of web pages and for a Host that is not loopback"}'
                )
                return
            length = self.headers.get("Content-Length", "0")
            if not length.isascii() or not length.isdigit() or int(length) > MAX_BODY_BYTES:
                self._answer(413, b'{"error": "the proxy needs a Content-Length of at most 1 MiB"}')
                return
            if not self.path.startswith("/"):
                # Joined to the deployment's URL, "@other.example" would name another host.
                self._answer(400, b'{"error": "the path of a request to the proxy begins with /"}')
                return
            body = self.rfile.read(int(length))
            headers = {"Content-Type": "application/json"}
            if (key := self.headers.get("Idempotency-Key")) is not None:
                headers["Idempotency-Key"] = key
            try:
                answer = deployment.forward(self.command, deployment.url + signable(self.path), body, headers)
            except Unreachable as error:
                self._answer(502, json.dumps({"error": str(error)}).encode())
                return
            self._answer(answer.status_code, answer.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if status != 204:
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Proxy)


def serve(deployment: Deployment, port: int) -> None:
    """Print the URL of the proxy, and serve until Ctrl-C."""
    listening = server(deployment, port)
    print(f"http://127.0.0.1:{listening.server_port} is {deployment.url}", flush=True)
    try:
        listening.serve_forever()
    finally:
        listening.server_close()
