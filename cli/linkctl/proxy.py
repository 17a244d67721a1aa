"""A proxy on loopback that signs requests, for clients without SigV4: LinK's own, curl, a browser."""

from __future__ import annotations

import json
import re
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
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


UNREADABLE = Refusal(
    400,
    "the request line has to be METHOD /path HTTP/1.1: use GET, POST, PUT, PATCH or DELETE, "
    "begin the path with exactly one / and percent-encode all but visible ASCII characters",
)


def refusal(request_line: str, headers: Message, port: int) -> Refusal | None:
    """Return why the proxy on this port does not sign a request; None when it does."""
    if not _REQUEST_LINE.fullmatch(request_line):
        return UNREADABLE
    # The parser leaves out everything after a line that is not a header, and keeps line ends in folded values.
    if headers.defects or any("\n" in value or "\r" in value for value in headers.values()):
        return Refusal(400, "the headers cannot be read: send each as Name: value on one line")
    for name in _ONCE:
        if len(headers.get_all(name, [])) > 1:
            return Refusal(400, f"{name} came more than once: send it once")
    # A page whose own host name resolves to loopback (DNS rebinding) is of the same origin for the browser.
    if headers.get("Host", "").lower() not in hosts(port):
        return Refusal(403, f"Host has to be the proxy's own: send the request to http://127.0.0.1:{port}/")
    if "Origin" in headers or headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
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


def server(deployment: Deployment, port: int) -> ThreadingHTTPServer:
    """Return the server, not yet serving."""

    class Proxy(BaseHTTPRequestHandler):
        timeout = 30
        # With HTTP/0.9, the default, the answer to an unreadable request line has no status.
        default_request_version = "HTTP/1.0"

        def handle_one(self) -> None:
            # The request line, because self.path has /other.example for //other.example.
            refused = refusal(self.requestline, self.headers, listening.server_port)
            if refused:
                self._refuse(refused)
                return
            url = upstream(deployment.url, self.path)
            if url is None:
                self._refuse(Refusal(400, "the path leaves the deployment's URL: send it without . and .. segments"))
                return
            length = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(length)
            if len(body) < length:
                self._refuse(Refusal(400, "the body is shorter than its Content-Length: send all of it"))
                return
            headers = {"Content-Type": "application/json"}
            if (key := self.headers.get("Idempotency-Key")) is not None:
                headers["Idempotency-Key"] = key
            try:
                answer = deployment.forward(self.command, url, body, headers)
            except Unreachable as error:
                self._refuse(Refusal(502, str(error)))
                return
            self._answer(answer.status_code, answer.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

        def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
            # http.server's own refusals: it could not read the request, or there is no such method.
            headers = "the headers are too many or too long: send fewer and shorter ones"
            self._refuse(Refusal(code, headers if code == 431 else UNREADABLE.reason))

        def _refuse(self, refused: Refusal) -> None:
            self._answer(refused.status, json.dumps({"error": refused.reason}).encode())

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

    listening = ThreadingHTTPServer(("127.0.0.1", port), Proxy)
    return listening


def serve(deployment: Deployment, port: int) -> None:
    """Print the URL of the proxy, and serve until Ctrl-C."""
    try:
        listening = server(deployment, port)
    except OSError as error:
        raise Failed(
            f"port {port} cannot be used: {error.strerror}. --port takes another one, 0 any that is free"
        ) from None
    print(f"http://127.0.0.1:{listening.server_port} is {deployment.url}", flush=True)
    try:
        listening.serve_forever()
    finally:
        listening.server_close()
