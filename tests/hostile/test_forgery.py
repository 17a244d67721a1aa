"""No URL makes the sender connect to a forbidden address: real listeners count, and every connect is recorded."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from link.election.result import Result, ResultKind
from link.errors import Invalid
from link.plugins.webhook.config import parse
from link.plugins.webhook.sender import Sender
from tests.hostile.receiver import Receiver, answers
from tests.support import addresses
from tests.support.addresses import OTHER_FORBIDDEN, SPELLINGS

REFUSED = Result(ResultKind.REFUSED, "address_refused")


@pytest.fixture
def connects() -> Iterator[list[str]]:
    """Yield the address of every connect, including those that were blocked."""
    with addresses.connects() as found:
        yield found


def post(url: str, *allowed: str) -> Result:
    """Send one attempt with these networks allowed."""
    sender = Sender(allowed_networks=[ip_network(network) for network in allowed], seconds=1.0)
    return sender.post(url, b"{}", {}, not_after=round(time.time() * 1000) + 10_000)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the answers of the resolver: each lookup takes the next list of addresses."""
    answers: list[list[str]] = []
    monkeypatch.setattr(socket, "getaddrinfo", addresses.resolver(answers))
    return answers


@pytest.mark.parametrize("host", SPELLINGS)
def test_loopback_is_refused_in_every_spelling_unless_it_is_allowed(host: str, connects: list[str]) -> None:
    with Receiver() as listener:
        url = f"http://{host}:{listener.port}/"
        assert post(url) == REFUSED
        assert (listener.connections, connects) == (0, [])
        assert post(url, "127.0.0.0/8", "::1/128").kind is ResultKind.DELIVERED
        assert listener.connections == 1


@pytest.mark.parametrize("host", ["[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]"])
def test_ipv6_loopback_is_refused_unless_its_own_network_is_allowed(host: str, connects: list[str]) -> None:
    try:
        listener = Receiver(host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with listener:
        url = f"http://{host}:{listener.port}/"
        assert post(url) == post(url, "::/96") == post(url, "::/0") == REFUSED
        assert (listener.connections, connects) == (0, [])
        assert post(url, "::1/128").kind is ResultKind.DELIVERED


@pytest.mark.parametrize(("host", "opening"), OTHER_FORBIDDEN.items())
def test_a_forbidden_address_gets_no_connect_unless_its_network_is_allowed(
    host: str, opening: str, connects: list[str]
) -> None:
    url = f"http://{host}/"
    assert post(url) == REFUSED
    assert connects == []
    assert post(url, opening).kind is ResultKind.NOT_SENT
    assert len(connects) == 1


@pytest.mark.parametrize("host", [host for host in [*SPELLINGS, *OTHER_FORBIDDEN] if host.lower() != "localhost"])
def test_a_forbidden_literal_address_cannot_be_registered(host: str) -> None:
    with pytest.raises(Invalid, match="may not be called"):
        parse({"url": f"http://{host}/", "resource_id": "r", "secret": "s"})


@pytest.mark.parametrize("bad", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "::ffff:10.0.0.1"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_forbidden_address_refuses_the_whole_name(
    bad: str, position: int, connects: list[str], resolver: list[list[str]]
) -> None:
    mixed = ["8.8.8.8", "2606:4700::1111"]
    mixed.insert(position, bad)
    resolver += [mixed, ["8.8.8.8"]]
    assert post("http://paris.example/") == REFUSED
    assert connects == []
    assert post("http://paris.example/").kind is ResultKind.NOT_SENT
    assert connects == ["8.8.8.8"]


def test_a_forbidden_address_after_the_ones_that_would_be_tried_refuses_the_name(
    connects: list[str], resolver: list[list[str]]
) -> None:
    resolver.append([*["8.8.8.8"] * 50, "127.0.0.1"])
    assert post("http://paris.example/") == REFUSED
    assert connects == []


def test_the_sender_connects_to_the_address_that_it_checked(connects: list[str], resolver: list[list[str]]) -> None:
    with Receiver() as listener:
        # A second lookup would return loopback.
        resolver += [["8.8.8.8"], ["127.0.0.1"], ["127.0.0.1"]]
        assert post(f"http://rebinding.example:{listener.port}/").kind is ResultKind.NOT_SENT
        assert (connects, listener.connections, len(resolver)) == (["8.8.8.8"], 0, 2)


def test_a_redirect_is_not_followed(connects: list[str]) -> None:
    with Receiver() as inner:
        redirect = answers(b"HTTP/1.1 307 T\r\nLocation: %s\r\n\r\n" % inner.url.encode())
        with Receiver(redirect) as outer:
            assert post(outer.url, "127.0.0.0/8") == Result(ResultKind.ANSWERED, "redirect", 307)
        assert (len(connects), inner.connections) == (1, 0)
        assert post(inner.url, "127.0.0.0/8").kind is ResultKind.DELIVERED
