"""Makes a new stack of the tables and the key that a deleted stack left behind. `sam deploy` then adds all the rest.

    python -m scripts.adopt --stack link-webhook --region eu-west-1            # prints what it found, changes nothing
    python -m scripts.adopt --stack link-webhook --region eu-west-1 --write
    python -m scripts.adopt … --locks TABLE --endpoints TABLE --transitions TABLE --key KEY   # if it found several

docs/remove.md says when and how. It is an import of CloudFormation, which takes existing resources and adds nothing.
Exit status: 0, 1 if something is missing or was refused, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from scripts.cloud import template

TABLES = {"locks": "LocksTable", "endpoints": "EndpointsTable", "transitions": "TransitionsTable"}
KEY = "SecretsKey"
CHANGE_SET = "adopt"


class Refused(Exception):
    """Nothing was changed; the message says why, and what to do."""


@dataclass(frozen=True)
class Kept:
    """A resource that a deleted stack left: its logical id, its identifier, and what its template has to say."""

    logical_id: str
    identifier: dict[str, str]
    actual: dict[str, Any]
    shown: str


def import_template(stack: dict[str, Any], kept: list[Kept]) -> dict[str, Any]:
    """A template of these resources alone, as they are.

    An import may have no outputs and no transform, needs a deletion policy for each resource, and must describe the
    resource as it is: CloudFormation does not compare.
    """
    resources = {}
    for one in kept:
        resource = stack["Resources"][one.logical_id]
        properties = {**resource["Properties"], **one.actual}
        resources[one.logical_id] = {
            **resource,
            # Whatever fails, nothing of it is deleted. The deployment that follows sets the stack's own policy.
            "DeletionPolicy": "Retain",
            "Properties": {name: value for name, value in properties.items() if value != []},
        }
    return {"AWSTemplateFormatVersion": stack["AWSTemplateFormatVersion"], "Resources": resources}


def resources_to_import(stack: dict[str, Any], kept: list[Kept]) -> list[dict[str, Any]]:
    """The resources of the change set."""
    return [
        {
            "ResourceType": stack["Resources"][one.logical_id]["Type"],
            "LogicalResourceId": one.logical_id,
            "ResourceIdentifier": one.identifier,
        }
        for one in kept
    ]


def find(session: Any, stack_name: str, region: str, named: dict[str, str]) -> list[Kept]:
    """The tables and the key of a deleted stack; raises Refused if one is missing or several could be meant."""
    stack = template()
    dynamodb, kms = (session.client(service, region_name=region) for service in ("dynamodb", "kms"))
    names = [name for page in dynamodb.get_paginator("list_tables").paginate() for name in page["TableNames"]]
    kept = []
    for option, logical_id in TABLES.items():
        found = [name for name in names if name.startswith(f"{stack_name}-{logical_id}-")]
        tables = [
            _table(logical_id, dynamodb.describe_table(TableName=name)["Table"], stack)
            for name in ([named[option]] if named.get(option) else found)
        ]
        kept.append(_only(tables, option, "TableName"))
    kept.append(_only(_keys(kms, stack, stack_name, named.get("key", "")), "key", "KeyId"))
    return kept


def _only(found: list[Kept], option: str, identifier: str) -> Kept:
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refused(f"none was found: name it with --{option}")
    several = "\n".join(f"  --{option} {one.identifier[identifier]}: {one.shown}" for one in found)
    raise Refused(f"several were found, choose one:\n{several}")


def _table(logical_id: str, table: dict[str, Any], stack: dict[str, Any]) -> Kept:
    properties = stack["Resources"][logical_id]["Properties"]
    wanted = properties["KeySchema"]
    if table["KeySchema"] != wanted:
        raise Refused(f"{table['TableName']} has the key {table['KeySchema']}, and {logical_id} needs {wanted}")
    # Without an index that an older version did not have. The deployment that follows adds it.
    indexes = {index["IndexName"] for index in table.get("GlobalSecondaryIndexes", [])}
    attributes = {attribute["AttributeName"] for attribute in table["AttributeDefinitions"]}
    return Kept(
        logical_id,
        {"TableName": table["TableName"]},
        {
            "DeletionProtectionEnabled": table.get("DeletionProtectionEnabled", False),
            "GlobalSecondaryIndexes": [
                index for index in properties.get("GlobalSecondaryIndexes", []) if index["IndexName"] in indexes
            ],
            "AttributeDefinitions": [
                attribute
                for attribute in properties["AttributeDefinitions"]
                if attribute["AttributeName"] in attributes
            ],
        },
        f"created {table['CreationDateTime']:%Y-%m-%d %H:%M}, about {table.get('ItemCount', 0)} items",
    )


def _keys(kms: Any, stack: dict[str, Any], stack_name: str, named: str) -> list[Kept]:
    if named:
        keys = [kms.describe_key(KeyId=named)["KeyMetadata"]]
    else:
        description = stack["Resources"][KEY]["Properties"]["Description"]["Fn::Sub"]
        description = description.replace("${AWS::StackName}", stack_name)
        ids = [key["KeyId"] for page in kms.get_paginator("list_keys").paginate() for key in page["Keys"]]
        keys = [key for key in map(partial(_described, kms), ids) if key.get("Description") == description]
    for key in keys:
        if key["KeyState"] != "Enabled":
            raise Refused(
                f"the key {key['KeyId']} is {key['KeyState']}: without it no secret can be read. "
                "aws kms cancel-key-deletion and enable-key bring it back"
            )
        if not key.get("MultiRegion"):
            raise Refused(
                f"the key {key['KeyId']} is no multi-Region key: remove MultiRegion from template.yaml first "
                '(docs/real-account.md, "An existing stack")'
            )
    return [Kept(KEY, {"KeyId": key["KeyId"]}, {}, f"created {key['CreationDate']:%Y-%m-%d %H:%M}") for key in keys]


def _described(kms: Any, key_id: str) -> dict[str, Any]:
    try:
        described: dict[str, Any] = kms.describe_key(KeyId=key_id)["KeyMetadata"]
        return described
    except ClientError:
        # A key of somebody else in the account, which the caller may not see.
        return {}


def refuse_if_it_exists(cloudformation: Any, stack_name: str) -> None:
    """Raises Refused if there is a stack of this name."""
    try:
        [stack] = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
    except ClientError as error:
        if "does not exist" in str(error):
            return
        raise
    if stack["StackStatus"] != "DELETE_COMPLETE":
        raise Refused(
            f"the stack {stack_name} exists ({stack['StackStatus']}): delete it first. "
            "Its own tables and its key stay, so choose afterwards"
        )


def adopt(cloudformation: Any, stack_name: str, kept: list[Kept]) -> None:
    """Creates the stack by an import and waits until it is complete."""
    stack = template()
    cloudformation.create_change_set(
        StackName=stack_name,
        ChangeSetName=CHANGE_SET,
        ChangeSetType="IMPORT",
        ResourcesToImport=resources_to_import(stack, kept),
        TemplateBody=json.dumps(import_template(stack, kept)),
    )
    try:
        cloudformation.get_waiter("change_set_create_complete").wait(StackName=stack_name, ChangeSetName=CHANGE_SET)
    except WaiterError:
        reason = cloudformation.describe_change_set(StackName=stack_name, ChangeSetName=CHANGE_SET)["StatusReason"]
        # It has nothing in it but the change set, and it would be in the way of the next try.
        cloudformation.delete_stack(StackName=stack_name)
        raise Refused(f"CloudFormation refused the import: {reason}") from None
    cloudformation.execute_change_set(StackName=stack_name, ChangeSetName=CHANGE_SET)
    cloudformation.get_waiter("stack_import_complete").wait(StackName=stack_name)


def main(arguments: list[str] | None = None, session: Any = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--stack", required=True, help="the name of the deleted stack, and of the new one")
    parser.add_argument("--region", required=True)
    for option in TABLES:
        parser.add_argument(f"--{option}", default="", metavar="TABLE")
    parser.add_argument("--key", default="", metavar="KEY_ID")
    parser.add_argument("--write", action="store_true", help="create the stack; without it, print what was found")
    options = parser.parse_args(arguments)
    session = session or boto3.Session()
    cloudformation = session.client("cloudformation", region_name=options.region)
    try:
        refuse_if_it_exists(cloudformation, options.stack)
        kept = find(session, options.stack, options.region, vars(options))
        for one in kept:
            [identifier] = one.identifier.values()
            print(f"{one.logical_id}: {identifier}, {one.shown}")
        if not options.write:
            print("Nothing was changed. Run it again with --write.")
            return 0
        adopt(cloudformation, options.stack, kept)
    except (Refused, ClientError, BotoCoreError) as error:
        print(error)
        return 1
    print(f"The stack {options.stack} has them. Now run sam build and sam deploy with your parameters.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
