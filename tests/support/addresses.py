"""Addresses that must not be connected to, and what tells whether they were."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address

SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "0x7f.0.0.1",
    "0x7f.1",
    "0x7f000001",
    "0x7F.0X0.0.1",
    "0177.0.0.1",
    "00000177.1",
    "017700000001",
    "2130706433",
    "localhost",
    "LOCALHOST",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
]
"""Loopback, as the host of a url."""
OTHER_FORBIDDEN = {
    "0.0.0.0": "0.0.0.0/8",
    "0": "0.0.0.0/8",
    "127.0.0.1:9001": "127.0.0.0/8",
    "169.254.169.254": "169.254.0.0/16",
    "169.254.170.2": "169.254.0.0/16",
    "0xa9fea9fe": "169.254.0.0/16",
    "10.0.0.1": "10.0.0.0/8",
    "172.16.0.1": "172.16.0.0/12",
    "192.168.0.1": "192.168.0.0/16",
    "100.64.0.1": "100.64.0.0/10",
    "224.0.0.1": "224.0.0.0/3",
    "255.255.255.255": "224.0.0.0/3",
    "[::]": "::/96",
    "[::7f00:1]": "::/96",
    "[::ffff:10.0.0.1]": "10.0.0.0/8",
    "[::ffff:169.254.169.254]": "169.254.0.0/16",
    "[64:ff9b::7f00:1]": "127.0.0.0/8",
    "[64:ff9b::a9fe:a9fe]": "169.254.0.0/16",
    "[64:ff9b:1::1]": "64:ff9b:1::/48",
    "[2002:7f00:1::1]": "127.0.0.0/8",
    "[2002:a9fe:a9fe::1]": "169.254.0.0/16",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]": "2001::/32",
    "[fd00:ec2::254]": "fd00:ec2::/32",
    "[fd12:3456::1]": "fd12::/16",
    "[fe80::1]": "fe80::/10",
    "[fec0::1]": "fec0::/10",
    "[ff02::1]": "ff00::/8",
}
"""Other addresses that need permission, and the network that gives it."""

_found: list[str] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _found is not None and event == "socket.connect":
        host = str(arguments[1][0])  # type: ignore[index]
        _found.append(host)
        carried = ip_address(host)
        if not (getattr(carried, "ipv4_mapped", None) or carried).is_loopback:
            # No test may connect to another machine, even if it finds a bug.
            raise ConnectionRefusedError


@contextmanager
def connects() -> Iterator[list[str]]:
    """Yield the address of every connect of this process, including those that were blocked."""
    global _found
    _found = []
    yield _found
    _found = None


sys.addaudithook(_watch)


def resolver(answers: list[list[str]]) -> Callable[..., list[object]]:
    """Return a `getaddrinfo` that takes the next list of addresses for each lookup."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, **options: int) -> list[object]:
        return [info for address in answers.pop(0) for info in real(address, port, **options)]

    return getaddrinfo
