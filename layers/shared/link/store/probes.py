"""What is probed, and what is known about it.

A shard is a range of the index `probed` of the table of endpoints. The table of probe states has one item per shard. It
can be lost: the next looks find everything again.

AWS calls: `of_shard` 1 Query per MiB, `of_resource` and `any_in` 1, `read` 1 GetItem (eventually consistent: the
condition of a write finds an item that is out of date), `write` 1 PutItem, `put` 1 SendMessageBatch per ten messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

from botocore.exceptions import ClientError

from link.probing.checks import Check, read
from link.probing.states import Probed, Shard
from link.settings import Settings
from link.store.aws import error_code
from link.store.endpoints import PROBED, PROBED_INDEX
from link.store.queues import BATCH_SIZE
from link.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

_HASHES = 2**32
_STORED = len(fields(Probed))

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """A probed endpoint."""

    endpoint_id: str
    resource_id: str
    checks: tuple[Check, ...]
    interval_seconds: int


def _hashes(shard: int, of: int) -> tuple[int, int]:
    """The first and the last hash of a shard."""
    return -(-shard * _HASHES // of), -(-(shard + 1) * _HASHES // of) - 1


def shard_of(resource_id: str, of: int) -> int:
    """The shard, of so many, that has all endpoints of a resource."""
    return crc32(resource_id.encode()) * of // _HASHES


class Targets:
    """Reads what is probed."""

    def __init__(self, dynamodb: DynamoDBClient, settings: Settings) -> None:
        self._dynamodb = dynamodb
        self._table = settings.endpoints_table

    def of_shard(self, shard: int, of: int) -> Iterator[Target]:
        """The probed endpoints of a shard."""
        return self._all(*_hashes(shard, of))

    def of_resource(self, resource_id: str) -> list[Target]:
        """The probed endpoints of a resource."""
        its_own = crc32(resource_id.encode())
        return [target for target in self._all(its_own, its_own) if target.resource_id == resource_id]

    def any_in(self, shard: int, of: int) -> bool:
        """Whether a shard has a probed endpoint."""
        return bool(self._dynamodb.query(**self._query(*_hashes(shard, of)), Limit=1)["Items"])

    def _all(self, first: int, last: int) -> Iterator[Target]:
        for page in self._dynamodb.get_paginator("query").paginate(**self._query(first, last)):
            for item in page["Items"]:
                endpoint_id = item["endpoint_id"]["S"]
                try:
                    checks = tuple(read(check) for check in json.loads(item["checks"]["S"]))
                except (KeyError, ValueError) as error:
                    # A newer version stored it, before a rollback. The others of the shard are looked at.
                    logger.warning("target.unreadable", endpoint_id=endpoint_id, reason=repr(error))
                    continue
                yield Target(
                    endpoint_id=endpoint_id,
                    resource_id=item["resource_id"]["S"],
                    checks=checks,
                    interval_seconds=int(item["healthcheck_interval"]["N"]),
                )

    def _query(self, first: int, last: int) -> Any:
        return {
            "TableName": self._table,
            "IndexName": PROBED_INDEX,
            "KeyConditionExpression": "probed = :all AND probe_key BETWEEN :first AND :last",
            # "$" follows "#": every id of the last hash is before it.
            "ExpressionAttributeValues": {
                ":all": {"S": PROBED},
                ":first": {"S": f"{first:08x}"},
                ":last": {"S": f"{last:08x}$"},
            },
        }


class ProbeStates:
    """Reads and writes what is known about a shard."""

    def __init__(self, dynamodb: DynamoDBClient, settings: Settings) -> None:
        self._dynamodb = dynamodb
        self._table = settings.probes_table

    def read(self, shard: int, of: int, *, consistent: bool = False) -> Shard:
        """What is known; a new shard if nothing is."""
        key = {"shard": {"S": f"{shard}/{of}"}}
        answer = self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=consistent)
        return from_item(answer["Item"]) if "Item" in answer else Shard()

    def write(self, shard: int, of: int, before: Shard, after: Shard) -> bool:
        """Stores it as the next version; False if another invocation has written one since `before` was read."""
        after = replace(after, version=before.version + 1)
        condition: Any = {"ConditionExpression": "attribute_not_exists(version)"}
        if before.version:
            values = {":before": {"N": str(before.version)}}
            condition = {"ConditionExpression": "version = :before", "ExpressionAttributeValues": values}
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item={"shard": {"S": f"{shard}/{of}"}, **to_item(after)},
                **condition,
            )
        except ClientError as error:
            if error_code(error) != "ConditionalCheckFailedException":
                raise
            return False
        return True


def to_item(shard: Shard) -> Item:
    """The stored form, about 80 bytes for an endpoint."""
    known = {i: [e.up, e.since, e.reason, e.passes, e.downs, e.told] for i, e in sorted(shard.endpoints.items())}
    return {
        "version": {"N": str(shard.version)},
        "slot": {"N": str(shard.slot)},
        "mass": {"N": str(shard.mass)},
        "endpoints": {"S": json.dumps(known, separators=(",", ":"))},
    }


def from_item(item: Item) -> Shard:
    """What is known, from its stored form. ● A newer version may have appended to it."""
    known = json.loads(item["endpoints"]["S"])
    return Shard(
        version=int(item["version"]["N"]),
        slot=int(item["slot"]["N"]),
        mass=int(item["mass"]["N"]),
        endpoints={i: Probed(*values[:_STORED]) for i, values in known.items()},
    )


class ProbeQueue:
    """Puts the slots of a minute."""

    def __init__(self, sqs: SQSClient, settings: Settings) -> None:
        self._sqs = sqs
        self._url = settings.probe_queue_url

    def put(self, slots: Iterable[tuple[Mapping[str, int], int]]) -> int:
        """Puts (message, delay in seconds); returns how many of them SQS refused."""
        failed, messages = 0, [*slots]
        for start in range(0, len(messages), BATCH_SIZE):
            entries: list[Any] = [
                {"Id": str(i), "MessageBody": json.dumps(message), "DelaySeconds": delay}
                for i, (message, delay) in enumerate(messages[start : start + BATCH_SIZE])
            ]
            failed += len(self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries).get("Failed", []))
        return failed
