"""Which addresses may be called. Standard library only."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from link.settings import Network

Address = IPv4Address | IPv6Address
AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""An answer of `socket.getaddrinfo`."""

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
        # Everything outside 2000::/3, the only part of IPv6 that is assigned.
        "::/3",
        "4000::/2",
        "8000::/1",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
    )
)


def literal(host: str) -> Address | None:
    """The address that `host` spells, in any form that the resolver accepts; None if `host` is a name.

    >>> literal("0x7f.1"), literal("2130706433"), literal("fe80:0::1"), literal("10.example")
    (IPv4Address('127.0.0.1'), IPv4Address('127.0.0.1'), IPv6Address('fe80::1'), None)
    """
    try:
        return IPv6Address(host) if ":" in host else IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def refusing_block(address: Address, allowed: Collection[Network]) -> Network | None:
    """The block that forbids calling an address, or None.

    A network in `allowed` permits its private addresses. A forbidden address needs exactly its block in `allowed`.

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


def permitted(infos: Iterable[AddressInfo], allowed: Collection[Network]) -> bool:
    """Whether every one of a host's addresses may be called. An address counts without its zone.

    >>> [permitted([(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, 443))], []) for text in ("8.8.8.8", "10.1.2.3")]
    [True, False]
    """
    addresses = (ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in infos)
    return all(refusing_block(address, allowed) is None for address in addresses)


def _carried(address: Address) -> Address:
    """The IPv4 address in a mapped, NAT64 or 6to4 address, because the packets go there."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
