"""What the sender writes, when and to which address, and what it makes of the answer: on real loopback sockets."""

from __future__ import annotations

import datetime
import email.utils
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path

import pytest

from link import trust
from link.election.result import Result, ResultKind
from link.networks import AddressInfo
from link.plugins.webhook import adapter, connection, wire
from link.plugins.webhook.connection import Deadline
from link.plugins.webhook.sender import Sender
from link.plugins.webhook.url import MAX_URL_CHARACTERS
from link.registration import MAX_RESOURCE_ID_CHARACTERS
from link.store.vault import MAX_PLAINTEXT_BYTES
from tests.hostile.certificates import DAY, Authority
from tests.hostile.receiver import Peer, Receiver, answers

LOOPBACK = ip_network("127.0.0.0/8")
NEVER = 2**53
BODY = b'{"status":"ACTIVATED"}'


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(Path(tmp_path_factory.mktemp("certificates")))


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> Sender:
    """A sender that trusts the tests' authority and gives up after a second."""
    return Sender(allowed_networks=[LOOPBACK], ca_bundle=str(authority.path), seconds=1.0)


def post(
    sender: Sender, url: str, headers: Mapping[str, str] | None = None, *, body: bytes = BODY, not_after: int = NEVER
) -> Result:
    return sender.post(url, body, headers or {}, not_after=not_after)


def now() -> int:
    return round(time.time() * 1000)


# What is sent


@pytest.mark.parametrize("transport", ["plain", "tls"])
def test_the_whole_request_leaves_in_one_write(trusting: Sender, authority: Authority, transport: str) -> None:
    with Receiver(tls=authority.server_context() if transport == "tls" else None) as receiver:
        result = post(trusting, f"{receiver.url}/a?b=c", {"X-Site": "paris", "Content-Type": "application/json"})

    assert result == Result(ResultKind.DELIVERED, status_code=204)
    whole = (
        f"POST /hook/a?b=c HTTP/1.1\r\nHost: 127.0.0.1:{receiver.port}\r\nContent-Length: {len(BODY)}\r\n"
        "Connection: close\r\nX-Site: paris\r\nContent-Type: application/json\r\n\r\n"
    ).encode() + BODY
    assert receiver.pieces == [[whole]]


@pytest.mark.parametrize("transport", ["plain", "tls"])
def test_the_largest_webhook_that_can_be_registered_leaves_in_one_write(
    trusting: Sender, authority: Authority, transport: str
) -> None:
    announced = wire.Announcement(
        "vip-" + "0" * 36, "\u2028" * MAX_RESOURCE_ID_CHARACTERS, "webhook", "ACTIVATED", 2**53, 2**53, "elected", 10**6
    )
    given = {"X-A": "a" * MAX_PLAINTEXT_BYTES}
    body, headers = wire.request(announced, ["paris", "london"], given, timestamp=2**53)
    with Receiver(tls=authority.server_context() if transport == "tls" else None) as receiver:
        # Each of these becomes three characters on the wire.
        url = receiver.url.ljust(MAX_URL_CHARACTERS, "{")
        assert post(trusting, url, headers, body=body).kind is ResultKind.DELIVERED
    assert [len(pieces) for pieces in receiver.pieces] == [1]


def test_a_request_of_many_tls_records_arrives_whole(trusting: Sender, authority: Authority) -> None:
    body = bytes(range(256)) * 1_000
    with Receiver(tls=authority.server_context()) as receiver:
        assert post(trusting, receiver.url, body=body).kind is ResultKind.DELIVERED
    assert receiver.requests[0][1] == body


def test_the_request_leaves_as_it_was_registered(trusting: Sender) -> None:
    with Receiver() as receiver:
        post(trusting, f"{receiver.url}/../%2f%aB?next=/a/./b&[c]?", {"X-A": "@@@SKIP_HEADER@@@"})
        post(trusting, f"{receiver.url}//?")
        post(trusting, receiver.url, {"X-A": "a", "user-agent": "paris", "accept-encoding": "gzip"})
    (as_registered, _), (empty_parts, _), (with_names_of_the_libraries, _) = receiver.requests
    assert as_registered.startswith(b"POST /hook/../%2f%aB?next=/a/./b&[c]? HTTP/1.1\r\n")
    assert empty_parts.startswith(b"POST /hook//? HTTP/1.1\r\n")
    assert as_registered.endswith(b"\r\nConnection: close\r\nX-A: @@@SKIP_HEADER@@@")
    assert with_names_of_the_libraries.endswith(b"\r\nX-A: a\r\nuser-agent: paris\r\naccept-encoding: gzip")


def test_header_values_are_utf_8(trusting: Sender) -> None:
    with Receiver() as receiver:
        post(trusting, receiver.url, {"X-Site": "Besançon €"})
    assert "X-Site: Besançon €".encode() in receiver.requests[0][0]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"X-A": "a\r\nX-B: b"}, id="a line end in a value"),
        pytest.param({"X-A": "a\0"}, id="a control character in a value"),
        pytest.param({"X-A": "\ud800"}, id="a lone surrogate in a value"),
        pytest.param({"X A": "a"}, id="a blank in a name"),
        pytest.param({"X-A:": "a"}, id="a colon in a name"),
        pytest.param({"": "a"}, id="no name"),
        pytest.param({"Transfer-Encoding": "chunked"}, id="framing"),
        pytest.param({"content-length": "0"}, id="a length of its own"),
        pytest.param({"hOST": "london"}, id="another host"),
        pytest.param({"X-A": "a", "x-a": "b"}, id="one name twice"),
    ],
)
def test_a_header_that_would_change_the_request_is_refused_at_the_last_moment_too(
    trusting: Sender, headers: dict[str, str]
) -> None:
    with Receiver() as receiver:
        assert post(trusting, receiver.url, headers) == Result(ResultKind.REFUSED, "header_invalid")
    assert receiver.connections == 0


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1/", "http://user:pass@127.0.0.1/", "http://127.0.0.1:99999/"])
def test_a_url_that_no_registration_would_hold_is_refused(trusting: Sender, url: str) -> None:
    assert post(trusting, url) == Result(ResultKind.REFUSED, "url_invalid")


def test_neither_proxies_nor_netrc_are_used(trusting: Sender, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login paris password secret\n")
    with Receiver() as receiver, Receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NETRC", str(netrc))
        assert post(trusting, receiver.url).kind is ResultKind.DELIVERED
    assert proxy.connections == 0
    assert b"authorization" not in receiver.requests[0][0].lower()


# When it is sent


def test_nothing_leaves_after_the_claims_last_moment(trusting: Sender) -> None:
    with Receiver() as receiver:
        assert post(trusting, receiver.url, not_after=now() - 1) == Result(ResultKind.TOO_LATE, "claim_ending")
    assert receiver.requests == []


def test_the_last_look_at_the_clock_comes_after_tls(trusting: Sender, authority: Authority) -> None:
    class Slow(Receiver):
        def _serve(self, connection: object) -> None:
            time.sleep(0.4)
            super()._serve(connection)  # type: ignore[arg-type]

    with Slow(tls=authority.server_context()) as receiver:
        assert post(trusting, receiver.url, not_after=now() + 200) == Result(ResultKind.TOO_LATE, "claim_ending")
        assert post(trusting, receiver.url, not_after=now() + 900).kind is ResultKind.DELIVERED
    assert len(receiver.requests) == 1


def test_time_that_runs_out_before_the_write_is_a_failure_and_not_too_late(
    trusting: Sender, authority: Authority
) -> None:
    with Receiver(Peer.never, tls=authority.server_context(), in_handshake=True) as receiver:
        assert post(trusting, receiver.url, not_after=now() + 500) == Result(ResultKind.NOT_SENT, "timeout")


def test_a_process_that_slept_through_its_time_sends_nothing() -> None:
    def connect_and_pause(infos: list[AddressInfo], deadline: Deadline) -> socket.socket:
        connected = connection.connect(infos, deadline)
        time.sleep(1.1)
        return connected

    slow = Sender(allowed_networks=[LOOPBACK], seconds=1.0, connect=connect_and_pause)
    with Receiver() as receiver:
        assert post(slow, receiver.url) == Result(ResultKind.NOT_SENT, "timeout")
    assert receiver.requests == []


def test_what_the_kernel_still_holds_does_not_leave_after_the_attempt(trusting: Sender) -> None:
    read_late = threading.Event()
    received: list[int] = []

    def play(peer: Peer) -> None:
        read_late.wait(5)
        try:
            while piece := peer.connection.recv(65_536):
                received.append(len(piece))
        finally:
            received.append(0)

    body = bytes(400_000)
    with Receiver(play, receive_buffer=4_096) as receiver:
        assert post(trusting, receiver.url, body=body) == Result(ResultKind.MAYBE_RECEIVED, "timeout")
        read_late.set()
        while not received or received[-1]:
            time.sleep(0.01)
    assert sum(received) < len(body)


def test_a_resolver_that_never_answers_takes_the_attempts_time_and_no_more(
    trusting: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: answer.wait(10) and [])
    started = time.monotonic()
    assert post(trusting, "http://paris.example/") == Result(ResultKind.NOT_SENT, "timeout")
    assert time.monotonic() - started < 5
    answer.set()


def test_a_resolver_whose_thread_cannot_start_is_a_name_that_is_not_found(
    trusting: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(connection.threading.Thread, "start", start)
    assert post(trusting, "http://paris.example/") == Result(ResultKind.NOT_SENT, "dns")


@pytest.mark.parametrize("transport", ["plain", "handshake"])
def test_an_answer_byte_by_byte_ends_the_attempt(authority: Authority, transport: str) -> None:
    def trickle(peer: Peer) -> None:
        peer.connection.recv(65_536)
        peer.send(b"HTTP/1.1 200 OK\r\n" if transport == "plain" else b"\x16\x03\x03\x40\x00")
        while True:
            peer.send(b"\0")
            time.sleep(0.0002)

    patient = Sender(allowed_networks=[LOOPBACK], seconds=20)
    tls = None if transport == "plain" else authority.server_context()
    with Receiver(trickle, tls=tls, in_handshake=transport == "handshake") as receiver:
        result = post(patient, receiver.url)
    expected = (ResultKind.MAYBE_RECEIVED, "malformed") if transport == "plain" else (ResultKind.NOT_SENT, "tls")
    assert (result.kind, result.reason) == expected


def resolving_to(*addresses: tuple[str, int]) -> Callable[..., list[object]]:
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    return lambda *arguments, **options: list(infos)


def test_addresses_that_swallow_everything_share_the_attempts_time(
    trusting: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver(listening=False) as silent, Receiver() as receiver:
        hole, paris = ("127.0.0.1", silent.port), ("127.0.0.1", receiver.port)
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(hole, hole, paris))
        assert post(trusting, "http://paris.example/").kind is ResultKind.DELIVERED
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(*[hole] * 1_000))
        tries: list[float] = []
        connect = connection._connect

        def counted(info: AddressInfo, seconds: float) -> socket.socket:
            tries.append(seconds)
            return connect(info, seconds)

        monkeypatch.setattr(connection, "_connect", counted)
        started = time.monotonic()
        assert post(trusting, "http://paris.example/") == Result(ResultKind.NOT_SENT, "timeout")
        assert time.monotonic() - started < 5
        assert len(tries) == adapter.MAX_ADDRESSES


def test_after_an_address_that_refuses_the_next_one_is_tried(trusting: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as receiver:
        addresses = [("127.0.0.1", 1), ("127.0.0.1", receiver.port)]
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(*addresses))
        assert post(trusting, "http://paris.example/").kind is ResultKind.DELIVERED


def test_a_name_that_does_not_exist(trusting: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_name(*arguments: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    assert post(trusting, "http://paris.example/") == Result(ResultKind.NOT_SENT, "dns")


def test_a_port_where_no_process_listens(trusting: Sender) -> None:
    assert post(trusting, "http://127.0.0.1:1/") == Result(ResultKind.NOT_SENT, "connect")


def test_threads_may_share_a_sender_and_none_is_left(trusting: Sender, authority: Authority) -> None:
    before = threading.active_count()
    with Receiver(tls=authority.server_context()) as receiver:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda number: post(trusting, receiver.url, {"X-Number": str(number)}), range(40)))
        assert {result.kind for result in results} == {ResultKind.DELIVERED}
        assert len({head for head, _ in receiver.requests}) == 40
    deadline = time.monotonic() + 2
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


# What the answer means


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        pytest.param(200, ResultKind.DELIVERED, "", id="200"),
        pytest.param(299, ResultKind.DELIVERED, "", id="299"),
        pytest.param(300, ResultKind.ANSWERED, "redirect", id="300"),
        pytest.param(404, ResultKind.ANSWERED, "status_404", id="404"),
        pytest.param(410, ResultKind.ANSWERED, "status_410", id="410"),
        pytest.param(500, ResultKind.ANSWERED, "status_500", id="500"),
        pytest.param(999, ResultKind.ANSWERED, "status_999", id="999"),
    ],
)
def test_success_is_200_to_299(trusting: Sender, status: int, kind: ResultKind, reason: str) -> None:
    with Receiver(answers(b"HTTP/1.1 %d\r\n\r\n" % status)) as receiver:
        assert post(trusting, receiver.url) == Result(kind, reason, status)


@pytest.mark.parametrize(
    "line", ["HTTP/1.1 +200", "HTTP/1.1 2_00", "HTTP/1.1 0200", "HTTP/1.1 200\xa0", "HTTP/1.x 200"]
)
def test_a_status_is_three_digits_and_nothing_that_python_takes_for_them(trusting: Sender, line: str) -> None:
    with Receiver(answers(f"{line} OK\r\n\r\n".encode("latin-1"))) as receiver:
        assert post(trusting, receiver.url) == Result(ResultKind.MAYBE_RECEIVED, "malformed")


@pytest.mark.parametrize(
    "said", ["Content-Length: 3, 5", "Content-Length: 3\r\nTransfer-Encoding: chunked", "Content-Encoding: none"]
)
def test_what_an_answer_says_of_its_body_does_not_matter(trusting: Sender, said: str) -> None:
    with Receiver(answers(f"HTTP/1.1 200 OK\r\n{said}\r\n\r\n".encode())) as receiver:
        assert post(trusting, receiver.url) == Result(ResultKind.DELIVERED, "", 200)


@pytest.mark.parametrize("transport", ["plain", "tls"])
@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX-A: b\r\n"])
def test_a_head_that_is_cut_off_is_no_answer(
    trusting: Sender, authority: Authority, transport: str, part: bytes
) -> None:
    with Receiver(answers(part), tls=authority.server_context() if transport == "tls" else None) as receiver:
        assert post(trusting, receiver.url) == Result(ResultKind.MAYBE_RECEIVED, "reset")


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"X-A: a\r\n" * 101, id="101 header lines"),
        pytest.param(b"X-A: " + b"a" * 65_536 + b"\r\n", id="a line of 64 KiB"),
    ],
)
def test_a_head_that_http_client_finds_too_long_is_malformed(trusting: Sender, lines: bytes) -> None:
    with Receiver(answers(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n")) as receiver:
        assert post(trusting, receiver.url) == Result(ResultKind.MAYBE_RECEIVED, "malformed")


def test_a_retry_after_behind_a_line_that_is_no_header_is_not_seen(trusting: Sender) -> None:
    with Receiver(answers(b"HTTP/1.1 503 Busy\r\nno header\r\nRetry-After: 7\r\n\r\n")) as receiver:
        assert post(trusting, receiver.url) == Result(ResultKind.ANSWERED, "status_503", 503)


def test_nothing_of_the_libraries_reaches_the_log_at_any_level(
    trusting: Sender, authority: Authority, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    caplog.set_level(logging.NOTSET)
    odd = answers(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nno header\r\n\r\n")
    with Receiver(odd) as plain, Receiver(odd, tls=authority.server_context()) as tls, Receiver(Peer.close) as closing:
        for url in (plain.url, tls.url, closing.url, "http://127.0.0.1:1/"):
            post(trusting, f"{url}/token-in-the-path")
    assert (caplog.messages, recwarn.list) == ([], [])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(trusting: Sender, status: int) -> None:
    with Receiver() as elsewhere:
        redirect = answers(b"HTTP/1.1 %d F\r\nLocation: %s\r\n\r\n" % (status, elsewhere.url.encode()))
        with Receiver(redirect) as receiver:
            assert post(trusting, receiver.url) == Result(ResultKind.ANSWERED, "redirect", status)
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("status", "line", "seconds"),
    [
        pytest.param(429, "Retry-After: 7", range(7, 8), id="seconds"),
        pytest.param(503, "RETRY-AFTER:7", range(7, 8), id="any case, no blank"),
        pytest.param(503, "Retry-After: 86400", range(600, 601), id="capped"),
        pytest.param(503, "Retry-After: IN_90_S", range(1, 91), id="a date"),
        pytest.param(503, "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT", range(600, 601), id="a date, capped"),
        pytest.param(503, "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT", range(0, 1), id="a date gone by"),
        pytest.param(503, "Retry-After: -5", None, id="negative"),
        pytest.param(503, "Retry-After: 1_0", None, id="Python's idea of a number"),
        pytest.param(503, "Retry-After: Mon, 99 Foo 2026", None, id="no date"),
        pytest.param(503, "Retry-After: 9\r\nRetry-After:  7 ", range(7, 8), id="the last of two"),
        pytest.param(503, "X: y", None, id="none"),
        pytest.param(500, "Retry-After: 7", None, id="on another status"),
    ],
)
def test_retry_after_counts_on_429_and_503(trusting: Sender, status: int, line: str, seconds: range | None) -> None:
    # Made here, not at collection, which may be minutes earlier.
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
    line = line.replace("IN_90_S", email.utils.format_datetime(moment, usegmt=True))
    with Receiver(answers(f"HTTP/1.1 {status} X\r\n{line}\r\n\r\n".encode())) as receiver:
        result = post(trusting, receiver.url)
    assert result.status_code == status
    if seconds is None:
        assert result.retry_after_seconds is None
    else:
        assert result.retry_after_seconds in seconds


# Which receiver gets it


@pytest.mark.parametrize(
    ("names", "expires", "result"),
    [
        pytest.param([], DAY, Result(ResultKind.DELIVERED, status_code=204), id="right"),
        pytest.param(["london.example"], DAY, Result(ResultKind.REFUSED, "certificate"), id="another's name"),
        pytest.param([], -DAY, Result(ResultKind.REFUSED, "certificate"), id="expired"),
    ],
)
def test_a_certificate_must_be_the_receivers(
    trusting: Sender, authority: Authority, names: list[str], expires: datetime.timedelta, result: Result
) -> None:
    with Receiver(tls=authority.server_context(*names, expires=expires)) as receiver:
        assert post(trusting, receiver.url) == result
    assert len(receiver.requests) == (result.kind is ResultKind.DELIVERED)


def test_a_name_with_the_roots_dot_needs_no_certificate_with_one(
    trusting: Sender, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver(tls=authority.server_context("paris.example")) as receiver:
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(("127.0.0.1", receiver.port)))
        assert post(trusting, "https://paris.example./").kind is ResultKind.DELIVERED


def test_an_unknown_authority_is_refused_until_it_is_configured(authority: Authority) -> None:
    with Receiver(tls=authority.server_context()) as receiver:
        strict = Sender(allowed_networks=[LOOPBACK])
        assert post(strict, receiver.url) == Result(ResultKind.REFUSED, "certificate")
        trusting = Sender(allowed_networks=[LOOPBACK], ca_bundle=str(authority.path))
        assert post(trusting, receiver.url).kind is ResultKind.DELIVERED


@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n"])
def test_a_bundle_that_cannot_be_read_is_logged_and_the_public_authorities_stay_trusted(
    content: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ours.pem"
    if content is not None:
        path.write_text(content)
    context = trust.context(str(path))
    assert len(context.get_ca_certs()) == len(trust.context("").get_ca_certs()) > 50
    [record] = caplog.records
    assert (record.levelname, record.message, vars(record)["path"]) == ("ERROR", "ca_bundle.unreadable", str(path))


def test_the_public_authorities_stay_trusted_beside_the_configured_one(authority: Authority) -> None:
    without, beside = trust.context(""), trust.context(str(authority.path))
    assert len(beside.get_ca_certs()) == len(without.get_ca_certs()) + 1 > 50


def test_tls_older_than_1_2_is_refused(trusting: Sender, authority: Authority) -> None:
    context = authority.server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Receiver(tls=context) as receiver:
        assert post(trusting, receiver.url) == Result(ResultKind.NOT_SENT, "tls")


def test_https_can_be_required(authority: Authority) -> None:
    strict = Sender(allowed_networks=[LOOPBACK], require_https=True, ca_bundle=str(authority.path))
    with Receiver() as plain, Receiver(tls=authority.server_context()) as tls:
        assert post(strict, plain.url) == Result(ResultKind.REFUSED, "https_required")
        assert post(strict, tls.url).kind is ResultKind.DELIVERED
    assert plain.connections == 0
