"""Requests that a server of linkctl on loopback refuses before it does anything else: raw bytes and the answer.

In the bytes, `<host>` stands for the server's own host and port, `<api>` for those of the API behind it.
"""

from __future__ import annotations

from typing import NamedTuple


class Refused(NamedTuple):
    """A request, the status of its refusal, and words of the reason that say what to do."""

    request: bytes
    status: int
    words: str


def target(target: bytes, status: int = 400, words: str = "begin the path with exactly one /") -> Refused:
    return Refused(b"GET " + target + b" HTTP/1.1\r\nHost: <host>\r\n\r\n", status, words)


def headers(lines: bytes, status: int, words: str) -> Refused:
    """These lines in a request that changes something."""
    return Refused(b"DELETE /endpoints/vip-1 HTTP/1.1\r\n" + lines + b"\r\n\r\n", status, words)


def host(value: bytes) -> Refused:
    return headers(b"Host: " + value, 403, "send the request to http://")


def page(lines: bytes) -> Refused:
    """These lines, which a browser adds to the request of a web page."""
    return headers(b"Host: <host>\r\n" + lines, 403, "address bar")


def body(lines: bytes, status: int, words: str) -> Refused:
    """These lines and four bytes of a body."""
    return Refused(b"POST /endpoints HTTP/1.1\r\nHost: <host>\r\n" + lines + b"\r\n\r\n{}  ", status, words)


REFUSED = {
    # The request line
    "a path without /": target(b"endpoints"),
    "a host after @": target(b"@<api>/endpoints"),
    "a path with two /": target(b"//other.example/x"),
    "a whole url": target(b"http://<api>/x"),
    "a whole url of the server itself": target(b"http://<host>/x"),
    "a tunnel": Refused(b"CONNECT <api> HTTP/1.1\r\nHost: <host>\r\n\r\n", 501, "use GET, POST"),
    "a preflight": Refused(b"OPTIONS /endpoints HTTP/1.1\r\nHost: <host>\r\n\r\n", 501, "use GET, POST"),
    "the segment ..": target(b"/../other-stage/x", words="without . and .."),
    "the segment .. with escapes": target(b"/%2e%2E/other-stage/x", words="without . and .."),
    "the segment . at the end": target(b"/x/.?limit=1", words="without . and .."),
    "a blank in the path": target(b"/a b", words="percent-encode"),
    "a tab in the path": target(b"/a\tb", words="percent-encode"),
    "CR in the path": target(b"/a\rb", words="percent-encode"),
    "LF in the path": target(b"/a\nb", words="percent-encode"),
    "CR LF and a header in the path": target(b"/a\r\nX-A: b", words="percent-encode"),
    "NUL in the path": target(b"/a\0b", words="percent-encode"),
    "DEL in the path": target(b"/a\x7fb", words="percent-encode"),
    "U+0085 in Latin-1 in the path": target(b"/a\x85b", words="percent-encode"),
    "bytes in the query that are not ASCII": target(b"/a?b=\xc3\xbc", words="percent-encode"),
    "two blanks": target(b" /a"),
    # No more than the server reads: closing a connection with unread bytes resets it.
    "an endless path": Refused(b"GET /" + b"a" * 65_532, 414, "begin the path"),
    "no version": Refused(b"GET /a\r\nHost: <host>\r\n\r\n", 400, "METHOD /path HTTP/1.1"),
    "another version": Refused(b"GET /a HTTP/2.0\r\nHost: <host>\r\n\r\n", 505, "METHOD /path HTTP/1.1"),
    "another protocol": Refused(b"GET /a SIP/1.1\r\nHost: <host>\r\n\r\n", 400, "METHOD /path HTTP/1.1"),
    # The header lines
    "a line that hides the lines after it": headers(
        b"Host: <host>\r\nnot a header\r\nOrigin: https://other.example", 400, "on one line"
    ),
    "a blank before the colon": headers(b"Host: <host>\r\nOrigin : https://other.example", 400, "on one line"),
    "a folded Host": headers(b"Host:\r\n <host>", 400, "on one line"),
    "a folded key": headers(b"Host: <host>\r\nIdempotency-Key: a\r\n b", 400, "on one line"),
    "101 headers": headers(b"\r\n".join([b"Host: <host>", *[b"X-A: b"] * 100]), 431, "fewer"),
    "an endless header": Refused(b"GET / HTTP/1.1\r\nX-A: " + b"b" * 65_532, 431, "shorter"),
    # The host
    "no Host": headers(b"X-A: b", 403, "send the request to http://"),
    "an empty Host": host(b""),
    "Host: another name": host(b"other.example"),
    "Host: another name with the port": host(b"other.example:1313"),
    "Host: another name, and loopback as its port": host(b"other.example:127.0.0.1"),
    "Host: loopback without a port": host(b"127.0.0.1"),
    "Host: loopback with another port": host(b"127.0.0.1:1"),
    "Host: a user on loopback": host(b"other.example@<host>"),
    "Host: a name that begins with loopback": host(b"<host>.other.example"),
    "Host: with a path": host(b"<host>/x"),
    "Host: loopback and another": host(b"<host>, other.example"),
    "Host: IPv6, on which no server listens": host(b"[::1]:1313"),
    "two Hosts, its own first": headers(b"Host: <host>\r\nHost: other.example", 400, "send it once"),
    "two Hosts, its own last": headers(b"Host: other.example\r\nHost: <host>", 400, "send it once"),
    "its own Host twice": headers(b"Host: <host>\r\nHost: <host>", 400, "send it once"),
    # Requests of web pages
    "Origin: another site": page(b"Origin: https://other.example"),
    "Origin: another port of loopback": page(b"Origin: http://127.0.0.1:1"),
    "Origin: null": page(b"Origin: null"),
    "an empty Origin": page(b"Origin:"),
    "Sec-Fetch-Site: cross-site": page(b"Sec-Fetch-Site: cross-site"),
    "Sec-Fetch-Site: same-site": page(b"Sec-Fetch-Site: same-site"),
    "Sec-Fetch-Site: a word of the future": page(b"Sec-Fetch-Site: near-site"),
    "Sec-Fetch-Site: two words": page(b"Sec-Fetch-Site: none, cross-site"),
    "two Origins": headers(b"Host: <host>\r\nOrigin: http://<host>\r\nOrigin: null", 400, "send it once"),
    "two Sec-Fetch-Sites": headers(
        b"Host: <host>\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site", 400, "send it once"
    ),
    # The body
    "chunks": body(b"Transfer-Encoding: chunked", 411, "send the body with a Content-Length"),
    "chunks and a length": body(b"Transfer-Encoding: chunked\r\nContent-Length: 4", 411, "with a Content-Length"),
    "two equal lengths": body(b"Content-Length: 4\r\nContent-Length: 4", 400, "send it once"),
    "two lengths": body(b"Content-Length: 2\r\nContent-Length: 4", 400, "send it once"),
    "two lengths in one header": body(b"Content-Length: 4, 4", 400, "digits only"),
    "a length with a sign": body(b"Content-Length: +4", 400, "digits only"),
    "a negative length": body(b"Content-Length: -1", 400, "digits only"),
    "a length in superscript": body("Content-Length: ²".encode("latin-1"), 400, "digits only"),
    "an empty length": body(b"Content-Length:", 400, "digits only"),
    "a length of more than 1 MiB": body(b"Content-Length: 1048577", 413, "at most 1048576"),
    "a length of 5,000 digits": body(b"Content-Length: " + b"9" * 5_000, 413, "at most 1048576"),
    "a body that ends early": body(b"Content-Length: 5", 400, "send all of it"),
    "two keys": body(b"Content-Length: 4\r\nIdempotency-Key: a\r\nIdempotency-Key: b", 400, "send it once"),
}
