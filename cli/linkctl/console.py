"""A page on loopback that shows who is active and why, and acts. docs/console.md says how it is guarded."""

from __future__ import annotations

import hmac
import json
import re
import secrets
import threading
from importlib.resources import files
from pathlib import PurePath
from typing import NamedTuple

from linkctl.api import Deployment
from linkctl.proxy import JSON, Handler, Refusal, Server

_ID = "vip-[0-9a-f-]{36}"
_QUERY = r"(?:\?[!-~]*)?"
_READS = re.compile(rf"GET /(?:(?:resources|transitions){_QUERY}|endpoints/{_ID}) ")
_WRITES = re.compile(
    rf'POST /endpoints/{_ID}/failover(?:\?dry_run=true)? (?:{{"to":"{_ID}"}})?'
    rf"|POST /endpoints/{_ID}/redeliver "
    rf'|PATCH /endpoints/{_ID}{_QUERY} {{"drained":(?:true|false)}}'
    rf'|PATCH /resources{_QUERY} {{"frozen":(?:true|false)}}'
)

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def page_files() -> dict[str, tuple[bytes, dict[str, str]]]:
    """Return the files of the page with their headers, by path. Nothing in them is secret."""
    found = {}
    for file in (files("linkctl") / "page").iterdir():
        content_type = f"{_TYPES[PurePath(file.name).suffix]}; charset=utf-8"
        path = "/" if file.name == "index.html" else f"/{file.name}"
        found[path] = file.read_bytes(), {"Content-Type": content_type}
    return found


HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def passes(method: str, target: str, body: bytes, *, read_only: bool) -> bool:
    """Return whether the page needs this request to the API.

    >>> vip = "/endpoints/vip-" + "0" * 36
    >>> passes("GET", "/resources?limit=1000", b"", read_only=True), passes("DELETE", vip, b"", read_only=False)
    (True, False)
    >>> [passes("PATCH", vip, b'{"drained":true}', read_only=one) for one in (True, False)]
    [False, True]
    >>> passes("PATCH", vip, b'{"plugin_config":{}}', read_only=False)
    False
    """
    request = f"{method} {target} {body.decode('latin-1')}"
    return bool(_READS.fullmatch(request) or (not read_only and _WRITES.fullmatch(request)))


class Session(NamedTuple):
    """What a browser has to bring with each request. A cookie goes to every port of a host, a token to one origin."""

    cookie: str
    token: str


class Sessions:
    """Who may use the console: each browser that brought the secret of a printed link. A secret opens one session."""

    def __init__(self) -> None:
        self.secret = secrets.token_urlsafe(32)
        self._open: list[Session] = []
        self._one_at_a_time = threading.Lock()

    def opened(self, secret: str) -> Session | None:
        """Return a new session if this is the present secret, which is then replaced."""
        with self._one_at_a_time:
            if not _equal(secret, self.secret):
                return None
            self.secret = secrets.token_urlsafe(32)
            session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
            self._open.append(session)
            return session

    def known(self, cookie: str, token: str) -> bool:
        """Return whether both are of one session."""
        return any(_equal(cookie, one.cookie) and _equal(token, one.token) for one in self._open)


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode())


class Page(Handler):
    """Answers with the page, opens sessions, and signs what the page may send."""

    server: Console
    page = True

    def accepted(self, body: bytes) -> None:
        if self.command == "GET" and self.path in self.server.files:
            self.answer(200, *self.server.files[self.path])
        elif (self.command, self.path) == ("POST", "/session"):
            self._open(body.decode("latin-1"))
        elif not self.server.sessions.known(self._cookie(), self.headers.get("X-Linkctl-Token", "")):
            self.refuse(Refusal(401, "this browser has no session: open the newest link that linkctl console printed"))
        elif (self.command, self.path) == ("GET", "/session"):
            console = self.server
            self.answer(200, json.dumps({"api": console.deployment.url, "read_only": console.read_only}).encode())
        elif self.path.startswith("/api/") and passes(
            self.command, self.path.removeprefix("/api"), body, read_only=self.server.read_only
        ):
            self.forward(self.path.removeprefix("/api"), body)
        else:
            self.refuse(Refusal(403, "the console does not send this request"))

    def _open(self, secret: str) -> None:
        session = self.server.sessions.opened(secret)
        if session is None:
            self.refuse(Refusal(403, "this link was used before, or is wrong: open the newest one that was printed"))
            return
        self.answer(
            200,
            json.dumps({"token": session.token}).encode(),
            JSON | {"Set-Cookie": f"{self._cookie_name()}={session.cookie}; Path=/; HttpOnly; SameSite=Strict"},
        )
        self.server.print_link("A browser has opened the console. If it was not yours, press Ctrl-C. For another:")

    def _cookie_name(self) -> str:
        # A browser sends a cookie of 127.0.0.1 to each of its ports.
        return f"linkctl-{self.server.server_port}"

    def _cookie(self) -> str:
        found = re.search(rf"(?:^|; ){self._cookie_name()}=([\w-]+)", self.headers.get("Cookie", ""))
        return found[1] if found else ""

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()


class Console(Server):
    """The server of the page."""

    def __init__(self, deployment: Deployment, port: int, *, read_only: bool) -> None:
        super().__init__(deployment, port, Page)
        self.read_only = read_only
        self.files = page_files()
        self.sessions = Sessions()

    def print_link(self, words: str) -> None:
        """Print the link that opens a session. After the #, so that no request and no Referer contains the secret."""
        print(f"{words}\nhttp://127.0.0.1:{self.server_port}/#{self.sessions.secret}", flush=True)


def serve(deployment: Deployment, port: int, *, read_only: bool) -> None:
    """Print the link to the console, and serve until Ctrl-C."""
    console = Console(deployment, port, read_only=read_only)
    console.print_link(f"The console of {deployment.url}{' (read only)' if read_only else ''}, until Ctrl-C:")
    console.run()
