"""scripts/adopt.py: the template of the import, and what is refused before anything changes."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from scripts import adopt
from scripts.adopt import Kept
from scripts.cloud import template
from tests.test_first_hour import Session

CREATED = datetime.datetime(2026, 11, 24, 8, 30, tzinfo=datetime.UTC)
LOCKS, ENDPOINTS, TRANSITIONS = (f"link-webhook-{name}-1" for name in adopt.TABLES.values())
KEY = {
    "KeyId": "mrk-1",
    "KeyState": "Enabled",
    "MultiRegion": True,
    "CreationDate": CREATED,
    "Description": "Encrypts the secrets and header values of the webhooks of link-webhook",
}
ALL = [
    *(
        Kept(logical_id, {"TableName": logical_id}, {"DeletionProtectionEnabled": True}, "")
        for logical_id in adopt.TABLES.values()
    ),
    Kept(adopt.KEY, {"KeyId": "mrk-1"}, {}, ""),
]


Answers = Sequence[tuple[str, dict[str, Any]]]


def table(name: str, logical_id: str, **more: Any) -> tuple[str, dict[str, Any]]:
    properties = template()["Resources"][logical_id]["Properties"]
    own = {name: properties[name] for name in ("KeySchema", "AttributeDefinitions")}
    indexes = [{"IndexName": index["IndexName"]} for index in properties.get("GlobalSecondaryIndexes", [])]
    described = {"TableName": name, **own, "GlobalSecondaryIndexes": indexes, "CreationDateTime": CREATED}
    described |= {"ItemCount": 7, **more}
    return "dynamodb.describe_table", {"Table": described}


def tables(*names: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The answers about tables that are there."""
    yield "dynamodb.list_tables", {"TableNames": list(names)}
    for logical_id in adopt.TABLES.values():
        for name in names:
            if logical_id in name:
                yield table(name, logical_id)


EVERY = [*tables(LOCKS, ENDPOINTS, TRANSITIONS)]
ATTRIBUTES = template()["Resources"]["EndpointsTable"]["Properties"]["AttributeDefinitions"]


def key(**changed: Any) -> list[tuple[str, dict[str, Any]]]:
    other = {**KEY, "KeyId": "other", "Description": "another stack's"}
    return [
        ("kms.list_keys", {"Keys": [{"KeyId": "other"}, {"KeyId": "mrk-1"}], "Truncated": False}),
        ("kms.describe_key", {"KeyMetadata": other}),
        ("kms.describe_key", {"KeyMetadata": {**KEY, **changed}}),
    ]


def found(*answers: tuple[str, dict[str, Any]], keys: Answers = (), **named: str) -> list[Kept]:
    """What is found with these answers about tables, and with the stack's key beside another one."""
    return adopt.find(Session([*answers, *(keys or key())]), "link-webhook", "eu-west-1", named)


def test_every_resource_that_outlives_the_stack_and_holds_state_is_adopted() -> None:
    kept = {
        logical_id
        for logical_id, resource in template()["Resources"].items()
        if resource.get("DeletionPolicy") == "RetainExceptOnCreate" and resource["Type"] != "AWS::Logs::LogGroup"
    }
    assert {one.logical_id for one in ALL} == kept


def test_the_import_has_nothing_that_cloudformation_refuses_in_an_import() -> None:
    made = adopt.import_template(template(), ALL)
    assert set(made) == {"AWSTemplateFormatVersion", "Resources"}, "no outputs, transform, conditions, metadata"
    assert set(made["Resources"]) == {one["LogicalResourceId"] for one in adopt.resources_to_import(template(), ALL)}
    assert all(resource["DeletionPolicy"] == "Retain" for resource in made["Resources"].values())
    assert len(json.dumps(made)) < 51_200, "the limit of a template in the call itself"


def test_the_import_refers_to_nothing_outside_it() -> None:
    text = json.dumps(adopt.import_template(template(), ALL))
    assert '"Ref"' not in text
    assert "Fn::If" not in text
    assert "Fn::GetAtt" not in text


def test_the_import_describes_the_resources_as_the_stack_does_so_that_the_next_deployment_changes_nothing() -> None:
    kept = found(*tables(LOCKS, ENDPOINTS, TRANSITIONS))
    made = adopt.import_template(template(), kept)["Resources"]
    for logical_id, resource in made.items():
        stack = template()["Resources"][logical_id]
        changed = {name for name, value in resource["Properties"].items() if stack["Properties"].get(name) != value}
        assert changed <= {"DeletionProtectionEnabled"}
        assert resource["Type"] == stack["Type"]


def test_the_protection_of_a_table_is_imported_as_it_is() -> None:
    kept = found(*tables(LOCKS, ENDPOINTS, TRANSITIONS))
    assert [one.actual["DeletionProtectionEnabled"] for one in kept[:3]] == [False] * 3
    protected = found(
        ("dynamodb.list_tables", {"TableNames": []}),
        *(table("restored", logical_id, DeletionProtectionEnabled=True) for logical_id in adopt.TABLES.values()),
        locks="restored",
        endpoints="restored",
        transitions="restored",
    )
    assert [one.identifier for one in protected[:3]] == [{"TableName": "restored"}] * 3
    made = adopt.import_template(template(), protected)["Resources"]
    assert made["LocksTable"]["Properties"]["DeletionProtectionEnabled"] is True


def test_an_index_that_a_kept_table_has_not_is_left_to_the_deployment_that_follows() -> None:
    (hash_key,) = (one for one in ATTRIBUTES if one["AttributeName"] == "endpoint_id")
    older = table(ENDPOINTS, "EndpointsTable", GlobalSecondaryIndexes=[], AttributeDefinitions=[hash_key])
    answers = [older if answer[1].get("Table", {}).get("TableName") == ENDPOINTS else answer for answer in EVERY]
    properties = adopt.import_template(template(), found(*answers))["Resources"]["EndpointsTable"]["Properties"]
    assert "GlobalSecondaryIndexes" not in properties
    assert properties["AttributeDefinitions"] == [hash_key]


def test_of_several_tables_the_operator_chooses_by_date_and_number_of_items() -> None:
    with pytest.raises(adopt.Refused, match=f"--locks {LOCKS}: created 2026-11-24 08:30, about 7 items"):
        found(*tables(LOCKS, f"{LOCKS}-2", ENDPOINTS, TRANSITIONS))


def test_a_table_that_is_not_found_has_to_be_named() -> None:
    with pytest.raises(adopt.Refused, match="name it with --endpoints"):
        found(*tables(LOCKS, TRANSITIONS, "other-EndpointsTable-1"))


def test_a_table_with_another_key_is_refused() -> None:
    with pytest.raises(adopt.Refused, match="LocksTable needs"):
        found(("dynamodb.list_tables", {"TableNames": []}), table("audit", "TransitionsTable"), locks="audit")


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"KeyState": "PendingDeletion"}, "cancel-key-deletion"), ({"MultiRegion": False}, "remove MultiRegion")],
)
def test_a_key_that_could_not_be_used_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(adopt.Refused, match=says):
        found(*tables(LOCKS, ENDPOINTS, TRANSITIONS), keys=key(**changed))


def test_without_write_nothing_is_created(capsys: pytest.CaptureFixture[str]) -> None:
    gone = {"StackName": "link-webhook", "CreationTime": CREATED, "StackStatus": "DELETE_COMPLETE"}
    answers = [("cloudformation.describe_stacks", {"Stacks": [gone]}), *tables(LOCKS, ENDPOINTS, TRANSITIONS), *key()]
    session = Session(answers)
    assert adopt.main(["--stack", "link-webhook", "--region", "eu-west-1"], session) == 0
    assert not [call for call in session.called if "ChangeSet" in call]
    assert "SecretsKey: mrk-1" in capsys.readouterr().out


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "REVIEW_IN_PROGRESS", "DELETE_FAILED"])
def test_a_stack_that_exists_is_refused(status: str, capsys: pytest.CaptureFixture[str]) -> None:
    stack = {"StackName": "link-webhook", "CreationTime": CREATED, "StackStatus": status}
    session = Session([("cloudformation.describe_stacks", {"Stacks": [stack]})])
    assert adopt.main(["--stack", "link-webhook", "--region", "eu-west-1", "--write"], session) == 1
    assert "delete it first" in capsys.readouterr().out


def test_the_reason_of_a_refused_import_is_shown() -> None:
    session = Session(
        [
            ("cloudformation.create_change_set", {"Id": "arn:aws:cloudformation:eu-west-1:1:changeSet/adopt/1"}),
            ("cloudformation.describe_change_set", {"Status": "FAILED", "StatusReason": "the table is in a stack"}),
            ("cloudformation.describe_change_set", {"Status": "FAILED", "StatusReason": "the table is in a stack"}),
            ("cloudformation.delete_stack", {}),
        ]
    )
    with pytest.raises(adopt.Refused, match="the table is in a stack"):
        adopt.adopt(session.clients["cloudformation"], "link-webhook", ALL)
    assert session.called[-1] == "cloudformation:DeleteStack", "an empty stack that is under review"
    assert "cloudformation:ExecuteChangeSet" not in session.called
