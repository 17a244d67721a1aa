"""The conditional write, against moto: one thread. Contention is tested on the local cloud (tests/e2e)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from link.chance import Chance
from link.election.deliveries import claim_due
from link.election.state import Claim, Endpoint, Observer, Resource, Status, Word
from link.errors import Conflict, Contended
from link.store.lock_item import to_item
from link.store.locks import Cause, Locks, Step
from tests.support.deployed import create_tables, settings
from tests.support.hands import FixedChance, HeldClock
from tests.support.ids import NOW

CAUSE = Cause("report", "event-1")
SAID = {Observer.HOST: Word(Status.ACTIVATED, NOW)}
ACTIVE = Endpoint(joined=NOW, status=Status.ACTIVATED, words=SAID, epoch=1, sequence=1)


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
                # As in botocore: the write takes place, its answer is lost, and the same request is sent again.
                self.lose_answer = False
                getattr(self.client, name)(**arguments)
            return getattr(self.client, name)(**arguments)

        return call


@pytest.fixture(scope="module")
def tables() -> Iterator[Any]:
    """Created once: this is the slowest part."""
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-west-1")
        create_tables(client, settings())
        yield client


@pytest.fixture
def dynamodb(tables: Any) -> Recorder:
    for table, key in (
        (settings().locks_table, ("resource_id",)),
        (settings().endpoints_table, ("endpoint_id",)),
        (settings().transitions_table, ("resource_id", "version")),
    ):
        for item in tables.scan(TableName=table)["Items"]:
            tables.delete_item(TableName=table, Key={name: item[name] for name in key})
    return Recorder(tables)


@pytest.fixture
def locks(dynamodb: Recorder) -> Locks:
    return locks_of(dynamodb)


def locks_of(client: Any, clock: HeldClock | None = None, *, jitter: float = 1.0) -> Locks:
    """The lock items in a client's table."""
    return Locks(client, settings(), clock or HeldClock(), FixedChance(jitter))


def put(locks: Locks, after: Resource) -> Resource:
    before = locks.read(after.resource_id)
    return locks.commit(before, replace(after, version=before.version + 1, nonce=f"n{before.version}"), CAUSE)


def grow(resource: Resource, nonce: str) -> Step:
    return Step(replace(resource, epoch=resource.epoch + 1), False)


def test_an_item_comes_back_as_it_was_written(locks: Locks) -> None:
    waiting = replace(ACTIVE, status=Status.STANDBY, claim=Claim("token", NOW, 4), failure_kind="not_sent")
    resource = Resource(
        "ip ü", epoch=3, holder="b", commands=("c", "d"), due_at=NOW, endpoints={"a": waiting, "b": ACTIVE}
    )
    written = put(locks, resource)
    assert locks.read("ip ü") == written == replace(resource, version=1, nonce="n0")


def test_a_resource_that_was_never_written_has_version_0(locks: Locks) -> None:
    assert locks.read("nothing") == Resource("nothing")


def test_a_stale_writer_loses_and_gets_the_item_that_won(locks: Locks) -> None:
    put(locks, Resource("ip"))
    stale = locks.read("ip")
    won = put(locks, replace(stale, epoch=7))
    got = locks.commit(stale, replace(stale, epoch=9, version=2, nonce="mine"), CAUSE)
    assert got == won == locks.read("ip")


def test_of_two_processes_that_create_the_item_at_once_the_first_wins(locks: Locks) -> None:
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


def test_a_step_that_changes_nothing_writes_nothing(locks: Locks, dynamodb: Recorder) -> None:
    before = put(locks, Resource("ip"))
    dynamodb.calls.clear()
    committed = locks.update("ip", lambda resource, nonce: Step(resource, False), CAUSE)
    assert (committed.before, committed.after) == (before, before)
    assert (committed.written, committed.claimed, committed.tries) == (False, [], 0)
    assert dynamodb.calls == ["get_item"]


def test_a_known_item_serves_only_a_step_that_writes(locks: Locks) -> None:
    put(locks, Resource("ip"))
    stale = locks.read("ip")
    put(locks, replace(stale, epoch=5))
    committed = locks.update("ip", lambda resource, nonce: Step(resource, False), CAUSE, known=stale)
    assert committed.after.epoch == 5


def test_losing_for_ten_seconds_is_an_error(locks: Locks, dynamodb: Recorder) -> None:
    put(locks, Resource("ip"))
    clock = HeldClock()
    slow = locks_of(dynamodb, clock, jitter=0.0)

    def overtaken(resource: Resource, nonce: str) -> Step:
        put(locks, replace(locks.read("ip"), epoch=locks.read("ip").epoch + 1))
        clock.at += 1_000
        return Step(replace(resource, epoch=-1), False)

    with pytest.raises(Contended, match=r"ip: 10 conditional writes lost in 10 s"):
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
def test_any_other_error_is_raised_for_the_platform_to_retry(locks: Locks, dynamodb: Recorder, code: str) -> None:
    dynamodb.answer_with = ClientError({"Error": {"Code": code, "Message": ""}}, "PutItem")
    with pytest.raises(ClientError, match=code):
        locks.commit(Resource("ip"), Resource("ip", 1, "mine"), CAUSE)


def test_a_change_of_status_is_written_with_its_transition(locks: Locks, dynamodb: Recorder) -> None:
    waiting = replace(ACTIVE, status=Status.STANDBY, sequence=0)
    put(locks, Resource("ip", endpoints={"paris": waiting}))
    dynamodb.calls.clear()
    put(locks, Resource("ip", epoch=1, holder="paris", endpoints={"paris": replace(ACTIVE, reason="elected")}))
    assert dynamodb.calls == ["get_item", "transact_write_items"]
    (row,) = dynamodb.client.scan(TableName=settings().transitions_table)["Items"]
    assert row == {
        "resource_id": {"S": "ip"},
        "version": {"N": "2"},
        "at": {"N": str(NOW)},
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
        "expires_at": {"N": str(NOW // 1000 + 90 * 86_400)},
    }


def test_an_entry_is_removed_together_with_its_registration(locks: Locks, dynamodb: Recorder) -> None:
    table = settings().endpoints_table
    row: Any = {"Put": {"TableName": table, "Item": {"endpoint_id": {"S": "paris"}}}}
    locks.commit(Resource("ip"), Resource("ip", 1, "n", endpoints={"paris": ACTIVE}), CAUSE, [row])
    assert dynamodb.client.scan(TableName=table)["Count"] == 1
    put(locks, Resource("ip"))
    assert dynamodb.client.scan(TableName=table)["Count"] == 0


def test_the_due_index_holds_what_is_due_in_its_shard(locks: Locks) -> None:
    for name, due_at in (("soon", NOW + 1), ("later", NOW + 2), ("quiet", None)):
        put(locks, Resource(name, due_at=due_at))
    found = list(locks.due(NOW + 1))
    assert found == [("soon", NOW + 1)]


def test_reading_many_reads_all(locks: Locks) -> None:
    names = [f"ip-{n}" for n in range(120)]
    for name in names[:3] + names[-1:]:
        put(locks, Resource(name))
    assert locks.read_all(names).keys() == {*names[:3], names[-1]}


# Waiting and giving up


class Scripted:
    """A DynamoDB client that gives the answers of a list one after the other, and then the last one again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.calls.append(arguments)
            assert len(self.calls) < 1_000, "it never gives up"
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, ClientError):
                raise answer
            return answer

        return call


def item(epoch: int = 0) -> dict[str, Any]:
    return to_item(Resource("ip", version=1, nonce="theirs", epoch=epoch))


LOST = ClientError({"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}, "Item": item()}, "PutItem")  # type: ignore[typeddict-unknown-key]


def test_pauses_double_up_to_a_fifth_of_a_second_and_end_after_ten() -> None:
    clock = HeldClock()
    with pytest.raises(Contended, match="ip: 53 conditional writes lost in 10 s"):
        locks_of(Scripted({"Item": item()}, LOST), clock).update("ip", grow, CAUSE)
    assert clock.pauses == [0.05, 0.1] + [0.2] * 50


@pytest.mark.parametrize(("costs_ms", "tries"), [(10_000, 1), (9_999, 2)])
def test_ten_seconds_are_ten_thousand_milliseconds(costs_ms: int, tries: int) -> None:
    clock = HeldClock(costs_ms=costs_ms)
    clock.pause = lambda seconds: None  # type: ignore[method-assign]
    with pytest.raises(Contended, match=f"ip: {tries} conditional writes lost"):
        locks_of(Scripted({"Item": item()}, LOST), clock).update("ip", grow, CAUSE)


def unread(names: Sequence[str], read: Sequence[str] = ()) -> dict[str, Any]:
    """The answer of a BatchGetItem that left some names unread."""
    table, keys = settings().locks_table, [{"resource_id": {"S": name}} for name in names]
    items = [to_item(Resource(name, version=1)) for name in read]
    return {"Responses": {table: items}, "UnprocessedKeys": {table: {"Keys": keys}} if keys else {}}


def test_what_dynamodb_left_unread_is_requested_again_a_hundred_at_a_time() -> None:
    names = [f"ip-{n}" for n in range(250)]
    client = Scripted(unread(names[90:100], names[:90]), unread([], names[90:190]), unread([], names[190:250]))
    clock = HeldClock()
    found = locks_of(client, clock).read_all(names)
    requested = [[key["resource_id"]["S"] for key in one["RequestItems"]["locks"]["Keys"]] for one in client.calls]
    assert requested == [names[:100], names[90:190], names[190:]]
    assert set(found) == set(names)
    assert clock.pauses == [0.2], "only after something was left"


def test_a_table_that_leaves_everything_unread_is_given_up_after_ten_seconds() -> None:
    clock = HeldClock()
    with pytest.raises(Contended, match="left 2 keys of a BatchGetItem unread for 10 s"):
        locks_of(Scripted(unread(["a", "b"])), clock).read_all(["a", "b"])
    assert clock.pauses == [0.2] * 50
    exactly = HeldClock(costs_ms=9_999)
    with pytest.raises(Contended):
        locks_of(Scripted(unread(["a"])), exactly).read_all(["a"])
    assert len(exactly.pauses) == 1


def transaction_cancelled(reasons: list[Any]) -> ClientError:
    """The error of a transaction that was refused for these reasons, one for each of its writes."""
    response: Any = {"Error": {"Code": "TransactionCanceledException", "Message": ""}, "CancellationReasons": reasons}
    return ClientError(response, "TransactWriteItems")


def test_a_refused_transaction_brings_the_winner_with_it_or_is_raised() -> None:
    reasons = [{"Code": "ConditionalCheckFailed", "Item": item(epoch=4)}, {"Code": "None"}]
    lost = transaction_cancelled(reasons)
    before, after = Resource("ip", 1), Resource("ip", 2, "mine", epoch=1, holder="paris")
    client = Scripted(lost)
    assert locks_of(client).commit(before, after, CAUSE).epoch == 4
    assert len(client.calls) == 1, "no second read"
    for nothing in ([], [{"Code": "ValidationError"}, {"Code": "None"}]):
        client = Scripted(transaction_cancelled(nothing))
        with pytest.raises(ClientError):
            locks_of(client).commit(before, after, CAUSE)
        assert len(client.calls) == 1, "not taken for a lost race"


def cancelled(*codes: str, code: str = "TransactionCanceledException") -> ClientError:
    response = {
        "Error": {"Code": code, "Message": ""},
        "CancellationReasons": [{"Code": c} for c in codes],
    }
    return ClientError(response, "TransactWriteItems")  # type: ignore[arg-type]


CONFLICTS = [
    cancelled("TransactionConflict", "None"),
    cancelled("None", "TransactionConflict"),
    # botocore retries neither of them, and a new on-demand table gives these answers under high load.
    cancelled("None", "ThrottlingError"),
    cancelled("ThrottlingError", "None"),
    cancelled("None", "ProvisionedThroughputExceeded"),
    ClientError({"Error": {"Code": "TransactionConflictException", "Message": ""}}, "TransactWriteItems"),
]
RAISED = [
    ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "TransactWriteItems"),
    cancelled(),
    cancelled("ValidationError", "None"),
    cancelled("AccessDenied", "None"),
    # The reasons of a cancelled transaction in another error.
    cancelled("ConditionalCheckFailed", code="ThrottlingException"),
    cancelled("ConditionalCheckFailed", code="ValidationException"),
]


@pytest.mark.parametrize("error", CONFLICTS, ids=str)
def test_a_conflict_or_a_throttled_transaction_is_a_lost_race_and_the_item_is_read(error: ClientError) -> None:
    client = Scripted(error, {"Item": item(epoch=4)})
    before, after = Resource("ip", 1), Resource("ip", 2, "mine", epoch=1, holder="paris")
    assert locks_of(client).commit(before, after, CAUSE).epoch == 4
    assert [one.get("ConsistentRead") for one in client.calls] == [None, True]


@pytest.mark.parametrize("error", RAISED, ids=str)
def test_no_other_error_is_taken_for_a_lost_race(error: ClientError) -> None:
    client = Scripted(error)
    before, after = Resource("ip", 1), Resource("ip", 2, "mine", epoch=1, holder="paris")
    with pytest.raises(ClientError):
        locks_of(client).commit(before, after, CAUSE)
    assert len(client.calls) == 1


def test_an_equal_item_is_not_written_and_its_wake_up_is_still_needed(locks: Locks, dynamodb: Recorder) -> None:
    put(locks, Resource("ip", holder="paris", endpoints={"paris": ACTIVE}))
    dynamodb.calls.clear()
    committed = locks.update("ip", lambda resource, nonce: Step(replace(resource), True), CAUSE)
    assert (committed.written, committed.needs_wake_up) == (False, True)
    assert dynamodb.calls == ["get_item"]


def test_a_commit_says_what_it_wrote_and_claimed(locks: Locks) -> None:
    due = replace(ACTIVE, delivered_sequence=0, claim=None)
    put(locks, Resource("ip", epoch=1, holder="paris", endpoints={"paris": due}))

    def claim(resource: Resource, nonce: str) -> Step:
        return Step(claim_due(resource, NOW, token=nonce, jitter=0.5, refresh_ms=300_000, handover_ms=0), True)

    first = locks.update("ip", claim, CAUSE)
    assert (first.written, first.needs_wake_up, first.tries) == (True, True, 1)
    (delivery,) = first.claimed
    assert (delivery.endpoint_id, delivery.token) == ("paris", first.after.nonce)
    second = locks.update("ip", grow, CAUSE)
    assert (second.written, second.claimed) == (True, []), "another commit's claim is not its own"


def test_a_commit_logs_every_change_of_status_once(locks: Locks, caplog: pytest.LogCaptureFixture) -> None:
    put(locks, Resource("ip", epoch=4, endpoints={"paris": replace(ACTIVE, status=Status.STANDBY, sequence=0)}))

    def elect(resource: Resource, nonce: str) -> Step:
        return Step(
            replace(resource, epoch=5, holder="paris", endpoints={"paris": replace(ACTIVE, reason="elected")}), False
        )

    with caplog.at_level(logging.INFO):
        locks.update("ip", elect, CAUSE)
        locks.update("ip", elect, CAUSE)
    (line,) = [record for record in caplog.records if record.message == "endpoint.changed"]
    names = (
        "resource_id", "endpoint_id", "before", "status", "epoch", "sequence", "reason", "cause", "cause_id", "tries",
    )  # fmt: skip
    assert {name: getattr(line, name) for name in names} == {
        "resource_id": "ip",
        "endpoint_id": "paris",
        "before": "STANDBY",
        "status": "ACTIVATED",
        "epoch": 5,
        "sequence": 1,
        "reason": "elected",
        "cause": "report",
        "cause_id": "event-1",
        "tries": 1,
    }


def test_the_same_holder_is_no_change_for_the_audit(locks: Locks, dynamodb: Recorder) -> None:
    before = put(locks, Resource("ip", holder="paris", endpoints={"paris": ACTIVE}))
    dynamodb.calls.clear()
    after = replace(before, version=before.version + 1, nonce="mine", holder="paris")
    assert locks.commit(before, after, CAUSE) == after
    assert dynamodb.calls == ["put_item"]


def test_a_nonce_has_72_bits() -> None:
    nonces = {Chance().nonce() for _ in range(100)}
    assert {len(nonce) for nonce in nonces} == {12} and len(nonces) == 100


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

    def versions(limit: int, before: int | None) -> tuple[list[int], int | None]:
        found, more = locks.transitions("ip", limit, before)
        return [int(row["version"]["N"]) for row in found], more

    assert versions(10, None) == ([4, 3, 2], None)
    assert versions(10, 4) == ([3, 2], None)
    assert versions(1, 4) == ([3], 3)
    assert locks.transitions("another resource", 10, None) == ([], None)


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_freezing_and_unfreezing_are_in_the_audit(locks: Locks, dynamodb: Recorder, before: bool, after: bool) -> None:
    old = Resource("ip", 1, "n", epoch=1, holder="paris", endpoints={"paris": ACTIVE}, frozen=before)
    locks.commit(Resource("ip"), replace(old, version=1), CAUSE)
    locks.commit(old, replace(old, version=2, frozen=after), Cause("freeze", "request"))
    assert locks.read("ip").frozen is after
    (row,) = [item for item in locks.transitions("ip", 10, None)[0] if item["version"] == {"N": "2"}]
    assert (row["changes"], row["cause"]["M"]["kind"]) == ({"L": []}, {"S": "freeze"})


def test_a_registration_that_a_key_rotation_changed_meanwhile_is_a_conflict_and_nothing_is_written(
    locks: Locks, dynamodb: Recorder
) -> None:
    table, key = settings().endpoints_table, {"endpoint_id": {"S": "paris"}}
    dynamodb.client.put_item(TableName=table, Item={**key, "ciphertext": {"S": "renewed"}})
    row: Any = {
        "Update": {
            "TableName": table,
            "Key": key,
            "UpdateExpression": "SET ciphertext = :mine",
            "ConditionExpression": "ciphertext = :as_read",
            "ExpressionAttributeValues": {":mine": {"S": "mine"}, ":as_read": {"S": "before"}},
        }
    }
    with pytest.raises(Conflict, match="a key rotation changed this endpoint concurrently: retry"):
        locks.commit(Resource("ip"), Resource("ip", 1, "n", endpoints={"paris": ACTIVE}), CAUSE, [row])
    assert locks.read("ip").version == 0
    assert dynamodb.client.get_item(TableName=table, Key=key)["Item"]["ciphertext"] == {"S": "renewed"}
