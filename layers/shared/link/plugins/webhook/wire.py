"""The webhook on the wire: body, signatures and headers of the sender. `link.receiver` is the other end.

Standard library only. Body, `X-Link-Webhook-Resource-ID`, `-Timestamp` and `-Signature` are those of
Scalingo LinK v3.3.0 to the byte; the `webhook-*` headers are Standard Webhooks v1.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from link import VERSION

CONTENT_TYPE = "application/json"
USER_AGENT = f"link-webhook-serverless/{VERSION}"

_RESOURCE_ID = "X-Link-Webhook-Resource-ID"
_TIMESTAMP = "X-Link-Webhook-Timestamp"
_SIGNATURE = "X-Link-Webhook-Signature"
PER_ATTEMPT = (_TIMESTAMP, _SIGNATURE, "webhook-timestamp", "webhook-signature")
"""Headers that differ between attempts of one message."""
_EPOCH = "X-Link-Webhook-Epoch"
_SEQUENCE = "X-Link-Webhook-Sequence"

_VISIBLE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")

# A lone surrogate has no UTF-8 form. Go's JSON reader also replaces it by U+FFFD.
_NO_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
_LIKE_GO = {**_NO_SURROGATES, **{ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}}


def payload(endpoint_id: str, resource_id: str, plugin: str, status: str) -> bytes:
    """The body as Go's `json.Marshal` writes LinK's struct: this order, no spaces, `<`, `>`, `&` escaped.

    Source: Scalingo/link v3.3.0 built with Go 1.26, bodies recorded in tests/vectors.

    >>> payload("vip-1", "a<b>&é", "webhook", "STANDBY").decode()
    '{"endpoint_id":"vip-1","resource_id":"a\\\\u003cb\\\\u003e\\\\u0026é","plugin":"webhook","status":"STANDBY"}'
    """
    fields = {"endpoint_id": endpoint_id, "resource_id": resource_id, "plugin": plugin, "status": status}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).translate(_LIKE_GO).encode()


def sign(secret: str, timestamp: int | str, body: bytes) -> str:
    """LinK's signature: lower-case hex HMAC-SHA256 over `<timestamp>.<body>`, keyed with the secret's UTF-8 bytes.

    Source: Scalingo/link v3.3.0, plugin/webhook; this vector was captured from the running program.

    >>> body = payload("vip-95f26078-bd86-4bfd-a119-f4f476e91565", "res-1", "webhook", "ACTIVATED")
    >>> sign("s3cret", 1795435471, body)
    '04d0cd8d4e04b8e7e727e8fbe9b4e4f58923608235e0978512cc347bf43d9f5a'
    """
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def sign_standard(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` + base64 HMAC-SHA256 over `<id>.<timestamp>.<body>` for each secret, separated by spaces.

    The key is the secret's UTF-8 bytes: receivers give `whsec_` + base64(secret) to their library.
    Source: Standard Webhooks specification v1, "Signature scheme"; vector made with its Python package 1.1.0.

    >>> sign_standard(["s3cret"], "vip-1_7_3", 1700000000, b"{}")
    'v1,Kw0bIhOGldzqJZ9nAUbls97dFVAs3n2AsgeBbajq4ys='
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.digest(secret.encode(), signed, "sha256") for secret in secrets)
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)


def message_id(endpoint_id: str, epoch: int, sequence: int, refreshed_at: int | None = None) -> str:
    """The `webhook-id`. Attempts of one announcement share it; a refresh has its own id.

    >>> message_id("vip-1", 7, 3), message_id("vip-1", 7, 3, 1700000000123)
    ('vip-1_7_3', 'vip-1_7_3_1700000000123')
    """
    refresh = "" if refreshed_at is None else f"_{refreshed_at}"
    return f"{endpoint_id}_{epoch}_{sequence}{refresh}"


def host_value(host: str) -> str:
    """A host's name for a header: `%` and what is not visible ASCII are percent-encoded as UTF-8.

    >>> host_value("paris"), host_value("[2001:db8::1]"), host_value("Zürich 50%")
    ('paris', '[2001:db8::1]', 'Z%C3%BCrich%2050%25')
    """
    return quote(host.translate(_NO_SURROGATES), safe=_VISIBLE)


@dataclass(frozen=True, slots=True)
class Announcement:
    """What one attempt tells a receiver. `refreshed_at` is for a refresh only: the time of the last 2xx (Unix ms)."""

    endpoint_id: str
    resource_id: str
    plugin: str
    status: str
    epoch: int
    sequence: int
    reason: str
    attempt: int
    refreshed_at: int | None = None
    host: str = ""
    """The endpoint's, as registered; empty if it has none."""


def request(
    announcement: Announcement, secrets: Sequence[str], headers: Mapping[str, str], *, timestamp: int
) -> tuple[bytes, dict[str, str]]:
    """Body and complete headers of one attempt at `timestamp` (Unix seconds).

    The first secret signs LinK's header, all of them sign the standard one. The user's `headers` may replace
    User-Agent; any other header of ours in them is dropped. Values may hold any Unicode: send them as UTF-8.
    """
    a = announcement
    body = payload(a.endpoint_id, a.resource_id, a.plugin, a.status)
    standard_id = message_id(a.endpoint_id, a.epoch, a.sequence, a.refreshed_at)
    ours = {
        "Content-Type": CONTENT_TYPE,
        # Go removes the spaces around a header's value, as every HTTP parser does; the body keeps them.
        _RESOURCE_ID: a.resource_id.translate(_NO_SURROGATES).strip(" \t"),
        _TIMESTAMP: str(timestamp),
        _SIGNATURE: sign(secrets[0], timestamp, body),
        _EPOCH: str(a.epoch),
        _SEQUENCE: str(a.sequence),
        "X-Link-Webhook-Reason": str(a.reason),
        "X-Link-Webhook-Attempt": str(a.attempt),
        "webhook-id": standard_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign_standard(secrets, standard_id, timestamp, body),
    }
    if a.host:
        ours["X-Link-Webhook-Host"] = host_value(a.host)
    taken = {_folded(name) for name in ours}
    users = {name: value for name, value in headers.items() if _folded(name) not in taken}
    if "user-agent" not in map(_folded, users):
        ours["User-Agent"] = USER_AGENT
    return body, {**users, **ours}


def _folded(name: str) -> str:
    # To CGI and WSGI servers, `_` and `-` are the same.
    return name.lower().replace("_", "-")
