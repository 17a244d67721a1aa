"""The attacks: every ending of a connection at every stage, and single ones that do not fit that grid."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.hostile.receiver import Peer, Play, Receiver, answers

TIMEOUT, RESET, MALFORMED = "maybe_received timeout", "maybe_received reset", "maybe_received malformed"
NO_TLS, TLS_TIMEOUT = "not_sent tls", "not_sent timeout"
NO_CONNECTION = "not_sent connect"
"""A reset right after the accept can arrive before connect() returns in the sender."""

OK = b"HTTP/1.1 200 OK\r\n"
LOCATION = b"Location: http://127.0.0.1:9/\r\n"
ENDLESS = b"Content-Length: 1000000000000\r\n\r\n"


@dataclass(frozen=True)
class Attack:
    """An attack and the result that it must have.

    `expected` is the kind and the reason of the result, with `or` between two when the load of the machine decides.
    With the transport "handshake" the attack replaces the TLS handshake.
    """

    name: str
    play: Play
    expected: str
    transport: str = "plain and tls"
    listening: bool = True
    session_tickets: int = 2


# stage: (read the request first, bytes sent on the way to the stage, bytes to send without end there, result if the
# sender has its answer at that stage already)
STAGES: dict[str, tuple[bool, bytes, bytes, str]] = {
    "accept": (False, b"", b"HTTP/1.1 100 Continue\r\n\r\n", ""),
    "request": (True, b"", b"\0", ""),
    "status": (True, b"HTTP/1.1 2", b"0", ""),
    "informational": (True, b"HTTP/1.1 103 Early Hints\r\n", b"Link: </a>\r\n", ""),
    "headers": (True, OK, b"X-A: b\r\n", ""),
    "header line": (True, OK + b"X-A: ", b"a", ""),
    "body": (True, OK + ENDLESS, b"x", "delivered"),
    "chunks": (True, OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", "delivered"),
    "chunk size": (True, OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0", "delivered"),
    "redirect's body": (True, b"HTTP/1.1 302 Found\r\n" + LOCATION + ENDLESS, b"x", "answered redirect"),
    "error's body": (True, b"HTTP/1.1 500 Oops\r\n" + ENDLESS, b"x", "answered status_500"),
}
ENDINGS = {
    "never": (Peer.never, TIMEOUT),
    "drip": (Peer.drip, TIMEOUT),
    "flood": (Peer.flood, MALFORMED),
    "close": (Peer.close, RESET),
    "reset": (Peer.reset, RESET),
}


def every_ending_at_every_stage() -> Iterator[Attack]:
    for stage, (reads, sent, filler, answer) in STAGES.items():
        for ending, (end, expected) in ENDINGS.items():

            def play(
                peer: Peer, reads: bool = reads, sent: bytes = sent, end: object = end, filler: bytes = filler
            ) -> None:
                if reads:
                    peer.read_request()
                if sent:
                    peer.send(sent)
                    if end is Peer.reset:
                        # A reset discards bytes that the peer has not read yet: let it read them first.
                        time.sleep(0.1)
                assert callable(end)
                end(peer, filler)

            if (ending, stage) == ("reset", "accept"):
                expected = f"{expected} or {NO_CONNECTION}"
            yield Attack(f"{ending} at {stage}", play, answer or expected)


def then(*steps: Play) -> Play:
    """Play the steps one after the other."""

    def play(peer: Peer) -> None:
        for step in steps:
            step(peer)

    return play


def trickle(data: bytes) -> Play:
    """Send `data` again and again, one byte per millisecond: each byte wakes the sender, which gets nothing from it."""

    def play(peer: Peer) -> None:
        for byte in itertools.cycle(data):
            peer.send(bytes([byte]))
            time.sleep(0.001)

    return play


BOMB = gzip.compress(bytes(256 << 20), 9)
"""256 MiB of zeros."""


def bomb(head: bytes) -> Play:
    """Answer with a small body that becomes 256 MiB when it is decompressed."""
    return answers(head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB), BOMB)


SHAPES = [
    Attack("gzip bomb", bomb(OK), "delivered"),
    Attack("gzip bomb in a redirect", bomb(b"HTTP/1.1 302 Found\r\n" + LOCATION), "answered redirect"),
    Attack("gzip bomb in an error", bomb(b"HTTP/1.1 500 Oops\r\n"), "answered status_500"),
    Attack(
        "100 Continue flood", then(Peer.read_request, lambda p: p.flood(b"HTTP/1.1 100 Continue\r\n\r\n")), MALFORMED
    ),
    Attack("trickle at headers", then(answers(OK), trickle(b"X-A: b\r\n")), f"{MALFORMED} or {TIMEOUT}"),
    Attack("102 Processing drip", then(Peer.read_request, lambda p: p.drip(b"HTTP/1.1 102 P\r\n\r\n")), TIMEOUT),
    Attack("9 informational answers", answers(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9, OK + b"\r\n"), MALFORMED),
    Attack("8 informational answers", answers(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 8, OK + b"\r\n"), "delivered"),
    Attack("101 and silence", then(answers(b"HTTP/1.1 101 X\r\n\r\n"), Peer.never), "answered status_101"),
    Attack("100,000 headers", answers(OK, b"X-A: b\r\n" * 100_000, b"\r\n"), MALFORMED),
    Attack("99 headers of 65 kB", answers(OK, (b"X-A: " + b"a" * 65_000 + b"\r\n") * 99, b"\r\n"), MALFORMED),
    Attack("redirect nowhere", answers(b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n"), "answered redirect"),
    Attack("no status line", answers(b"hello there\n"), MALFORMED),
    Attack("random bytes", then(Peer.read_request, lambda p: p.send(b"\xff" + os.urandom(65_536))), MALFORMED),
    Attack("status of 1,000 digits", answers(b"HTTP/1.1 " + b"2" * 1_000 + b"\r\n\r\n"), MALFORMED),
    Attack("status in letters", answers(b"HTTP/1.1 abc OK\r\n\r\n"), MALFORMED),
    Attack("negative length", answers(OK + b"Content-Length: -5\r\n\r\n"), "delivered"),
    Attack("length and chunks", answers(OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nz"), "delivered"),
    Attack("binary headers", answers(OK + bytes(range(11, 256)) + b": \0\xff\r\n\r\n"), "delivered"),
    Attack(
        "Retry-After of 60,000 digits",
        answers(b"HTTP/1.1 503 Busy\r\nRetry-After: " + b"9" * 60_000 + b"\r\n\r\n"),
        "answered status_503",
    ),
]


def after_the_client_hello(peer: Peer) -> None:
    peer.connection.recv(65_536)


def real_handshake_dripped(peer: Peer) -> None:
    """Send a valid TLS handshake, one byte at a time."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    assert peer.receiver.tls
    server = peer.receiver.tls.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(peer.connection.recv(65_536))
    with contextlib.suppress(ssl.SSLWantReadError):
        server.do_handshake()
    peer.drip(outgoing.read())


RECORD = b"\x16\x03\x03\x40\x00"
HANDSHAKE = [
    Attack("handshake: never", Peer.never, TLS_TIMEOUT, "handshake"),
    Attack("handshake: close", Peer.close, NO_TLS, "handshake"),
    Attack("handshake: reset", Peer.reset, f"{NO_TLS} or {NO_CONNECTION}", "handshake"),
    Attack("handshake: close later", then(after_the_client_hello, Peer.close), NO_TLS, "handshake"),
    Attack("handshake: reset later", then(after_the_client_hello, Peer.reset), NO_TLS, "handshake"),
    Attack("handshake: drip", real_handshake_dripped, TLS_TIMEOUT, "handshake"),
    Attack("handshake: trickle", trickle(RECORD + bytes(0x4000)), f"{NO_TLS} or {TLS_TIMEOUT}", "handshake"),
    Attack("handshake: flood", lambda p: p.flood(b"\x16\x03\x03\x00\x01\x00"), NO_TLS, "handshake"),
    Attack("handshake: empty records", lambda p: p.flood(b"\x16\x03\x03\x00\x00"), NO_TLS, "handshake"),
    Attack("handshake: warnings", lambda p: p.flood(b"\x15\x03\x03\x00\x02\x01\x5a"), NO_TLS, "handshake"),
    Attack("handshake: change cipher", lambda p: p.flood(b"\x14\x03\x03\x00\x01\x01"), NO_TLS, "handshake"),
    Attack(
        "handshake: huge certificate",
        lambda p: p.flood(RECORD + b"\x0b\xff\xff\xff" + bytes(16_380)),
        NO_TLS,
        "handshake",
    ),
    Attack(
        "handshake: plain HTTP",
        then(after_the_client_hello, lambda p: p.send(b"HTTP/1.1 400 Bad\r\n\r\n")),
        NO_TLS,
        "handshake",
    ),
    Attack("handshake: random bytes", lambda p: p.send(b"\xff" + os.urandom(65_536)), NO_TLS, "handshake"),
    Attack("10,000 session tickets", Peer.never, MALFORMED, "tls", session_tickets=10_000),
]
NETWORK = [
    Attack("connection never accepted", Peer.never, TLS_TIMEOUT, "plain", listening=False),
]

ATTACKS = [*every_ending_at_every_stage(), *SHAPES, *HANDSHAKE, *NETWORK]

PAIRS = [
    (attack, transport)
    for attack in ATTACKS
    for transport in (["plain", "tls"] if attack.transport == "plain and tls" else [attack.transport])
]


def receiver(attack: Attack, transport: str, context: ssl.SSLContext) -> Receiver:
    """Return a receiver that plays the attack over a transport."""
    if transport == "tls":
        context.num_tickets = attack.session_tickets
    return Receiver(
        attack.play,
        tls=None if transport == "plain" else context,
        in_handshake=transport == "handshake",
        listening=attack.listening,
    )
