"""The simulation's store and keys answer as moto's do; what only real DynamoDB does is tested on the local cloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from tests.simulation.store import Item, Keys, Store
from tests.support.deployed import create_tables, settings

SETTINGS = settings("")
LOCKS, ENDPOINTS, TRANSITIONS = SETTINGS.locks_table, SETTINGS.endpoints_table, SETTINGS.transitions_table


def lock(resource_id: str, version: int, **more: Any) -> Item:
    return {"resource_id": {"S": resource_id}, "version": {"N": str(version)}, **more}


def put(item: Item, before: int | None) -> Item:
    write: Item = {"TableName": LOCKS, "Item": item, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    if before is None:
        return write | {"ConditionExpression": "attribute_not_exists(resource_id)"}
    values = {":before": {"N": str(before)}}
    return write | {"ConditionExpression": "version = :before", "ExpressionAttributeValues": values}


def row(endpoint_id: str) -> Item:
    return {"Put": {"TableName": ENDPOINTS, "Item": {"endpoint_id": {"S": endpoint_id}}}}


def update(endpoint_id: str, before: str, after: str, *, removing: bool = False) -> Item:
    """As the registry writes it."""
    return {
        "Update": {
            "TableName": ENDPOINTS,
            "Key": {"endpoint_id": {"S": endpoint_id}},
            "UpdateExpression": "SET #url = :url, #ciphertext = :ciphertext" + " REMOVE #host" * removing,
            "ConditionExpression": "#ciphertext = :as_read",
            "ExpressionAttributeNames": {"#url": "url", "#ciphertext": "ciphertext"}
            | ({"#host": "host"} if removing else {}),
            "ExpressionAttributeValues": {
                ":url": {"S": after},
                ":ciphertext": {"S": after},
                ":as_read": {"S": before},
            },
        }
    }


def transition(version: int) -> Item:
    return {"Put": {"TableName": TRANSITIONS, "Item": lock("a", version)}}


def due(shard: int, until: int) -> Item:
    values = {":shard": {"N": str(shard)}, ":until": {"N": str(until)}}
    condition = "due_shard = :shard AND due_at <= :until"
    return {"KeyConditionExpression": condition, "IndexName": "due", "ExpressionAttributeValues": values}


def due_item(resource_id: str, shard: int, at: int) -> Item:
    return lock(resource_id, 1, due_shard={"N": str(shard)}, due_at={"N": str(at)})


def transact(*writes: Item) -> Callable[[Any], Any]:
    return lambda client: client.transact_write_items(TransactItems=list(writes))


FOUR = {"endpoint_id": {"S": "vip-4"}, "ciphertext": {"S": "a"}, "host": {"S": "paris"}}
CALLS: list[Callable[[Any], Any]] = [
    lambda client: client.get_item(TableName=LOCKS, Key={"resource_id": {"S": "a"}}, ConsistentRead=True),
    lambda client: client.put_item(**put(lock("a", 1), 3)),
    lambda client: client.put_item(**put(lock("a", 1), None)),
    lambda client: client.put_item(**put(lock("a", 1), None)),
    lambda client: client.put_item(**put(lock("a", 2), 1)),
    lambda client: client.put_item(**put(lock("a", 2), 1)),
    lambda client: client.get_item(TableName=LOCKS, Key={"resource_id": {"S": "a"}}, ConsistentRead=True),
    transact({"Put": put(lock("a", 3), 2)}, transition(3), row("vip-1"), row("vip-2")),
    transact({"Put": put(lock("a", 3), 2)}, transition(4), row("vip-3")),
    transact({"Put": put(lock("b", 1), 1)}, row("vip-3")),
    transact(
        {"Put": put(lock("a", 4), 3)}, {"Delete": {"TableName": ENDPOINTS, "Key": {"endpoint_id": {"S": "vip-1"}}}}
    ),
    transact({"Put": {"TableName": ENDPOINTS, "Item": FOUR}}),
    transact({"Put": put(lock("a", 5), 4)}, update("vip-4", "a", "b")),
    transact({"Put": put(lock("a", 6), 5)}, update("vip-4", "a", "c")),
    transact({"Put": put(lock("a", 6), 4)}, update("vip-4", "b", "c")),
    transact({"Put": put(lock("a", 6), 5)}, update("vip-5", "b", "c")),
    transact({"Put": put(lock("a", 6), 5)}, update("vip-4", "b", "c", removing=True)),
    lambda client: client.scan(TableName=ENDPOINTS),
    lambda client: client.scan(TableName=ENDPOINTS, Select="COUNT"),
    lambda client: client.put_item(TableName=LOCKS, Item=due_item("c", 1, 50)),
    lambda client: client.put_item(TableName=LOCKS, Item=due_item("d", 1, 40)),
    lambda client: client.put_item(TableName=LOCKS, Item=due_item("e", 2, 40)),
    lambda client: client.query(TableName=LOCKS, **due(1, 50)),
    lambda client: client.query(TableName=LOCKS, **due(1, 49)),
    lambda client: [page["Items"] for page in client.get_paginator("query").paginate(TableName=LOCKS, **due(2, 99))],
    lambda client: [page["Count"] for page in client.get_paginator("scan").paginate(TableName=LOCKS, Select="COUNT")],
    lambda client: client.batch_get_item(
        RequestItems={LOCKS: {"Keys": [{"resource_id": {"S": "a"}}, {"resource_id": {"S": "none"}}]}}
    ),
    lambda client: client.query(
        TableName=TRANSITIONS,
        KeyConditionExpression="resource_id = :r",
        ExpressionAttributeValues={":r": {"S": "a"}},
    ),
]


def answer(call: Callable[[Any], Any], client: Any) -> Any:
    """What a call comes to, without what depends on the service's mood."""
    try:
        got = call(client)
    except ClientError as error:
        reasons = [
            {name: reason[name] for name in ("Code", "Item") if name in reason}
            for reason in error.response.get("CancellationReasons", [])
        ]
        return error.response["Error"]["Code"], error.response.get("Item"), reasons
    if isinstance(got, list):
        return got
    return {name: got[name] for name in ("Item", "Items", "Responses", "UnprocessedKeys") if name in got}


def test_the_store_answers_like_moto() -> None:
    with mock_aws():
        moto = boto3.client("dynamodb", region_name="eu-west-1")
        create_tables(moto, SETTINGS)
        store = Store(SETTINGS)
        for number, call in enumerate(CALLS):
            assert answer(call, store) == answer(call, moto), f"call {number}"


def test_keys_open_a_ciphertext_for_its_context_only() -> None:
    keys, mine = Keys(), {"endpoint_id": "vip-1"}
    sealed = keys.encrypt(KeyId="key", Plaintext=b"secret", EncryptionContext=mine)["CiphertextBlob"]
    assert keys.decrypt(KeyId="key", CiphertextBlob=sealed, EncryptionContext=mine) == {"Plaintext": b"secret"}
    with pytest.raises(ClientError, match="InvalidCiphertext"):
        keys.decrypt(KeyId="key", CiphertextBlob=sealed, EncryptionContext={"endpoint_id": "vip-2"})
