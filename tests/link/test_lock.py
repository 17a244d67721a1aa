"""The conditional write, against moto: one thread. Contention is proved on MiniStack (tests/e2e)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from link import lock
from link.endpoint import NEVER, Claim, Endpoint, Resource, Status
from link.errors import Contended
from link.lock import Cause, Locks, Step
from tests.world import START, VirtualClock, create_tables, settings, size

CAUSE = Cause("report", "event-1")
ACTIVE = Endpoint(joined=START, status=Status.ACTIVATED, reported=Status.ACTIVATED, epoch=1, sequence=1)


class Recorder:
    """A DynamoDB client that remembers its calls and can lose the answer of the next write."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.calls: list[str] = []
        self.lose_answer = False
        self.answer_with: ClientError | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "get_paginator":
            return self.client.get_paginator

        def call(**arguments: Any) -> Any:
            self.calls.append(name)
            if self.answer_with is not None:
                error, self.answer_with = self.answer_with, None
                raise error
            if self.lose_answer and name != "get_item":
                # What botocore does: the write lands, its answer is lost, the same request goes out again.
                self.lose_answer = False
                getattr(self.client, name)(**arguments)
            return getattr(self.client, name)(**arguments)

        return call


@pytest.fixture
def dynamodb():
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-west-1")
        create_tables(client, settings())
        yield Recorder(client)


@pytest.fixture
def locks(dynamodb):
    return Locks(dynamodb, settings(), VirtualClock())


def put(locks: Locks, after: Resource) -> Resource:
    before = locks.read(after.resource_id)
    return locks.commit(before, replace(after, version=before.version + 1, nonce=f"n{before.version}"), CAUSE)


def grow(resource: Resource, nonce: str) -> Step:
    return Step(replace(resource, epoch=resource.epoch + 1), False)


def test_an_item_comes_back_as_it_was_written(locks: Locks) -> None:
    full = Endpoint(
        joined=START, revision=2, host="paris", priority=-5, lease_seconds=30, reported=Status.ACTIVATED,
        reported_at=START, lease_expires_at=START + 1, status=Status.STANDBY, epoch=3, sequence=4, reason="demoted",
        announced_at=START, delivered_sequence=3, delivered_at=START, attempt=2, next_attempt_at=NEVER, failure="dns",
        claim=Claim("token", START, 4), believed_until=NEVER, deleting=True,
    )  # fmt: skip
    resource = Resource("ip ü", epoch=3, holder="b", command="c", due_at=START, endpoints={"a": full, "b": ACTIVE})
    written = put(locks, resource)
    assert locks.read("ip ü") == written == replace(resource, version=1, nonce="n0")


def test_a_resource_nobody_wrote_has_version_0(locks: Locks) -> None:
    assert locks.read("nothing") == Resource("nothing")


def test_three_endpoints_with_leases_cost_one_write_unit() -> None:
    ids = [f"vip-{n}1111111-1111-4111-8111-111111111111" for n in (1, 2, 3)]
    e = replace(
        ACTIVE, host="paris-1", lease_seconds=30, reported_at=START, lease_expires_at=START, reason="elected",
        delivered_sequence=1, delivered_at=START, next_attempt_at=START, believed_until=NEVER, announced_at=START,
    )  # fmt: skip
    item = lock.to_item(
        Resource("floating-ip-203.0.113.7", 1000, "n" * 12, 1, ids[0], "", START, dict.fromkeys(ids, e))
    )
    assert size(item) <= 1024


def test_a_stale_writer_loses_and_learns_who_won(locks: Locks) -> None:
    put(locks, Resource("ip"))
    stale = locks.read("ip")
    won = put(locks, replace(stale, epoch=7))
    got = locks.commit(stale, replace(stale, epoch=9, version=2, nonce="mine"), CAUSE)
    assert got == won == locks.read("ip")


def test_two_who_create_the_item_at_once(locks: Locks) -> None:
    first = locks.commit(Resource("ip"), Resource("ip", 1, "first"), CAUSE)
    second = locks.commit(Resource("ip"), Resource("ip", 1, "second"), CAUSE)
    assert first.nonce == second.nonce == "first"


@pytest.mark.parametrize("changes_status", [False, True], ids=["put", "transaction"])
def test_a_write_whose_answer_was_lost_is_recognised(locks: Locks, dynamodb: Recorder, changes_status: bool) -> None:
    put(locks, Resource("ip", endpoints={"paris": replace(ACTIVE, status=Status.STANDBY)}))

    def step(resource: Resource, nonce: str) -> Step:
        after = replace(resource, epoch=resource.epoch + 1)
        return Step(replace(after, holder="paris", endpoints={"paris": ACTIVE}) if changes_status else after, False)

    dynamodb.lose_answer = True
    committed = locks.update("ip", step, CAUSE)
    assert (committed.after.epoch, committed.tries) == (1, 1)
    assert locks.read("ip") == committed.after


def test_update_starts_over_from_the_item_that_won(locks: Locks, dynamodb: Recorder) -> None:
    put(locks, Resource("ip"))
    stale = locks.read("ip")
    put(locks, replace(stale, epoch=41))
    dynamodb.calls.clear()
    committed = locks.update("ip", grow, CAUSE, known=stale)
    assert (committed.after.epoch, committed.tries) == (42, 2)
    assert dynamodb.calls == ["put_item", "put_item"], "the loser needs no second read"


def test_nothing_to_write_nothing_written(locks: Locks, dynamodb: Recorder) -> None:
    put(locks, Resource("ip"))
    dynamodb.calls.clear()
    committed = locks.update("ip", lambda resource, nonce: Step(resource, False), CAUSE)
    assert committed.after is committed.before
    assert dynamodb.calls == ["get_item"]


def test_a_remembered_item_serves_only_a_step_that_writes(locks: Locks) -> None:
    put(locks, Resource("ip"))
    stale = locks.read("ip")
    put(locks, replace(stale, epoch=5))
    committed = locks.update("ip", lambda resource, nonce: Step(resource, False), CAUSE, known=stale)
    assert committed.after.epoch == 5


def test_losing_for_ten_seconds_is_an_error(locks: Locks, dynamodb: Recorder) -> None:
    put(locks, Resource("ip"))
    clock = VirtualClock()
    slow = Locks(dynamodb, settings(), clock)

    def overtaken(resource: Resource, nonce: str) -> Step:
        put(locks, replace(locks.read("ip"), epoch=locks.read("ip").epoch + 1))
        clock.at += 1_000
        return Step(replace(resource, epoch=-1), False)

    with pytest.raises(Contended, match=r"ip: 1[01] conditional writes lost in 10 s"):
        slow.update("ip", overtaken, CAUSE)


@pytest.mark.parametrize("operation", ["put_item", "transact_write_items"])
def test_a_transaction_conflict_is_a_lost_race(locks: Locks, dynamodb: Recorder, operation: str) -> None:
    put(locks, Resource("ip", endpoints={"paris": replace(ACTIVE, status=Status.STANDBY)}))
    error: dict[str, Any] = {"Error": {"Code": "TransactionConflictException", "Message": ""}}
    if operation == "transact_write_items":
        error = {
            "Error": {"Code": "TransactionCanceledException", "Message": ""},
            "CancellationReasons": [{"Code": "TransactionConflict"}, {"Code": "None"}],
        }
    before = locks.read("ip")
    after = replace(before, version=2, nonce="mine")
    dynamodb.answer_with = ClientError(error, operation)  # type: ignore[arg-type]
    assert locks.commit(before, after, CAUSE) == before


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalServerError", "AccessDeniedException"])
def test_any_other_error_is_the_platforms_to_retry(locks: Locks, dynamodb: Recorder, code: str) -> None:
    dynamodb.answer_with = ClientError({"Error": {"Code": code, "Message": ""}}, "PutItem")
    with pytest.raises(ClientError, match=code):
        locks.commit(Resource("ip"), Resource("ip", 1, "mine"), CAUSE)


def test_a_change_of_status_is_written_with_its_audit_row(locks: Locks, dynamodb: Recorder) -> None:
    waiting = replace(ACTIVE, status=Status.STANDBY, sequence=0)
    put(locks, Resource("ip", endpoints={"paris": waiting}))
    dynamodb.calls.clear()
    put(locks, Resource("ip", epoch=1, holder="paris", endpoints={"paris": replace(ACTIVE, reason="elected")}))
    assert dynamodb.calls == ["get_item", "transact_write_items"]
    (row,) = dynamodb.client.scan(TableName=settings().transitions_table)["Items"]
    assert row == {
        "resource_id": {"S": "ip"},
        "version": {"N": "2"},
        "at": {"N": str(START)},
        "epoch": {"N": "1"},
        "holder": {"S": "paris"},
        "changes": {
            "L": [
                {
                    "M": {
                        "endpoint_id": {"S": "paris"},
                        "from": {"S": "STANDBY"},
                        "to": {"S": "ACTIVATED"},
                        "reason": {"S": "elected"},
                        "sequence": {"N": "1"},
                    }
                }
            ]
        },
        "cause": {"M": {"kind": {"S": "report"}, "id": {"S": "event-1"}}},
        "expires_at": {"N": str(START // 1000 + 90 * 86_400)},
    }


def test_an_entry_that_goes_takes_its_row_along(locks: Locks, dynamodb: Recorder) -> None:
    table = settings().endpoints_table
    locks.commit(
        Resource("ip"), Resource("ip", 1, "n", endpoints={"paris": ACTIVE}), CAUSE, row={"endpoint_id": {"S": "paris"}}
    )
    assert dynamodb.client.scan(TableName=table)["Count"] == 1
    put(locks, Resource("ip"))
    assert dynamodb.client.scan(TableName=table)["Count"] == 0


def test_the_due_index_holds_what_is_due_in_its_shard(locks: Locks) -> None:
    for name, due_at in (("soon", START + 1), ("later", START + 2), ("quiet", None)):
        put(locks, Resource(name, due_at=due_at))
    found = [due for shard in range(lock.SHARDS) for due in locks.due(shard, START + 1)]
    assert found == [("soon", START + 1)]


def test_reading_many_reads_all(locks: Locks) -> None:
    names = [f"ip-{n}" for n in range(120)]
    for name in names[:3] + names[-1:]:
        put(locks, Resource(name))
    assert locks.read_all(names).keys() == {*names[:3], names[-1]}
