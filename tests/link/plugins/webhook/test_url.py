"""Where a url leads, and which addresses may be called."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from link.plugins.webhook.networks import literal, refusing_block
from link.plugins.webhook.url import BadUrl, Target, target

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
def test_a_forbidden_address_is_opened_only_by_naming_its_very_block(text: str) -> None:
    everything = [ip_network("0.0.0.0/0"), ip_network("::/0")]
    address = ip_address(text)
    block = refusing_block(address, everything)
    assert block is not None
    assert address in block
    assert refusing_block(address, [block]) is None


@pytest.mark.parametrize(("text", "block"), PRIVATE.items())
def test_a_private_address_is_opened_by_any_network_around_it(text: str, block: str) -> None:
    address = ip_address(text)
    assert refusing_block(address, []) == ip_network(block)
    assert refusing_block(address, [ip_network("192.0.2.128/25")]) == ip_network(block)
    assert refusing_block(address, [ip_network(text)]) is None
    assert refusing_block(address, [ip_network("0.0.0.0/0"), ip_network("::/0")]) is None


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "192.0.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a05:d018::1"]
)
def test_a_public_address_needs_no_opening(text: str) -> None:
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


def test_naming_a_wide_forbidden_block_does_not_open_the_narrow_one_in_it() -> None:
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
def test_every_spelling_of_an_address_is_one(host: str, address: str | None) -> None:
    assert literal(host) == (ip_address(address) if address else None)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://paris.example/", Target("https", "paris.example", "paris.example", 443, "/")),
        ("https://paris.example", Target("https", "paris.example", "paris.example", 443, "/")),
        ("hTTp://Paris.Example:8080/A?b=c&d", Target("http", "Paris.Example:8080", "Paris.Example", 8080, "/A?b=c&d")),
        ("https://h?q=1", Target("https", "h", "h", 443, "/?q=1")),
        ("https://h:/", Target("https", "h", "h", 443, "/")),
        ("https://h./../%2e%2e//x", Target("https", "h.", "h.", 443, "/../%2e%2e//x")),
        ("http://[2001:DB8::1]:81/", Target("http", "[2001:DB8::1]:81", "2001:DB8::1", 81, "/")),
        ("https://h_x.com/?a[]=<b>&c={d}", Target("https", "h_x.com", "h_x.com", 443, "/?a[]=%3Cb%3E&c=%7Bd%7D")),
    ],
)
def test_the_parts_of_a_url(url: str, expected: Target) -> None:
    assert target(url) == expected


MALFORMED, SCHEME = "invalid URL", "invalid URL scheme"


@pytest.mark.parametrize(
    ("url", "links", "ours"),
    [
        ("", "missing URL", ""),
        (" https://h/", MALFORMED, "U+0020 at position 1"),
        ("https://h/a b", MALFORMED, "U+0020 at position 12"),
        ("https://h/a\tb", MALFORMED, "U+0009"),
        ("ht\ntp://h/", MALFORMED, "U+000A"),
        ("https://h/\x00", MALFORMED, "U+0000"),
        ("https://h/\x7f", MALFORMED, "U+007F"),
        ("https://h\\@paris/", MALFORMED, "U+005C"),
        ("https://m\xfcnchen.de/", MALFORMED, "punycode"),
        ("https://\uff11\uff12\uff17.0.0.1/", MALFORMED, "U+FF11"),
        ("https://h:\u0663/", MALFORMED, "U+0663"),
        ("https://h/%zz", MALFORMED, "'%' at position 11"),
        ("https://h/%2", MALFORMED, "'%' at position 11"),
        ("::::", MALFORMED, "https://host/path"),
        ("example.com/hook", MALFORMED, "https://host/path"),
        ("/just/path", SCHEME, "use https"),
        ("//h/x", SCHEME, "use https"),
        ("ftp://h/", SCHEME, "'ftp'"),
        ("file:///etc/passwd", SCHEME, "'file'"),
        ("localhost:80/x", SCHEME, "'localhost'"),
        ("http:///x", MALFORMED, "no host"),
        ("http:x", MALFORMED, "no host"),
        ("https://:443/", MALFORMED, "no host"),
        ("https://h:0/", MALFORMED, "port '0'"),
        ("https://h:65536/", MALFORMED, "port '65536'"),
        ("https://h:-1/", MALFORMED, "port '-1'"),
        ("https://h:80:90/", MALFORMED, "port '80:90'"),
        ("https://::1/", MALFORMED, "port ':1'"),
        ("https://[::1]x/", MALFORMED, "port ':1]x'"),
        ("https://[::1/", MALFORMED, "is not an IPv6 address"),
        ("https://[v1.a]/", MALFORMED, "is not an IPv6 address"),
        ("https://[127.0.0.1]/", MALFORMED, "is not an IPv6 address"),
        ("https://[fe80::1%25eth0]/", MALFORMED, "zone"),
        ("https://e%78ample.com/", MALFORMED, "escape"),
        ("https://-h.com/", MALFORMED, "is not a host name"),
        ("https://.h/", MALFORMED, "is not a host name"),
        ("https://h..x/", MALFORMED, "is not a host name"),
        ("https://*/", MALFORMED, "is not a host name"),
        (f"https://{'a' * 64}.example/", MALFORMED, "is not a host name"),
        (f"https://{'a.' * 127}/", MALFORMED, "is not a host name"),
        (f"https://h/{'a' * 2_048}", "", "2058 characters"),
        ("https://user:pass@h/", "", "user and password"),
        ("https://@h/", "", "user and password"),
        ("https://h/#f", "", "fragment"),
        ("https://h/#", "", "fragment"),
    ],
)
def test_a_url_that_cannot_be_called_gets_links_message_and_the_way_out(url: str, links: str, ours: str) -> None:
    with pytest.raises(BadUrl) as bad:
        target(url)
    problems = list(bad.value.problems)
    if links:
        assert problems.pop(0) == links
    assert ours in " ".join(problems)


def test_all_that_is_wrong_with_a_url_is_told_at_once() -> None:
    with pytest.raises(BadUrl) as bad:
        target("https://user:pass@-h:0/#f")
    assert len(bad.value.problems) == 5


def test_a_message_shows_neither_password_nor_path_nor_query() -> None:
    with pytest.raises(BadUrl) as bad:
        target("https://user:marker@-h:0/marker?marker#marker")
    assert "marker" not in str(bad.value)
