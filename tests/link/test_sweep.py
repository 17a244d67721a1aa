"""The sweep: every resource that is due within a minute gets a wake-up message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from link import deployment
from link.election.state import Resource
from link.store.lock_item import SHARDS, due_shard, to_item
from link.sweep import Sweep
from tests.simulation.store import Store
from tests.support.deployed import environment, settings
from tests.support.hands import HeldClock
from tests.support.ids import NOW


class Sqs:
    """Takes messages in batches; the first message of a batch fails while `refusing`."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.refusing = False

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        assert QueueUrl == "wake-up"
        self.messages += Entries
        return {"Failed": [{"Id": Entries[0]["Id"]}]} if self.refusing else {}

    def woken(self) -> dict[str, int]:
        bodies = [json.loads(message["MessageBody"]) for message in self.messages]
        return {body["resource_id"]: body["due_at"] for body in bodies}


class Deployment:
    """The sweep over a table of resources, by name and due_at."""

    def __init__(self, **due_at: int | None) -> None:
        self.sqs, self.store = Sqs(), Store(settings())
        for name, at in due_at.items():
            self.store.put_item(TableName=settings().locks_table, Item=to_item(Resource(name, 1, due_at=at)))
        clients = {"dynamodb": self.store, "sqs": self.sqs}
        self.sweep: Sweep = deployment.sweep(environment(), client=clients.__getitem__, clock=HeldClock())


def test_what_is_due_within_a_minute_is_woken_up_and_nothing_else() -> None:
    deployed = Deployment(late=NOW - 5, now=NOW, soon=NOW + 60_000, later=NOW + 60_001, quiet=None)
    assert deployed.sweep.run() == 3
    assert deployed.sqs.woken() == {"late": NOW - 5, "now": NOW, "soon": NOW + 60_000}
    delays = {json.loads(one["MessageBody"])["resource_id"]: one["DelaySeconds"] for one in deployed.sqs.messages}
    assert delays == {"late": 0, "now": 0, "soon": 60}


def test_every_shard_is_swept() -> None:
    names = [f"ip-{number}" for number in range(100)]
    assert {due_shard(name) for name in names} == set(range(SHARDS))
    deployed = Deployment(**dict.fromkeys(names, NOW))
    assert deployed.sweep.run() == 100
    assert deployed.sqs.woken().keys() == set(names)


def test_the_second_page_of_a_shard_is_swept() -> None:
    """A page ends after 1 MiB, which no test fills."""
    dynamodb, sqs = boto3.client("dynamodb", region_name="eu-west-1"), Sqs()
    due = [
        {"resource_id": {"S": name}, "due_shard": {"N": "3"}, "due_at": {"N": str(NOW)}} for name in ("paris", "london")
    ]
    query = {
        "TableName": settings().locks_table,
        "IndexName": "due",
        "KeyConditionExpression": "due_shard = :shard AND due_at <= :until",
        "ExpressionAttributeValues": {":shard": {"N": "3"}, ":until": {"N": str(NOW + 60_000)}},
    }
    clients = {"dynamodb": dynamodb, "sqs": sqs}
    sweep = deployment.sweep(environment(), client=clients.__getitem__, clock=HeldClock())
    with Stubber(dynamodb) as stubber:
        stubber.add_response("query", {"Items": due[:1], "LastEvaluatedKey": due[0]}, query)
        stubber.add_response("query", {"Items": due[1:]}, {**query, "ExclusiveStartKey": due[0]})
        assert sweep.run(shards=[3]) == 2
    assert sqs.woken() == {"paris": NOW, "london": NOW}


def test_batches_are_sent_by_the_threads_that_it_is_given() -> None:
    deployed = Deployment(**{f"ip-{number}": NOW for number in range(100)})
    calls: list[int] = []

    def at_once(send: Any, batches: list[Any]) -> Iterator[int]:
        calls.append(len(batches))
        with ThreadPoolExecutor(2) as pool:
            yield from pool.map(send, batches)

    assert deployed.sweep.run(at_once) == 100
    assert calls == [10]
    assert len(deployed.sqs.woken()) == 100


def test_messages_that_sqs_did_not_take_make_the_sweep_fail(caplog: pytest.LogCaptureFixture) -> None:
    deployed = Deployment(paris=NOW, london=NOW)
    deployed.sqs.refusing = True
    with (
        caplog.at_level("INFO"),
        pytest.raises(RuntimeError, match="SQS did not take 1 of 2 wake-ups: the next sweep repeats them"),
    ):
        deployed.sweep.run()
    (line,) = [record for record in caplog.records if record.message == "sweep.done"]
    assert (line.woken, line.failed) == (2, 1)  # type: ignore[attr-defined]
