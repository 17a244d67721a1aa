"""What a look finds out about real listeners on loopback, how often it tries, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import certifi
import pytest

from link.networks import AddressInfo
from link.probing import connection, looks, names
from link.probing.checks import Check, CheckType, read
from link.probing.connection import USER_AGENT, Starved, status
from link.probing.looks import Looker
from tests.hostile.certificates import DAY, Authority
from tests.hostile.receiver import Peer, Play, Receiver
from tests.support import addresses
from tests.support.event_loop import JumpingLoop

LOOPBACK = ip_network("127.0.0.0/8")
TCP, HTTP, HTTPS = CheckType.TCP, CheckType.HTTP, CheckType.HTTPS


def target(type_: CheckType, port: int, host: str = "127.0.0.1", **more: Any) -> Check:
    return Check(type_, host, port, **more)


def reason(looker: Looker, check: Check, tries: int = 1) -> str:
    """What one look says about one check."""
    return looker.look({check: tries}).reasons[check]


def answering(*parts: bytes) -> Play:
    """Read a request without a body, keep it, and send these bytes."""

    def play(peer: Peer) -> None:
        peer.receiver.requests.append((peer.connection.recv(65_536), b""))
        for part in parts:
            peer.send(part)

    return play


def in_turn(*plays: Play) -> Play:
    """One play for each connection, in the order in which they come."""
    coming = iter(plays)
    return lambda peer: next(coming)(peer)


NO_CONTENT = answering(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(Path(tmp_path_factory.mktemp("certificates")))


@pytest.fixture
def looker(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Looker:
    """A looker for which the authority of the tests is a public one."""
    monkeypatch.setattr(certifi, "where", lambda: str(authority.path))
    return Looker([LOOPBACK])


@pytest.fixture
def jumping() -> Looker:
    """A looker whose seconds take no time. Listeners with threads are too slow for it."""
    return Looker([LOOPBACK], new_loop=JumpingLoop)


@pytest.fixture
def hole() -> Iterator[int]:
    """The port of a listener that answers no connection."""
    with Receiver(listening=False) as listener:
        yield listener.port


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The answers of the resolver: each lookup takes the next list of addresses."""
    answers: list[list[str]] = []
    monkeypatch.setattr(socket, "getaddrinfo", addresses.resolver(answers))
    return answers


@pytest.fixture
def connects() -> Iterator[list[str]]:
    with addresses.connects() as found:
        yield found


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """When each try began and when it was over at the latest, in seconds of the event loop."""
    found: list[tuple[float, float]] = []

    async def noting(check: Check, infos: Sequence[AddressInfo], tls: ssl.SSLContext | None, ends: float) -> str:
        found.append((round(asyncio.get_running_loop().time(), 1), round(ends, 1)))
        return await connection.attempt(check, infos, tls, ends)

    monkeypatch.setattr(looks, "attempt", noting)
    return found


# What passes


def test_a_tcp_check_passes_when_the_port_accepts(looker: Looker) -> None:
    with Receiver(Peer.never) as paris:
        assert reason(looker, target(TCP, paris.port)) == ""


def test_an_http_check_asks_for_its_path_and_says_who_asks(looker: Looker) -> None:
    with Receiver(NO_CONTENT) as paris:
        assert reason(looker, target(HTTP, paris.port, path="/health?deep=1")) == ""
    assert paris.requests[0][0].decode() == (
        f"GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:{paris.port}\r\n"
        f"User-Agent: {USER_AGENT}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("check", "host"),
    [
        (Check(HTTP, "paris.example", 80), b"paris.example"),
        (Check(HTTPS, "paris.example", 443), b"paris.example"),
        (Check(HTTPS, "paris.example", 80), b"paris.example:80"),
        (Check(HTTP, "2001:db8::1", 8080), b"[2001:db8::1]:8080"),
    ],
)
def test_the_host_header_has_the_port_unless_it_is_the_usual_one(check: Check, host: bytes) -> None:
    assert b"\r\nHost: " + host + b"\r\n" in connection._request(check)


@pytest.mark.parametrize(
    ("answer", "expect", "found"),
    [
        (200, (200, 399), ""),
        (399, (200, 399), ""),
        (400, (200, 399), "status_400"),
        (503, (200, 399), "status_503"),
        (204, (201, 203), "status_204"),
        (200, (201, 203), "status_200"),
        (401, (401, 401), ""),
        (101, (200, 399), "status_101"),
    ],
)
def test_a_status_within_the_bounds_passes(looker: Looker, answer: int, expect: tuple[int, int], found: str) -> None:
    with Receiver(answering(b"HTTP/1.1 %d X\r\n" % answer)) as paris:
        assert reason(looker, target(HTTP, paris.port, expect=expect)) == found


def test_the_status_line_is_enough_however_it_arrives(looker: Looker) -> None:
    with Receiver(answering(b"HTTP/1.0 2", b"00 OK\r", b"\n")) as paris:
        assert reason(looker, target(HTTP, paris.port)) == ""


def test_informational_answers_are_skipped(looker: Looker) -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    with Receiver(answering(*hints, b"HTTP/1.1 503 Busy\r\n\r\n")) as paris:
        assert reason(looker, target(HTTP, paris.port)) == "status_503"


def test_every_beginning_of_an_answer_waits_for_more() -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n"
    assert [status(answer[:length]) for length in range(len(answer))] == [None] * len(answer)
    assert status(answer) == 204


@pytest.mark.parametrize("expires", [DAY, -DAY])
@pytest.mark.parametrize("names", [[], ["london.example"]])
def test_a_certificate_is_not_judged_unless_the_check_says_so(
    authority: Authority, names: list[str], expires: Any
) -> None:
    with Receiver(NO_CONTENT, tls=authority.server_context(*names, expires=expires)) as paris:
        assert reason(Looker([LOOPBACK]), target(HTTPS, paris.port)) == ""


@pytest.mark.parametrize(
    ("names", "expires", "found"),
    [([], DAY, ""), (["london.example"], DAY, "certificate"), ([], -DAY, "certificate")],
    ids=["right", "another's name", "expired"],
)
def test_a_judged_certificate_must_be_the_targets(
    looker: Looker, authority: Authority, names: list[str], expires: Any, found: str
) -> None:
    with Receiver(NO_CONTENT, tls=authority.server_context(*names, expires=expires)) as paris:
        assert reason(looker, target(HTTPS, paris.port, verify=True)) == found
    assert len(paris.requests) == (found == "")


def test_a_judged_certificate_must_be_of_an_authority_that_the_deployment_trusts(authority: Authority) -> None:
    with Receiver(NO_CONTENT, tls=authority.server_context()) as paris:
        assert reason(Looker([LOOPBACK]), target(HTTPS, paris.port, verify=True)) == "certificate"


def test_a_judged_certificate_for_a_name_with_the_roots_dot_needs_none_in_it(
    looker: Looker, authority: Authority, resolver: list[list[str]]
) -> None:
    resolver.append(["127.0.0.1"])
    with Receiver(NO_CONTENT, tls=authority.server_context("paris.example")) as paris:
        assert reason(looker, target(HTTPS, paris.port, "paris.example.", verify=True)) == ""


@pytest.mark.parametrize(("verify", "found"), [(False, ""), (True, "tls")])
def test_old_tls_is_an_answer_but_not_for_a_check_that_judges(
    looker: Looker, authority: Authority, verify: bool, found: str
) -> None:
    context = authority.server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Receiver(NO_CONTENT, tls=context) as paris:
        assert reason(looker, target(HTTPS, paris.port, verify=verify)) == found


# Why a check does not pass


@pytest.mark.parametrize("type_", CheckType)
def test_a_port_where_no_process_listens_refuses(looker: Looker, type_: CheckType) -> None:
    assert reason(looker, target(type_, 1)) == "refused"


@pytest.mark.parametrize("type_", CheckType)
def test_a_target_that_does_not_answer_the_connection_times_out(jumping: Looker, hole: int, type_: CheckType) -> None:
    assert reason(jumping, target(type_, hole)) == "timeout"


@pytest.mark.parametrize("type_", [HTTP, HTTPS])
def test_a_target_that_accepts_and_says_nothing_times_out(jumping: Looker, type_: CheckType) -> None:
    with Receiver(Peer.never) as paris:
        assert reason(jumping, target(type_, paris.port)) == "timeout"


@pytest.mark.parametrize("host", ["paris.example", "a" * 64], ids=["unknown", "too long"])
def test_a_name_without_address_says_so_and_its_thread_goes_on(
    looker: Looker, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    def no_such_name(host: str, *_: object, **__: object) -> None:
        host.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    monkeypatch.setattr(names, "MAX_THREADS", 1)
    seen = looker.look({target(TCP, 1, host): 3, target(TCP, 1, f"www.{host}"): 3})
    assert list(seen.reasons.values()) == ["dns", "dns"]


def test_a_handshake_with_a_target_that_speaks_no_tls(looker: Looker) -> None:
    with Receiver(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as paris:
        assert reason(looker, target(HTTPS, paris.port)) == "tls"


@pytest.mark.parametrize(
    "line", ["SSH-2.0-OpenSSH_9.6", "HTTP/1.1 +200 OK", "HTTP/1.1 2_00 OK", "HTTP/1.1 0200 OK", "HTTP/1.1 2000 OK", ""]
)
def test_an_answer_that_is_not_http(looker: Looker, line: str) -> None:
    with Receiver(answering(f"{line}\r\n".encode())) as paris:
        assert reason(looker, target(HTTP, paris.port)) == "no_http"


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK"])
@pytest.mark.parametrize("end", [Peer.close, Peer.reset])
@pytest.mark.parametrize("transport", ["plain", "tls"])
def test_a_target_that_ends_the_connection_before_its_status_line_does(
    looker: Looker, authority: Authority, transport: str, part: bytes, end: Callable[[Peer], None]
) -> None:
    def play(peer: Peer) -> None:
        answering(part)(peer)
        end(peer)

    with Receiver(play, tls=authority.server_context() if transport == "tls" else None) as paris:
        assert reason(looker, target(HTTPS if transport == "tls" else HTTP, paris.port)) == "closed"


def test_a_target_that_says_that_it_ends_the_connection(looker: Looker, authority: Authority) -> None:
    def play(peer: Peer) -> None:
        answering()(peer)
        assert isinstance(peer.connection, ssl.SSLSocket)
        peer.connection.unwrap()

    with Receiver(play, tls=authority.server_context()) as paris:
        assert reason(looker, target(HTTPS, paris.port)) == "closed"


def test_a_target_that_ends_the_connection_in_the_handshake(looker: Looker) -> None:
    with Receiver(answering()) as paris:
        assert reason(looker, target(HTTPS, paris.port)) == "closed"


def test_an_address_to_which_no_connection_leads() -> None:
    broadcast = Looker([ip_network("224.0.0.0/3")])
    assert reason(broadcast, target(TCP, 9, "255.255.255.255")) == "unreachable"


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 ", b"HTTP/1.1 103 Early Hints\r\n"])
def test_an_answer_without_end_is_not_read_to_the_end(looker: Looker, start: bytes) -> None:
    def flood(peer: Peer) -> None:
        answering(start)(peer)
        peer.flood(b"a")

    with Receiver(flood) as paris:
        assert reason(looker, target(HTTP, paris.port)) == "no_http"


def test_one_informational_answer_after_the_other_is_not_read_to_the_end(looker: Looker) -> None:
    with Receiver(lambda peer: peer.flood(b"HTTP/1.1 100 Continue\r\n\r\n")) as paris:
        assert reason(looker, target(HTTP, paris.port)) == "no_http"


def test_a_handshake_without_end_is_not_read_to_the_end(looker: Looker) -> None:
    with Receiver(lambda peer: peer.flood(b"\x16\x03\x03\x00\x01\x00")) as paris:
        assert reason(looker, target(HTTPS, paris.port)) in ("tls", "no_http")


@pytest.mark.parametrize("type_", [HTTP, HTTPS])
def test_an_answer_byte_by_byte_gets_no_more_time(
    looker: Looker, monkeypatch: pytest.MonkeyPatch, type_: CheckType
) -> None:
    monkeypatch.setattr(looks, "TRY_SECONDS", 0.5)
    drip = b"HTTP/1.1 200 " if type_ is HTTP else b"\x16\x03\x03\x40\x00"
    with Receiver(lambda peer: peer.drip(drip + b"\0" * 4_096), period=0.05) as paris:
        assert reason(looker, target(type_, paris.port)) == "timeout"


# Tries


def test_a_refused_target_is_tried_three_times(jumping: Looker, tried: list[tuple[float, float]]) -> None:
    assert reason(jumping, target(TCP, 1), tries=3) == "refused"
    assert tried == [(0.0, 5.0), (1.5, 6.5), (3.0, 8.0)]


def test_a_target_that_hangs_gets_every_try_in_time_and_takes_eight_seconds(
    hole: int, tried: list[tuple[float, float]]
) -> None:
    loops: list[JumpingLoop] = []

    def new_loop() -> JumpingLoop:
        loops.append(JumpingLoop())
        return loops[0]

    assert reason(Looker([LOOPBACK], new_loop=new_loop), target(TCP, hole), tries=3) == "timeout"
    assert tried == [(0.0, 5.0), (1.5, 6.5), (3.0, 8.0)]
    assert loops[0].time() == pytest.approx(8.0, abs=0.01)


def test_a_target_that_passes_at_once_is_not_tried_again(jumping: Looker, tried: list[tuple[float, float]]) -> None:
    with Receiver(Peer.never) as paris:
        assert reason(jumping, target(TCP, paris.port), tries=3) == ""
        assert len(tried) == 1
        jumping.look({target(TCP, paris.port): 3, target(TCP, 1): 3})
    assert len(tried) == 1 + 1 + 3


@pytest.mark.parametrize("first", [Peer.close, Peer.never])
def test_a_target_that_answers_from_the_second_try_on_passes(looker: Looker, first: Play) -> None:
    with Receiver(in_turn(first, NO_CONTENT, NO_CONTENT)) as paris:
        assert reason(looker, target(HTTP, paris.port), tries=3) == ""
    assert len(paris.requests) >= 1


def test_each_check_has_its_own_number_of_tries(jumping: Looker, tried: list[tuple[float, float]]) -> None:
    jumping.look({target(TCP, 1): 1, target(HTTP, 1): 2})
    assert len(tried) == 3


def test_the_reason_is_that_of_the_last_try(looker: Looker) -> None:
    busy = answering(b"HTTP/1.1 503 Busy\r\n\r\n")
    with Receiver(in_turn(Peer.close, busy)) as paris:
        assert reason(looker, target(HTTP, paris.port), tries=2) == "status_503"


def test_what_two_endpoints_have_in_common_is_looked_at_once(looker: Looker) -> None:
    with Receiver(NO_CONTENT) as paris:
        stored = {"type": "HTTP", "host": "127.0.0.1", "port": paris.port, "path": "/", "expect": "200-399"}
        looker.look({read(stored): 1, read({**stored, "verify": False}): 1})
    assert paris.connections == 1


def test_a_failing_check_says_nothing_about_the_others(looker: Looker) -> None:
    with Receiver(NO_CONTENT) as paris:
        seen = looker.look({target(TCP, 1): 1, target(TCP, 1, "0x7f.1"): 1, target(HTTP, paris.port): 1})
    assert list(seen.reasons.values()) == ["refused", "refused", ""]


@pytest.mark.parametrize(
    ("type_", "host"),
    [
        pytest.param(TCP, "2600::1%" + "x" * 64, id="a long zone"),
        pytest.param(HTTPS, "127.0.0.1 \ue000", id="more after the address"),
    ],
)
def test_an_address_with_something_that_no_name_may_have_fails_alone(
    looker: Looker, type_: CheckType, host: str
) -> None:
    with Receiver(NO_CONTENT) as paris:
        seen = looker.look({target(type_, paris.port, host): 1, target(HTTP, paris.port): 1})
    assert list(seen.reasons.values()) == ["dns", ""]


# Which addresses


@pytest.mark.parametrize("host", [host.strip("[]") for host in addresses.SPELLINGS])
def test_loopback_is_refused_in_every_spelling_unless_it_is_allowed(host: str, connects: list[str]) -> None:
    with Receiver(Peer.never) as listener:
        check = target(TCP, listener.port, host)
        assert reason(Looker(), check, tries=3) == "address_refused"
        assert (listener.connections, connects) == (0, [])
        assert reason(Looker([LOOPBACK, ip_network("::1/128")]), check) == ""
        assert len(connects) >= 1


@pytest.mark.parametrize("host", ["::1", "0:0:0:0:0:0:0:1", "0000::0001"])
def test_ipv6_loopback_is_refused_unless_its_own_network_is_allowed(host: str, connects: list[str]) -> None:
    try:
        listener = Receiver(Peer.never, host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with listener:
        check = target(TCP, listener.port, host)
        assert reason(Looker([ip_network("::/0")]), check) == "address_refused"
        assert (listener.connections, connects) == (0, [])
        assert reason(Looker([ip_network("::1/128")]), check) == ""


@pytest.mark.parametrize(("host", "opening"), addresses.OTHER_FORBIDDEN.items())
def test_a_forbidden_address_gets_no_connect_unless_its_network_is_allowed(
    host: str, opening: str, connects: list[str]
) -> None:
    host, port = ("127.0.0.1", 9001) if host == "127.0.0.1:9001" else (host.strip("[]"), 80)
    check = target(HTTP, port, host)
    assert reason(Looker(), check, tries=3) == "address_refused"
    assert connects == []
    assert reason(Looker([ip_network(opening)]), check) not in ("", "address_refused")
    assert len(connects) == 1


@pytest.mark.parametrize("bad", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "fd00:ec2::254"])
@pytest.mark.parametrize("position", [0, 1, 50])
def test_one_forbidden_address_refuses_the_whole_name(
    bad: str, position: int, connects: list[str], resolver: list[list[str]]
) -> None:
    mixed = ["8.8.8.8"] * 50
    mixed.insert(position, bad)
    resolver += [mixed, ["8.8.8.8"]]
    assert reason(Looker(), target(TCP, 80, "paris.example"), tries=3) == "address_refused"
    assert connects == []
    # Here, no connection leaves this machine.
    assert reason(Looker(), target(TCP, 80, "paris.example")) == "refused"
    assert connects == ["8.8.8.8"]


def test_all_tries_of_all_checks_go_to_the_addresses_that_were_judged(
    connects: list[str], resolver: list[list[str]]
) -> None:
    with Receiver(Peer.never) as listener:
        # A second lookup would return loopback.
        resolver += [["8.8.8.8"], ["127.0.0.1"], ["127.0.0.1"]]
        rebinding = [target(type_, listener.port, "rebinding.example") for type_ in (TCP, HTTP)]
        seen = Looker(new_loop=asyncio.new_event_loop).look({rebinding[0]: 2, rebinding[1]: 2})
        assert (set(seen.reasons.values()), connects) == ({"refused"}, ["8.8.8.8"] * 4)
        assert (listener.connections, len(resolver)) == (0, 2)


def test_a_redirect_is_not_followed(looker: Looker, connects: list[str]) -> None:
    with Receiver() as inner:
        redirect = answering(b"HTTP/1.1 307 T\r\nLocation: %s\r\n\r\n" % inner.url.encode())
        with Receiver(redirect) as outer:
            assert reason(looker, target(HTTP, outer.port, expect=(200, 299))) == "status_307"
            assert reason(looker, target(HTTP, outer.port)) == ""
    assert (len(connects), inner.connections) == (2, 0)


def test_addresses_that_swallow_everything_share_the_time_of_a_try(
    looker: Looker, hole: int, monkeypatch: pytest.MonkeyPatch, connects: list[str], resolver: list[list[str]]
) -> None:
    resolver += [["127.0.0.1"] * 4 + ["127.0.0.2"], ["127.0.0.1"] * 1_000]
    monkeypatch.setattr(looks, "TRY_SECONDS", 2.0)
    with socket.create_server(("127.0.0.2", hole)):
        assert reason(looker, target(TCP, hole, "paris.example")) == ""
    connects.clear()
    monkeypatch.setattr(looks, "TRY_SECONDS", 0.4)
    assert reason(looker, target(TCP, hole, "hole.example")) == "timeout"
    assert len(connects) == connection.MAX_ADDRESSES


# What is left behind


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.filterwarnings("error")
def test_no_file_is_left_after_a_look(jumping: Looker, hole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python closes a forgotten socket with a warning.
    forgotten: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: forgotten.append(error.exc_value))
    # The kernel accepts for this listener, so that its ends of the connections are no files of this process.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        before = len(os.listdir("/proc/self/fd"))
        jumping.look({target(TCP, 1): 3, target(TCP, hole): 3, target(HTTP, hole): 3, target(HTTPS, port): 3})
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before
    assert forgotten == []


def test_no_thread_is_left_after_a_look(looker: Looker, resolver: list[list[str]]) -> None:
    resolver += [["127.0.0.1"]] * 8
    before = threading.active_count()
    looker.look({target(TCP, 1, f"paris-{n}.example"): 1 for n in range(8)})
    deadline = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_connection_ends_with_a_reset(looker: Looker) -> None:
    ended = threading.Event()

    def play(peer: Peer) -> None:
        try:
            peer.connection.recv(1)
        except ConnectionResetError:
            ended.set()

    with Receiver(play) as paris:
        assert reason(looker, target(TCP, paris.port)) == ""
        assert ended.wait(60)


def test_500_targets_that_hang_stay_within_the_files_that_lambda_allows(jumping: Looker, hole: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, hard))
    try:
        seen = jumping.look({target(TCP, hole, path=f"/{n}"): 3 for n in range(500)})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(seen.reasons.values()) == ["timeout"] * 500


def test_targets_that_hang_in_all_sockets_are_no_reason_to_call_the_others_down(
    jumping: Looker, hole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "MAX_SOCKETS", 2)
    hanging = {target(TCP, hole, path=f"/{n}"): 3 for n in range(2)}
    assert set(jumping.look(hanging).reasons.values()) == {"timeout"}
    with pytest.raises(Starved):
        jumping.look({**hanging, target(TCP, 1): 1})


def test_a_process_without_files_says_nothing_about_targets(looker: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def attempt(*arguments: Any) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(connection.socket, "socket", no_more)
            return await connection.attempt(*arguments)

    monkeypatch.setattr(looks, "attempt", attempt)
    with pytest.raises(Starved):
        reason(looker, target(TCP, 1))


# Names


def test_an_address_is_not_looked_up(looker: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **_: asked.append(arguments) or [])
    assert reason(looker, target(TCP, 1, "0x7f.1")) == "refused"
    assert asked == []


@pytest.fixture
def hanging_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A resolver that answers nothing before the test is over, and may have two threads."""
    over = threading.Event()

    def getaddrinfo(*_: object, **__: object) -> list[object]:
        over.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(names, "MAX_THREADS", 2)
    before = threading.active_count()
    yield
    assert threading.active_count() == before + 2
    over.set()
    deadline = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.usefixtures("hanging_resolver")
def test_name_servers_that_hang_take_the_time_of_a_try_and_a_bounded_number_of_threads(jumping: Looker) -> None:
    hanging = {target(TCP, 1, f"paris-{n}.example"): 3 for n in range(2)}
    assert list(jumping.look(hanging).reasons.values()) == ["dns", "dns"]
    # The threads of the first look still hang: there is none for this one.
    with pytest.raises(Starved):
        jumping.look(hanging)


@pytest.mark.usefixtures("hanging_resolver")
def test_names_for_which_no_thread_is_left_are_not_called_down(jumping: Looker) -> None:
    with pytest.raises(Starved):
        jumping.look({target(TCP, 1, f"paris-{n}.example"): 1 for n in range(3)})


def test_more_names_than_threads_are_all_answered(
    looker: Looker, monkeypatch: pytest.MonkeyPatch, resolver: list[list[str]]
) -> None:
    monkeypatch.setattr(names, "MAX_THREADS", 2)
    resolver += [["127.0.0.1"]] * 20
    seen = looker.look({target(TCP, 1, f"paris-{n}.example"): 1 for n in range(20)})
    assert set(seen.reasons.values()) == {"refused"}


def test_a_process_without_threads_says_nothing_about_targets(looker: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(names.threading.Thread, "start", start)
    with pytest.raises(Starved):
        reason(looker, target(TCP, 1, "paris.example"))


# Own lag


def test_a_check_begins_when_those_before_it_had_their_turn(looker: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    async def two_turns(check: Check, *_: object) -> str:
        turns.append(f"{check.path} begins")
        await asyncio.sleep(0)
        turns.append(f"{check.path} ends")
        return ""

    monkeypatch.setattr(looks, "attempt", two_turns)
    looker.look({target(TCP, 1, path=f"/{n}"): 1 for n in range(100)})
    assert turns.index("/0 ends") < turns.index("/10 begins")


def test_a_look_says_how_late_its_own_process_was(looker: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(*_: object) -> str:
        time.sleep(0.5)
        return ""

    monkeypatch.setattr(looks, "attempt", slow)
    assert looker.look({target(TCP, 1): 1}).lag_ms >= 400


def test_time_that_passes_while_targets_hang_is_no_lag(jumping: Looker, hole: int) -> None:
    assert jumping.look({target(TCP, hole): 3}).lag_ms == 0
