"""What each function's role is let do and denied, tried with its own credentials, and what a forged write is worth."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from link.election.result import ResultKind
from scripts.cloud import REGION, Cloud
from tests.e2e.site import Site, eventually

READ = {"locks: read", "endpoints: read"}
WRITE = {"locks: write", "transitions: write"}
MAY = {
    "EndpointStatusFunctionName": READ
    | WRITE
    | {"endpoints: delete", "decrypt", "wake up", "reject", "report", "put off a report"},
    "ReconcileFunctionName": READ | WRITE | {"endpoints: delete", "decrypt", "wake up", "put off a wake-up"},
    "RefreshFunctionName": {"locks: due", "wake up"},
    "EndpointsApiFunctionName": READ
    | WRITE
    | {
        "locks: batch",
        "locks: scan",
        "transitions: history",
        "endpoints: write",
        "endpoints: update",
        "endpoints: delete",
        "endpoints: scan",
        "endpoints: probed",
        "encrypt",
        "wake up",
        "rotate",
        "probes: read",
        "probe",
        "signals: read",
        "signals: write",
        "signals: update",
        "signals: delete",
    },
    # And ReEncrypt, which the local cloud does not have.
    "KeyRotationFunctionName": {"endpoints: scan", "endpoints: update"},
    "ProbeFunctionName": {
        "endpoints: probed",
        "probes: read",
        "probes: write",
        "locks: batch",
        "tell",
        "put off a slot",
    },
    "ProbeClockFunctionName": {"endpoints: probed", "put a slot"},
    "SignalFunctionName": {
        "signals: read",
        "signals: update",
        "signals: followers",
        "locks: batch",
        "tell of signals",
        "reject",
        "put off a signal",
        "look at alarms",
        "look at instances",
        "look at tasks",
        "look at targets",
    },
}
"""ADR 11's table, in words. Everything else in `attempts` has to be denied."""
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "locks": ("LocksTableName", {"resource_id": {"S": "nobody's"}}),
    "endpoints": ("EndpointsTableName", {"endpoint_id": {"S": "nobody's"}}),
    "transitions": ("TransitionsTableName", {"resource_id": {"S": "nobody's"}, "version": {"N": "1"}}),
    "probes": ("ProbesTableName", {"shard": {"S": "nobody's"}}),
    "signals": ("SignalsTableName", {"signal_key": {"S": "nobody's"}, "endpoint_id": {"S": "nobody's"}}),
}
"""Of each table a key that no other test uses."""
PURPOSE = {"purpose": "webhook-config"}
REFUTED = {
    "ClusterNotFoundException",
    "TargetGroupNotFound",
    "ConditionalCheckFailedException",
    "ReceiptHandleIsInvalid",
    "AWS.SimpleQueueService.ReceiptHandleIsInvalid",
}
"""What an allowed attempt ends in that must change nothing."""


def attempts(cloud: Cloud, client: Callable[[str], Any], ciphertext: bytes) -> dict[str, Callable[[], Any]]:
    """Everything that somebody with a function's credentials could want. None of it touches what others use."""
    out = cloud.outputs
    dynamodb, kms, sqs = client("dynamodb"), client("kms"), client("sqs")
    tried: dict[str, Callable[[], Any]] = {}
    for name, (output, key) in ROWS.items():
        table = out[output]
        tried |= {
            f"{name}: read": lambda table=table, key=key: dynamodb.get_item(TableName=table, Key=key),
            f"{name}: write": lambda table=table, key=key: dynamodb.put_item(TableName=table, Item=key),
            f"{name}: update": lambda table=table, key=key: dynamodb.update_item(
                TableName=table,
                Key=key,
                UpdateExpression="SET x = :x",
                ConditionExpression="attribute_exists(nothing)",
                ExpressionAttributeValues={":x": {"S": "x"}},
            ),
            f"{name}: delete": lambda table=table, key=key: dynamodb.delete_item(TableName=table, Key=key),
            f"{name}: scan": lambda table=table: dynamodb.scan(TableName=table),
            f"{name}: batch": lambda table=table, key=key: dynamodb.batch_get_item(
                RequestItems={table: {"Keys": [key]}}
            ),
            f"{name}: drop": lambda table=table: dynamodb.delete_table(TableName=table),
        }
    due = {":shard": {"N": "0"}, ":until": {"N": "0"}}
    message = json.dumps({"resource_id": "nobody's", "due_at": 0})
    context, key_arn = {**PURPOSE, "endpoint_id": "nobody's"}, out["SecretsKeyArn"]

    group = f"arn:aws:elasticloadbalancing:{REGION}:000000000000:targetgroup/nobody/0123456789abcdef"
    late = json.dumps({"shard": 0, "of": 1, "slot": 0})

    def put_event(source: str, detail_type: str) -> Callable[[], Any]:
        # No such endpoint: what is allowed is rejected later.
        detail = json.dumps({"endpoint_id": "nobody's", "resource_id": "nobody's", "status": "FAILING"})
        entry = {"EventBusName": out["EventBusName"], "Source": source, "DetailType": detail_type, "Detail": detail}
        return lambda: client("events").put_events(Entries=[entry])

    def put_off(queue: str) -> Callable[[], Any]:
        # No such message: what is allowed ends in ReceiptHandleIsInvalid.
        return lambda: sqs.change_message_visibility(QueueUrl=out[queue], ReceiptHandle="x", VisibilityTimeout=1)

    tried |= {
        "put off a report": put_off("StatusQueueUrl"),
        "put off a wake-up": put_off("WakeUpQueueUrl"),
        "put off a slot": put_off("ProbeQueueUrl"),
        "put off a signal": put_off("SignalQueueUrl"),
        "put a signal": lambda: sqs.send_message(QueueUrl=out["SignalQueueUrl"], MessageBody="{}"),
        "tell of signals": put_event("link.signal", "Endpoint Status Change"),
        "signals: followers": lambda: dynamodb.query(
            TableName=out["SignalsTableName"],
            KeyConditionExpression="signal_key = :key",
            ExpressionAttributeValues={":key": {"S": "nobody's"}},
        ),
        "look at alarms": lambda: client("cloudwatch").describe_alarms(AlarmNames=["nobody's"]),
        "change an alarm": lambda: client("cloudwatch").set_alarm_state(
            AlarmName="nobody's", StateValue="OK", StateReason="x"
        ),
        "look at instances": lambda: client("ec2").describe_instance_status(IncludeAllInstances=True),
        "end an instance": lambda: client("ec2").terminate_instances(InstanceIds=["i-00000000000000000"]),
        "look at tasks": lambda: client("ecs").list_tasks(cluster="default"),
        "stop a task": lambda: client("ecs").stop_task(cluster="default", task="x"),
        "look at targets": lambda: client("elbv2").describe_target_health(TargetGroupArn=group),
        "take a target out": lambda: client("elbv2").deregister_targets(TargetGroupArn=group, Targets=[{"Id": "x"}]),
        "put a slot": lambda: sqs.send_message(QueueUrl=out["ProbeQueueUrl"], MessageBody=late),
        "tell": put_event("link.probe", "Endpoint Status Change"),
        "tell as a host": put_event("link", "Endpoint Status Change"),
        "tell as another host": put_event("link.host.paris", "Endpoint Status Change"),
        "tell for a whole host": put_event("link.probe", "Host Report"),
        "endpoints: probed": lambda: dynamodb.query(
            TableName=out["EndpointsTableName"],
            IndexName="probed",
            KeyConditionExpression="probed = :all",
            ExpressionAttributeValues={":all": {"S": "1"}},
            Limit=1,
        ),
        "locks: due": lambda: dynamodb.query(
            TableName=out["LocksTableName"],
            IndexName="due",
            KeyConditionExpression="due_shard = :shard AND due_at <= :until",
            ExpressionAttributeValues=due,
        ),
        "transitions: history": lambda: dynamodb.query(
            TableName=out["TransitionsTableName"],
            KeyConditionExpression="resource_id = :r",
            ExpressionAttributeValues={":r": {"S": "nobody's"}},
        ),
        "decrypt": lambda: kms.decrypt(KeyId=key_arn, CiphertextBlob=ciphertext, EncryptionContext=context),
        "decrypt for another purpose": lambda: kms.decrypt(
            KeyId=key_arn, CiphertextBlob=ciphertext, EncryptionContext={"purpose": "x"}
        ),
        "decrypt for no purpose": lambda: kms.decrypt(KeyId=key_arn, CiphertextBlob=ciphertext),
        "encrypt": lambda: kms.encrypt(KeyId=key_arn, Plaintext=b"x", EncryptionContext=context),
        "encrypt for no purpose": lambda: kms.encrypt(KeyId=key_arn, Plaintext=b"x"),
        "disable the key": lambda: kms.disable_key(KeyId=key_arn),
        "wake up": lambda: sqs.send_message(QueueUrl=out["WakeUpQueueUrl"], MessageBody=message),
        "reject": lambda: sqs.send_message(QueueUrl=out["RejectedEventsQueueUrl"], MessageBody="{}"),
        "report": lambda: sqs.send_message(QueueUrl=out["StatusQueueUrl"], MessageBody="{}"),
        "read the rejected": lambda: sqs.receive_message(QueueUrl=out["RejectedEventsQueueUrl"]),
        "put events": put_event("x", "x"),
        "invoke": lambda: client("lambda").invoke(FunctionName=out["RefreshFunctionName"]),
        "rotate": lambda: client("lambda").invoke(
            FunctionName=f"{out['KeyRotationFunctionName']}:live", InvocationType="DryRun"
        ),
        "probe": lambda: client("lambda").invoke(
            FunctionName=f"{out['ProbeFunctionName']}:live", InvocationType="DryRun"
        ),
        "list roles": lambda: client("iam").list_roles(),
        "list buckets": lambda: client("s3").list_buckets(),
    }
    return tried


def as_role(cloud: Cloud, function: str) -> Callable[[str], Any]:
    """Clients with the credentials of a function's role."""
    configuration = cloud.client("lambda").get_function_configuration(FunctionName=cloud.outputs[function])
    assumed = cloud.client("sts").assume_role(RoleArn=configuration["Role"], RoleSessionName="tried")["Credentials"]

    def client(service: str) -> Any:
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=cloud.endpoint_url,
            region_name=REGION,
            aws_access_key_id=assumed["AccessKeyId"],
            aws_secret_access_key=assumed["SecretAccessKey"],
            aws_session_token=assumed["SessionToken"],
            config=Config(proxies={}, retries={"total_max_attempts": 1}),
        )

    return client


@pytest.mark.parametrize("function", MAY)
def test_a_function_is_denied_whatever_it_does_not_need(cloud: Cloud, function: str) -> None:
    context = {**PURPOSE, "endpoint_id": "nobody's"}
    sealed = cloud.client("kms").encrypt(
        KeyId=cloud.outputs["SecretsKeyArn"], Plaintext=b"nothing", EncryptionContext=context
    )
    allowed = set()
    tried = attempts(cloud, as_role(cloud, function), sealed["CiphertextBlob"])
    for what, attempt in tried.items():
        try:
            attempt()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            # EC2 has a name of its own for it.
            denied = "AccessDenied" in code or code == "UnauthorizedOperation"
            assert denied or code in REFUTED, f"{what}: {error}"
            if code in REFUTED:
                allowed.add(what)
        else:
            allowed.add(what)
    # The item that was written is none, and a restore reads every one.
    for output, key in ROWS.values():
        cloud.client("dynamodb").delete_item(TableName=cloud.outputs[output], Key=key)
    assert allowed == MAY[function]
    assert len(tried) - len(allowed) > 20


def test_a_process_that_writes_the_tables_gets_no_secret(site: Site) -> None:
    """Moved ciphertext, edited url, edited lock item, forged wake-up: the webhook goes unsent, and says why."""
    paris, mallory = site.register("paris"), site.register("mallory")
    dynamodb, table = site.cloud.client("dynamodb"), site.cloud.outputs["EndpointsTableName"]

    def row(endpoint_id: str) -> dict[str, Any]:
        item: dict[str, Any] = dynamodb.get_item(TableName=table, Key={"endpoint_id": {"S": endpoint_id}})["Item"]
        return item

    # Paris' secret under Mallory's id, and Paris' webhook to Mallory's receiver.
    dynamodb.put_item(TableName=table, Item=row(mallory) | {"ciphertext": row(paris)["ciphertext"]})
    elsewhere = {"S": site.receiver.url.replace("/hook", "/mallory")}
    dynamodb.put_item(TableName=table, Item=row(paris) | {"url": elsewhere})
    # The lock item says that Mallory is active and its webhook is pending, and a message wakes it up.
    locks = site.cloud.outputs["LocksTableName"]
    item = dynamodb.get_item(TableName=locks, Key={"resource_id": {"S": site.resource_id}})["Item"]
    now = time.time_ns() // 1_000_000
    item["endpoints"]["M"][mallory]["M"] |= {"s": {"S": "ACTIVATED"}, "r": {"S": "ACTIVATED"}, "sq": {"N": "7"}}
    item["version"] = {"N": str(int(item["version"]["N"]) + 1)}
    dynamodb.put_item(TableName=locks, Item=item | {"holder": {"S": mallory}, "epoch": {"N": "7"}})
    forged = json.dumps({"resource_id": site.resource_id, "due_at": now})
    site.cloud.client("sqs").send_message(QueueUrl=site.cloud.outputs["WakeUpQueueUrl"], MessageBody=forged)
    site.report(paris, "ACTIVATED")

    def unreadable(endpoint_id: str) -> bool:
        e = site.resource().endpoints[endpoint_id]
        return e.failure_kind == ResultKind.UNREADABLE and e.failure_reason.startswith("secret_unreadable")

    eventually("both are tried and fail", lambda: unreadable(paris) and unreadable(mallory))
    assert site.receiver.requests == []
    # Write access to the lock item decides which endpoint is active, as the README says; no secret is behind it.
    assert site.resource().holder == mallory
