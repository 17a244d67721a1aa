"""Which addresses may be called, in every spelling."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from link.networks import literal, refusing_block

FORBIDDEN = {
    "0.0.0.0": "this host",
    "127.0.0.1": "loopback, and Lambda's runtime API",
    "127.255.255.254": "the end of loopback",
    "169.254.169.254": "instance metadata",
    "169.254.170.2": "credentials of a container",
    "192.0.0.8": "protocol assignments",
    "224.0.0.1": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "::": "this host",
    "::1": "loopback",
    "::7f00:1": "IPv4-compatible loopback",
    "64:ff9b:1::1": "local NAT64",
    "100::1": "discard",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": "Teredo",
    "5f00::1": "segment routing",
    "fd00:ec2::254": "instance metadata",
    "fe80::1": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
}
PRIVATE = {
    "10.0.0.1": "10.0.0.0/8",
    "100.64.0.1": "100.64.0.0/10",
    "172.31.255.255": "172.16.0.0/12",
    "192.0.2.1": "192.0.2.0/24",
    "192.168.1.1": "192.168.0.0/16",
    "198.18.0.1": "198.18.0.0/15",
    "203.0.113.1": "203.0.113.0/24",
    "2001:db8::1": "2001:db8::/32",
    "fd12:3456::1": "8000::/1",
    "4000::1": "4000::/2",
}
CARRIERS = {
    "mapped": "::ffff:{}",
    "NAT64": "64:ff9b::{}",
    "6to4": "2002:{0:02x}{1:02x}:{2:02x}{3:02x}::1",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=f"{text} {what}") for text, what in FORBIDDEN.items()])
def test_a_forbidden_address_is_permitted_only_by_its_own_block(text: str) -> None:
    everything = [ip_network("0.0.0.0/0"), ip_network("::/0")]
    address = ip_address(text)
    block = refusing_block(address, everything)
    assert block is not None
    assert address in block
    assert refusing_block(address, [block]) is None


@pytest.mark.parametrize(("text", "block"), PRIVATE.items())
def test_a_private_address_is_permitted_by_any_network_around_it(text: str, block: str) -> None:
    address = ip_address(text)
    assert refusing_block(address, []) == ip_network(block)
    assert refusing_block(address, [ip_network("192.0.2.128/25")]) == ip_network(block)
    assert refusing_block(address, [ip_network(text)]) is None
    assert refusing_block(address, [ip_network("0.0.0.0/0"), ip_network("::/0")]) is None


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "192.0.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a05:d018::1"]
)
def test_a_public_address_needs_no_permission(text: str) -> None:
    assert refusing_block(ip_address(text), []) is None


@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS)
def test_an_ipv6_address_is_judged_by_the_ipv4_address_it_carries(carrier: str) -> None:
    def carrying(text: str) -> str:
        return carrier.format(*map(int, text.split("."))) if ":02x" in carrier else carrier.format(text)

    assert refusing_block(ip_address(carrying("127.0.0.1")), []) == ip_network("127.0.0.0/8")
    assert refusing_block(ip_address(carrying("169.254.169.254")), []) == ip_network("169.254.0.0/16")
    assert refusing_block(ip_address(carrying("10.0.0.1")), []) == ip_network("10.0.0.0/8")
    assert refusing_block(ip_address(carrying("10.0.0.1")), [ip_network("10.0.0.0/16")]) is None
    assert refusing_block(ip_address(carrying("8.8.8.8")), []) is None


def test_a_wide_forbidden_block_does_not_permit_the_narrow_one_in_it() -> None:
    assert refusing_block(ip_address("::1"), [ip_network("::/96")]) == ip_network("::1/128")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("0x7f.0.0.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("paris.example", None),
        ("127.0.0.1.example", None),
        ("256.0.0.1", None),
        ("127.0.0.0.1", None),
    ],
)
def test_every_spelling_of_an_address_is_recognised(host: str, address: str | None) -> None:
    assert literal(host) == (ip_address(address) if address else None)
