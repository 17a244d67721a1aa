"""Generated registrations and answers: the sender can send what was accepted, and survives every answer.

FUZZ_EXAMPLES sets the number of cases of each test.
"""

from __future__ import annotations

import os
import socket
import string
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from link.election.result import Result, ResultKind
from link.errors import Invalid
from link.fields import Problems
from link.plugins.webhook import wire
from link.plugins.webhook.config import WebhookConfig, parse
from link.plugins.webhook.sender import Sender
from link.plugins.webhook.url import target
from link.receiver import parse_and_validate_webhook
from link.registration import read_body, read_new
from tests.hostile.certificates import Authority
from tests.hostile.receiver import Peer, Receiver

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
LOOPBACK = [ip_network("127.0.0.0/8")]


def mostly(usual: st.SearchStrategy[Any], *rare: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw the usual in five of six cases: a case with several errors ends at the first one."""
    return st.integers(0, 5).flatmap(lambda number: st.one_of(*rare) if number == 0 else usual)


text = st.text(max_size=30)
nasty = st.text(st.sampled_from("a0.-_:/@#?%[]\\ \t\r\n\0\x7f\x85éß€\u2028\ud800\U0001f600"), max_size=12)
words = st.text(string.ascii_letters + string.digits, min_size=1, max_size=12)
printable = st.text([chr(code) for code in range(0x21, 0x7F) if chr(code) not in "%#\\"], max_size=30)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
addresses = st.ip_addresses().map(lambda ip: str(ip) if ip.version == 4 else f"[{ip}]")
odd_hosts = [
    "127.1",
    "0x7f.1",
    "[::ffff:8.8.8.8]",
    "a_b.c-d.",
    "xn--mnchen-3ya.de",
    "a" * 63,
    "xn--" + "9" * 50,
    "a.." * 3,
]
hosts = mostly(words | st.lists(words, min_size=1).map(".".join) | st.sampled_from(odd_hosts), addresses, nasty)
urls = st.builds(
    "{}{}{}{}{}".format,
    mostly(st.sampled_from(["http://", "https://", "HTTP://"]), st.sampled_from(["ftp://", "//", "", "http:"])),
    hosts,
    mostly(st.sampled_from(["", ":", ":1", ":443", ":65535"]), st.sampled_from([":65536", ":0", ":x"])),
    mostly(st.just("/") | printable.map("/{}".format), nasty),
    mostly(st.just("") | printable.map("?{}".format), nasty),
)
odd_names = ["Host", "Content-Type", "X-Link-Webhook-Epoch", "User-Agent", "TE", "a" * 257, "!#$%&'*+.^_`|~"]
names = mostly(words, nasty, st.sampled_from(odd_names))
values = mostly(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30), nasty, anything)
configs = st.fixed_dictionaries(
    {
        "url": mostly(urls, nasty, anything),
        "resource_id": mostly(words | text.map("r{}r".format), nasty, anything),
        "secret": mostly(text.map("s{}".format), nasty, anything),
    },
    optional={"headers": mostly(st.dictionaries(names, values, max_size=3), anything)},
)
bodies = st.fixed_dictionaries(
    {"plugin": st.just("webhook"), "plugin_config": configs},
    optional={
        "host": mostly(words, text),
        "priority": st.integers(-1_001, 1_001),
        "lease_seconds": st.integers(4, 3_601),
    },
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(Path(tmp_path_factory.mktemp("certificates")))


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture(scope="module")
def tls_receiver(authority: Authority) -> Iterator[Receiver]:
    with Receiver(tls=authority.server_context()) as running:
        yield running


SENDER = Sender(allowed_networks=LOOPBACK, seconds=5.0)
ALL_NETWORKS = [ip_network("0.0.0.0/0"), ip_network("::/0"), *LOOPBACK]


def accepted(body: object) -> WebhookConfig:
    """Return the plugin_config of a body that `POST /endpoints` accepts; raise Invalid for any other."""
    problems = Problems()
    given = read_body(body, problems)
    config = problems.collect(lambda: parse(given.get("plugin_config"), allowed_networks=ALL_NETWORKS))
    read_new(given, problems)
    problems.raise_if_any()
    assert config is not None
    return config


def sent(registration: WebhookConfig, receiver: Receiver) -> Result:
    """Return the result of a webhook that this receiver gets, whatever host the URL names."""
    body, headers = wire.request(
        wire.Announcement("vip-1", registration.resource_id, "webhook", "ACTIVATED", 7, 3, "elected", 1),
        [registration.secret],
        registration.headers,
        timestamp=1_795_435_200,
    )
    real = socket.getaddrinfo

    def to_loopback(host: str, port: int, **options: int) -> list[Any]:
        # The real getaddrinfo encodes the name, too, and that must not fail.
        host.encode("idna")
        return real("127.0.0.1", receiver.port, **options)

    with mock.patch.object(socket, "getaddrinfo", to_loopback):
        return SENDER.post(registration.url, body, headers, not_after=round(time.time() * 1000) + 60_000)


def delivered(registration: WebhookConfig, receiver: Receiver, tls_receiver: Receiver) -> None:
    """Send to an accepted registration and compare what arrives with what was registered."""
    where = target(registration.url)
    if where.scheme == "https":
        # The certificate is for another name: to see that, the sender must have come to the end of the handshake.
        assert sent(registration, tls_receiver) == Result(ResultKind.REFUSED, "certificate")
        return

    receiver.requests.clear()
    assert sent(registration, receiver) == Result(ResultKind.DELIVERED, status_code=204)
    ((head, received),) = receiver.requests
    request_line, *lines = head.split(b"\r\n")
    fields = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    found = {name.lower(): value for name, value in fields}
    assert len(found) == len(fields)
    assert request_line == f"POST {where.path} HTTP/1.1".encode()
    assert len(request_line.split(b" ")) == 3
    assert found[b"host"] == where.authority.encode()
    assert int(found[b"content-length"]) == len(received)
    assert found[b"x-link-webhook-resource-id"] == registration.resource_id.encode()
    for name, value in registration.headers.items():
        assert found[name.lower().encode()] == value.encode()
    headers = {name.decode(): value.decode() for name, value in fields}
    parse_and_validate_webhook(registration.secret, headers, received, now=1_795_435_200)


def test_an_accepted_registration_can_be_sent_and_a_refusal_has_reasons(
    receiver: Receiver, tls_receiver: Receiver
) -> None:
    outcomes: Counter[str] = Counter()

    @fuzz
    @given(body=bodies)
    def register(body: dict[str, Any]) -> None:
        try:
            registration = accepted(body)
        except Invalid as invalid:
            outcomes["refused"] += 1
            assert invalid.errors
            assert all(problems and all(problems) for problems in invalid.errors.values())
            str(invalid).encode()
        else:
            outcomes[f"accepted {target(registration.url).scheme}"] += 1
            delivered(registration, receiver, tls_receiver)

    register()
    assert outcomes.keys() == {"refused", "accepted http", "accepted https"}, "one kind was never generated"


@fuzz
@given(body=anything)
def test_any_json_is_refused_with_invalid(body: object) -> None:
    with pytest.raises(Invalid):
        accepted(body)


lines = st.one_of(
    st.sampled_from(
        [b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.0 503", b"HTTP/1.1 429 X", b"", b"HTTP/2 200"]
    ),
    st.binary(max_size=20),
    st.builds(
        b"Retry-After: %b".__mod__,
        st.one_of(
            st.binary(max_size=30),
            st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT").encode()),
            st.integers().map(lambda n: str(n).encode()),
        ),
    ),
)
replies = st.lists(lines, max_size=8).map(b"\r\n".join)


@fuzz
@given(reply=replies | st.builds(b"HTTP/1.1 503 X\r\n%b\r\n\r\n".__mod__, lines), pieces=st.integers(1, 3))
def test_every_answer_has_a_result(reply: bytes, pieces: int) -> None:
    def play(peer: Peer) -> None:
        peer.read_request()
        for start in range(0, len(reply), len(reply) // pieces + 1):
            peer.send(reply[start : start + len(reply) // pieces + 1])

    with Receiver(play) as receiver:
        result = SENDER.post(receiver.url, b"{}", {}, not_after=round(time.time() * 1000) + 60_000)
    assert result.kind in (ResultKind.DELIVERED, ResultKind.ANSWERED, ResultKind.MAYBE_RECEIVED)
    assert (result.status_code is None) == (result.kind is ResultKind.MAYBE_RECEIVED)
    assert result.retry_after_seconds in (None, *range(601))
    event(f"{result.kind} {result.reason}")


@fuzz
@given(reply=st.binary(max_size=200))
def test_every_broken_handshake_is_not_sent(reply: bytes, authority: Authority) -> None:
    assume(reply)

    def play(peer: Peer) -> None:
        peer.connection.recv(65_536)
        peer.send(b"\x16\x03\x03" + reply)

    with Receiver(play, tls=authority.server_context(), in_handshake=True) as receiver:
        result = SENDER.post(receiver.url, b"{}", {}, not_after=round(time.time() * 1000) + 60_000)
    assert result == Result(ResultKind.NOT_SENT, "tls")
