"""A proxy on loopback that signs requests, for clients without SigV4: LinK's own, curl, a browser."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from linkctl.api import Deployment
from linkctl.errors import Failed, Unreachable

MAX_BODY_BYTES = 1 << 20

_REQUEST_LINE = re.compile(r"(?:GET|POST|PUT|PATCH|DELETE) /(?!/)[!-~]* HTTP/1\.[01]")
_ONCE = ("Host", "Origin", "Sec-Fetch-Site", "Content-Length", "Idempotency-Key")


class Refusal(NamedTuple):
    """Why the proxy does not sign a request: the status of its answer, and what the client can do."""

    status: int
    reason: str


JSON = {"Content-Type": "application/json"}

UNREADABLE = Refusal(
    400,
    "the request line has to be METHOD /path HTTP/1.1: use GET, POST, PUT, PATCH or DELETE, "
    "begin the path with exactly one / and percent-encode all but visible ASCII characters",
)


def refusal(request_line: str, headers: Message, port: int, *, page: bool = False) -> Refusal | None:
    """Return why the server on this port does not sign a request; None when it does.

    `page`: the server has a page of its own, at 127.0.0.1 only, whose requests it signs.
    """
    if not _REQUEST_LINE.fullmatch(request_line):
        return UNREADABLE
    # The parser leaves out everything after a line that is not a header, and keeps line ends in folded values.
    if headers.defects or any("\n" in value or "\r" in value for value in headers.values()):
        return Refusal(400, "the headers cannot be read: send each as Name: value on one line")
    for name in _ONCE:
        if len(headers.get_all(name, [])) > 1:
            return Refusal(400, f"{name} came more than once: send it once")
    # A page whose own host name resolves to loopback (DNS rebinding) is of the same origin for the browser.
    host = headers.get("Host", "").lower()
    # At localhost over IPv6, somebody else's server may have the same port, and so the same origin.
    if host not in hosts(port) or (page and host.startswith("localhost")):
        return Refusal(403, f"Host has to be the server's own: send the request to http://127.0.0.1:{port}/")
    own = f"http://{host}" if page else None
    if headers.get("Origin", own) != own or headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return Refusal(403, "requests of web pages are not signed: use linkctl, curl or the browser's address bar")
    if "Transfer-Encoding" in headers:
        return Refusal(411, "Transfer-Encoding is not supported: send the body with a Content-Length")
    length = headers.get("Content-Length", "0")
    if not re.fullmatch("[0-9]+", length):
        return Refusal(400, "Content-Length is not a number of bytes: send digits only")
    if len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
        return Refusal(413, f"the body is too large: send at most {MAX_BODY_BYTES} bytes")
    return None


def hosts(port: int) -> set[str]:
    """Return the values of Host that name the proxy on this port. Clients leave out port 80.

    >>> sorted(hosts(1313)), sorted(hosts(80))
    (['127.0.0.1:1313', 'localhost:1313'], ['127.0.0.1', '127.0.0.1:80', 'localhost', 'localhost:80'])
    """
    names = ("127.0.0.1", "localhost")
    return {f"{name}:{port}" for name in names} | (set(names) if port == 80 else set())


def signable(path: str) -> str:
    """Return the path with its query escaped as AWS signs it: a blank is %20 and not +. The bytes stay the same."""
    path, _, query = path.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True, encoding="latin-1")
    return f"{path}?{urlencode(pairs, quote_via=quote, encoding='latin-1')}" if pairs else path


def upstream(base: str, target: str) -> str | None:
    """Return the URL of a target below the deployment's URL `base`; None when it is on another host or not below."""
    url = base + signable(target)
    segments = unquote(target.partition("?")[0]).split("/")
    if urlsplit(url).netloc != urlsplit(base).netloc or "." in segments or ".." in segments:
        return None
    return url


class Handler(BaseHTTPRequestHandler):
    """Reads each request as a whole and refuses it, or signs it and answers what the API answers."""

    server: Server
    page = False
    timeout = 30
    # With HTTP/0.9, the default, the answer to an unreadable request line has no status.
    default_request_version = "HTTP/1.0"

    def handle_one(self) -> None:
        # The request line, because self.path has /other.example for //other.example.
        refused = refusal(self.requestline, self.headers, self.server.server_port, page=self.page)
        if refused:
            self.refuse(refused)
            return
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            self.refuse(Refusal(400, "the body is shorter than its Content-Length: send all of it"))
            return
        self.accepted(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

    def accepted(self, body: bytes) -> None:
        """Answer a request that is not refused."""
        self.forward(self.path, body)

    def forward(self, target: str, body: bytes) -> None:
        """Sign the request, with this target, and answer what the API answers."""
        url = upstream(self.server.deployment.url, target)
        if url is None:
            self.refuse(Refusal(400, "the path leaves the deployment's URL: send it without . and .. segments"))
            return
        headers = dict(JSON)
        if (key := self.headers.get("Idempotency-Key")) is not None:
            headers["Idempotency-Key"] = key
        try:
            answer = self.server.deployment.forward(self.command, url, body, headers)
        except Unreachable as error:
            self.refuse(Refusal(502, str(error)))
            return
        self.answer(answer.status_code, answer.content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # http.server's own refusals: it could not read the request, or there is no such method.
        headers = "the headers are too many or too long: send fewer and shorter ones"
        self.refuse(Refusal(code, headers if code == 431 else UNREADABLE.reason))

    def refuse(self, refused: Refusal) -> None:
        """Answer why the request is not signed."""
        self.answer(refused.status, json.dumps({"error": refused.reason}).encode())

    def answer(self, status: int, body: bytes, headers: Mapping[str, str] = JSON) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A server on loopback for one deployment, not yet serving."""

    def __init__(self, deployment: Deployment, port: int, handler: type[Handler] = Handler) -> None:
        try:
            super().__init__(("127.0.0.1", port), handler)
        except OSError as error:
            raise Failed(
                f"port {port} cannot be used: {error.strerror}. --port takes another one, 0 any that is free"
            ) from None
        self.deployment = deployment

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that goes away before its answer, as a page does that is left, is no error of ours.
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    def run(self) -> None:
        """Serve until Ctrl-C."""
        try:
            self.serve_forever()
        finally:
            self.server_close()


def serve(deployment: Deployment, port: int) -> None:
    """Print the URL of the proxy, and serve until Ctrl-C."""
    listening = Server(deployment, port)
    print(f"http://127.0.0.1:{listening.server_port} is {deployment.url}", flush=True)
    listening.run()
