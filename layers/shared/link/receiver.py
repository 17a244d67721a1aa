"""The receiving end of the webhook: is it genuine, fresh and whole, and what does it change?

One file that imports the standard library only: copy it, or attach the stack's layer. Python 3.10 and newer.

    webhook = parse_and_validate_webhook(secrets, headers, body)   # raises WebhookError: answer its `http_status`
    applied = apply(store, webhook)                                # the receiver's rule, remembered
    if not applied.superseded:
        switch_to(applied.active)                                  # then answer 2xx
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

TOLERANCE_SECONDS = 300
MAX_ATTEMPTS = 50
"""Attempts to write what was seen; a lost one means that another webhook of the resource was applied."""
ACTIVATED, STANDBY = "ACTIVATED", "STANDBY"

Secrets = str | Sequence[str]
Headers = Mapping[str, str] | Iterable[tuple[str, str]]

_RESOURCE_ID = "X-Link-Webhook-Resource-ID"
_TIMESTAMP = "X-Link-Webhook-Timestamp"
_SIGNATURE = "X-Link-Webhook-Signature"
_EPOCH = "X-Link-Webhook-Epoch"
_SEQUENCE = "X-Link-Webhook-Sequence"
_STANDARD = ("webhook-id", "webhook-timestamp", "webhook-signature")


class WebhookError(Exception):
    """The request is not a valid webhook: answer `http_status` and change nothing.

    `code` is one of missing_header, repeated_header, malformed_header, unknown_resource, bad_signature, too_old,
    too_new, mismatch, malformed_body, epoch_missing. The text names header and rule, never a secret or a signature.
    """

    http_status = 401

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Webhook:
    """A verified webhook. Everything in it is signed."""

    endpoint_id: str
    resource_id: str
    plugin: str
    status: str
    """`ACTIVATED` or `STANDBY`."""
    timestamp: int
    """Unix seconds of this attempt."""
    message_id: str | None = None
    """The same for every attempt of one message. None, like the next two, when LinK itself sent it: a receiver
    without LinK refuses that."""
    epoch: int | None = None
    sequence: int | None = None


def parse_and_validate_webhook(
    secrets: Secrets | Callable[[str], Secrets | None],
    headers: Headers,
    body: bytes,
    *,
    now: int | None = None,
    tolerance_seconds: int = TOLERANCE_SECONDS,
) -> Webhook:
    """The webhook in a request; raises WebhookError unless it is genuine, fresh and whole.

    `secrets`: the endpoint's, or old and new while it is being changed, or a function from the resource's id (out of
    its header, so not yet verified) to them; it returns None or () for an unknown resource. `headers`: best as
    the pairs that arrived, since a mapping may hide a repeated one. `body`: the raw bytes. `now`: Unix seconds.
    """
    received = _Headers(headers)
    resource_id = received.one(_RESOURCE_ID)
    keys = _keys(secrets, resource_id)

    timestamp = received.one(_TIMESTAMP)
    _check_timestamp(_TIMESTAMP, timestamp, int(time.time()) if now is None else now, tolerance_seconds)
    signature = received.one(_SIGNATURE)
    if not re.fullmatch("[0-9a-fA-F]{64}", signature):
        raise WebhookError("malformed_header", f"{_SIGNATURE}: not 64 hexadecimal digits")
    signed = f"{timestamp}.".encode() + body
    given = bytes.fromhex(signature)
    # sum, not any: the time that it takes must not show which secret fits.
    if not sum(hmac.compare_digest(hmac.new(key, signed, hashlib.sha256).digest(), given) for key in keys):
        raise WebhookError("bad_signature", f"{_SIGNATURE} does not fit the body: compare secrets, verify raw bytes")
    standard_id = _verify_standard(keys, received, timestamp, body)

    # Only now is the body worth reading.
    fields = _parse(body)
    _check_resource_id(resource_id, fields["resource_id"])
    epoch, sequence = _numbers(standard_id, fields["endpoint_id"], received)
    return Webhook(
        endpoint_id=fields["endpoint_id"],
        resource_id=fields["resource_id"],
        plugin=fields["plugin"],
        status=fields["status"],
        timestamp=int(timestamp),
        message_id=standard_id,
        epoch=epoch,
        sequence=sequence,
    )


# The receiver's rule


@dataclass(frozen=True, slots=True)
class ActiveSlot:
    """Which endpoint of a resource is active, and the numbers seen so far."""

    active: str | None = None
    highest_epoch: int | None = None
    """Of an ACTIVATED; a STANDBY's epoch only informs."""
    last_sequence: Mapping[str, int] = field(default_factory=dict)

    def supersedes(self, webhook: Webhook) -> bool:
        """Whether something newer is known. The webhook is genuine all the same: answer 2xx, or it is sent for ever.

        Raises WebhookError for a webhook without an epoch when earlier ones had one: its headers were removed.
        (To go back to LinK, start with a new slot.)
        """
        if webhook.epoch is None or webhook.sequence is None:
            if self.highest_epoch is not None or self.last_sequence:
                raise WebhookError(
                    "epoch_missing", "no epoch, though earlier webhooks had one: its headers were removed"
                )
            return False
        if webhook.sequence < self.last_sequence.get(webhook.endpoint_id, webhook.sequence):
            return True
        # Not for a STANDBY: it can arrive after the next holder's ACTIVATED and is still true.
        return webhook.status == ACTIVATED and self.highest_epoch is not None and webhook.epoch < self.highest_epoch

    def after(self, webhook: Webhook) -> ActiveSlot:
        """The slot after a webhook that it does not supersede."""
        seen = dict(self.last_sequence)
        if webhook.sequence is not None:
            seen[webhook.endpoint_id] = webhook.sequence
        if webhook.status == ACTIVATED:
            return ActiveSlot(webhook.endpoint_id, webhook.epoch, seen)
        # Another endpoint's STANDBY may arrive after the next holder's ACTIVATED: it changes nothing.
        return replace(self, active=None if self.active == webhook.endpoint_id else self.active, last_sequence=seen)


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of a webhook. `active`: the endpoint to switch to, None for none; possibly the same as before."""

    superseded: bool
    active: str | None


def apply(store: Any, webhook: Webhook) -> Applied:
    """Applies the receiver's rule to a verified webhook and remembers what it saw.

    `store` has `load(resource_id)`, which returns (slot, version), and `save(resource_id, slot, version)`, which is
    False when the version has changed. Switch after this, and answer 2xx after that: if the receiver stops in
    between, the webhook comes again with the same numbers and is applied again.
    """
    for _ in range(MAX_ATTEMPTS):
        slot, version = store.load(webhook.resource_id)
        if slot.supersedes(webhook):
            return Applied(True, slot.active)
        after = slot.after(webhook)
        if after == slot or store.save(webhook.resource_id, after, version):
            return Applied(False, after.active)
    raise RuntimeError(f"{MAX_ATTEMPTS} writes for {webhook.resource_id!r} lost: answer 503 to get it again")


class InMemoryStore:
    """Slots of one process, forgotten with it."""

    def __init__(self) -> None:
        self._stored: dict[str, tuple[ActiveSlot, int]] = {}
        self._lock = threading.Lock()

    def load(self, resource_id: str) -> tuple[ActiveSlot, int]:
        return self._stored.get(resource_id, (ActiveSlot(), 0))

    def save(self, resource_id: str, slot: ActiveSlot, version: int) -> bool:
        with self._lock:
            if self.load(resource_id)[1] != version:
                return False
            self._stored[resource_id] = slot, version + 1
            return True


class DynamoDBStore:
    """Slots in a table with the partition key `resource_id`: 1 GetItem, 1 PutItem if something changes.

    `client` is `boto3.client("dynamodb")`; it needs dynamodb:GetItem and dynamodb:PutItem on the table.
    """

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def load(self, resource_id: str) -> tuple[ActiveSlot, int]:
        key = {"resource_id": {"S": resource_id}}
        item = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        if item is None:
            return ActiveSlot(), 0
        slot = ActiveSlot(
            active=item["active"]["S"] if "active" in item else None,
            highest_epoch=int(item["highest_epoch"]["N"]) if "highest_epoch" in item else None,
            last_sequence={name: int(value["N"]) for name, value in item["last_sequence"]["M"].items()},
        )
        return slot, int(item["version"]["N"])

    def save(self, resource_id: str, slot: ActiveSlot, version: int) -> bool:
        item: dict[str, Any] = {
            "resource_id": {"S": resource_id},
            "version": {"N": str(version + 1)},
            "last_sequence": {"M": {name: {"N": str(number)} for name, number in slot.last_sequence.items()}},
        }
        if slot.active is not None:
            item["active"] = {"S": slot.active}
        if slot.highest_epoch is not None:
            item["highest_epoch"] = {"N": str(slot.highest_epoch)}
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(resource_id)"}
        if version:
            condition = {
                "ConditionExpression": "version = :before",
                "ExpressionAttributeValues": {":before": {"N": str(version)}},
            }
        try:
            self._client.put_item(TableName=self._table, Item=item, **condition)
            return True
        except self._client.exceptions.ConditionalCheckFailedException:
            # Also when the answer to our own write was lost: then the next load finds the slot as it should be.
            return False


def lambda_request(event: Mapping[str, Any]) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and raw body of a Lambda event from a function URL, an HTTP API or a REST API."""
    repeated = event.get("multiValueHeaders") or {}
    pairs = [(name, value) for name, values in repeated.items() for value in values]
    if not pairs:
        pairs = list((event.get("headers") or {}).items())
    text = event.get("body") or ""
    return pairs, base64.b64decode(text) if event.get("isBase64Encoded") else text.encode()


# The checks


class _Headers:
    def __init__(self, headers: Headers) -> None:
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
            raise WebhookError("repeated_header", f"{name} came {len(values)} times: it must come once")
        return next(iter(values), None)


def _keys(secrets: Secrets | Callable[[str], Secrets | None], resource_id: str) -> list[bytes]:
    found = secrets(_decoded(resource_id)) if callable(secrets) else secrets
    if callable(secrets) and not found:
        raise WebhookError("unknown_resource", f"{_RESOURCE_ID}: there is no secret for this resource")
    keys = [found] if isinstance(found, str) else list(found or ())
    if not keys or not all(keys):
        raise ValueError("with an empty secret anyone could sign: pass the secret that the endpoint has")
    return [key.encode() for key in keys]


def _decoded(header: str) -> str:
    """A header's UTF-8, which most servers hand out as Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _check_timestamp(name: str, text: str, now: int, tolerance_seconds: int) -> None:
    # Digits only: int() takes more, and a dot would let `1` + `.` + `2.x` pass for `1.2` + `.` + `x`.
    if not re.fullmatch("[0-9]{1,12}", text):
        raise WebhookError("malformed_header", f"{name}: {text[:40]!r} is not Unix seconds in up to 12 digits")
    age = now - int(text)
    if age > tolerance_seconds:
        raise WebhookError("too_old", f"{name}: {age} s old, at most {tolerance_seconds} s are accepted")
    if -age > tolerance_seconds:
        raise WebhookError("too_new", f"{name}: {-age} s ahead, at most {tolerance_seconds} s are: compare clocks")


def _verify_standard(keys: list[bytes], received: _Headers, timestamp: str, body: bytes) -> str | None:
    """The signed `webhook-id`; None when there are no Standard Webhooks headers at all."""
    if all(received.at_most_one(name) is None for name in _STANDARD):
        return None
    standard_id, standard_timestamp, signatures = map(received.one, _STANDARD)
    if standard_timestamp != timestamp:
        raise WebhookError("mismatch", f"webhook-timestamp is not {_TIMESTAMP}: headers of two requests were mixed")
    given = [s.encode() for s in signatures.split(" ") if re.fullmatch("v1,[A-Za-z0-9+/]{43}=", s)]
    # We send no id that is not ASCII; "replace" keeps such an id from raising an error.
    signed = f"{standard_id}.{timestamp}.".encode("utf-8", "replace") + body
    digests = [hmac.digest(key, signed, "sha256") for key in keys]
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
    if fields["status"] not in (ACTIVATED, STANDBY):
        raise WebhookError("malformed_body", f"status: {fields['status'][:40]!r} is neither ACTIVATED nor STANDBY")
    return fields


def _check_resource_id(header: str, resource_id: str) -> None:
    expected = resource_id.strip(" \t").encode("utf-8", "replace").decode()
    if expected not in (header, _decoded(header)):
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
