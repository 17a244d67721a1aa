"""The table of endpoints: one row per registration.

Rows are written and deleted only together with their lock entry, by `lock.commit`; but for a key rotation, which
writes ciphertexts alone. AWS calls: `get` 1 GetItem, `at_revision` 0 or 1, `scan` and `count` 1 Scan a MiB,
`reencrypt` 1 UpdateItem.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from link.plugin import StorablePluginConfig
from link.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

CACHED_ROWS = 1_000


class Registry:
    """Reads registrations. A remembered row serves only at the revision asked for."""

    def __init__(self, dynamodb: DynamoDBClient, settings: Settings) -> None:
        self._dynamodb = dynamodb
        self._table = settings.endpoints_table
        self._cache: dict[str, StorablePluginConfig] = {}

    def get(self, endpoint_id: str) -> StorablePluginConfig | None:
        """The registration as it is now; None when there is none."""
        answer = self._dynamodb.get_item(
            TableName=self._table, Key={"endpoint_id": {"S": endpoint_id}}, ConsistentRead=True
        )
        return from_item(answer["Item"]) if "Item" in answer else None

    def at_revision(self, endpoint_id: str, revision: int) -> StorablePluginConfig | None:
        """The registration at the revision of its lock entry, or the one that is there instead; None: gone."""
        known = self._cache.get(endpoint_id)
        if known is None or known.revision != revision:
            known = self.get(endpoint_id)
            if known is None:
                return None
            if len(self._cache) >= CACHED_ROWS:
                self._cache.clear()
            self._cache[endpoint_id] = known
        return known

    def forget(self, endpoint_id: str) -> None:
        """Has the next `at_revision` read the row: a key rotation changes it and not its revision."""
        self._cache.pop(endpoint_id, None)

    def put(self, row: StorablePluginConfig) -> TransactWriteItemTypeDef:
        """The write of a new registration, for `Locks.update`."""
        return {"Put": {"TableName": self._table, "Item": to_item(row)}}

    def update(self, before: StorablePluginConfig, after: StorablePluginConfig) -> TransactWriteItemTypeDef:
        """The write of a changed one. Refused if a key rotation came in between."""
        old, new = to_item(before), to_item(after)
        changed = [name for name in new if new[name] != old.get(name)]
        gone = [name for name in old if name not in new]
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in changed)
        if gone:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in gone)
        values = {f":{name}": new[name] for name in changed}
        return {
            "Update": {
                "TableName": self._table,
                "Key": {"endpoint_id": {"S": after.endpoint_id}},
                "UpdateExpression": expression,
                "ConditionExpression": "#ciphertext = :as_read",
                # Some of the names, "url" for one, are DynamoDB's own words.
                "ExpressionAttributeNames": {f"#{name}": name for name in {*changed, *gone, "ciphertext"}},
                "ExpressionAttributeValues": {**values, ":as_read": old["ciphertext"]},
            }
        }

    def reencrypt(self, row: StorablePluginConfig, renewed: StorablePluginConfig) -> bool:
        """Writes the ciphertexts of a key rotation, unless somebody changed them since `row`. 1 UpdateItem."""
        write = self.update(row, renewed)["Update"]
        try:
            self._dynamodb.update_item(**write)
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def scan(self) -> Iterator[StorablePluginConfig]:
        """Every registration, those being deleted included."""
        for page in self._dynamodb.get_paginator("scan").paginate(TableName=self._table):
            for item in page["Items"]:
                yield from_item(item)

    def page(self, limit: int, after: str | None) -> tuple[list[StorablePluginConfig], str | None]:
        """Up to `limit` registrations in no order, and the id to go on after; None at the end. 1 Scan."""
        start: dict[str, Any] = {} if after is None else {"ExclusiveStartKey": {"endpoint_id": {"S": after}}}
        answer = self._dynamodb.scan(TableName=self._table, Limit=limit, **start)
        last = answer.get("LastEvaluatedKey")
        return [from_item(item) for item in answer["Items"]], last["endpoint_id"]["S"] if last else None

    def count(self) -> int:
        """How many rows there are."""
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=self._table, Select="COUNT")
        return sum(page["Count"] for page in pages)


def to_item(row: StorablePluginConfig) -> dict[str, Any]:
    """The row as stored."""
    item: dict[str, Any] = {
        "endpoint_id": {"S": row.endpoint_id},
        "revision": {"N": str(row.revision)},
        "plugin": {"S": row.plugin},
        "resource_id": {"S": row.resource_id},
        "url": {"S": row.url},
        "ciphertext": {"B": row.ciphertext},
        "header_names": {"L": [{"S": name} for name in row.header_names]},
        "checks": {"S": json.dumps(row.checks)},
        "healthcheck_interval": {"N": str(row.healthcheck_interval)},
        "host": {"S": row.host},
        "priority": {"N": str(row.priority)},
        "created_at": {"N": str(row.created_at)},
        "encrypted_at": {"N": str(row.encrypted_at)},
    }
    if row.lease_seconds is not None:
        item["lease_seconds"] = {"N": str(row.lease_seconds)}
    if row.previous_ciphertext is not None:
        item["previous_ciphertext"] = {"B": row.previous_ciphertext}
        item["previous_until"] = {"N": str(row.previous_until)}
    return item


def from_item(item: dict[str, Any]) -> StorablePluginConfig:
    """The registration of a stored row."""
    return StorablePluginConfig(
        endpoint_id=item["endpoint_id"]["S"],
        revision=int(item["revision"]["N"]),
        plugin=item["plugin"]["S"],
        resource_id=item["resource_id"]["S"],
        url=item["url"]["S"],
        ciphertext=bytes(item["ciphertext"]["B"]),
        header_names=tuple(name["S"] for name in item["header_names"]["L"]),
        checks=tuple(json.loads(item["checks"]["S"])),
        healthcheck_interval=int(item["healthcheck_interval"]["N"]),
        host=item["host"]["S"],
        priority=int(item["priority"]["N"]),
        lease_seconds=int(item["lease_seconds"]["N"]) if "lease_seconds" in item else None,
        created_at=int(item["created_at"]["N"]),
        # Rows of version 0.1 do not have it.
        encrypted_at=int(item.get("encrypted_at", item["created_at"])["N"]),
        previous_ciphertext=bytes(item["previous_ciphertext"]["B"]) if "previous_ciphertext" in item else None,
        previous_until=int(item["previous_until"]["N"]) if "previous_until" in item else None,
    )
