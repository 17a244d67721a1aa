"""The conditional write, against moto: one thread. Contention is proved on MiniStack (tests/e2e)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from link.election.state import NEVER, Claim, Endpoint, Resource, Status
from link.errors import Conflict, Contended
from link.store import locks
from link.store.locks import Cause, Locks, Step
from tests.support.deployed import create_tables, settings
from tests.world import START, VirtualClock, size

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


@pytest.fixture(scope="module")
def tables():
    """Made once: they are the slowest part."""
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-west-1")
        create_tables(client, settings())
        yield client


@pytest.fixture
def dynamodb(tables):
    for table, key in (
        (settings().locks_table, ("resource_id",)),
        (settings().endpoints_table, ("endpoint_id",)),
        (settings().transitions_table, ("resource_id", "version")),
    ):
        for item in tables.scan(TableName=table)["Items"]:
            tables.delete_item(TableName=table, Key={name: item[name] for name in key})
    return Recorder(tables)


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
    resource = Resource(
        "ip ü", epoch=3, holder="b", commands=("c", "d"), due_at=START, endpoints={"a": full, "b": ACTIVE}
    )
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
    item = locks.to_item(
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


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalServerError", "ValidationException"])
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
    row: Any = {"Put": {"TableName": table, "Item": {"endpoint_id": {"S": "paris"}}}}
    locks.commit(Resource("ip"), Resource("ip", 1, "n", endpoints={"paris": ACTIVE}), CAUSE, row=row)
    assert dynamodb.client.scan(TableName=table)["Count"] == 1
    put(locks, Resource("ip"))
    assert dynamodb.client.scan(TableName=table)["Count"] == 0


def test_the_due_index_holds_what_is_due_in_its_shard(locks: Locks) -> None:
    for name, due_at in (("soon", START + 1), ("later", START + 2), ("quiet", None)):
        put(locks, Resource(name, due_at=due_at))
    found = list(locks.due(START + 1))
    assert found == [("soon", START + 1)]


def test_reading_many_reads_all(locks: Locks) -> None:
    names = [f"ip-{n}" for n in range(120)]
    for name in names[:3] + names[-1:]:
        put(locks, Resource(name))
    assert locks.read_all(names).keys() == {*names[:3], names[-1]}


# Waiting and giving up, on a clock that counts


class Pauses(VirtualClock):
    """Remembers its pauses, and takes `costs_ms` for everything in between."""

    def __init__(self, costs_ms: int = 0) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self.costs_ms = costs_ms

    def now(self) -> int:
        self.at += self.costs_ms
        return self.at

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        super().pause(seconds)


class Scripted:
    """A DynamoDB client that answers one call after another from a list, the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.asked.append(arguments)
            assert len(self.asked) < 1_000, "it never gives up"
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, ClientError):
                raise answer
            return answer

        return call


@pytest.fixture
def highest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks.random, "random", lambda: 1.0)


def item(epoch: int = 0) -> dict[str, Any]:
    return locks.to_item(Resource("ip", version=1, nonce="theirs", epoch=epoch))


LOST = ClientError({"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}, "Item": item()}, "PutItem")  # type: ignore[typeddict-unknown-key]


@pytest.mark.usefixtures("highest")
def test_pauses_double_up_to_a_fifth_of_a_second_and_end_after_ten() -> None:
    clock = Pauses()
    with pytest.raises(Contended, match="ip: 53 conditional writes lost in 10 s"):
        Locks(Scripted({"Item": item()}, LOST), settings(), clock).update("ip", grow, CAUSE)  # type: ignore[arg-type]
    assert clock.pauses == [0.05, 0.1] + [0.2] * 50


@pytest.mark.parametrize(("costs_ms", "tries"), [(10_000, 1), (9_999, 2)])
def test_ten_seconds_are_ten_thousand_milliseconds(costs_ms: int, tries: int) -> None:
    clock = Pauses(costs_ms)
    clock.pause = lambda seconds: None  # type: ignore[method-assign]
    with pytest.raises(Contended, match=f"ip: {tries} conditional writes lost"):
        Locks(Scripted({"Item": item()}, LOST), settings(), clock).update("ip", grow, CAUSE)  # type: ignore[arg-type]


def unread(names: list[str], read: list[str] = ()) -> dict[str, Any]:  # type: ignore[assignment]
    table, keys = settings().locks_table, [{"resource_id": {"S": name}} for name in names]
    items = [locks.to_item(Resource(name, version=1)) for name in read]
    return {"Responses": {table: items}, "UnprocessedKeys": {table: {"Keys": keys}} if keys else {}}


@pytest.mark.usefixtures("highest")
def test_what_dynamodb_left_unread_is_asked_for_again_a_hundred_at_a_time() -> None:
    names = [f"ip-{n}" for n in range(250)]
    client = Scripted(unread(names[90:100], names[:90]), unread([], names[90:190]), unread([], names[190:250]))
    clock = Pauses()
    found = Locks(client, settings(), clock).read_all(names)  # type: ignore[arg-type]
    asked = [[key["resource_id"]["S"] for key in one["RequestItems"]["locks"]["Keys"]] for one in client.asked]
    assert asked == [names[:100], names[90:190], names[190:]]
    assert set(found) == set(names)
    assert clock.pauses == [0.2], "only after something was left"


@pytest.mark.usefixtures("highest")
def test_a_table_that_leaves_everything_unread_is_given_up_after_ten_seconds() -> None:
    clock = Pauses()
    with pytest.raises(Contended, match="left 2 keys of a BatchGetItem unread for 10 s"):
        Locks(Scripted(unread(["a", "b"])), settings(), clock).read_all(["a", "b"])  # type: ignore[arg-type]
    assert clock.pauses == [0.2] * 50
    exactly = Pauses(9_999)
    with pytest.raises(Contended):
        Locks(Scripted(unread(["a"])), settings(), exactly).read_all(["a"])  # type: ignore[arg-type]
    assert len(exactly.pauses) == 1


def test_a_refused_transaction_brings_the_winner_with_it_or_is_raised() -> None:
    reasons = [{"Code": "ConditionalCheckFailed", "Item": item(epoch=4)}, {"Code": "None"}]
    refused = {"Error": {"Code": "TransactionCanceledException", "Message": ""}}
    lost = ClientError({**refused, "CancellationReasons": reasons}, "TransactWriteItems")  # type: ignore[arg-type]
    before, after = Resource("ip", 1), Resource("ip", 2, "mine", epoch=1, holder="paris")
    client = Scripted(lost)
    assert Locks(client, settings(), VirtualClock()).commit(before, after, CAUSE).epoch == 4  # type: ignore[arg-type]
    assert len(client.asked) == 1, "no second read"
    for nothing in ([], [{"Code": "ValidationError"}, {"Code": "None"}]):
        client = Scripted(ClientError({**refused, "CancellationReasons": nothing}, "TransactWriteItems"))  # type: ignore[arg-type]
        with pytest.raises(ClientError):
            Locks(client, settings(), VirtualClock()).commit(before, after, CAUSE)  # type: ignore[arg-type]
        assert len(client.asked) == 1, "not taken for a lost race"


def fresh(text: str) -> str:
    """An equal text that is another object, as everything is that comes over the wire."""
    return "".join(list(text))


def cancelled(*codes: str, code: str = "TransactionCanceledException") -> ClientError:
    response = {
        "Error": {"Code": fresh(code), "Message": ""},
        "CancellationReasons": [{"Code": fresh(c)} for c in codes],
    }
    return ClientError(response, "TransactWriteItems")  # type: ignore[arg-type]


CONFLICTS = [
    cancelled("TransactionConflict", "None"),
    cancelled("None", "TransactionConflict"),
    ClientError({"Error": {"Code": fresh("TransactionConflictException"), "Message": ""}}, "TransactWriteItems"),
]
RAISED = [
    ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "TransactWriteItems"),
    cancelled(),
    cancelled("None", "ThrottlingError"),
    cancelled("ValidationError", "None"),
    cancelled("AccessDenied", "None"),
    # Reasons of a cancelled transaction in an error that is none.
    cancelled("ConditionalCheckFailed", code="ThrottlingException"),
    cancelled("ConditionalCheckFailed", code="ValidationException"),
]


@pytest.mark.parametrize("error", CONFLICTS, ids=str)
def test_a_conflict_is_a_lost_race_and_the_item_is_read(error: ClientError) -> None:
    client = Scripted(error, {"Item": item(epoch=4)})
    before, after = Resource("ip", 1), Resource("ip", 2, "mine", epoch=1, holder="paris")
    assert Locks(client, settings(), VirtualClock()).commit(before, after, CAUSE).epoch == 4  # type: ignore[arg-type]
    assert [one.get("ConsistentRead") for one in client.asked] == [None, True]


@pytest.mark.parametrize("error", RAISED, ids=str)
def test_no_other_error_is_taken_for_a_lost_race(error: ClientError) -> None:
    client = Scripted(error)
    before, after = Resource("ip", 1), Resource("ip", 2, "mine", epoch=1, holder="paris")
    with pytest.raises(ClientError):
        Locks(client, settings(), VirtualClock()).commit(before, after, CAUSE)  # type: ignore[arg-type]
    assert len(client.asked) == 1


def test_the_same_again_is_nothing_to_write(locks: Locks, dynamodb: Recorder) -> None:
    put(locks, Resource("ip", holder="paris", endpoints={"paris": ACTIVE}))
    dynamodb.calls.clear()
    committed = locks.update("ip", lambda resource, nonce: Step(replace(resource), True), CAUSE)
    assert (committed.after is committed.before, committed.owes_wake_up) == (True, True)
    assert dynamodb.calls == ["get_item"]


def test_the_same_holder_is_no_change_for_the_audit(locks: Locks, dynamodb: Recorder) -> None:
    before = put(locks, Resource("ip", holder="paris", endpoints={"paris": ACTIVE}))
    dynamodb.calls.clear()
    after = replace(before, version=before.version + 1, nonce="mine", holder=fresh("paris"))
    assert locks.commit(before, after, CAUSE) == after
    assert dynamodb.calls == ["put_item"]


def test_a_resource_stays_in_its_shard_and_a_nonce_has_72_bits(locks: Locks) -> None:
    # crc32("123456789") is 0xcbf43926, the check value in every table of CRCs.
    assert (locks.SHARDS, locks.due_shard("123456789")) == (8, 0xCBF43926 % 8)
    assert len(locks.update("ip", grow, CAUSE).after.nonce) == 12


def test_pages_hold_every_resource_once(locks: Locks) -> None:
    for number in range(5):
        put(locks, Resource(f"ip-{number}", epoch=number + 1))
    found, after = locks.page(2, None)
    assert len(found) == 2 and after == found[-1].resource_id
    while after is not None:
        more, after = locks.page(2, after)
        found += more
    assert {resource.resource_id: resource.epoch for resource in found} == {f"ip-{n}": n + 1 for n in range(5)}
    assert len(found) == 5
    assert locks.page(100, None)[1] is None


def test_the_audit_is_read_newest_first_and_from_a_version_on(locks: Locks) -> None:
    resource = put(locks, Resource("ip", endpoints={"paris": replace(ACTIVE, status=Status.STANDBY)}))
    for epoch in (1, 2, 3):
        resource = put(locks, replace(resource, epoch=epoch, holder="paris" if epoch % 2 else None))
    put(locks, replace(resource, resource_id="another"))
    versions = [int(row["version"]["N"]) for row in locks.transitions("ip", 10, None)]
    assert versions == [4, 3, 2]
    assert [int(row["version"]["N"]) for row in locks.transitions("ip", 10, 4)] == [3, 2]
    assert [int(row["version"]["N"]) for row in locks.transitions("ip", 1, 4)] == [3]
    assert locks.transitions("nobody's", 10, None) == []


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_freezing_and_unfreezing_stand_in_the_audit(
    locks: Locks, dynamodb: Recorder, before: bool, after: bool
) -> None:
    old = Resource("ip", 1, "n", epoch=1, holder="paris", endpoints={"paris": ACTIVE}, frozen=before)
    locks.commit(Resource("ip"), replace(old, version=1), CAUSE)
    locks.commit(old, replace(old, version=2, frozen=after), Cause("freeze", "who"))
    assert locks.read("ip").frozen is after
    (row,) = [item for item in locks.transitions("ip", 10, None) if item["version"] == {"N": "2"}]
    assert (row["changes"], row["cause"]["M"]["kind"]) == ({"L": []}, {"S": "freeze"})


def test_a_row_that_a_key_rotation_changed_meanwhile_is_a_conflict_and_nothing_is_written(
    locks: Locks, dynamodb: Recorder
) -> None:
    table, key = settings().endpoints_table, {"endpoint_id": {"S": "paris"}}
    dynamodb.client.put_item(TableName=table, Item={**key, "ciphertext": {"S": "anew"}})
    row: Any = {
        "Update": {
            "TableName": table,
            "Key": key,
            "UpdateExpression": "SET ciphertext = :mine",
            "ConditionExpression": "ciphertext = :as_read",
            "ExpressionAttributeValues": {":mine": {"S": "mine"}, ":as_read": {"S": "before"}},
        }
    }
    with pytest.raises(Conflict, match="a key rotation"):
        locks.commit(Resource("ip"), Resource("ip", 1, "n", endpoints={"paris": ACTIVE}), CAUSE, row=row)
    assert locks.read("ip").version == 0
    assert dynamodb.client.get_item(TableName=table, Key=key)["Item"]["ciphertext"] == {"S": "anew"}
