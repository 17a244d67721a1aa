"""The parts of a url. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from link.networks import literal

MAX_URL_CHARACTERS = 2_048

_PORTS = {"http": 80, "https": 443}
_NOT_IN_A_URL = re.compile(r"[^!-~]|\\")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# After RFC 3986, appendix B; both match any text. Not urlsplit: its idea of a host depends on Python's version.
_URL = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^#]*)(#.*)?")
_AUTHORITY = re.compile(r"(.*@)?(\[.*\]|[^:]*)(?::(.*))?")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?")


class BadUrl(ValueError):
    """A url that cannot be called; `problems` never show its path, query or user."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Target:
    """What a url says. `authority` is the Host header, `path` goes into the request line."""

    scheme: str
    authority: str
    host: str
    port: int
    path: str


def target(url: str) -> Target:
    """The parts of a url; raises BadUrl with every problem, LinK's message first where LinK has one."""
    if not url:
        raise BadUrl("missing URL")
    if len(url) > MAX_URL_CHARACTERS:
        raise BadUrl(f"the url has {len(url)} characters, at most {MAX_URL_CHARACTERS} are allowed: shorten it")
    if odd := _NOT_IN_A_URL.search(url):
        raise BadUrl(
            "invalid URL",
            f"character U+{ord(odd[0]):04X} at position {odd.start() + 1} is not allowed: percent-encode it "
            "(in a host name: punycode)",
        )
    if escape := _BAD_ESCAPE.search(url):
        raise BadUrl(
            "invalid URL", f"'%' at position {escape.start() + 1} starts no %XX escape: write %25 for a percent sign"
        )
    scheme, authority, path, fragment = _groups(_URL, url)
    if not scheme and not url.startswith("/"):
        raise BadUrl("invalid URL", "a url has the form https://host/path")
    scheme = scheme.lower()
    if scheme not in _PORTS:
        raise BadUrl("invalid URL scheme", f"scheme {scheme[:40]!r} is not allowed: use https (or http)")
    user, host, port = _groups(_AUTHORITY, authority)
    malformed, forbidden = [], []
    if problem := _host_problem(host):
        malformed.append(problem)
    if port and not (re.fullmatch("[0-9]{1,5}", port) and 1 <= int(port) <= 65_535):
        malformed.append(f"port {port[:40]!r} is not a number from 1 to 65535: leave it out or write host:8443")
    if user:
        forbidden.append("user and password are not allowed: a url is stored in clear, send a header instead")
    if fragment:
        forbidden.append("a fragment is never sent: leave out the '#' and what follows it")
    if malformed:
        raise BadUrl("invalid URL", *malformed, *forbidden)
    if forbidden:
        raise BadUrl(*forbidden)
    return Target(
        scheme=scheme,
        authority=f"{host}:{port}" if port else host,
        host=host.strip("[]"),
        port=int(port) if port else _PORTS[scheme],
        # Some servers refuse the characters that RFC 3986 does not allow; Go and browsers escape them, too.
        path=quote(path if path.startswith("/") else f"/{path}", safe="%/?:@!$&'()*+,;=[]"),
    )


def _host_problem(host: str) -> str:
    shown = repr(host[:80])
    if not host:
        return "the url has no host: write https://host/path"
    if "%" in host:
        return f"host {shown} has an escape or a zone: write a plain name or address"
    if host.startswith("["):
        valid = ":" in host and literal(host[1:-1]) is not None
        return "" if valid else f"host {shown} is not an IPv6 address: write it like [2001:db8::1]"
    if not _NAME.fullmatch(host):
        return f"host {shown} is not a host name: letters, digits, - and _, at most 63 a label and 253 in all"
    return ""


def _groups(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    found = pattern.fullmatch(text)
    assert found is not None
    return found.groups("")
