"""The receiving end of the webhook: is it genuine, fresh and whole, and what does it change?

One file that imports the standard library only: copy it, or attach the stack's layer. Python 3.10 and newer.

    webhook = parse_and_validate_webhook(secrets, headers, body)
    apply(store, webhook, switch_to)    # calls switch_to(target), unless something newer is known; then answer 2xx

Both raise WebhookError: answer its `http_status`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import unquote

TOLERANCE_SECONDS = 300
MAX_ATTEMPTS = 50
"""Attempts to write what was seen; a lost one means that another webhook of the resource was applied."""
TURN_SECONDS = 15
"""How long one switch keeps others away. One that takes longer looks again when it ends."""
ACTIVATED, STANDBY = "ACTIVATED", "STANDBY"

Secrets = str | Sequence[str]
Headers = Mapping[str, str] | Iterable[tuple[str, str]]

_RESOURCE_ID = "X-Link-Webhook-Resource-ID"
_TIMESTAMP = "X-Link-Webhook-Timestamp"
_SIGNATURE = "X-Link-Webhook-Signature"
_EPOCH = "X-Link-Webhook-Epoch"
_SEQUENCE = "X-Link-Webhook-Sequence"
_HOST = "X-Link-Webhook-Host"
_STANDARD = ("webhook-id", "webhook-timestamp", "webhook-signature")


class WebhookError(Exception):
    """The request is not a valid webhook: answer `http_status` and change nothing.

    `code` is one of missing_header, repeated_header, malformed_header, unknown_endpoint, bad_signature, too_old,
    too_new, mismatch, malformed_body, epoch_missing, busy. The text names header and rule, never a secret or a
    signature.
    """

    http_status = 401

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Busy(WebhookError):
    """The webhook is valid, but another switch of its resource is under way: answer 503 to get it again."""

    http_status = 503

    def __init__(self, resource_id: str) -> None:
        super().__init__("busy", f"{resource_id!r} is being switched: answer 503 to get this webhook again")


@dataclass(frozen=True, slots=True)
class Webhook:
    """A verified webhook. Everything in it is signed, except `host`."""

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
    host: str | None = None
    """The endpoint's, as registered; None if it has none. The signature proves it if each host has its own secret, and
    secrets are looked up by host."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """What a request says about itself before its signature is checked: use it to choose a secret, and for no more."""

    resource_id: str
    endpoint_id: str | None
    """Out of `webhook-id`. None when LinK itself sent it."""
    host: str | None
    """None if the registration has none."""


def parse_and_validate_webhook(
    secrets: Secrets | Callable[[Unverified], Secrets | None],
    headers: Headers,
    body: bytes,
    *,
    now: int | None = None,
    tolerance_seconds: int = TOLERANCE_SECONDS,
) -> Webhook:
    """The webhook in a request; raises WebhookError unless it is genuine, fresh and whole.

    `secrets`: the endpoint's, or old and new while it is being changed, or a function that looks them up; it returns
    None or () if there is none. Look up by endpoint or host: with a secret for all endpoints of a resource, whoever has
    it can sign for each of them. `headers`: best as the pairs that arrived, since a mapping may hide a repeated one.
    `body`: the raw bytes. `now`: Unix seconds.
    """
    received = _Headers(headers)
    resource_id = received.one(_RESOURCE_ID)
    host = received.at_most_one(_HOST)
    host = None if host is None else unquote(host)
    keys = _keys(secrets, Unverified(_decoded(resource_id), _endpoint_id(received), host))

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
        host=host,
    )


# The receiver's rule


@dataclass(frozen=True, slots=True)
class Target:
    """What a resource is to be switched to; possibly the same as before."""

    resource_id: str
    endpoint_id: str | None
    """None: no endpoint is active."""
    host: str | None
    """Its host, as in the webhook; None if it has none."""
    fence: int
    """Grows with every change of the active endpoint. A target that can compare refuses a lower one than its own."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The right of one call of `apply` to switch."""

    token: str
    until: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class ActiveSlot:
    """Which endpoint of a resource is active, the numbers seen so far, and who is switching."""

    active: str | None = None
    highest_epoch: int | None = None
    """Of an ACTIVATED; a STANDBY's epoch only informs."""
    last_sequence: Mapping[str, int] = field(default_factory=dict)
    turn: Turn | None = None
    host: str | None = None
    """The active endpoint's."""

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
            active, host = webhook.endpoint_id, webhook.host
            return replace(self, active=active, host=host, highest_epoch=webhook.epoch, last_sequence=seen)
        if self.active == webhook.endpoint_id:
            return replace(self, active=None, host=None, last_sequence=seen)
        # Another endpoint's STANDBY may arrive after the next holder's ACTIVATED: it changes nothing.
        return replace(self, last_sequence=seen)

    def target(self, resource_id: str) -> Target:
        """What the resource is to be switched to."""
        # Within one epoch an endpoint is active first, and then none.
        fence = 2 * (self.highest_epoch or 0) + (self.active is None)
        return Target(resource_id, self.active, self.host, fence)


def apply(store: Any, webhook: Webhook, switch: Callable[[Target], object]) -> bool:
    """Applies the receiver's rule to a verified webhook and switches; False if something newer is known.

    `store` has `load(resource_id)`, which returns (slot, version), and `save(resource_id, slot, version)`, which is
    False when the version has changed. `switch` is called with the `Target`, in one call of `apply` at a time, and
    again if it has changed meanwhile. If it raises an error, or the receiver stops, the webhook comes again with the
    same numbers and is applied again, so switching twice to the same target must do no harm.

    Raises WebhookError, whose `http_status` is the answer.
    """
    resource_id, token, switched = webhook.resource_id, uuid.uuid4().hex, False
    for _ in range(MAX_ATTEMPTS):
        stored, version = store.load(resource_id)
        if not switched and stored.supersedes(webhook):
            return False
        slot = stored if switched else stored.after(webhook)
        now = int(time.time())
        if slot.turn is not None and slot.turn.token != token and slot.turn.until > now:
            if switched:
                # This switch took longer than its turn: whoever has the next one must switch again.
                slot = replace(slot, turn=None)
            if slot == stored or store.save(resource_id, slot, version):
                raise Busy(resource_id)
            continue
        if not store.save(resource_id, replace(slot, turn=Turn(token, now + TURN_SECONDS)), version):
            continue
        target = slot.target(resource_id)
        try:
            switch(target)
            switched = True
        finally:
            ended = _end_turn(store, resource_id, token)
        if ended == target:
            return True
    raise Busy(resource_id)


def _end_turn(store: Any, resource_id: str, token: str) -> Target | None:
    """The target as it is at the end of this turn; None if the turn had been taken over."""
    slot: ActiveSlot
    for _ in range(MAX_ATTEMPTS):
        slot, version = store.load(resource_id)
        if slot.turn is None or slot.turn.token != token:
            return None
        if store.save(resource_id, replace(slot, turn=None), version):
            return slot.target(resource_id)
    raise Busy(resource_id)


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


class SQLiteStore:
    """Slots in an SQLite file on a local disk: for the processes of one host, and across restarts."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._execute(
            "CREATE TABLE IF NOT EXISTS slots (resource_id TEXT PRIMARY KEY, slot TEXT NOT NULL, version INT NOT NULL)"
        )

    def load(self, resource_id: str) -> tuple[ActiveSlot, int]:
        rows, _ = self._execute("SELECT slot, version FROM slots WHERE resource_id = ?", resource_id)
        if not rows:
            return ActiveSlot(), 0
        fields = json.loads(rows[0][0])
        turn = fields.pop("turn")
        return ActiveSlot(**fields, turn=None if turn is None else Turn(**turn)), rows[0][1]

    def save(self, resource_id: str, slot: ActiveSlot, version: int) -> bool:
        written = json.dumps(asdict(slot))
        if version:
            statement = "UPDATE slots SET slot = ?, version = version + 1 WHERE resource_id = ? AND version = ?"
            return self._execute(statement, written, resource_id, version)[1] == 1
        statement = "INSERT OR IGNORE INTO slots VALUES (?, ?, 1)"
        return self._execute(statement, resource_id, written)[1] == 1

    def _execute(self, statement: str, *values: str | int) -> tuple[list[Any], int]:
        import sqlite3  # Not every build of Python has it.

        # A connection for each call: threads and forks share none. Each statement is a transaction.
        with closing(sqlite3.connect(self._path, timeout=4, isolation_level=None)) as database:
            cursor = database.execute(statement, values)
            return cursor.fetchall(), cursor.rowcount


class DynamoDBStore:
    """Slots in a table with the partition key `resource_id`: 2 GetItem and 2 PutItem for each webhook.

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
            host=item["host"]["S"] if "host" in item else None,
            highest_epoch=int(item["highest_epoch"]["N"]) if "highest_epoch" in item else None,
            last_sequence={name: int(value["N"]) for name, value in item["last_sequence"]["M"].items()},
            turn=Turn(item["turn"]["S"], int(item["turn_until"]["N"])) if "turn" in item else None,
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
        if slot.host is not None:
            item["host"] = {"S": slot.host}
        if slot.highest_epoch is not None:
            item["highest_epoch"] = {"N": str(slot.highest_epoch)}
        if slot.turn is not None:
            item["turn"], item["turn_until"] = {"S": slot.turn.token}, {"N": str(slot.turn.until)}
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


def _endpoint_id(received: _Headers) -> str | None:
    """The endpoint in `webhook-id`: its signature and the signed body will have to agree."""
    found = re.fullmatch("([^_]+)(?:_[0-9]+){2,3}", received.at_most_one("webhook-id") or "")
    return None if found is None else found[1]


def _keys(secrets: Secrets | Callable[[Unverified], Secrets | None], request: Unverified) -> list[bytes]:
    found = secrets(request) if callable(secrets) else secrets
    if callable(secrets) and not found:
        raise WebhookError("unknown_endpoint", "there is no secret for the resource and endpoint in the headers")
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
