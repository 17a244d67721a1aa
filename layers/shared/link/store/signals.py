"""The table of signals: which endpoints each signal speaks for, and what was heard of them.

An item for each signal of an endpoint, by the signal's key; and one for each endpoint, with what was heard, under
`OBSERVED`. `Locks.commit` writes and deletes them together with the registration. AWS calls: `followers` 1 Query,
`read` 1 GetItem (consistent), `all` 1 Query per MiB, `write` and `confirm` 1 UpdateItem.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from link.election.state import Status
from link.registration import Registration
from link.settings import Settings
from link.signals.keys import read
from link.signals.words import Observed, Word
from link.store.aws import error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

OBSERVED = "observed"
"""The hash key of what was heard. No signal has it. One partition takes 1,000 writes and 3,000 reads a second."""

Item = dict[str, Any]


class Signals:
    """Reads and writes what was heard of endpoints with signals."""

    def __init__(self, dynamodb: DynamoDBClient, settings: Settings) -> None:
        self._dynamodb = dynamodb
        self._table = settings.signals_table

    def followers(self, key: str) -> list[str]:
        """The ids of the endpoints for which this signal speaks: with at most a few, they fit into a page."""
        answer = self._dynamodb.query(
            TableName=self._table,
            KeyConditionExpression="signal_key = :key",
            ExpressionAttributeValues={":key": {"S": key}},
        )
        return [item["endpoint_id"]["S"] for item in answer["Items"]]

    def read(self, endpoint_id: str) -> Observed | None:
        """What was heard of an endpoint; None if it has no signals."""
        answer = self._dynamodb.get_item(TableName=self._table, Key=_key(OBSERVED, endpoint_id), ConsistentRead=True)
        return from_item(answer["Item"]) if "Item" in answer else None

    def all(self) -> Iterator[Observed]:
        """Every endpoint with signals. Eventually consistent: a write finds what is out of date."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="signal_key = :observed",
            ExpressionAttributeValues={":observed": {"S": OBSERVED}},
        )
        for page in pages:
            for item in page["Items"]:
                yield from_item(item)

    def write(self, before: Observed, after: Observed) -> Observed | None:
        """Stores what was heard as the next version; None if another process wrote one since `before` was read."""
        after = replace(after, version=before.version + 1)
        stored = {name: value for name, value in _heard(after).items() if name != "told_at"}
        written = self._update(
            after.endpoint_id,
            "SET " + ", ".join(f"#{name} = :{name}" for name in stored),
            "version = :before",
            {f"#{name}": name for name in stored},
            {f":{name}": value for name, value in stored.items()} | {":before": {"N": str(before.version)}},
        )
        return after if written else None

    def confirm(self, told: Observed) -> None:
        """Stores that the event bus took its status. Nothing if that of a later version was taken already."""
        self._update(
            told.endpoint_id,
            "SET told_at = :at",
            "attribute_exists(version) AND (attribute_not_exists(told_at) OR told_at < :at)",
            {},
            {":at": {"N": str(told.at)}},
        )

    def registered(self, before: Registration | None, after: Registration | None) -> list[TransactWriteItemTypeDef]:
        """What goes into the transaction that changes a registration, for `Locks.update`. None: there is none."""
        old, new = _followed(before), _followed(after)
        either = after or before
        if either is None or (old == new and _signals(before) == _signals(after)):
            return []
        i = either.endpoint_id
        writes: list[TransactWriteItemTypeDef] = []
        for key in sorted(old - new):
            writes.append({"Delete": {"TableName": self._table, "Key": _key(key, i)}})
        for key in sorted(new - old):
            writes.append({"Put": {"TableName": self._table, "Item": _key(key, i)}})
        if not new:
            return [*writes, {"Delete": {"TableName": self._table, "Key": _key(OBSERVED, i)}}]
        values = {
            ":resource_id": {"S": either.resource_id},
            ":signals": {"S": json.dumps(_signals(after))},
            ":one": {"N": "1"},
        }
        update: Any = {
            "TableName": self._table,
            "Key": _key(OBSERVED, i),
            # What was heard stays. Whoever has read an older version and writes now is refused.
            "UpdateExpression": "SET resource_id = :resource_id, signals = :signals ADD version :one",
            "ExpressionAttributeValues": values,
        }
        return [*writes, {"Update": update}]

    def _update(self, endpoint_id: str, update: str, condition: str, names: dict[str, str], values: Item) -> bool:
        more: Any = {"ExpressionAttributeNames": names} if names else {}
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key=_key(OBSERVED, endpoint_id),
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
                **more,
            )
        except ClientError as error:
            # A transaction that changes the registration may be under way.
            if error_code(error) not in ("ConditionalCheckFailedException", "TransactionConflictException"):
                raise
            return False
        return True


def _signals(registration: Registration | None) -> list[dict[str, Any]]:
    return list(registration.signals) if registration is not None and registration.signalled else []


def _followed(registration: Registration | None) -> set[str]:
    return {read(signal).key for signal in _signals(registration)}


def _key(signal: str, endpoint_id: str) -> Item:
    return {"signal_key": {"S": signal}, "endpoint_id": {"S": endpoint_id}}


def _heard(observed: Observed) -> Item:
    """The stored form of what was heard, about 150 bytes for a signal."""
    words = {
        key: [w.status, w.at, w.version, w.reason, w.warned_at, w.warned_until, w.warning, w.ended_at]
        for key, w in sorted(observed.words.items())
    }
    item: Item = {
        "version": {"N": str(observed.version)},
        "words": {"S": json.dumps(words, separators=(",", ":"))},
        "told_at": {"N": str(observed.told_at)},
    }
    if observed.status is not None:
        item |= {"status": {"S": str(observed.status)}, "at": {"N": str(observed.at)}}
    return item


def from_item(item: Item) -> Observed:
    """What was heard of an endpoint, from its stored form."""
    words = json.loads(item["words"]["S"]) if "words" in item else {}
    return Observed(
        endpoint_id=item["endpoint_id"]["S"],
        resource_id=item["resource_id"]["S"],
        signals=tuple(read(signal) for signal in json.loads(item["signals"]["S"])),
        words={key: Word(status and Status(status), *rest) for key, (status, *rest) in words.items()},
        status=Status(item["status"]["S"]) if "status" in item else None,
        at=int(item["at"]["N"]) if "at" in item else 0,
        told_at=int(item["told_at"]["N"]) if "told_at" in item else 0,
        version=int(item["version"]["N"]),
    )
