"""What the template promises, read from what SAM makes of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from samtranslator.translator.transform import transform

from link import settings, telemetry
from scripts.cloud import ROOT, built_layer, template

Resource = dict[str, Any]

FUNCTIONS = {
    "EndpointStatusFunction": "endpoint_status",
    "ReconcileFunction": "reconcile",
    "RefreshFunction": "refresh",
    "EndpointsApiFunction": "endpoints_api",
    "KeyRotationFunction": "key_rotation",
}
SECONDS_OF_A_DAY = 86_400

RECONCILES = {
    "LocksTable": {"dynamodb:GetItem", "dynamodb:PutItem"},
    "TransitionsTable": {"dynamodb:PutItem"},
    "EndpointsTable": {"dynamodb:GetItem", "dynamodb:DeleteItem"},
    "SecretsKey": {"kms:Decrypt"},
    "WakeUpQueue": {"sqs:SendMessage"},
}
CONSUME = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
MAY: dict[str, dict[str, set[str]]] = {
    "EndpointStatusFunction": {**RECONCILES, "RejectedEventsQueue": {"sqs:SendMessage"}, "StatusQueue": CONSUME},
    "ReconcileFunction": {**RECONCILES, "WakeUpQueue": {"sqs:SendMessage"} | CONSUME},
    "RefreshFunction": {
        "LocksTable/index/due": {"dynamodb:Query"},
        "WakeUpQueue": {"sqs:SendMessage"},
        "RefreshDeadLetterQueue": {"sqs:SendMessage"},  # Lambda's own, for a sweep that failed
    },
    "EndpointsApiFunction": {
        "LocksTable": {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:BatchGetItem", "dynamodb:Scan"},
        "EndpointsTable": {
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
            "dynamodb:DeleteItem",
            "dynamodb:Scan",
        },
        "TransitionsTable": {"dynamodb:PutItem", "dynamodb:Query"},
        "SecretsKey": {"kms:Encrypt"},
        "WakeUpQueue": {"sqs:SendMessage"},
        "KeyRotationFunction": {"lambda:InvokeFunction"},
    },
    "KeyRotationFunction": {
        "EndpointsTable": {"dynamodb:Scan", "dynamodb:UpdateItem"},
        "SecretsKey": {"kms:ReEncryptFrom", "kms:ReEncryptTo"},
        "KeyRotationDeadLetterQueue": {"sqs:SendMessage"},  # Lambda's own, for a rotation that failed
    },
}
# AWS's own, to write logs and traces; and to join the VPC, where there is one.
LOGS, TRACES = "service-role/AWSLambdaBasicExecutionRole", "AWSXRayDaemonWriteAccess"
VPC = {"Fn::If": ["InVpc", "service-role/AWSLambdaVPCAccessExecutionRole", {"Ref": "AWS::NoValue"}]}


class _NoManagedPolicies:
    """Policies are written out in the template, so there is nothing to ask IAM for."""

    def load(self) -> dict[str, str]:
        return {}


@pytest.fixture(scope="module")
def resources() -> dict[str, Resource]:
    source = template()
    for resource in source["Resources"].values():
        for place in ("CodeUri", "ContentUri"):
            if place in resource.get("Properties", {}):
                resource["Properties"][place] = "s3://bucket/key"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")  # SAM wants to know one.
        transformed: dict[str, Resource] = transform(source, {}, _NoManagedPolicies())["Resources"]
    return transformed


def of_type(resources: dict[str, Resource], kind: str) -> dict[str, Resource]:
    return {name: each["Properties"] for name, each in resources.items() if each["Type"] == kind}


def target(arn: Any) -> str:
    """The logical id in an ARN, with what follows it: `LocksTable/index/due`."""
    match arn:
        case {"Fn::GetAtt": [name, "Arn"]}:
            return str(name)
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{(\w+)\.Arn\}", r"\1", text)
    return str(arn)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def role_of(resources: dict[str, Resource], function: str) -> Resource:
    properties: Resource = resources[target(resources[function]["Properties"]["Role"])]["Properties"]
    return properties


def statements(resources: dict[str, Resource], function: str) -> list[dict[str, Any]]:
    role = role_of(resources, function)
    return [each for policy in role["Policies"] for each in as_list(policy["PolicyDocument"]["Statement"])]


def dead_letters(queue: Resource) -> str:
    return target(queue["RedrivePolicy"]["deadLetterTargetArn"])


# --- Who may do what


@pytest.mark.parametrize("function", MAY)
def test_a_function_may_do_what_it_needs_and_nothing_else(resources: dict[str, Resource], function: str) -> None:
    may: dict[str, set[str]] = defaultdict(set)
    for statement in statements(resources, function):
        assert statement["Effect"] == "Allow"
        for resource in as_list(statement["Resource"]):
            may[target(resource)].update(as_list(statement["Action"]))
    assert may == MAY[function]


def test_of_awss_policies_a_role_has_logs_and_traces_and_the_vpc_where_there_is_one(
    resources: dict[str, Resource],
) -> None:
    def managed(function: str) -> Any:
        arns = json.dumps(role_of(resources, function)["ManagedPolicyArns"])
        return json.loads(re.sub(r'\{"Fn::Sub": "arn:\$\{AWS::Partition\}:iam::aws:policy/([\w/-]+)"\}', r'"\1"', arns))

    assert {function: managed(function) for function in FUNCTIONS} == {
        "EndpointStatusFunction": [LOGS, TRACES, VPC],
        "ReconcileFunction": [LOGS, TRACES, VPC],
        "RefreshFunction": [LOGS, TRACES],
        "EndpointsApiFunction": [LOGS, TRACES],
        "KeyRotationFunction": [LOGS, TRACES],
    }
    assert len(of_type(resources, "AWS::IAM::Role")) == len(FUNCTIONS)


def test_the_key_serves_webhook_configurations_only(resources: dict[str, Resource]) -> None:
    kms = [
        (function, statement["Action"], statement.get("Condition"))
        for function in FUNCTIONS
        for statement in statements(resources, function)
        if any(action.startswith("kms:") for action in as_list(statement["Action"]))
    ]
    only = {"StringEquals": {"kms:EncryptionContext:purpose": "webhook-config"}}
    assert kms == [
        ("EndpointStatusFunction", "kms:Decrypt", only),
        ("ReconcileFunction", "kms:Decrypt", only),
        ("EndpointsApiFunction", "kms:Encrypt", only),
        ("KeyRotationFunction", ["kms:ReEncryptFrom", "kms:ReEncryptTo"], only),
    ]


def test_only_the_rule_it_belongs_to_may_send_to_a_queue(resources: dict[str, Resource]) -> None:
    senders = {}
    for policy in of_type(resources, "AWS::SQS::QueuePolicy").values():
        [statement] = policy["PolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "events.amazonaws.com"}
        for arn in as_list(statement["Resource"]):
            senders[target(arn)] = target(statement["Condition"]["ArnEquals"]["aws:SourceArn"])
    assert senders == {
        "StatusQueue": "StatusRule",
        "StatusRuleDeadLetterQueue": "StatusRule",
        "RefreshScheduleDeadLetterQueue": "RefreshRule",
    }


# --- Queues and retries


def test_a_message_stays_hidden_for_six_timeouts_of_its_function(resources: dict[str, Resource]) -> None:
    mappings = of_type(resources, "AWS::Lambda::EventSourceMapping").values()
    assert len(mappings) == 2
    for mapping in mappings:
        queue = resources[target(mapping["EventSourceArn"])]["Properties"]
        function = resources[mapping["FunctionName"]["Ref"]]["Properties"]
        assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["MaximumBatchingWindowInSeconds"] == 0


def test_every_asynchronous_source_has_a_dead_letter_queue_of_its_own(resources: dict[str, Resource]) -> None:
    refresh, rotation = of_type(resources, "AWS::Lambda::EventInvokeConfig").values()
    assert {
        "status rule": target(resources["StatusRule"]["Properties"]["Targets"][0]["DeadLetterConfig"]["Arn"]),
        "status queue": dead_letters(resources["StatusQueue"]["Properties"]),
        "wake-up queue": dead_letters(resources["WakeUpQueue"]["Properties"]),
        "schedule": target(resources["RefreshRule"]["Properties"]["Targets"][0]["DeadLetterConfig"]["Arn"]),
        "refresh function": target(refresh["DestinationConfig"]["OnFailure"]["Destination"]),
        "key rotation": target(rotation["DestinationConfig"]["OnFailure"]["Destination"]),
    } == {
        "status rule": "StatusRuleDeadLetterQueue",
        "status queue": "StatusDeadLetterQueue",
        "wake-up queue": "WakeUpDeadLetterQueue",
        "schedule": "RefreshScheduleDeadLetterQueue",
        "refresh function": "RefreshDeadLetterQueue",
        "key rotation": "KeyRotationDeadLetterQueue",
    }


def test_a_report_is_retried_for_a_day_before_it_is_dead_lettered(resources: dict[str, Resource]) -> None:
    queue = resources["StatusQueue"]["Properties"]
    retried = queue["RedrivePolicy"]["maxReceiveCount"] * queue["VisibilityTimeout"]
    assert retried >= SECONDS_OF_A_DAY
    assert queue["MessageRetentionPeriod"] > retried


def test_the_rule_hands_on_the_whole_event(resources: dict[str, Resource]) -> None:
    rule = resources["StatusRule"]["Properties"]
    assert rule["EventPattern"] == {"source": ["link"], "detail-type": ["Endpoint Status Change"]}
    [queue] = rule["Targets"]
    assert target(queue["Arn"]) == "StatusQueue"
    assert not {"Input", "InputPath", "InputTransformer"} & queue.keys()


# --- State


def test_tables_are_encrypted_recoverable_and_outlive_the_stack(resources: dict[str, Resource]) -> None:
    tables = of_type(resources, "AWS::DynamoDB::Table")
    assert set(tables) == {"LocksTable", "EndpointsTable", "TransitionsTable"}
    for name, table in tables.items():
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert table["SSESpecification"] == {"SSEEnabled": True}
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert resources[name]["DeletionPolicy"] == resources[name]["UpdateReplacePolicy"] == "Retain"


def test_the_key_of_the_secrets_rotates_and_outlives_the_stack(resources: dict[str, Resource]) -> None:
    key = resources["SecretsKey"]
    assert key["Properties"]["EnableKeyRotation"] is True
    assert key["DeletionPolicy"] == key["UpdateReplacePolicy"] == "Retain"


def test_of_the_tables_only_the_transitions_expire(resources: dict[str, Resource]) -> None:
    tables = of_type(resources, "AWS::DynamoDB::Table")
    expiring = {name: table.get("TimeToLiveSpecification") for name, table in tables.items()}
    assert expiring == {
        "LocksTable": None,
        "EndpointsTable": None,
        "TransitionsTable": {"AttributeName": "expires_at", "Enabled": True},
    }


def test_queues_are_encrypted(resources: dict[str, Resource]) -> None:
    assert all(queue["SqsManagedSseEnabled"] for queue in of_type(resources, "AWS::SQS::Queue").values())


# --- Settings


class Reads(dict[str, str]):
    """An environment that remembers which of its variables were asked for."""

    def __init__(self, variables: dict[str, str]) -> None:
        super().__init__(variables)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def environment(resources: dict[str, Resource], function: str) -> dict[str, str]:
    """The function's variables; a parameter's default where there is one, else a name."""
    defaults = {name: str(parameter.get("Default", "")) for name, parameter in template()["Parameters"].items()}
    variables = resources[function]["Properties"]["Environment"]["Variables"]
    return {
        name: value if isinstance(value, str) else defaults.get(value.get("Ref", ""), "name-of-a-resource")
        for name, value in variables.items()
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_variable_that_is_read_is_set_and_the_defaults_agree(
    resources: dict[str, Resource], function: str
) -> None:
    reads = Reads(environment(resources, function))
    settings.load(reads)
    assert reads.names == {name for name in reads if not name.startswith(("POWERTOOLS_", "RES_"))}


# --- Alarms


def test_every_dead_letter_queue_and_the_rejected_events_have_an_alarm(resources: dict[str, Resource]) -> None:
    queues = {
        alarm["Dimensions"][0]["Value"]["Fn::GetAtt"][0]
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
        if (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible")
    }
    assert queues == {name for name in of_type(resources, "AWS::SQS::Queue") if name.endswith("DeadLetterQueue")}


def test_every_function_has_an_alarm_on_its_errors(resources: dict[str, Resource]) -> None:
    functions = {
        alarm["Dimensions"][0]["Value"]["Ref"]
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
        if (alarm["Namespace"], alarm["MetricName"]) == ("AWS/Lambda", "Errors")
    }
    assert functions == set(FUNCTIONS)


def test_an_alarm_of_ours_names_a_metric_that_the_code_emits(
    resources: dict[str, Resource], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alarms = {
        alarm["MetricName"]: alarm
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
        if not isinstance(alarm["Namespace"], str)
    }
    assert set(alarms) == {
        "UndeliveredSeconds",
        "RejectedEvents",
        "ResourcesWithoutHolder",
        "ReceiversRefused",
        "ResourcesFrozen",
    }
    code = "".join(
        path.read_text() for folder in ("functions", "layers/shared") for path in (ROOT / folder).rglob("*.py")
    )
    variables = environment(resources, "ReconcileFunction")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", variables["POWERTOOLS_SERVICE_NAME"])
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "from the template")
    for name, alarm in alarms.items():
        assert f'metric("{name}"' in code
        telemetry.metric(name)
        emitted = json.loads(capsys.readouterr().out)
        assert emitted["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "from the template"
        [dimensions] = emitted["_aws"]["CloudWatchMetrics"][0]["Dimensions"]
        assert [{"Name": each, "Value": emitted[each]} for each in dimensions] == alarm["Dimensions"]
        variable = resources["ReconcileFunction"]["Properties"]["Environment"]["Variables"]
        assert alarm["Namespace"] == variable["POWERTOOLS_METRICS_NAMESPACE"]


# --- API


def test_the_api_offers_the_routes_of_its_function_and_every_one_asks_for_iam(resources: dict[str, Resource]) -> None:
    [api] = of_type(resources, "AWS::ApiGateway::RestApi").values()
    offered = set()
    for path, methods in api["Body"]["paths"].items():
        for method, operation in methods.items():
            assert operation["security"] == [{"AWS_IAM": []}], (method, path)
            offered.add((method, path))
    code = (ROOT / "functions/endpoints_api/app.py").read_text()
    routes = re.findall(r'^@app\.(\w+)\("(/[^"]*)"\)', code, re.MULTILINE)
    assert offered == {(method, path.replace("<endpoint_id>", "{id}")) for method, path in routes}
    assert ("get", "/version") in offered


# --- What is shipped


@pytest.fixture(scope="module")
def layers() -> list[Path]:
    return [
        built_layer("DependenciesLayer", ROOT / "layers/dependencies") / "python",
        built_layer("SharedLayer", ROOT / "layers/shared") / "python",
    ]


def test_the_layers_hold_no_compiled_code_so_that_they_serve_every_architecture(layers: list[Path]) -> None:
    assert (layers[0] / "boto3").is_dir()
    assert not [path for layer in layers for path in layer.rglob("*") if path.suffix in (".so", ".pyd", ".pyc")]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_imports_nothing_but_layers_and_standard_library(
    resources: dict[str, Resource], layers: list[Path], function: str
) -> None:
    folder = ROOT / "functions" / FUNCTIONS[function]
    code = "import sys; sys.path[:0] = sys.argv[1:]; import app; assert callable(app.handler)"
    subprocess.run(
        # -S and -E: neither the site-packages of this environment nor its PYTHONPATH.
        [sys.executable, "-B", "-S", "-E", "-c", code, str(folder), *map(str, layers)],
        env={**environment(resources, function), "AWS_DEFAULT_REGION": "eu-west-1"},
        check=True,
        timeout=60,
    )


def test_what_is_tested_is_what_is_shipped() -> None:
    shipped, tested = (
        dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / file).read_text(), re.MULTILINE))
        for file in ("layers/dependencies/requirements.txt", "requirements/dev.txt")
    )
    assert {"boto3", "certifi", "aws-lambda-powertools"} <= shipped.keys()
    assert shipped == {name: tested.get(name) for name in shipped}
