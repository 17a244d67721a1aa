"""Where a url leads, and which addresses may be called. Pure: standard library only."""

from __future__ import annotations

import re
import socket
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from urllib.parse import quote

from link.settings import Network

Address = IPv4Address | IPv6Address

URL_CHARACTERS = 2_048

_PORTS = {"http": 80, "https": 443}
_NOT_IN_A_URL = re.compile(r"[^!-~]|\\")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# After RFC 3986, appendix B; both match any text. Not urlsplit: what it takes for a host depends on its version.
_URL = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^#]*)(#.*)?")
_AUTHORITY = re.compile(r"(.*@)?(\[.*\]|[^:]*)(?::(.*))?")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?")

_NAT64 = IPv6Network("64:ff9b::/96")
# IANA's special-purpose registries. What is neither here nor in _PRIVATE is public.
_FORBIDDEN = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "224.0.0.0/3",
        "::/96",
        "::1/128",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/32",  # Teredo
        "5f00::/16",
        "fd00:ec2::/32",  # AWS: instance metadata, credentials of containers
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_PRIVATE = tuple(
    ip_network(block)
    for block in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "172.16.0.0/12",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        # All but 2000::/3, the only part of IPv6 that is given out.
        "::/3",
        "4000::/2",
        "8000::/1",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
    )
)


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
    if len(url) > URL_CHARACTERS:
        raise BadUrl(f"the url has {len(url)} characters, at most {URL_CHARACTERS} are allowed: shorten it")
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
        # Some servers refuse the characters that RFC 3986 leaves out; Go and browsers escape them, too.
        path=quote(path if path.startswith("/") else f"/{path}", safe="%/?:@!$&'()*+,;=[]"),
    )


def literal(host: str) -> Address | None:
    """The address a host is, in any spelling the resolver takes for one; None for a name.

    >>> literal("0x7f.1"), literal("2130706433"), literal("fe80:0::1"), literal("10.example")
    (IPv4Address('127.0.0.1'), IPv4Address('127.0.0.1'), IPv6Address('fe80::1'), None)
    """
    try:
        return IPv6Address(host) if ":" in host else IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def refusing_block(address: Address, allowed: Collection[Network]) -> Network | None:
    """The block because of which an address may not be called, or None.

    An allowed network opens the private addresses in it. A forbidden block is opened only by being named itself.

    >>> refusing_block(IPv4Address("10.1.2.3"), [])
    IPv4Network('10.0.0.0/8')
    >>> refusing_block(IPv4Address("10.1.2.3"), [ip_network("10.1.0.0/16")]) is None
    True
    >>> refusing_block(IPv4Address("127.0.0.1"), [ip_network("0.0.0.0/0")])
    IPv4Network('127.0.0.0/8')
    """
    address = _carried(address)
    forbidden = max((block for block in _FORBIDDEN if address in block), key=lambda b: b.prefixlen, default=None)
    if forbidden is not None:
        return None if forbidden in allowed else forbidden
    if any(address in network for network in allowed):
        return None
    return next((block for block in _PRIVATE if address in block), None)


def _carried(address: Address) -> Address:
    """The IPv4 address in a mapped, NAT64 or 6to4 one: it is where the packets end."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


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
