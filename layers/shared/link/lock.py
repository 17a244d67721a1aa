"""The table of locks: one item per resource, one conditional write per decision.

AWS calls: `read` 1 GetItem (consistent); `commit` 1 PutItem, or 1 TransactWriteItems when a transition
or a registration goes with it. Nothing else ever writes the lock item.
"""

from __future__ import annotations

import random
import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from link.clock import Clock
from link.election import changes
from link.endpoint import Claim, Endpoint, Resource, Status
from link.errors import Conflict, Contended
from link.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

SHARDS = 8
"""Partitions of the due index: one partition serves 1,000 writes a second."""
DUE_INDEX = "due"
TRANSITIONS_KEPT_SECONDS = 90 * 86_400
COMMIT_SECONDS = 10
"""Bounded by time, never by a small count: 32 reporters at once need up to 35 tries."""

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a commit was made, for the audit.

    `kind` is report, wake_up, register, change, failover, freeze, unfreeze, redeliver or delete.
    """

    kind: str
    id: str


class Step(NamedTuple):
    """A pure step's answer: the next item, and whether its committer owes the wake-up message."""

    resource: Resource
    owes_wake_up: bool


class Committed(NamedTuple):
    """What an update led to. `before` and `after` are the same object when nothing had to be written."""

    before: Resource
    after: Resource
    owes_wake_up: bool
    tries: int


class Locks:
    """The lock items and, in the same transaction, what must never contradict them."""

    def __init__(self, dynamodb: DynamoDBClient, settings: Settings, clock: Clock) -> None:
        self._dynamodb = dynamodb
        self._settings = settings
        self._clock = clock

    def read(self, resource_id: str) -> Resource:
        """The item; version 0 when there is none."""
        answer = self._dynamodb.get_item(
            TableName=self._settings.locks_table, Key={"resource_id": {"S": resource_id}}, ConsistentRead=True
        )
        return from_item(answer["Item"]) if "Item" in answer else Resource(resource_id)

    def read_all(self, resource_ids: Iterable[str]) -> dict[str, Resource]:
        """The items of many resources, for lists: eventually consistent, 1 BatchGetItem per 100."""
        keys = [{"resource_id": {"S": resource_id}} for resource_id in resource_ids]
        found = {}
        give_up = self._clock.now() + COMMIT_SECONDS * 1000
        while keys:
            answer = self._dynamodb.batch_get_item(RequestItems={self._settings.locks_table: {"Keys": keys[:100]}})
            for item in answer["Responses"][self._settings.locks_table]:
                found[item["resource_id"]["S"]] = from_item(item)
            unread = answer["UnprocessedKeys"]
            left: Any = unread[self._settings.locks_table]["Keys"] if unread else []
            keys = left + keys[100:]
            if left:
                if self._clock.now() >= give_up:
                    raise Contended(f"DynamoDB left {len(left)} keys of a BatchGetItem unread for {COMMIT_SECONDS} s")
                self._clock.pause(random.random() * 0.2)
        return found

    def page(self, limit: int, after: str | None) -> tuple[list[Resource], str | None]:
        """Up to `limit` resources in no order, and the id to go on after; None at the end. 1 Scan."""
        start: Item = {} if after is None else {"ExclusiveStartKey": {"resource_id": {"S": after}}}
        answer = self._dynamodb.scan(TableName=self._settings.locks_table, Limit=limit, **start)
        last = answer.get("LastEvaluatedKey")
        return [from_item(item) for item in answer["Items"]], last["resource_id"]["S"] if last else None

    def transitions(self, resource_id: str, limit: int, before: int | None) -> list[Item]:
        """Rows of the audit as stored, newest first, those older than version `before`. 1 Query."""
        condition, values = "resource_id = :r", {":r": {"S": resource_id}}
        if before is not None:
            condition, values = f"{condition} AND version < :before", {**values, ":before": {"N": str(before)}}
        answer = self._dynamodb.query(
            TableName=self._settings.transitions_table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ScanIndexForward=False,
            Limit=limit,
        )
        return answer["Items"]

    def update(
        self,
        resource_id: str,
        step: Callable[[Resource, str], Step],
        cause: Cause,
        *,
        known: Resource | None = None,
        row: TransactWriteItemTypeDef | None = None,
    ) -> Committed:
        """Reads the item (or starts from `known`), applies the pure `step(resource, nonce)` and commits.

        A lost race starts over from the item that won; raises Contended after 10 s of losing.
        `row` writes a registration in the same transaction: see `link.registry`.
        """
        give_up = self._clock.now() + COMMIT_SECONDS * 1000
        pause = 0.05
        tries = 0
        current = known or self.read(resource_id)
        while True:
            nonce = secrets.token_urlsafe(9)
            after, owes_wake_up = step(current, nonce)
            if after == current:
                if current is known:
                    # Only a conditional write could have told that a remembered item is out of date.
                    known, current = None, self.read(resource_id)
                    continue
                return Committed(current, current, owes_wake_up, tries)
            after = replace(after, version=current.version + 1, nonce=nonce)
            tries += 1
            in_force = self.commit(current, after, cause, row)
            if in_force.nonce == nonce:
                return Committed(current, after, owes_wake_up, tries)
            current = in_force
            if self._clock.now() >= give_up:
                raise Contended(f"{resource_id}: {tries} conditional writes lost in {COMMIT_SECONDS} s")
            self._clock.pause(random.random() * pause)
            pause = min(0.2, pause * 2)

    def commit(
        self, before: Resource, after: Resource, cause: Cause, row: TransactWriteItemTypeDef | None = None
    ) -> Resource:
        """Writes `after` if `before` is still in force; returns the item that is in force now."""
        lock: Item = {
            "TableName": self._settings.locks_table,
            "Item": to_item(after),
            "ConditionExpression": "version = :before" if before.version else "attribute_not_exists(resource_id)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if before.version:
            lock["ExpressionAttributeValues"] = {":before": {"N": str(before.version)}}
        others = self._with_it(before, after, cause, row)
        try:
            if others:
                self._dynamodb.transact_write_items(TransactItems=[{"Put": lock}, *others])  # type: ignore[typeddict-item]
            else:
                self._dynamodb.put_item(**lock)
            return after
        except ClientError as error:
            won = _winner(error)
        return from_item(won) if won else self.read(before.resource_id)

    def due(self, until: int) -> Iterator[tuple[str, int]]:
        """(resource_id, due_at) of what is due by `until`. 1 Query per shard and MiB of index."""
        for shard in range(SHARDS):
            yield from self.due_in(shard, until)

    def due_in(self, shard: int, until: int) -> Iterator[tuple[str, int]]:
        """The same of one shard, earliest first."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._settings.locks_table,
            IndexName=DUE_INDEX,
            KeyConditionExpression="due_shard = :shard AND due_at <= :until",
            ExpressionAttributeValues={":shard": {"N": str(shard)}, ":until": {"N": str(until)}},
        )
        for page in pages:
            for item in page["Items"]:
                yield item["resource_id"]["S"], int(item["due_at"]["N"])

    def _with_it(
        self, before: Resource, after: Resource, cause: Cause, row: TransactWriteItemTypeDef | None
    ) -> list[TransactWriteItemTypeDef]:
        writes: list[TransactWriteItemTypeDef] = []
        changed = changes(before, after)
        if changed or before.holder != after.holder or before.frozen != after.frozen:
            item = _transition(after, changed, cause, self._clock.now())
            writes.append({"Put": {"TableName": self._settings.transitions_table, "Item": item}})
        if row is not None:
            writes.append(row)
        for endpoint_id in before.endpoints.keys() - after.endpoints.keys():
            key = {"endpoint_id": {"S": endpoint_id}}
            writes.append({"Delete": {"TableName": self._settings.endpoints_table, "Key": key}})
        return writes


def _winner(error: ClientError) -> Item | None:
    """The item that a refused write met, None when it has to be read; raises what is not a lost race."""
    code = error.response["Error"]["Code"]
    if code == "ConditionalCheckFailedException":
        return error.response.get("Item")  # type: ignore[return-value]
    if code == "TransactionConflictException":
        return None
    if code == "TransactionCanceledException":
        reasons: list[Item] = error.response.get("CancellationReasons", [])  # type: ignore[assignment]
        if reasons and reasons[0].get("Code") == "ConditionalCheckFailed":
            return reasons[0].get("Item")
        if any(reason.get("Code") == "TransactionConflict" for reason in reasons):
            return None
        if any(reason.get("Code") == "ConditionalCheckFailed" for reason in reasons):
            # The row's own condition: of all writes to it, only a key rotation's goes past the lock item.
            raise Conflict("a key rotation encrypted it anew at the same moment: repeat the change") from None
    raise error


def _transition(after: Resource, changed: list[Any], cause: Cause, now: int) -> Item:
    rows = [
        {
            "M": {
                "endpoint_id": {"S": c.endpoint_id},
                "from": {"S": c.before},
                "to": {"S": c.after},
                "reason": {"S": c.reason},
                "sequence": {"N": str(c.sequence)},
            }
        }
        for c in changed
    ]
    item: Item = {
        "resource_id": {"S": after.resource_id},
        "version": {"N": str(after.version)},
        "at": {"N": str(now)},
        "epoch": {"N": str(after.epoch)},
        "changes": {"L": rows},
        "cause": {"M": {"kind": {"S": cause.kind}, "id": {"S": cause.id}}},
        "expires_at": {"N": str(now // 1000 + TRANSITIONS_KEPT_SECONDS)},
    }
    if after.holder is not None:
        item["holder"] = {"S": after.holder}
    return item


# The stored form. Names are short because an item over 1 KB costs a second write unit at every heartbeat.
_SHORT = {
    "joined": "j",
    "revision": "v",
    "host": "h",
    "priority": "p",
    "lease_seconds": "l",
    "reported": "r",
    "reported_at": "ra",
    "lease_expires_at": "le",
    "status": "s",
    "epoch": "ep",
    "sequence": "sq",
    "reason": "rs",
    "announced_at": "an",
    "delivered_sequence": "ds",
    "delivered_at": "da",
    "attempt": "at",
    "next_attempt_at": "na",
    "failure": "f",
    "claim": "c",
    "believed_until": "b",
    "asked_at": "aa",
    "deleting": "d",
}


def _number(value: int) -> Item:
    return {"N": str(value)}


def _text(value: str) -> Item:
    # str: an enum's member is stored as what it is equal to.
    return {"S": str(value)}


def _claim(claim: Claim) -> Item:
    return {"M": {"t": _text(claim.token), "u": _number(claim.until), "s": _number(claim.sequence)}}


def _read_claim(stored: Item) -> Claim:
    claim = stored["M"]
    return Claim(claim["t"]["S"], int(claim["u"]["N"]), int(claim["s"]["N"]))


_FORMS: dict[str, tuple[Callable[[Any], Item], Callable[[Item], Any]]] = {
    **dict.fromkeys(_SHORT, (_number, lambda stored: int(stored["N"]))),
    **dict.fromkeys(("host", "reason", "failure"), (_text, lambda stored: stored["S"])),
    **dict.fromkeys(("reported", "status"), (_text, lambda stored: Status(stored["S"]))),
    "deleting": (lambda value: {"BOOL": value}, lambda stored: stored["BOOL"]),
    "claim": (_claim, _read_claim),
}
_WRITE = [(f.name, _SHORT[f.name], f.default, _FORMS[f.name][0]) for f in fields(Endpoint)]
_READ = {short: (name, _FORMS[name][1]) for name, short in _SHORT.items()}


def due_shard(resource_id: str) -> int:
    """The shard of the due index a resource belongs to."""
    return zlib.crc32(resource_id.encode()) % SHARDS


def to_item(resource: Resource) -> Item:
    """The item as stored; what has its default value is left out."""
    item: Item = {
        "resource_id": {"S": resource.resource_id},
        "version": {"N": str(resource.version)},
        "nonce": {"S": resource.nonce},
        "epoch": {"N": str(resource.epoch)},
        "endpoints": {"M": {i: {"M": _entry_to_item(e)} for i, e in resource.endpoints.items()}},
    }
    if resource.holder is not None:
        item["holder"] = {"S": resource.holder}
    if resource.commands:
        item["command"] = {"S": " ".join(resource.commands)}
    if resource.frozen:
        item["frozen"] = {"BOOL": True}
    if resource.due_at is not None:
        item["due_shard"] = {"N": str(due_shard(resource.resource_id))}
        item["due_at"] = {"N": str(resource.due_at)}
    return item


def from_item(item: Item) -> Resource:
    """The resource of a stored item."""
    return Resource(
        resource_id=item["resource_id"]["S"],
        version=int(item["version"]["N"]),
        nonce=item["nonce"]["S"],
        epoch=int(item["epoch"]["N"]),
        holder=item["holder"]["S"] if "holder" in item else None,
        commands=tuple(item["command"]["S"].split()) if "command" in item else (),
        due_at=int(item["due_at"]["N"]) if "due_at" in item else None,
        frozen=item.get("frozen") == {"BOOL": True},
        endpoints={i: _entry_from_item(e["M"]) for i, e in item["endpoints"]["M"].items()},
    )


def _entry_to_item(e: Endpoint) -> Item:
    return {short: write(value) for name, short, default, write in _WRITE if (value := getattr(e, name)) != default}


def _entry_from_item(item: Item) -> Endpoint:
    values = {}
    for short, stored in item.items():
        # A newer version's attribute is none of ours.
        if short in _READ:
            name, read = _READ[short]
            values[name] = read(stored)
    return Endpoint(**values)
