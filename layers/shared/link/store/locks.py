"""The table of locks: one item per resource, one conditional write per decision.

AWS calls: `read` 1 GetItem (consistent); `commit` 1 PutItem, or 1 TransactWriteItems when a transition or a
registration goes with it. Nothing else writes the lock item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from link.chance import Chance
from link.clock import Clock
from link.election.audit import Change, changes
from link.election.deliveries import Delivery, deliveries
from link.election.state import Resource
from link.errors import Conflict, Contended
from link.settings import Settings
from link.store.lock_item import SHARDS, Item, NewerFormat, from_item, to_item
from link.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

DUE_INDEX = "due"
TRANSITIONS_KEPT_SECONDS = 90 * 86_400
_RETRYABLE = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
"""Reasons of a cancelled transaction that are tried again. botocore retries none of them."""
COMMIT_SECONDS = 10
"""Bounded by time, never by a small count: 32 reporters at once need up to 35 tries."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a commit was made, for the audit.

    `kind` is report, wake_up, register, change, failover, freeze, unfreeze, redeliver, delete or restore. `by`: the ARN
    of the operator whose command it is; empty for a report or a wake-up.
    """

    kind: str
    id: str
    by: str = ""


class Step(NamedTuple):
    """The result of a pure step: the next item, and whether its commit requires a wake-up message."""

    resource: Resource
    needs_wake_up: bool


@dataclass(frozen=True, slots=True)
class Committed:
    """The result of an update. `claimed`: the deliveries that only the invocation of this commit may send."""

    before: Resource
    after: Resource
    written: bool
    """False if the step changed nothing."""
    claimed: list[Delivery]
    needs_wake_up: bool
    tries: int


class Locks:
    """Reads and writes lock items. Registrations and transitions of a change go into the same transaction."""

    def __init__(self, dynamodb: DynamoDBClient, settings: Settings, clock: Clock, chance: Chance) -> None:
        self._dynamodb = dynamodb
        self._settings = settings
        self._clock = clock
        self._chance = chance

    def read(self, resource_id: str) -> Resource:
        """The item; version 0 when there is none."""
        answer = self._dynamodb.get_item(
            TableName=self._settings.locks_table, Key={"resource_id": {"S": resource_id}}, ConsistentRead=True
        )
        return from_item(answer["Item"]) if "Item" in answer else Resource(resource_id)

    def read_all(
        self, resource_ids: Iterable[str], *, consistent: bool = False, skip_newer: bool = False
    ) -> dict[str, Resource]:
        """The items of many resources, 1 BatchGetItem per 100. Eventually consistent is enough for lists.

        Raises NewerFormat, except with `skip_newer`: then the others are returned.
        """
        keys = [{"resource_id": {"S": resource_id}} for resource_id in resource_ids]
        found = {}
        give_up = self._clock.now() + COMMIT_SECONDS * 1000
        while keys:
            wanted: Any = {"Keys": keys[:100], **({"ConsistentRead": True} if consistent else {})}
            answer = self._dynamodb.batch_get_item(RequestItems={self._settings.locks_table: wanted})
            for item in answer["Responses"][self._settings.locks_table]:
                try:
                    found[item["resource_id"]["S"]] = from_item(item)
                except NewerFormat as newer:
                    if not skip_newer:
                        raise
                    logger.error("resource.skipped", reason=str(newer))
            unread = answer["UnprocessedKeys"]
            left: Any = unread[self._settings.locks_table]["Keys"] if unread else []
            keys = left + keys[100:]
            if left:
                if self._clock.now() >= give_up:
                    raise Contended(f"DynamoDB left {len(left)} keys of a BatchGetItem unread for {COMMIT_SECONDS} s")
                self._clock.pause(self._chance.jitter() * 0.2)
        return found

    def page(self, limit: int, after: str | None) -> tuple[list[Resource], str | None]:
        """Up to `limit` resources in no order, and the id to continue after; None at the end. 1 Scan."""
        start: Item = {} if after is None else {"ExclusiveStartKey": {"resource_id": {"S": after}}}
        answer = self._dynamodb.scan(TableName=self._settings.locks_table, Limit=limit, **start)
        last = answer.get("LastEvaluatedKey")
        return [from_item(item) for item in answer["Items"]], last["resource_id"]["S"] if last else None

    def transitions(self, resource_id: str, limit: int, before: int | None) -> tuple[list[Item], int | None]:
        """Items of the audit as stored, newest first, with versions lower than `before`, and the version to continue
        before; None at the end. 1 Query.
        """
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
        last = answer.get("LastEvaluatedKey")
        return answer["Items"], int(last["version"]["N"]) if last else None

    def update(
        self,
        resource_id: str,
        step: Callable[[Resource, str], Step],
        cause: Cause,
        *,
        known: Resource | None = None,
        registration: Sequence[TransactWriteItemTypeDef] = (),
    ) -> Committed:
        """Reads the item (or starts from `known`), applies the pure `step(resource, nonce)`, commits and logs.

        A lost race starts over from the item that won; raises Contended after 10 s of losing.
        `registration` is written in the same transaction: see `link.store.endpoints` and `link.store.signals`.
        """
        give_up = self._clock.now() + COMMIT_SECONDS * 1000
        pause = 0.05
        tries = 0
        current = known or self.read(resource_id)
        while True:
            nonce = self._chance.nonce()
            after, needs_wake_up = step(current, nonce)
            if after == current:
                if current is known:
                    # `known` may be out of date. A conditional write would have failed, but there is no write.
                    known, current = None, self.read(resource_id)
                    continue
                return Committed(current, current, False, [], needs_wake_up, tries)
            # A step that restores a backup raises the version, so that the rows of the audit keep their order.
            after = replace(after, version=max(current.version, after.version) + 1, nonce=nonce)
            tries += 1
            in_force = self.commit(current, after, cause, registration)
            if in_force.nonce == nonce:
                _log(current, after, cause, tries)
                return Committed(current, after, True, deliveries(after, nonce), needs_wake_up, tries)
            current = in_force
            if self._clock.now() >= give_up:
                raise Contended(f"{resource_id}: {tries} conditional writes lost in {COMMIT_SECONDS} s")
            self._clock.pause(self._chance.jitter() * pause)
            pause = min(0.2, pause * 2)

    def commit(
        self, before: Resource, after: Resource, cause: Cause, registration: Sequence[TransactWriteItemTypeDef] = ()
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
        companions = self._companion_writes(before, after, cause, registration)
        try:
            if companions:
                self._dynamodb.transact_write_items(TransactItems=[{"Put": lock}, *companions])  # type: ignore[typeddict-item]
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
        """The same for one shard, earliest first. 1 Query per MiB."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._settings.locks_table,
            IndexName=DUE_INDEX,
            KeyConditionExpression="due_shard = :shard AND due_at <= :until",
            ExpressionAttributeValues={":shard": {"N": str(shard)}, ":until": {"N": str(until)}},
        )
        for page in pages:
            for item in page["Items"]:
                yield item["resource_id"]["S"], int(item["due_at"]["N"])

    def _companion_writes(
        self, before: Resource, after: Resource, cause: Cause, registration: Sequence[TransactWriteItemTypeDef]
    ) -> list[TransactWriteItemTypeDef]:
        """The other writes of the transaction: a transition, a registration, the deletions of registrations."""
        writes: list[TransactWriteItemTypeDef] = []
        changed = changes(before, after)
        restored = after.version > before.version + 1
        if changed or restored or before.holder != after.holder or before.frozen != after.frozen:
            item = _transition(after, changed, cause, self._clock.now())
            writes.append({"Put": {"TableName": self._settings.transitions_table, "Item": item}})
        writes += registration
        for endpoint_id in before.endpoints.keys() - after.endpoints.keys():
            key = {"endpoint_id": {"S": endpoint_id}}
            writes.append({"Delete": {"TableName": self._settings.endpoints_table, "Key": key}})
        return writes


def _log(before: Resource, after: Resource, cause: Cause, tries: int) -> None:
    """Writes one log line per change of status that was committed."""
    for change in changes(before, after):
        logger.info(
            "endpoint.changed",
            resource_id=after.resource_id,
            endpoint_id=change.endpoint_id,
            status=change.after,
            before=change.before,
            epoch=after.epoch,
            sequence=change.sequence,
            reason=change.reason,
            cause=cause.kind,
            cause_id=cause.id,
            cause_by=cause.by,
            tries=tries,
        )


def _winner(error: ClientError) -> Item | None:
    """The stored item that came with a refused write, or None if it has to be read; raises other errors."""
    code = error.response["Error"]["Code"]
    if code == "ConditionalCheckFailedException":
        return error.response.get("Item")  # type: ignore[return-value]
    if code == "TransactionConflictException":
        return None
    if code == "TransactionCanceledException":
        reasons: list[Item] = error.response.get("CancellationReasons", [])  # type: ignore[assignment]
        if reasons and reasons[0].get("Code") == "ConditionalCheckFailed":
            return reasons[0].get("Item")
        if any(reason.get("Code") in _RETRYABLE for reason in reasons):
            return None
        if any(reason.get("Code") == "ConditionalCheckFailed" for reason in reasons):
            # The registration's own condition: only a key rotation writes it without the lock item.
            raise Conflict("a key rotation changed this endpoint concurrently: retry") from None
    raise error


def _transition(after: Resource, changed: list[Change], cause: Cause, now: int) -> Item:
    listed = [
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
        "changes": {"L": listed},
        "cause": {
            "M": {"kind": {"S": cause.kind}, "id": {"S": cause.id}, **({"by": {"S": cause.by}} if cause.by else {})}
        },
        "expires_at": {"N": str(now // 1000 + TRANSITIONS_KEPT_SECONDS)},
    }
    if after.holder is not None:
        item["holder"] = {"S": after.holder}
    return item
