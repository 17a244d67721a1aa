"""DynamoDB and KMS as far as the code sees them: in memory, atomic, and a thousand times faster than moto.

`test_store.py` holds the answers against moto's. Items are kept as they come: nobody changes one afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from link.settings import Settings

Item = dict[str, Any]
Key = tuple[tuple[str, Any], ...]


def refused(code: str, operation: str, **more: Any) -> ClientError:
    """The error of an AWS service, as botocore raises it."""
    return ClientError({"Error": {"Code": code, "Message": code}, **more}, operation)  # type: ignore[typeddict-item]


class Store:
    """The tables. `written` is told of every write that took place, one call per atomic write."""

    def __init__(self, settings: Settings, written: Callable[[dict[str, Item]], None] = lambda _: None) -> None:
        self._keys = {
            settings.locks_table: ("resource_id",),
            settings.endpoints_table: ("endpoint_id",),
            settings.transitions_table: ("resource_id", "version"),
            settings.probes_table: ("shard",),
            settings.signals_table: ("signal_key", "endpoint_id"),
        }
        self.tables: dict[str, dict[Key, Item]] = {name: {} for name in self._keys}
        self._written = written

    def get_item(self, TableName: str, Key: Item, ConsistentRead: bool = False) -> Item:
        item = self.tables[TableName].get(self._key(TableName, Key))
        return {} if item is None else {"Item": item}

    def put_item(self, **write: Any) -> Item:
        met = self._met(write)
        if met is not None:
            more = {"Item": met} if met and "ReturnValuesOnConditionCheckFailure" in write else {}
            raise refused("ConditionalCheckFailedException", "PutItem", **more)
        self._put(write)
        self._written({write["TableName"]: write["Item"]})
        return {}

    def transact_write_items(self, TransactItems: list[dict[str, Any]]) -> Item:
        assert len(TransactItems) <= 100, "DynamoDB's limit"
        reasons: list[Item] = []
        for write in TransactItems:
            ((kind, what),) = write.items()
            met = self._met(what) if kind != "Delete" else None
            reasons.append({"Code": "None"} if met is None else {"Code": "ConditionalCheckFailed"})
            if met and "ReturnValuesOnConditionCheckFailure" in what:
                reasons[-1]["Item"] = met
        if any(reason["Code"] != "None" for reason in reasons):
            raise refused("TransactionCanceledException", "TransactWriteItems", CancellationReasons=reasons)
        puts = {}
        for write in TransactItems:
            if "Delete" in write:
                name = write["Delete"]["TableName"]
                self.tables[name].pop(self._key(name, write["Delete"]["Key"]), None)
            else:
                put = write["Put"] if "Put" in write else self._updated(write["Update"])
                self._put(put)
                puts[put["TableName"]] = put["Item"]
        self._written(puts)
        return {}

    def update_item(self, **update: Any) -> Item:
        if self._met(update) is not None:
            raise refused("ConditionalCheckFailedException", "UpdateItem")
        put = self._updated(update)
        self._put(put)
        self._written({put["TableName"]: put["Item"]})
        return {}

    def _updated(self, update: Item) -> Item:
        """The put that an update comes to: `SET #a = :a, … REMOVE #b, … ADD version :one` is all that is written."""
        name, names = update["TableName"], update.get("ExpressionAttributeNames", {})
        values = update["ExpressionAttributeValues"]
        item = dict(self.tables[name].get(self._key(name, update["Key"])) or update["Key"])
        expression, adds, _ = update["UpdateExpression"].partition(" ADD version :one")
        sets, _, removes = expression.removeprefix("SET ").partition(" REMOVE ")
        for one in sets.split(", "):
            attribute, value = one.split(" = ")
            item[names.get(attribute, attribute)] = values[value]
        for attribute in filter(None, removes.split(", ")):
            item.pop(names[attribute], None)
        if adds:
            item["version"] = {"N": str(int(item.get("version", {"N": "0"})["N"]) + 1)}
        return {"TableName": name, "Item": item}

    def batch_get_item(self, RequestItems: dict[str, Any]) -> Item:
        ((name, wanted),) = RequestItems.items()
        found = [self.tables[name].get(self._key(name, key)) for key in wanted["Keys"]]
        return {"Responses": {name: [item for item in found if item is not None]}, "UnprocessedKeys": {}}

    def query(self, TableName: str, KeyConditionExpression: str, ExpressionAttributeValues: Item, **_: Any) -> Item:
        items = self.tables[TableName].values()
        values = ExpressionAttributeValues
        if KeyConditionExpression == "due_shard = :shard AND due_at <= :until":
            found = [
                {name: item[name] for name in ("resource_id", "due_shard", "due_at")}
                for item in items
                if item.get("due_shard") == values[":shard"] and int(item["due_at"]["N"]) <= int(values[":until"]["N"])
            ]
            return {"Items": sorted(found, key=lambda item: int(item["due_at"]["N"]))}
        if KeyConditionExpression == "probed = :all AND probe_key BETWEEN :first AND :last":
            first, last = values[":first"]["S"], values[":last"]["S"]
            probed = [item for item in items if "probed" in item and first <= item["probe_key"]["S"] <= last]
            return {"Items": sorted(probed, key=lambda item: item["probe_key"]["S"])}
        if KeyConditionExpression in ("signal_key = :key", "signal_key = :observed"):
            signal = next(iter(values.values()))
            found = [item for item in items if item["signal_key"] == signal]
            return {"Items": sorted(found, key=lambda item: item["endpoint_id"]["S"])}
        assert KeyConditionExpression == "resource_id = :r", KeyConditionExpression
        rows = [item for item in items if item["resource_id"] == values[":r"]]
        return {"Items": sorted(rows, key=lambda item: int(item["version"]["N"]))}

    def scan(self, TableName: str, Select: str = "", Limit: int | None = None) -> Item:
        # No history has more items than a page.
        items = list(self.tables[TableName].values())
        return {"Count": len(items)} if Select == "COUNT" else {"Count": len(items), "Items": items}

    def get_paginator(self, method: str) -> Paginator:
        return Paginator(getattr(self, method))

    def _key(self, table: str, item: Item) -> Key:
        return tuple(next(iter(item[name].items())) for name in self._keys[table])

    def _met(self, put: Item) -> Item | None:
        """None when the write's condition holds; else the item that refutes it, empty if there is none."""
        present = self.tables[put["TableName"]].get(self._key(put["TableName"], put.get("Item") or put["Key"]))
        condition = put.get("ConditionExpression")
        if condition is None:
            return None
        if condition in ("attribute_not_exists(resource_id)", "attribute_not_exists(version)"):
            return present
        if condition.startswith("#"):
            names, values = put["ExpressionAttributeNames"], put["ExpressionAttributeValues"]
            pairs = [one.split(" = ") for one in condition.split(" AND ")]
            holds = present is not None and all(present.get(names[name]) == values[value] for name, value in pairs)
            return None if holds else present or {}
        if "told_at" in condition:
            told = int(put["ExpressionAttributeValues"][":at"]["N"])
            holds = present is not None and int(present.get("told_at", {"N": "0"})["N"]) < told
            return None if holds else present or {}
        assert condition == "version = :before", condition
        holds = present is not None and present["version"] == put["ExpressionAttributeValues"][":before"]
        return None if holds else present or {}

    def _put(self, put: Item) -> None:
        self.tables[put["TableName"]][self._key(put["TableName"], put["Item"])] = put["Item"]


class Paginator:
    def __init__(self, method: Callable[..., Item]) -> None:
        self._method = method

    def paginate(self, **arguments: Any) -> Iterator[Item]:
        yield self._method(**arguments)


class Keys:
    """KMS: a ciphertext opens for the context it was made for."""

    _renewed = 0

    def encrypt(self, KeyId: str, Plaintext: bytes, EncryptionContext: dict[str, str]) -> Item:
        sealed = {"context": EncryptionContext, "plaintext": Plaintext.hex()}
        return {"CiphertextBlob": json.dumps(sealed).encode()}

    def decrypt(self, KeyId: str, CiphertextBlob: bytes, EncryptionContext: dict[str, str]) -> Item:
        sealed = json.loads(CiphertextBlob)
        if sealed["context"] != EncryptionContext:
            raise refused("InvalidCiphertextException", "Decrypt")
        return {"Plaintext": bytes.fromhex(sealed["plaintext"])}

    def re_encrypt(self, CiphertextBlob: bytes, SourceEncryptionContext: dict[str, str], **_: Any) -> Item:
        plaintext = self.decrypt("", CiphertextBlob, SourceEncryptionContext)["Plaintext"]
        self._renewed += 1
        renewed = {"context": SourceEncryptionContext, "plaintext": plaintext.hex(), "renewed": self._renewed}
        return {"CiphertextBlob": json.dumps(renewed).encode()}
