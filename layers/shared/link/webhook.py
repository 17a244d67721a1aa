"""The webhook on the wire: body, signatures and headers of the sender, and the receiver's check of them.

Pure: standard library only. Body, `X-Link-Webhook-Resource-ID`, `-Timestamp` and `-Signature` are those of
Scalingo LinK v3.3.0 to the byte; the `webhook-*` headers are Standard Webhooks v1.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from link import VERSION
from link.endpoint import Status

PLUGIN = "webhook"
CONTENT_TYPE = "application/json"
USER_AGENT = f"link-webhook-serverless/{VERSION}"
TOLERANCE_SECONDS = 300

_RESOURCE_ID = "X-Link-Webhook-Resource-ID"
_TIMESTAMP = "X-Link-Webhook-Timestamp"
_SIGNATURE = "X-Link-Webhook-Signature"
_EPOCH = "X-Link-Webhook-Epoch"
_SEQUENCE = "X-Link-Webhook-Sequence"
_STANDARD = ("webhook-id", "webhook-timestamp", "webhook-signature")

# A lone surrogate has no UTF-8 form; Go's JSON reader makes it U+FFFD, too.
_NO_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
_LIKE_GO = {**_NO_SURROGATES, **{ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}}


# Sender


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
    """The `webhook-id`. Attempts of one announcement share it; a refresh is a message of its own.

    >>> message_id("vip-1", 7, 3), message_id("vip-1", 7, 3, 1700000000123)
    ('vip-1_7_3', 'vip-1_7_3_1700000000123')
    """
    refresh = "" if refreshed_at is None else f"_{refreshed_at}"
    return f"{endpoint_id}_{epoch}_{sequence}{refresh}"


@dataclass(frozen=True, slots=True)
class Announcement:
    """What one attempt tells a receiver. `refreshed_at`: the last 2xx (Unix ms) when it repeats that one."""

    endpoint_id: str
    resource_id: str
    plugin: str
    status: str
    epoch: int
    sequence: int
    reason: str
    attempt: int
    refreshed_at: int | None = None


def active_secrets(secrets: Sequence[Mapping[str, Any]], now: int) -> list[str]:
    """The values to sign with at `now` (ms), oldest first, of `[{"value", "from", "until"}]`; until None: open.

    `from` only orders them: a clock that runs behind the registering one must not leave us without a secret.
    """
    unexpired = [s for s in secrets if s["until"] is None or now < s["until"]]
    return [s["value"] for s in sorted(unexpired, key=lambda s: int(s["from"]))]


def request(
    announcement: Announcement, secrets: Sequence[str], headers: Mapping[str, str], *, timestamp: int
) -> tuple[bytes, dict[str, str]]:
    """Body and complete headers of one attempt at `timestamp` (Unix seconds).

    The first secret signs LinK's header, all of them sign the standard one. The user's `headers` may name
    a User-Agent of their own and none of ours. Values may hold any Unicode: send them as UTF-8.
    """
    a = announcement
    body = payload(a.endpoint_id, a.resource_id, a.plugin, a.status)
    standard_id = message_id(a.endpoint_id, a.epoch, a.sequence, a.refreshed_at)
    ours = {
        "Content-Type": CONTENT_TYPE,
        # Go trims it on the wire, and so does every HTTP parser; the body keeps the spaces.
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
    taken = {_folded(name) for name in ours}
    users = {name: value for name, value in headers.items() if _folded(name) not in taken}
    if "user-agent" not in map(_folded, users):
        ours["User-Agent"] = USER_AGENT
    return body, {**users, **ours}


def _folded(name: str) -> str:
    # CGI and WSGI servers make `_` and `-` the same.
    return name.lower().replace("_", "-")


# Receiver


class WebhookError(Exception):
    """Not a webhook to believe: answer 4xx and change nothing.

    `code` is one of missing_header, repeated_header, malformed_header, bad_signature, too_old, too_new,
    mismatch, malformed_body, epoch_missing.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Webhook:
    """A verified webhook. Everything in it is signed."""

    endpoint_id: str
    resource_id: str
    plugin: str
    status: Status
    """`ACTIVATED` or `STANDBY`."""
    timestamp: int
    """Unix seconds of this attempt."""
    message_id: str | None = None
    """The same for every attempt of one message. None, as the next two, when LinK itself sent it: whoever
    has no LinK refuses that."""
    epoch: int | None = None
    sequence: int | None = None
    superseded: bool = False
    """True: genuine, but something newer is known. Apply nothing and answer 2xx, or it is sent for ever."""


def parse_and_validate_webhook(
    secrets: str | Sequence[str],
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes,
    *,
    now: int,
    tolerance_seconds: int = TOLERANCE_SECONDS,
    highest_epoch: int | None = None,
    last_sequence: int | None = None,
) -> Webhook:
    """The webhook in a request; raises WebhookError unless it is genuine, fresh and whole.

    `secrets`: the endpoint's, or old and new while it is being changed. `headers`: best as the pairs that
    arrived, since a mapping may hide a repeated one. `body`: the raw bytes. `now`: Unix seconds.
    `highest_epoch`: the highest one of an ACTIVATED of the resource; `last_sequence`: the last one of the
    endpoint. They decide `superseded`; or leave them out and let `ActiveSlot.apply` decide.
    """
    keys = [secrets] if isinstance(secrets, str) else list(secrets)
    if not keys or not all(keys):
        raise ValueError("an empty secret would let anybody sign: give the secret the endpoint was registered with")
    received = _Headers(headers)

    timestamp = received.one(_TIMESTAMP)
    _check_timestamp(_TIMESTAMP, timestamp, now, tolerance_seconds)
    signature = received.one(_SIGNATURE)
    if not re.fullmatch("[0-9a-fA-F]{64}", signature):
        raise WebhookError("malformed_header", f"{_SIGNATURE}: not 64 hexadecimal digits")
    # sum, not any: no early exit tells which secret it was.
    if not sum(hmac.compare_digest(sign(key, timestamp, body), signature.lower()) for key in keys):
        raise WebhookError("bad_signature", f"{_SIGNATURE} does not fit the body: compare secrets, verify raw bytes")
    standard_id = _verify_standard(keys, received, timestamp, body)

    # Only now is the body worth reading.
    fields = _parse(body)
    _check_resource_id(received.one(_RESOURCE_ID), fields["resource_id"])
    epoch, sequence = _numbers(standard_id, fields["endpoint_id"], received)
    status = Status(fields["status"])
    return Webhook(
        endpoint_id=fields["endpoint_id"],
        resource_id=fields["resource_id"],
        plugin=fields["plugin"],
        status=status,
        timestamp=int(timestamp),
        message_id=standard_id,
        epoch=epoch,
        sequence=sequence,
        superseded=_superseded(status, epoch, sequence, highest_epoch, last_sequence),
    )


@dataclass(slots=True)
class ActiveSlot:
    """The receiver's rule for one resource: which endpoint is active, and what was seen to know it.

    In memory and for one thread: a real receiver keeps these three values with what it switches, and
    changes them in the same transaction.
    """

    active: str | None = None
    highest_epoch: int | None = None
    """Of an ACTIVATED; a STANDBY's epoch only informs."""
    last_sequence: dict[str, int] = field(default_factory=dict)

    def apply(self, webhook: Webhook) -> bool:
        """Believes a verified webhook. False: superseded, nothing changed. Answer either with 2xx.

        Raises WebhookError for one without an epoch where there has been one: somebody cut its headers off.
        (Going back to LinK, start with a new slot.)
        """
        last = self.last_sequence.get(webhook.endpoint_id)
        if _superseded(webhook.status, webhook.epoch, webhook.sequence, self.highest_epoch, last):
            return False
        if webhook.sequence is not None:
            self.last_sequence[webhook.endpoint_id] = webhook.sequence
        if webhook.status is Status.ACTIVATED:
            self.highest_epoch = webhook.epoch
            self.active = webhook.endpoint_id
        elif self.active == webhook.endpoint_id:
            # Any other endpoint's STANDBY may have been overtaken by its successor's ACTIVATED.
            self.active = None
        return True


class _Headers:
    def __init__(self, headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in headers.items() if isinstance(headers, Mapping) else headers:
            self._values.setdefault(name.lower(), []).append(value.strip(" \t"))

    def one(self, name: str) -> str:
        value = self.at_most_one(name)
        if value is None:
            raise WebhookError("missing_header", f"{name} is missing")
        return value

    def at_most_one(self, name: str) -> str | None:
        values = self._values.get(name.lower(), [])
        if len(values) > 1:
            raise WebhookError("repeated_header", f"{name} came {len(values)} times: which one is meant?")
        return values[0] if values else None


def _check_timestamp(name: str, text: str, now: int, tolerance_seconds: int) -> None:
    # Digits only: int() takes more, and a dot would let `1` + `.` + `2.x` pass for `1.2` + `.` + `x`.
    if not re.fullmatch("[0-9]{1,12}", text):
        raise WebhookError("malformed_header", f"{name}: {text[:40]!r} is not Unix seconds in up to 12 digits")
    age = now - int(text)
    if age > tolerance_seconds:
        raise WebhookError("too_old", f"{name}: {age} s old, at most {tolerance_seconds} s are accepted")
    if -age > tolerance_seconds:
        raise WebhookError("too_new", f"{name}: {-age} s ahead, at most {tolerance_seconds} s are: compare clocks")


def _verify_standard(keys: list[str], received: _Headers, timestamp: str, body: bytes) -> str | None:
    """The signed `webhook-id`; None when there are no Standard Webhooks headers at all."""
    if all(received.at_most_one(name) is None for name in _STANDARD):
        return None
    standard_id, standard_timestamp, signatures = map(received.one, _STANDARD)
    if standard_timestamp != timestamp:
        raise WebhookError("mismatch", f"webhook-timestamp is not {_TIMESTAMP}: headers of two requests were mixed")
    given = [s.encode() for s in signatures.split(" ") if re.fullmatch("v1,[A-Za-z0-9+/]{43}=", s)]
    # An id that is not ASCII was never ours; "replace" keeps it from being a crash.
    signed = f"{standard_id}.{timestamp}.".encode("utf-8", "replace") + body
    digests = [hmac.digest(key.encode(), signed, "sha256") for key in keys]
    expected = [b"v1," + base64.b64encode(digest) for digest in digests]
    if not sum(hmac.compare_digest(one, other) for one in expected for other in given):
        raise WebhookError("bad_signature", "webhook-signature: no v1 signature fits id, timestamp and body")
    return standard_id


def _parse(body: bytes) -> dict[str, str]:
    try:
        fields = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise WebhookError("malformed_body", f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise WebhookError("malformed_body", "the body is not a JSON object")
    for name in ("endpoint_id", "resource_id", "plugin", "status"):
        if not isinstance(fields.get(name), str):
            raise WebhookError("malformed_body", f"{name}: not a text")
    if fields["status"] not in (Status.ACTIVATED, Status.STANDBY):
        raise WebhookError("malformed_body", f"status: {fields['status'][:40]!r} is neither ACTIVATED nor STANDBY")
    return fields


def _check_resource_id(header: str, resource_id: str) -> None:
    expected = resource_id.strip(" \t")
    # Most servers hand header bytes out as Latin-1, whatever they were.
    if header not in (expected, expected.encode("utf-8", "replace").decode("latin-1")):
        raise WebhookError("mismatch", f"{_RESOURCE_ID} is not the resource_id of the signed body")


def _numbers(standard_id: str | None, endpoint_id: str, received: _Headers) -> tuple[int | None, int | None]:
    """Epoch and sequence out of the signed id; the headers of these names are not signed and must agree."""
    headers = {name: received.at_most_one(name) for name in (_EPOCH, _SEQUENCE)}
    if standard_id is None:
        for name, value in headers.items():
            if value is not None:
                raise WebhookError("missing_header", f"{name} came without a webhook-id that signs it")
        return None, None
    number = "(0|[1-9][0-9]{0,15})"
    found = re.fullmatch(f"{re.escape(endpoint_id)}_{number}_{number}(?:_[0-9]{{1,16}})?", standard_id)
    if not found:
        raise WebhookError("mismatch", "webhook-id is not <endpoint_id of the body>_<epoch>_<sequence>")
    for (name, value), signed in zip(headers.items(), found.groups(), strict=True):
        if value is not None and value != signed:
            raise WebhookError("mismatch", f"{name} is {value[:40]!r}, the signed webhook-id says {signed}")
    return int(found[1]), int(found[2])


def _superseded(
    status: Status, epoch: int | None, sequence: int | None, highest_epoch: int | None, last_sequence: int | None
) -> bool:
    if epoch is None or sequence is None:
        if highest_epoch is not None or last_sequence is not None:
            raise WebhookError("epoch_missing", "no epoch, though earlier webhooks had one: its headers were cut off")
        return False
    if last_sequence is not None and sequence < last_sequence:
        return True
    # Not a STANDBY: it can arrive after its successor's ACTIVATED and is still true.
    return status is Status.ACTIVATED and highest_epoch is not None and epoch < highest_epoch
