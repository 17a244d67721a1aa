"""The table of endpoints: one item per registration.

`Locks.commit` writes and deletes an item, always together with the entry of its endpoint. Only a key rotation writes
ciphertexts alone. AWS calls: `get` 1 GetItem, `at_revision` 0 or 1, `scan` and `count` 1 Scan per MiB, `page` 1 Scan,
`reencrypt` 1 UpdateItem.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from zlib import crc32

from botocore.exceptions import ClientError

from link.election.state import Observer, ReadyWhen
from link.errors import NotFound
from link.registration import Registration
from link.settings import Settings
from link.store.aws import error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

MAX_CACHED = 1_000
PROBED_INDEX = "probed"
"""Has the registrations with checks that a probe observes, in the order of the hash of their resource."""
PROBED = "1"
"""The hash key of the index. One partition takes 1,000 writes and 3,000 reads a second."""

Item = dict[str, Any]


class Registrations:
    """Reads registrations. A cached one is used only if it has the requested revision."""

    def __init__(self, dynamodb: DynamoDBClient, settings: Settings) -> None:
        self._dynamodb = dynamodb
        self._table = settings.endpoints_table
        self._cache: dict[str, Registration] = {}

    def get(self, endpoint_id: str) -> Registration | None:
        """The registration as it is now; None when there is none."""
        answer = self._dynamodb.get_item(
            TableName=self._table, Key={"endpoint_id": {"S": endpoint_id}}, ConsistentRead=True
        )
        return from_item(answer["Item"]) if "Item" in answer else None

    def existing(self, endpoint_id: str) -> Registration:
        """The registration as it is now; raises NotFound."""
        registration = self.get(endpoint_id)
        if registration is None:
            raise NotFound("Endpoint not found")
        return registration

    def at_revision(self, endpoint_id: str, revision: int) -> Registration | None:
        """The registration at this revision, or the stored one if it has another revision; None if it is deleted."""
        known = self._cache.get(endpoint_id)
        if known is None or known.revision != revision:
            known = self.get(endpoint_id)
            if known is None:
                return None
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[endpoint_id] = known
        return known

    def forget(self, endpoint_id: str) -> None:
        """Remove it from the cache: a key rotation changes a registration, but not its revision."""
        self._cache.pop(endpoint_id, None)

    def put(self, registration: Registration) -> TransactWriteItemTypeDef:
        """The write of a new registration, for `Locks.update`."""
        return {"Put": {"TableName": self._table, "Item": to_item(registration)}}

    def update(self, before: Registration, after: Registration) -> TransactWriteItemTypeDef:
        """The write of a changed registration. It fails if a key rotation has changed a ciphertext of `before`."""
        old, new = to_item(before), to_item(after)
        changed = [name for name in new if new[name] != old.get(name)]
        gone = [name for name in old if name not in new]
        sealed = [name for name, value in before.config.items() if isinstance(value, bytes)]
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in changed)
        if gone:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in gone)
        as_read = " AND ".join(f"#{name} = :read_{name}" for name in sealed)
        return {
            "Update": {
                "TableName": self._table,
                "Key": {"endpoint_id": {"S": after.endpoint_id}},
                "UpdateExpression": expression,
                "ConditionExpression": as_read or "attribute_exists(endpoint_id)",
                # Some of the names, "url" for one, are reserved words of DynamoDB.
                "ExpressionAttributeNames": {f"#{name}": name for name in {*changed, *gone, *sealed}},
                "ExpressionAttributeValues": {
                    **{f":{name}": new[name] for name in changed},
                    **{f":read_{name}": old[name] for name in sealed},
                },
            }
        }

    def reencrypt(self, before: Registration, after: Registration) -> bool:
        """Write the ciphertexts of a key rotation; False if they have changed since `before` was read."""
        write = self.update(before, after)["Update"]
        try:
            self._dynamodb.update_item(**write)
        except ClientError as error:
            if error_code(error) != "ConditionalCheckFailedException":
                raise
            return False
        return True

    def scan(self) -> Iterator[Registration]:
        """Every registration, also of endpoints that are being deleted."""
        for page in self._dynamodb.get_paginator("scan").paginate(TableName=self._table):
            for item in page["Items"]:
                yield from_item(item)

    def page(self, limit: int, after: str | None) -> tuple[list[Registration], str | None]:
        """Up to `limit` registrations in no order, and the id to continue after; None at the end."""
        start: Item = {} if after is None else {"ExclusiveStartKey": {"endpoint_id": {"S": after}}}
        answer = self._dynamodb.scan(TableName=self._table, Limit=limit, **start)
        last = answer.get("LastEvaluatedKey")
        return [from_item(item) for item in answer["Items"]], last["endpoint_id"]["S"] if last else None

    def count(self) -> int:
        """The number of registrations."""
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=self._table, Select="COUNT")
        return sum(page["Count"] for page in pages)


def to_item(registration: Registration) -> Item:
    """The stored form: the registration's own attributes, and its plugin's beside them."""
    r = registration
    item: Item = {
        "endpoint_id": {"S": r.endpoint_id},
        "revision": {"N": str(r.revision)},
        "plugin": {"S": r.plugin},
        "resource_id": {"S": r.resource_id},
        "checks": {"S": json.dumps(r.checks)},
        "healthcheck_interval": {"N": str(r.healthcheck_interval)},
        "host": {"S": r.host},
        "priority": {"N": str(r.priority)},
        "created_at": {"N": str(r.created_at)},
    }
    if r.lease_seconds is not None:
        item["lease_seconds"] = {"N": str(r.lease_seconds)}
    if r.observers != (Observer.HOST,):
        item["observers"] = {"S": " ".join(r.observers)}
    if r.ready_when is not ReadyWhen.ALL:
        item["ready_when"] = {"S": str(r.ready_when)}
    if r.signals:
        item["signals"] = {"S": json.dumps(r.signals)}
    if r.probed:
        item["probed"] = {"S": PROBED}
        item["probe_key"] = {"S": f"{crc32(r.resource_id.encode()):08x}#{r.endpoint_id}"}
    return {**{name: _typed(value) for name, value in r.config.items()}, **item}


def from_item(item: Item) -> Registration:
    """The registration of a stored item. Attributes that are not its own are its plugin's."""
    return Registration(
        endpoint_id=item["endpoint_id"]["S"],
        revision=int(item["revision"]["N"]),
        plugin=item["plugin"]["S"],
        resource_id=item["resource_id"]["S"],
        checks=tuple(json.loads(item["checks"]["S"])),
        healthcheck_interval=int(item["healthcheck_interval"]["N"]),
        host=item["host"]["S"],
        priority=int(item["priority"]["N"]),
        lease_seconds=int(item["lease_seconds"]["N"]) if "lease_seconds" in item else None,
        observers=tuple(map(Observer, item["observers"]["S"].split())) if "observers" in item else (Observer.HOST,),
        ready_when=ReadyWhen(item["ready_when"]["S"]) if "ready_when" in item else ReadyWhen.ALL,
        signals=tuple(json.loads(item["signals"]["S"])) if "signals" in item else (),
        created_at=int(item["created_at"]["N"]),
        config={name: _plain(value) for name, value in item.items() if name not in _OWN},
    )


_OWN = {
    "endpoint_id",
    "revision",
    "plugin",
    "resource_id",
    "checks",
    "healthcheck_interval",
    "host",
    "priority",
    "lease_seconds",
    "observers",
    "ready_when",
    "signals",
    "created_at",
    "probed",
    "probe_key",
}


def _typed(value: str | int | bytes | tuple[str, ...]) -> Item:
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, bytes):
        return {"B": value}
    return {"L": [{"S": member} for member in value]}


def _plain(typed: Item) -> Any:
    ((kind, value),) = typed.items()
    if kind == "N":
        return int(value)
    if kind == "B":
        return bytes(value)
    return tuple(member["S"] for member in value) if kind == "L" else value
