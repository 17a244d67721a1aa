"""The promises of template.yaml, checked on the resources that SAM's transform makes of it."""

from __future__ import annotations

import ast
import fnmatch
import io
import json
import re
import string
import subprocess
import sys
import tomllib
import zipfile
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from link import VERSION, deployment, prober, settings, signal_look, signaller, telemetry
from link.election.state import Observer
from link.prober import SLOTS_A_MINUTE
from link.probing.states import SLOT_SECONDS
from link.registration import Registration
from link.signals.events import translate
from link.store import queues
from link.store.bus import DETAIL_TYPE
from link.store.endpoints import PROBED_INDEX, to_item
from link.store.queues import MAX_QUICK_RECEIVES
from scripts.cloud import ROOT, built_layer, template
from tests.support import stack
from tests.support.ids import RESOURCE
from tests.support.stack import PARAMETERS, VARIABLES, evaluated, parameters_in
from tests.support.transformed import Resource, deployed, of_type, raised_by

FUNCTIONS = {
    "EndpointStatusFunction": "endpoint_status",
    "ReconcileFunction": "reconcile",
    "RefreshFunction": "refresh",
    "EndpointsApiFunction": "endpoints_api",
    "KeyRotationFunction": "key_rotation",
    "ProbeFunction": "probe",
    "ProbeClockFunction": "probe_clock",
    "SignalFunction": "signal",
}
ALIAS = "Aliaslive"
"""What SAM adds to a function's logical id for its alias `live`."""
SECONDS_OF_A_DAY = 86_400
API_GATEWAY_SECONDS = 29
MAX_STACK_NAME = 128
MAX_LAYER_NAME = 140
MAX_PARAMETER = 4_096
MAX_VERSION_DESCRIPTION = 256
MAX_ALARMS_OF_A_DEPLOYMENT = 10
MINUTES_OF_A_DEPLOYMENT = 20
ACCOUNT_CONCURRENCY = 1_000
LOSABLE_TABLES = {"ProbesTable", "SignalsTable"}
"""What they have can be found again."""
REGISTERED: dict[str, Any] = {
    "endpoint_id": "vip-1",
    "plugin": "webhook",
    "resource_id": RESOURCE,
    "config": {"url": "https://receiver.example.com", "ciphertext": "x"},
    "checks": ({"type": "TCP", "host": "paris.example.com", "port": 443},),
    "observers": (Observer.PROBE,),
}

RECONCILES = {
    "LocksTable": {"dynamodb:GetItem", "dynamodb:PutItem"},
    "TransitionsTable": {"dynamodb:PutItem"},
    "EndpointsTable": {"dynamodb:GetItem", "dynamodb:DeleteItem"},
    "SecretsKey": {"kms:Decrypt"},
    "WakeUpQueue": {"sqs:SendMessage"},
}
CONSUME = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"}
LOG = {"logs:CreateLogStream", "logs:PutLogEvents"}
MAY: dict[str, dict[str, set[str]]] = {
    "EndpointStatusFunction": {
        **RECONCILES,
        "RejectedEventsQueue": {"sqs:SendMessage"},
        "StatusQueue": {"sqs:SendMessage"} | CONSUME,
        "EndpointStatusLogGroup": LOG,
    },
    "ReconcileFunction": {
        **RECONCILES,
        "WakeUpQueue": {"sqs:SendMessage"} | CONSUME,
        "ReconcileLogGroup": LOG,
    },
    "RefreshFunction": {
        "RefreshLogGroup": LOG,
        "LocksTable/index/due": {"dynamodb:Query"},
        "WakeUpQueue": {"sqs:SendMessage"},
        "RefreshDeadLetterQueue": {"sqs:SendMessage"},  # by Lambda itself, when a sweep failed
    },
    "EndpointsApiFunction": {
        "EndpointsApiLogGroup": LOG,
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
        "ProbesTable": {"dynamodb:GetItem"},
        "SignalsTable": {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"},
        "EndpointsTable/index/probed": {"dynamodb:Query"},
        "KeyRotationFunction:live": {"lambda:InvokeFunction"},
        "ProbeFunction:live": {"lambda:InvokeFunction"},
    },
    "KeyRotationFunction": {
        "KeyRotationLogGroup": LOG,
        "EndpointsTable": {"dynamodb:Scan", "dynamodb:UpdateItem"},
        "SecretsKey": {"kms:ReEncryptFrom", "kms:ReEncryptTo"},
        "KeyRotationDeadLetterQueue": {"sqs:SendMessage"},  # by Lambda itself, when a rotation failed
    },
    "ProbeFunction": {
        "ProbeLogGroup": LOG,
        "EndpointsTable/index/probed": {"dynamodb:Query"},
        "ProbesTable": {"dynamodb:GetItem", "dynamodb:PutItem"},
        "LocksTable": {"dynamodb:BatchGetItem"},
        "the bus": {"events:PutEvents"},
        "ProbeQueue": CONSUME,
    },
    "ProbeClockFunction": {
        "ProbeClockLogGroup": LOG,
        "EndpointsTable/index/probed": {"dynamodb:Query"},
        "ProbeQueue": {"sqs:SendMessage"},
        "ProbeClockDeadLetterQueue": {"sqs:SendMessage"},  # by Lambda itself, when a minute failed
    },
    "SignalFunction": {
        "SignalLogGroup": LOG,
        "SignalsTable": {"dynamodb:Query", "dynamodb:GetItem", "dynamodb:UpdateItem"},
        "LocksTable": {"dynamodb:BatchGetItem"},
        "the bus": {"events:PutEvents"},
        "SignalQueue": CONSUME,
        "RejectedEventsQueue": {"sqs:SendMessage"},
        "SignalDeadLetterQueue": {"sqs:SendMessage"},  # by Lambda itself, when a look failed
    },
}
ASKS = {
    "HearsAlarms": {"cloudwatch:DescribeAlarms"},
    "HearsInstances": {"ec2:DescribeInstanceStatus", "autoscaling:CompleteLifecycleAction"},
    "HearsTasks": {"ecs:ListTasks", "ecs:DescribeTasks"},
    "HearsTargets": {"elasticloadbalancing:DescribeTargetHealth"},
    "HearsZones": {"arc-zonal-shift:ListAutoshifts"},
}
"""What the function of signals may ask, by the condition that it has."""
NETWORK_INTERFACES = {
    "CreateNetworkInterface",
    "DescribeNetworkInterfaces",
    "DescribeSubnets",
    "DeleteNetworkInterface",
    "AssignPrivateIpAddresses",
    "UnassignPrivateIpAddresses",
}


@pytest.fixture(scope="module")
def resources() -> dict[str, Resource]:
    return deployed()


def target(arn: Any) -> str:
    """Return the logical id in an ARN with its suffix, for example `LocksTable/index/due`."""
    match arn:
        case {"Fn::GetAtt": [name, "Arn"]}:
            return str(name)
        case {"Fn::Sub": [text, {"Bus": _}]} if text.endswith(":event-bus/${Bus}"):
            return "the bus"
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{(\w+)\.Arn\}", r"\1", text)
        case {"Ref": name} if name.endswith(ALIAS):
            return f"{name.removesuffix(ALIAS)}:live"
    return str(arn)


def behind_alias(reference: Any) -> str:
    """Return the function whose alias this is. What calls the function itself misses the version of the alias."""
    function, _, alias = target(reference).partition(":")
    assert alias == "live", reference
    return function


def consumers(resources: dict[str, Resource]) -> dict[str, str]:
    """Return the function that reads each queue."""
    return {
        target(mapping["EventSourceArn"]): behind_alias(mapping["FunctionName"])
        for mapping in of_type(resources, "AWS::Lambda::EventSourceMapping").values()
    }


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def role_of(resources: dict[str, Resource], function: str) -> Resource:
    properties: Resource = resources[target(resources[function]["Properties"]["Role"])]["Properties"]
    return properties


def statements(resources: dict[str, Resource], function: str) -> list[dict[str, Any]]:
    """Return what the function's role has in every deployment, in a VPC or not."""
    policies = [policy for policy in role_of(resources, function)["Policies"] if "Fn::If" not in policy]
    return [each for policy in policies for each in as_list(policy["PolicyDocument"]["Statement"])]


def dead_letter_queue_of(queue: Resource) -> str:
    return target(queue["RedrivePolicy"]["deadLetterTargetArn"])


# --- Permissions


@pytest.mark.parametrize("function", MAY)
def test_each_function_has_exactly_the_permissions_it_needs(resources: dict[str, Resource], function: str) -> None:
    may: dict[str, set[str]] = defaultdict(set)
    for statement in statements(resources, function):
        assert statement["Effect"] == "Allow"
        for resource in as_list(statement["Resource"]):
            may[target(resource)].update(as_list(statement["Action"]))
    assert may == MAY[function]


def test_roles_of_traced_functions_attach_the_policy_for_traces_and_no_other(resources: dict[str, Resource]) -> None:
    traces = {"Fn::Sub": "arn:${AWS::Partition}:iam::aws:policy/AWSXRayDaemonWriteAccess"}
    for function in FUNCTIONS:
        traced = resources[function]["Properties"]["TracingConfig"]["Mode"] == "Active"
        assert role_of(resources, function).get("ManagedPolicyArns", []) == [traces] * traced, function
    assert len(of_type(resources, "AWS::IAM::Role")) == len(FUNCTIONS)


def test_only_lambda_itself_makes_network_interfaces_and_only_for_functions_in_the_vpc(
    resources: dict[str, Resource],
) -> None:
    for function in FUNCTIONS:
        in_vpc = "VpcConfig" in resources[function]["Properties"]
        policies = [each["Fn::If"] for each in role_of(resources, function)["Policies"] if "Fn::If" in each]
        conditional = [each for each in policies if each[0] not in ASKS]
        assert len(conditional) == in_vpc, function
        for condition, policy, nothing in conditional:
            assert (condition, nothing) == ("InVpc", {"Ref": "AWS::NoValue"})
            [statement] = policy["PolicyDocument"]["Statement"]
            # What AWSLambdaVPCAccessExecutionRole has, without the logs of the account.
            assert set(statement["Action"]) == {f"ec2:{action}" for action in NETWORK_INTERFACES}
            # Lambda adds this key to every call of the function's code, and not to its own calls of EC2.
            assert statement["Condition"] == {"Null": {"lambda:SourceFunctionArn": "true"}}


def test_every_use_of_the_key_requires_the_encryption_context_of_webhook_configurations(
    resources: dict[str, Resource],
) -> None:
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


@pytest.mark.parametrize(
    ("policy", "operator", "sources"),
    [
        ("HostsPolicy", "ForAllValues:StringLike", ["link", "link.host.*"]),
        ("BoundHostPolicy", "ForAllValues:StringEquals", "link.host.${aws:PrincipalTag/host}"),
    ],
)
def test_hosts_may_only_report_as_hosts_and_every_event_of_a_request_counts(
    resources: dict[str, Resource], policy: str, operator: str, sources: Any
) -> None:
    [statement] = of_type(resources, "AWS::IAM::ManagedPolicy")[policy]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Allow", "events:PutEvents")
    bus = resources["StatusRule"]["Properties"]["EventBusName"]
    assert statement["Resource"]["Fn::Sub"][1] == {"Bus": bus}
    kinds = resources["StatusRule"]["Properties"]["EventPattern"]["detail-type"]
    assert statement["Condition"] == {
        operator: {"events:source": sources, "events:detail-type": kinds},
        # ForAllValues alone is true for a request without the key.
        "Null": {"events:source": "false", "events:detail-type": "false"},
    }


@pytest.mark.parametrize(
    ("function", "source"), [("ProbeFunction", prober.SOURCE), ("SignalFunction", signaller.SOURCE)]
)
def test_an_observer_of_ours_may_only_report_as_itself(
    resources: dict[str, Resource], function: str, source: str
) -> None:
    [statement] = [each for each in statements(resources, function) if each["Action"] == "events:PutEvents"]
    [bus] = of_type(resources, "AWS::Events::EventBusPolicy").values()
    assert statement["Resource"] == bus["Statement"]["Resource"]
    assert resources[function]["Properties"]["Environment"]["Variables"]["EVENT_BUS_NAME"] == bus["EventBusName"]
    assert statement["Condition"] == {
        "ForAllValues:StringEquals": {"events:source": source, "events:detail-type": DETAIL_TYPE},
        "Null": {"events:source": "false", "events:detail-type": "false"},
    }
    pattern = resources["StatusRule"]["Properties"]["EventPattern"]
    assert (source in pattern["source"], DETAIL_TYPE in pattern["detail-type"]) == (True, True)


def test_the_look_may_ask_only_about_the_types_that_are_named(resources: dict[str, Resource]) -> None:
    policies = [each["Fn::If"] for each in role_of(resources, "SignalFunction")["Policies"] if "Fn::If" in each]
    asks = {}
    for condition, policy, nothing in policies:
        assert nothing == {"Ref": "AWS::NoValue"}
        asks[condition] = {
            action: as_list(statement["Resource"])
            for statement in policy["PolicyDocument"]["Statement"]
            for action in as_list(statement["Action"])
        }
    hooks = (
        "arn:${AWS::Partition}:autoscaling:${AWS::Region}:${AWS::AccountId}:autoScalingGroup:*:autoScalingGroupName/*"
    )
    assert asks == {
        condition: {
            action: [{"Fn::Sub": hooks}] if action == "autoscaling:CompleteLifecycleAction" else ["*"]
            for action in actions
        }
        for condition, actions in ASKS.items()
    }


@pytest.mark.parametrize(
    ("types", "rules"),
    [
        ("", set[str]()),
        ("alarm", {"AlarmSignalRule"}),
        ("ec2", {"InstanceSignalRule", "NoticeSignalRule"}),
        ("ecs,zone", {"TaskSignalRule", "ZoneSignalRule"}),
        ("target", set[str]()),
    ],
)
def test_without_signal_types_nothing_of_signals_is_there_and_with_them_only_their_rules(
    resources: dict[str, Resource], types: str, rules: set[str]
) -> None:
    given = {"SignalTypes": types}
    conditions = template()["Conditions"]
    conditional = {
        name: each["Condition"] for name, each in resources.items() if "Signal" in name and "Condition" in each
    }
    there = {name for name, condition in conditional.items() if evaluated(conditions[condition], given)}
    kinds = {name: resources[name]["Type"] for name in there}
    on_the_default_bus = {name for name, kind in kinds.items() if kind == "AWS::Events::Rule"} - {"SignalLookRule"}
    assert on_the_default_bus == rules
    assert all("EventBusName" not in resources[name]["Properties"] for name in conditional)
    assert bool(there) == bool(types) and ("SignalLookRule" in there) == bool(types)
    always = {name for name in resources if "Signal" in name and name not in conditional}
    # An empty table costs nothing.
    assert always == {"SignalsTable"}


@pytest.mark.parametrize("path", sorted((ROOT / "events").glob("signal_*.json")), ids=lambda path: path.stem)
def test_the_rules_pass_exactly_the_events_that_say_something(resources: dict[str, Resource], path: Path) -> None:
    event = json.loads(path.read_text())
    patterns = [
        each["EventPattern"]
        for name, each in of_type(resources, "AWS::Events::Rule").items()
        if name.endswith("SignalRule")
    ]
    assert sum(matches(pattern, event) for pattern in patterns) == bool(translate(event))


def matches(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    """Whether an event has what a pattern of ours wants: one of the values of each field."""
    return all(
        matches(wanted, event.get(name, {})) if isinstance(wanted, dict) else event.get(name) in wanted
        for name, wanted in pattern.items()
    )


def test_no_probe_is_traced_because_each_trace_costs(resources: dict[str, Resource]) -> None:
    # With PassThrough a function is traced if its caller is: the clock's messages would carry the clock's trace.
    modes = {name: resources[name]["Properties"]["TracingConfig"]["Mode"] for name in FUNCTIONS}
    probes = {"ProbeFunction", "ProbeClockFunction", "SignalFunction"}
    assert modes == {name: "PassThrough" if name in probes else "Active" for name in FUNCTIONS}


def test_a_queue_policy_names_one_queue_and_is_attached_to_no_other(resources: dict[str, Resource]) -> None:
    # SQS has refused policies with statements about other queues; the local cloud takes them.
    for name, policy in of_type(resources, "AWS::SQS::QueuePolicy").items():
        [queue] = policy["Queues"]
        [statement] = policy["PolicyDocument"]["Statement"]
        assert [target(arn) for arn in as_list(statement["Resource"])] == [queue["Ref"]], name


def test_eventbridge_may_send_to_a_queue_only_for_the_rule_that_uses_it(resources: dict[str, Resource]) -> None:
    senders = {}
    for policy in of_type(resources, "AWS::SQS::QueuePolicy").values():
        [statement] = policy["PolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "events.amazonaws.com"}
        for arn in as_list(statement["Resource"]):
            sources = as_list(statement["Condition"]["ArnEquals"]["aws:SourceArn"])
            if len(sources) == 1:
                senders[target(arn)] = target(sources[0])
                continue
            for source in sources:
                condition, rule, _ = source.get("Fn::If", ["HearsSignals", source, None])
                assert resources[target(rule)]["Condition"] == condition
            assert {target(source.get("Fn::If", [None, source])[1]) for source in sources} == {
                name for name in of_type(resources, "AWS::Events::Rule") if "Signal" in name
            }
            senders[target(arn)] = "the rules of signals"
    assert senders == {
        "StatusQueue": "StatusRule",
        "StatusDeadLetterQueue": "StatusRule",
        "RefreshScheduleDeadLetterQueue": "RefreshRule",
        "ProbeScheduleDeadLetterQueue": "ProbeClockRule",
        "SignalQueue": "the rules of signals",
        "SignalDeadLetterQueue": "the rules of signals",
    }


# --- Queues and retries


def test_visibility_timeout_is_at_least_six_times_the_function_timeout(resources: dict[str, Resource]) -> None:
    mappings = of_type(resources, "AWS::Lambda::EventSourceMapping").values()
    assert len(mappings) == 4
    for mapping in mappings:
        queue = resources[target(mapping["EventSourceArn"])]["Properties"]
        function = resources[behind_alias(mapping["FunctionName"])]["Properties"]
        assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
        # A batch of one fails as a whole.
        parts = mapping["BatchSize"] > 1
        assert mapping.get("FunctionResponseTypes", []) == ["ReportBatchItemFailures"] * parts
        assert mapping["MaximumBatchingWindowInSeconds"] == 0


def invoked_by(resources: dict[str, Resource], function: str) -> set[str]:
    """Return the functions that this function's permissions let it invoke, itself or through a queue."""
    reads = consumers(resources)
    invoked = set()
    for statement in statements(resources, function):
        for resource in map(target, as_list(statement["Resource"])):
            actions = as_list(statement["Action"])
            if "sqs:SendMessage" in actions and resource in reads:
                invoked.add(reads[resource])
            if "lambda:InvokeFunction" in actions:
                invoked.add(resource.removesuffix(":live"))
    return invoked


def test_lambda_allows_the_loops_that_end_by_themselves_and_no_other(resources: dict[str, Resource]) -> None:
    # Lambda stops a chain after about 16 invocations of a function, and the local cloud does not.
    next_ones = {function: invoked_by(resources, function) for function in FUNCTIONS}
    assert next_ones["RefreshFunction"] == {"ReconcileFunction"}
    assert (next_ones["ProbeClockFunction"], next_ones["ProbeFunction"]) == ({"ProbeFunction"}, set())
    # It puts what failed of a host's reports back on its queue.
    assert next_ones["EndpointStatusFunction"] == {"EndpointStatusFunction", "ReconcileFunction"}

    def reached_from(function: str) -> set[str]:
        reached, left = set(), [function]
        while left:
            new = next_ones[left.pop()] - reached
            reached |= new
            left.extend(new)
        return reached

    in_a_loop = {function for function in FUNCTIONS if function in reached_from(function)}
    loops = {name: resources[name]["Properties"].get("RecursiveLoop", "Terminate") for name in FUNCTIONS}
    assert loops == {name: "Allow" if name in in_a_loop else "Terminate" for name in FUNCTIONS}
    assert in_a_loop == {"EndpointStatusFunction", "ReconcileFunction"}


def test_every_asynchronous_source_has_a_dead_letter_queue(resources: dict[str, Resource]) -> None:
    failed = {
        each["FunctionName"]["Ref"]: target(each["DestinationConfig"]["OnFailure"]["Destination"])
        for each in of_type(resources, "AWS::Lambda::EventInvokeConfig").values()
    }
    signal_rules = {
        target(each["Targets"][0]["DeadLetterConfig"]["Arn"])
        for name, each in of_type(resources, "AWS::Events::Rule").items()
        if "Signal" in name
    }
    assert {
        "status rule": target(resources["StatusRule"]["Properties"]["Targets"][0]["DeadLetterConfig"]["Arn"]),
        "status queue": dead_letter_queue_of(resources["StatusQueue"]["Properties"]),
        "wake-up queue": dead_letter_queue_of(resources["WakeUpQueue"]["Properties"]),
        "schedule": target(resources["RefreshRule"]["Properties"]["Targets"][0]["DeadLetterConfig"]["Arn"]),
        "refresh function": failed["RefreshFunction"],
        "key rotation": failed["KeyRotationFunction"],
        "probe queue": dead_letter_queue_of(resources["ProbeQueue"]["Properties"]),
        "clock's schedule": target(resources["ProbeClockRule"]["Properties"]["Targets"][0]["DeadLetterConfig"]["Arn"]),
        "clock": failed["ProbeClockFunction"],
        "signal rules": signal_rules.pop(),
        "signal queue": dead_letter_queue_of(resources["SignalQueue"]["Properties"]),
        "look": failed["SignalFunction"],
    } == {
        "status rule": "StatusDeadLetterQueue",
        "status queue": "StatusDeadLetterQueue",
        "wake-up queue": "WakeUpDeadLetterQueue",
        "schedule": "RefreshScheduleDeadLetterQueue",
        "refresh function": "RefreshDeadLetterQueue",
        "key rotation": "KeyRotationDeadLetterQueue",
        "probe queue": "ProbeDeadLetterQueue",
        "clock's schedule": "ProbeScheduleDeadLetterQueue",
        "clock": "ProbeClockDeadLetterQueue",
        "signal rules": "SignalDeadLetterQueue",
        "signal queue": "SignalDeadLetterQueue",
        "look": "SignalDeadLetterQueue",
    }
    assert not signal_rules


def test_throttling_alone_does_not_dead_letter_a_wake_up(resources: dict[str, Resource]) -> None:
    # SQS counts a receive whose invocation was throttled. AWS asks for at least 5 receives.
    queue = resources["WakeUpQueue"]["Properties"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] >= 5
    assert queue["MessageRetentionPeriod"] > queue["RedrivePolicy"]["maxReceiveCount"] * queue["VisibilityTimeout"]


def test_the_queues_together_leave_a_part_of_the_accounts_concurrency(resources: dict[str, Resource]) -> None:
    bounds = 0
    for mapping in of_type(resources, "AWS::Lambda::EventSourceMapping").values():
        condition, given, bound = mapping["ScalingConfig"]["MaximumConcurrency"]["Fn::If"]
        assert (condition, given) == ("HasMaximumConcurrency", {"Ref": "MaximumConcurrency"})
        bounds += bound
    assert bounds < ACCOUNT_CONCURRENCY - 100
    assert PARAMETERS["MaximumConcurrency"]["Default"] == 0
    zero = {"Fn::Equals": [{"Ref": "MaximumConcurrency"}, 0]}
    assert template()["Conditions"]["HasMaximumConcurrency"] == {"Fn::Not": [zero]}


def test_concurrency_is_reserved_only_if_a_parameter_says_so(resources: dict[str, Resource]) -> None:
    # Lambda refuses a reservation that leaves less than 100 to the rest of the account, and so the first deployment.
    reserved = {name: resources[name]["Properties"].get("ReservedConcurrentExecutions") for name in FUNCTIONS}
    nothing = {"Ref": "AWS::NoValue"}
    assert {name: value for name, value in reserved.items() if value is not None} == {
        "RefreshFunction": {"Fn::If": ["ReservesConcurrency", 1, nothing]},
        "EndpointsApiFunction": {"Fn::If": ["ReservesConcurrency", {"Ref": "ReservedApiConcurrency"}, nothing]},
    }
    assert PARAMETERS["ReservedApiConcurrency"]["Default"] == 0
    # Reserved 0 would not mean "none": Lambda would then refuse every call.
    zero = {"Fn::Equals": [{"Ref": "ReservedApiConcurrency"}, 0]}
    assert template()["Conditions"]["ReservesConcurrency"] == {"Fn::Not": [zero]}


def test_a_slot_is_tried_once_and_kept_if_it_fails(resources: dict[str, Resource]) -> None:
    # SQS moves a message at the receive after the last one, and deletes it if it is too old by then.
    queue = resources["ProbeQueue"]["Properties"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 1
    longest_delay = SLOTS_A_MINUTE * SLOT_SECONDS
    assert queue["MessageRetentionPeriod"] > longest_delay + queue["VisibilityTimeout"] + 60


def test_the_clock_gets_the_events_of_its_rule_with_their_time(resources: dict[str, Resource]) -> None:
    sweep, clock = (resources[name]["Properties"] for name in ("RefreshRule", "ProbeClockRule"))
    # A rate may begin at any second. The minutes of a cron expression are those that the clock counts.
    assert (sweep["ScheduleExpression"], clock["ScheduleExpression"]) == ("rate(1 minute)", "cron(* * * * ? *)")
    [at_sweep], [at_clock] = sweep["Targets"], clock["Targets"]
    assert at_clock["RetryPolicy"] == at_sweep["RetryPolicy"]
    assert not {"Input", "InputPath", "InputTransformer"} & at_clock.keys()


def test_a_report_is_retried_for_at_least_24_hours_before_it_is_dead_lettered(resources: dict[str, Resource]) -> None:
    queue = resources["StatusQueue"]["Properties"]
    # As the functions put a failed message off: 1, 2, 4 … 60 s for an hour, then the visibility timeout.
    quick = sum(min(60, 2**number) for number in range(MAX_QUICK_RECEIVES))
    slow = queue["RedrivePolicy"]["maxReceiveCount"] - MAX_QUICK_RECEIVES
    retried = quick + slow * queue["VisibilityTimeout"]
    assert quick >= 3_600
    assert retried >= SECONDS_OF_A_DAY
    assert queue["MessageRetentionPeriod"] > retried


def test_the_status_rule_passes_events_to_the_queue_unchanged(resources: dict[str, Resource]) -> None:
    rule = resources["StatusRule"]["Properties"]
    assert rule["EventPattern"] == {
        "source": ["link", {"prefix": "link.host."}, "link.probe", "link.signal"],
        "detail-type": ["Endpoint Status Change", "Host Report"],
    }
    [queue] = rule["Targets"]
    assert target(queue["Arn"]) == "StatusQueue"
    assert not {"Input", "InputPath", "InputTransformer"} & queue.keys()


# --- State


def kept(resource: Resource) -> bool:
    """Whether the resource outlives its stack, but not the rollback of the deployment that created it."""
    policies = resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")
    return policies == ("RetainExceptOnCreate", "Retain")


def test_tables_are_encrypted_recoverable_and_kept_when_the_stack_is_deleted(resources: dict[str, Resource]) -> None:
    tables = of_type(resources, "AWS::DynamoDB::Table")
    assert set(tables) == {"LocksTable", "EndpointsTable", "TransitionsTable", *LOSABLE_TABLES}
    for name, table in tables.items():
        assert table["SSESpecification"] == {"SSEEnabled": True}
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        recoverable = {"PointInTimeRecoveryEnabled": True} if name not in LOSABLE_TABLES else None
        assert table.get("PointInTimeRecoverySpecification") == recoverable, name
        assert kept(resources[name]) is (name not in LOSABLE_TABLES), name


def test_the_index_of_probed_endpoints_has_what_a_probe_reads_and_nothing_secret(
    resources: dict[str, Resource],
) -> None:
    [index] = resources["EndpointsTable"]["Properties"]["GlobalSecondaryIndexes"]
    assert index["IndexName"] == PROBED_INDEX
    keys = [key["AttributeName"] for key in index["KeySchema"]]
    # What a key rotation writes is not in it, so a rotation does not write to the index.
    assert index["Projection"] == {
        "ProjectionType": "INCLUDE",
        "NonKeyAttributes": ["resource_id", "checks", "healthcheck_interval"],
    }
    stored = to_item(Registration(**REGISTERED))
    shown = {name: stored[name] for name in ("endpoint_id", *keys, *index["Projection"]["NonKeyAttributes"])}
    assert not re.search("ciphertext|url", json.dumps(shown))


def test_the_secrets_key_rotates_and_is_kept_when_the_stack_is_deleted(resources: dict[str, Resource]) -> None:
    key = resources["SecretsKey"]
    assert key["Properties"]["EnableKeyRotation"] is True
    assert kept(key)


def test_what_is_kept_has_no_fixed_name_so_that_the_stack_can_be_created_again(
    resources: dict[str, Resource],
) -> None:
    names = ("Name", "TableName", "QueueName", "LogGroupName", "AliasName", "DashboardName")
    fixed = {name for name, each in resources.items() if any(one in each.get("Properties", {}) for one in names)}
    assert "EventBus" in fixed
    assert {name for name in fixed if kept(resources[name])} == set()


def test_the_logs_of_every_function_and_of_the_api_outlive_the_stack_until_they_expire(
    resources: dict[str, Resource],
) -> None:
    groups = {name for name, each in resources.items() if each["Type"] == "AWS::Logs::LogGroup"}
    used = {resources[function]["Properties"]["LoggingConfig"]["LogGroup"]["Ref"] for function in FUNCTIONS}
    assert groups == used | {"ApiAccessLogGroup"}
    for group in groups:
        assert kept(resources[group]), group
        assert resources[group]["Properties"] == {"RetentionInDays": {"Ref": "LogRetentionDays"}}


def test_the_longest_stack_name_fits_into_every_name_that_is_made_of_it(resources: dict[str, Resource]) -> None:
    # A rule of CloudFormation cannot check a length. The names that CloudFormation makes are short enough.
    assert [name for name in FUNCTIONS if "FunctionName" in resources[name]["Properties"]] == []
    layers = of_type(resources, "AWS::Lambda::LayerVersion").values()
    names = [layer["LayerName"]["Fn::Sub"].replace("${AWS::StackName}", MAX_STACK_NAME * "x") for layer in layers]
    assert max(map(len, names)) <= MAX_LAYER_NAME


def test_a_table_cannot_be_deleted_unless_a_parameter_says_so(resources: dict[str, Resource]) -> None:
    parameter = PARAMETERS["DeletionProtection"]
    assert parameter["Default"] == "true"
    assert template()["Conditions"]["ProtectTables"] == {"Fn::Equals": [{"Ref": "DeletionProtection"}, "true"]}
    for name, table in of_type(resources, "AWS::DynamoDB::Table").items():
        protected = {"Fn::If": ["ProtectTables", True, False]} if name not in LOSABLE_TABLES else None
        assert table.get("DeletionProtectionEnabled") == protected, name


def test_the_secrets_key_can_be_replicated_to_another_region(resources: dict[str, Resource]) -> None:
    # A key that was created without it can never get it, and its ciphertexts are then bound to one Region.
    assert resources["SecretsKey"]["Properties"].get("MultiRegion") is True


def test_only_the_transitions_table_expires_items(resources: dict[str, Resource]) -> None:
    tables = of_type(resources, "AWS::DynamoDB::Table")
    expiring = {name: table.get("TimeToLiveSpecification") for name, table in tables.items()}
    assert expiring == {
        "LocksTable": None,
        "EndpointsTable": None,
        "TransitionsTable": {"AttributeName": "expires_at", "Enabled": True},
        "ProbesTable": None,
        "SignalsTable": None,
    }


def test_every_queue_is_encrypted(resources: dict[str, Resource]) -> None:
    assert all(queue["SqsManagedSseEnabled"] for queue in of_type(resources, "AWS::SQS::Queue").values())


# --- Settings


class Reads(dict[str, str]):
    """An environment that records which of its variables were read."""

    def __init__(self, variables: dict[str, str]) -> None:
        super().__init__(variables)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def environment(resources: dict[str, Resource], function: str) -> dict[str, str]:
    """Return the function's variables, with the defaults of all parameters."""
    every = stack.environment()
    return {name: every[name] for name in resources[function]["Properties"]["Environment"]["Variables"]}


DECIDE = {
    "WEBHOOK_REFRESH_INTERVAL",
    "HANDOVER_TIMEOUT",
    "MAX_ENDPOINTS",
    "ALLOWED_NETWORKS",
    "FLAP_DAMPING",
    "REQUIRE_HOST_IDENTITY",
    "REQUIRE_HTTPS",
}
USES = {
    "EndpointStatusFunction": DECIDE | {"CA_BUNDLE"},
    "ReconcileFunction": DECIDE | {"CA_BUNDLE"},
    "RefreshFunction": set[str](),
    "EndpointsApiFunction": DECIDE | {"PROBE_NETWORKS", "PROBE_SHARDS", "SIGNAL_TYPES"},
    "KeyRotationFunction": set[str](),
    "ProbeFunction": {"PROBE_NETWORKS", "PROBE_REFERENCES", "PROBE_WHEN_ALL_FAIL"},
    "ProbeClockFunction": {"PROBE_SHARDS"},
    "SignalFunction": set[str](),
}
"""The optional variables that a function uses. The settings read all of them for each function."""


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_template_sets_exactly_the_variables_that_settings_read_and_its_defaults_are_valid(
    resources: dict[str, Resource], function: str
) -> None:
    reads = Reads(environment(resources, function))
    probes = function in ("ProbeFunction", "ProbeClockFunction")
    settings.load(reads, api=function == "EndpointsApiFunction", probes=probes, signals=function == "SignalFunction")
    optional = set[str]().union(*USES.values())
    expected = reads.names - optional | USES[function]
    assert {name for name in reads if not name.startswith(("POWERTOOLS_", "RES_"))} == expected
    assert optional <= reads.names


# --- Alarms


def product_code() -> str:
    return "".join(
        path.read_text() for folder in ("functions", "layers/shared") for path in (ROOT / folder).rglob("*.py")
    )


def alarm_texts(resources: dict[str, Resource]) -> dict[str, str]:
    """Return each alarm's text; a function's name as `${LogicalId}`."""
    texts = {name: alarm["AlarmDescription"] for name, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items()}
    return {name: text if isinstance(text, str) else text["Fn::Sub"] for name, text in texts.items()}


def test_every_alarm_has_a_text_of_its_own(resources: dict[str, Resource]) -> None:
    texts = alarm_texts(resources)
    assert len(set(texts.values())) == len(texts)


def test_an_alarm_for_errors_or_throttles_names_its_function(resources: dict[str, Resource]) -> None:
    texts = alarm_texts(resources)
    for kind in ("ErrorsAlarm", "ThrottlesAlarm"):
        named = {name: re.findall(r"\$\{(\w+)\}", text) for name, text in texts.items() if name.endswith(kind)}
        assert named == {function.removesuffix("Function") + kind: [function] for function in FUNCTIONS}


def test_only_alarms_on_functions_behind_a_queue_say_that_sqs_repeats_their_work(
    resources: dict[str, Resource],
) -> None:
    texts = alarm_texts(resources)
    repeated_by_sqs = {
        function
        for queue, function in consumers(resources).items()
        if resources[queue]["Properties"]["RedrivePolicy"]["maxReceiveCount"] > 1
    }
    for kind in ("ErrorsAlarm", "ThrottlesAlarm"):
        repeated = {
            function
            for function in FUNCTIONS
            if re.search("SQS|come back", texts[function.removesuffix("Function") + kind])
        }
        assert repeated == repeated_by_sqs, kind


def test_alarm_texts_name_only_log_lines_that_the_code_writes(resources: dict[str, Resource]) -> None:
    named = {line for text in alarm_texts(resources).values() for line in re.findall(r"\b[a-z_]+\.[a-z_]+\b", text)}
    assert named == {
        "webhook.attempted",
        "endpoint.changed",
        "key_rotation.failed",
        "record.failed",
        "ca_bundle.unreadable",
        "signals.unseen",
        "signals.missing",
    }
    assert not {line for line in named if f'"{line}"' not in product_code()}


def test_alarm_texts_name_only_queues_of_the_stack(resources: dict[str, Resource]) -> None:
    named = {queue for text in alarm_texts(resources).values() for queue in re.findall(r"\w+Queue\b", text)}
    assert named <= of_type(resources, "AWS::SQS::Queue").keys()


def test_alarm_texts_redrive_only_what_sqs_can_redrive_and_name_the_outputs_for_it(
    resources: dict[str, Resource],
) -> None:
    # StartMessageMoveTask takes only the dead-letter queue of another SQS queue, and wants ARNs.
    redrivable = {
        dead_letter_queue_of(queue)
        for queue in of_type(resources, "AWS::SQS::Queue").values()
        if "RedrivePolicy" in queue
    }
    assert redrivable == {f"{name}DeadLetterQueue" for name in ("Status", "WakeUp", "Probe", "Signal")}
    dead_letters = {name for name in of_type(resources, "AWS::SQS::Queue") if name.endswith("DeadLetterQueue")}
    texts = alarm_texts(resources)
    for queue in dead_letters:
        text = texts[queue.removesuffix("Queue") + "Alarm"]
        if "start-message-move-task" in text:
            assert queue in redrivable
            named = re.findall(r"-arn (\w+)", text)
            assert named == ["StatusDeadLetterQueueArn", "StatusQueueArn"]
            for output in named:
                assert template()["Outputs"][output]["Value"] == {"Fn::GetAtt": [output.removesuffix("Arn"), "Arn"]}
        else:
            assert f"purge {queue}" in text, queue
            assert "redrive" not in text
    # An event that EventBridge could not deliver is redriven as well.
    assert "start-message-move-task" in texts["StatusDeadLetterAlarm"]


def test_a_shared_layer_stays_for_the_receivers_that_pinned_it_and_belongs_to_one_stack(
    resources: dict[str, Resource],
) -> None:
    layers = {
        name.removesuffix(name[-10:]): layer
        for name, layer in resources.items()
        if layer["Type"] == "AWS::Lambda::LayerVersion"
    }
    assert layers["SharedLayer"]["DeletionPolicy"] == "Retain"
    names = [layer["Properties"]["LayerName"] for layer in layers.values()]
    assert sorted(name["Fn::Sub"] for name in names) == ["${AWS::StackName}-packages", "${AWS::StackName}-shared"]


def test_other_accounts_use_the_layer_and_the_bus_only_if_a_parameter_names_their_organization(
    resources: dict[str, Resource],
) -> None:
    assert PARAMETERS["OrganizationId"]["Default"] == ""
    empty = {"Fn::Equals": [{"Ref": "OrganizationId"}, ""]}
    assert template()["Conditions"]["OpenToOrganization"] == {"Fn::Not": [empty]}
    [bus] = of_type(resources, "AWS::Events::EventBusPolicy").values()
    [layer] = of_type(resources, "AWS::Lambda::LayerVersionPermission").values()
    assert layer["Principal"] == bus["Statement"]["Principal"] == "*"
    assert layer["OrganizationId"] == {"Ref": "OrganizationId"}
    assert bus["Statement"]["Condition"]["StringEquals"]["aws:PrincipalOrgID"] == {"Ref": "OrganizationId"}
    for name in ("EventBusPolicy", "SharedLayerPermission"):
        assert resources[name]["Condition"] == "OpenToOrganization"
    # A new version of the layer replaces the permission. Receivers that pinned the old version still need the old one.
    permission = resources["SharedLayerPermission"]
    assert permission["DeletionPolicy"] == permission["UpdateReplacePolicy"] == "Retain"
    assert resources[layer["LayerVersionArn"]["Ref"]]["Properties"]["LayerName"] == {
        "Fn::Sub": "${AWS::StackName}-shared"
    }


def may_put(statement: dict[str, Any], source: str, detail_type: str) -> bool:
    """Whether a bus's policy lets another account of the organization put such an event, as IAM evaluates it."""
    assert (statement["Effect"], statement["Action"]) == ("Allow", "events:PutEvents")
    conditions = statement["Condition"]
    assert conditions["Null"] == {"events:source": "false", "events:detail-type": "false"}
    allowed = conditions["ForAllValues:StringLike"]
    sources = allowed["events:source"]
    return any(fnmatch.fnmatchcase(source, each) for each in sources) and detail_type in allowed["events:detail-type"]


@pytest.mark.parametrize(
    ("source", "detail_type", "may"),
    [
        ("link", "Endpoint Status Change", True),
        ("link.host.paris", "Endpoint Status Change", True),
        ("link.host.paris", "Host Report", True),
        ("link.probe", "Host Report", False),
        ("link.signal", "Endpoint Status Change", False),
        ("link.host", "Host Report", False),
        ("linked", "Endpoint Status Change", False),
        ("aws.health", "Endpoint Status Change", False),
        ("link", "Scheduled Event", False),
    ],
)
def test_hosts_of_other_accounts_speak_only_as_hosts(
    resources: dict[str, Resource], source: str, detail_type: str, may: bool
) -> None:
    [policy] = of_type(resources, "AWS::Events::EventBusPolicy").values()
    assert may_put(policy["Statement"], source, detail_type) is may
    assert policy["EventBusName"] == resources["StatusRule"]["Properties"]["EventBusName"]


def test_every_dead_letter_queue_has_an_alarm(resources: dict[str, Resource]) -> None:
    queues = {
        alarm["Dimensions"][0]["Value"]["Fn::GetAtt"][0]
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
        if (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible")
    }
    assert queues == {name for name in of_type(resources, "AWS::SQS::Queue") if name.endswith("DeadLetterQueue")}


def alarms_on(resources: dict[str, Resource], namespace: str, metric: str) -> dict[str, Resource]:
    """Return the alarms on one metric by the resource of their first dimension."""
    found = {}
    for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values():
        if (alarm["Namespace"], alarm["MetricName"]) == (namespace, metric):
            value = alarm["Dimensions"][0]["Value"]
            found[value["Ref"] if "Ref" in value else value["Fn::GetAtt"][0]] = alarm
    return found


@pytest.mark.parametrize("metric", ["Errors", "Throttles"])
def test_every_function_has_an_alarm_for_its_errors_and_throttles(resources: dict[str, Resource], metric: str) -> None:
    alarms = alarms_on(resources, "AWS/Lambda", metric)
    assert set(alarms) == set(FUNCTIONS)
    for alarm in alarms.values():
        assert alarm["Statistic"] == "Sum"
        assert raised_by(alarm, [1])
        assert not raised_by(alarm, [0])
        assert not raised_by(alarm, [None])


def test_a_sweep_that_does_not_run_raises_an_alarm_although_there_is_no_data(resources: dict[str, Resource]) -> None:
    [(function, alarm)] = alarms_on(resources, "AWS/Lambda", "Invocations").items()
    assert function == "RefreshFunction"
    assert (alarm["Statistic"], alarm["Period"]) == ("Sum", 300)
    assert raised_by(alarm, [None])  # A disabled rule leaves no data at all.
    assert raised_by(alarm, [0])
    assert not raised_by(alarm, [1])


def test_probes_that_do_not_run_raise_an_alarm_after_two_minutes_and_nothing_to_probe_does_not(
    resources: dict[str, Resource],
) -> None:
    alarm = resources["ProbesMissingAlarm"]["Properties"]
    assert (alarm["Statistic"], alarm["Period"], alarm["EvaluationPeriods"]) == ("Sum", 60, 2)
    assert raised_by(alarm, [0, 0])  # The clock puts slots, and none is done.
    assert raised_by(alarm, [None, None])  # The clock does not run.
    assert not raised_by(alarm, [0, 6])
    assert not raised_by(alarm, [1, 1])  # The clock has nothing to put.


def test_reports_that_are_not_read_raise_an_alarm_after_three_minutes(resources: dict[str, Resource]) -> None:
    alarm = alarms_on(resources, "AWS/SQS", "ApproximateAgeOfOldestMessage")["StatusQueue"]
    assert (alarm["Statistic"], alarm["Period"]) == ("Maximum", 60)
    assert raised_by(alarm, [61, 121, 181])
    assert not raised_by(alarm, [1, 61, 121])
    assert not raised_by(alarm, [None, None, None])


def test_only_wake_ups_that_are_overdue_raise_an_alarm(resources: dict[str, Resource]) -> None:
    alarm = alarms_on(resources, "AWS/SQS", "ApproximateAgeOfOldestMessage")["WakeUpQueue"]
    # A wake-up may be sent with a delay, and AWS does not say that the age leaves it out.
    longest = queues.wake_up_message("floating-ip-203.0.113.7", due_at=10**13, now=0)["DelaySeconds"]
    assert not raised_by(alarm, [longest + 60] * 3)
    assert raised_by(alarm, [longest + 301] * 3)
    # SQS deletes what is older than the retention period: the alarm has to come first.
    assert alarm["Threshold"] < resources["WakeUpQueue"]["Properties"]["MessageRetentionPeriod"]


def test_an_error_of_api_gateway_raises_an_alarm(resources: dict[str, Resource]) -> None:
    alarm = next(
        alarm
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
        if (alarm["Namespace"], alarm["MetricName"]) == ("AWS/ApiGateway", "5XXError")
    )
    # The API's metrics are filed under its title and not under its id.
    [api] = of_type(resources, "AWS::ApiGateway::RestApi").values()
    [stage] = of_type(resources, "AWS::ApiGateway::Stage").values()
    assert alarm["Dimensions"] == [
        {"Name": "ApiName", "Value": api["Body"]["info"]["title"]},
        {"Name": "Stage", "Value": stage["StageName"]},
    ]
    assert alarm["Statistic"] == "Sum"
    assert raised_by(alarm, [1])
    assert not raised_by(alarm, [None])


def test_invocations_dropped_as_recursive_raise_an_alarm(resources: dict[str, Resource]) -> None:
    alarms = alarms_on(resources, "AWS/Lambda", "RecursiveInvocationsDropped")
    # The messages of the other queues come from the clock, which a rule starts, and from AWS: these chains are short.
    assert set(alarms) == set(consumers(resources).values()) - {"ProbeFunction", "SignalFunction"}
    for alarm in alarms.values():
        assert alarm["Statistic"] == "Sum"
        assert raised_by(alarm, [1])
        assert not raised_by(alarm, [None])


def test_an_alarm_on_a_resource_without_holder_lasts_from_one_look_at_it_to_the_next(
    resources: dict[str, Resource],
) -> None:
    # The code emits the metric when it looks at the resource, at the latest every 10 minutes.
    assert resources["NoHolderAlarm"]["Properties"]["Period"] > 600


def test_a_record_that_fails_again_and_again_raises_an_alarm_and_a_passing_fault_does_not(
    resources: dict[str, Resource],
) -> None:
    alarm = resources["FailedRecordsAlarm"]["Properties"]
    slowest = max(queue.get("VisibilityTimeout", 0) for queue in of_type(resources, "AWS::SQS::Queue").values())
    assert alarm["Statistic"] == "Sum"
    assert alarm["Period"] > slowest  # So that each period has a failure.
    assert raised_by(alarm, [1, 1, 1])
    assert not raised_by(alarm, [9, None, None])
    assert not raised_by(alarm, [None, 9, 9])


@pytest.mark.parametrize("metric", ["ReadThrottleEvents", "WriteThrottleEvents"])
def test_every_table_and_every_index_has_an_alarm_for_its_throttles(
    resources: dict[str, Resource], metric: str
) -> None:
    # DynamoDB counts the throttles of an index only under the name of the index.
    expected = set()
    for name, table in of_type(resources, "AWS::DynamoDB::Table").items():
        expected.add((("TableName", f"${{{name}}}"),))
        for index in table.get("GlobalSecondaryIndexes", []):
            expected.add((("TableName", f"${{{name}}}"), ("GlobalSecondaryIndexName", index["IndexName"])))
    found = {
        tuple((each["Name"], as_text(each["Value"])) for each in alarm["Dimensions"]): alarm
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
        if (alarm["Namespace"], alarm["MetricName"]) == ("AWS/DynamoDB", metric)
    }
    assert found.keys() == expected
    for alarm in found.values():
        assert alarm["Statistic"] == "Sum"
        assert raised_by(alarm, [1])
        assert not raised_by(alarm, [None])


def test_every_alarm_notifies_the_topic(resources: dict[str, Resource]) -> None:
    notify = [{"Fn::If": ["HasAlarmTopic", {"Ref": "AlarmTopicArn"}, {"Ref": "AWS::NoValue"}]}]
    for name, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == notify, name


def test_alarms_on_our_own_metrics_use_the_name_namespace_and_dimensions_that_the_code_emits(
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
        "EndpointsOnHold",
        "FailedRecords",
        "ProbesBlind",
        "ProbesLagging",
        "ProbesHeldBack",
        "ProbesKept",
        "ProbeSlots",
        "SignalLooks",
        "SignalsUnseen",
        "SignalsMissing",
        "HooksLate",
    }
    code = product_code()
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


# --- Dashboard and saved queries

# What the dashboard has besides the alarms' metrics, with the dimensions of an alarm in the same namespace.
GRAPHS_WITHOUT_ALARM = {("AWS/Lambda", "Duration")}
QUERY_LANGUAGE = {
    *("fields", "filter", "in", "not", "and", "sort", "stats", "count", "max", "as", "by", "asc", "desc", "limit")
}
Metric = tuple[str, str, tuple[tuple[str, str], ...]]


def as_text(value: Any) -> str:
    """Return a value of the template as Fn::Sub writes it."""
    match value:
        case {"Ref": name}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Sub": text}:
            return str(text)
    return str(value)


def metrics_of_alarms(resources: dict[str, Resource]) -> set[Metric]:
    return {
        (
            as_text(alarm["Namespace"]),
            alarm["MetricName"],
            tuple((each["Name"], as_text(each["Value"])) for each in alarm["Dimensions"]),
        )
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
    }


def widgets(resources: dict[str, Resource]) -> list[dict[str, Any]]:
    [dashboard] = of_type(resources, "AWS::CloudWatch::Dashboard").values()
    text, parts = dashboard["DashboardBody"]["Fn::Sub"]
    condition, signals, nothing = parts["Signals"]["Fn::If"]
    assert (condition, nothing) == ("HearsSignals", "")
    assert json.loads(text.replace("${Signals}", nothing))["widgets"]
    body: list[dict[str, Any]] = json.loads(text.replace("${Signals}", signals["Fn::Sub"]))["widgets"]
    return body


def graphs(resources: dict[str, Resource]) -> list[Metric]:
    """Return the dashboard's metrics; a leading "..." stands for what the metric before has there."""
    found: list[Metric] = []
    for widget in widgets(resources):
        line: list[str] = []
        for metric in widget["properties"]["metrics"]:
            if isinstance(metric[0], dict):  # An expression.
                continue
            line = line[: 1 - len(metric)] + metric[1:] if metric[0] == "..." else metric
            namespace, name, *dimensions = line
            found.append((namespace, name, tuple(zip(dimensions[::2], dimensions[1::2], strict=True))))
    return found


def test_the_dashboard_shows_the_metric_of_every_alarm_once(resources: dict[str, Resource]) -> None:
    shown = graphs(resources)
    assert metrics_of_alarms(resources) - set(shown) == set()
    assert len(shown) == len(set(shown))


def test_the_dashboard_shows_only_metrics_that_the_code_or_a_resource_of_the_stack_emits(
    resources: dict[str, Resource],
) -> None:
    alarms = metrics_of_alarms(resources)
    known = {(namespace, dimensions) for namespace, _, dimensions in alarms}
    ours = {(namespace, metric) for namespace, metric, _ in alarms if f'metric("{metric}"' in product_code()}
    [namespace] = {namespace for namespace, _ in ours}
    emitted = {(namespace, metric) for metric in re.findall(r'\bmetric\("(\w+)"', product_code())}
    for namespace, metric, dimensions in set(graphs(resources)) - alarms:
        assert (namespace, metric) in emitted | GRAPHS_WITHOUT_ALARM
        assert (namespace, dimensions) in known, metric


def test_the_dashboard_searches_webhooks_under_the_dimensions_that_the_code_emits(
    resources: dict[str, Resource], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [expression] = [
        metric[0]["expression"]
        for widget in widgets(resources)
        for metric in widget["properties"]["metrics"]
        if isinstance(metric[0], dict)
    ]
    variables = resources["ReconcileFunction"]["Properties"]["Environment"]["Variables"]
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", variables["POWERTOOLS_SERVICE_NAME"])
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "from the template")
    assert 'metric("Webhooks", result=result.kind, reason=result.category)' in product_code()
    telemetry.metric("Webhooks", result="delivered", reason="delivered")
    [dimensions] = json.loads(capsys.readouterr().out)["_aws"]["CloudWatchMetrics"][0]["Dimensions"]
    # The namespace has characters that need the quotation marks.
    schema = f'"{as_text(variables["POWERTOOLS_METRICS_NAMESPACE"])}",{",".join(sorted(dimensions))}'
    assert expression == f"SEARCH('{{{schema}}} MetricName=\"Webhooks\"', 'Sum', 300)"


def log_lines() -> dict[str, set[str]]:
    """Return the keys of each log line by its message, as the code writes them."""
    lines: dict[str, set[str]] = defaultdict(set)
    for folder in ("functions", "layers/shared"):
        for path in (ROOT / folder).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text())):
                match call:
                    case ast.Call(
                        func=ast.Attribute(value=ast.Name(id="logger")), args=[ast.Constant(value=str(name))]
                    ):
                        lines[name].update(str(keyword.arg) for keyword in call.keywords)
    return lines


def test_saved_queries_use_only_log_lines_and_keys_that_the_code_writes(resources: dict[str, Resource]) -> None:
    written = log_lines()
    queries = of_type(resources, "AWS::Logs::QueryDefinition")
    assert len(queries) == 4
    for name, query in queries.items():
        text = query["QueryString"]
        lines = re.findall(r'"([a-z_]+\.[a-z_]+)"', text)
        assert lines, name
        aliases = set(re.findall(r" as (\w+)", text))
        used = set(re.findall(r"(?<!@)\b[a-z]\w*", re.sub(r'"[^"]*"', "", text))) - QUERY_LANGUAGE - aliases
        # Powertools writes the line's name as `message`.
        assert used - {"message"} <= set[str]().union(*(written[line] for line in lines)), name


def test_saved_queries_read_log_groups_of_the_stack_under_names_of_the_stack(resources: dict[str, Resource]) -> None:
    for query in of_type(resources, "AWS::Logs::QueryDefinition").values():
        assert {group["Ref"] for group in query["LogGroupNames"]} <= of_type(resources, "AWS::Logs::LogGroup").keys()
        assert query["Name"]["Fn::Sub"].startswith("${AWS::StackName}/")


# --- API


def test_the_api_has_exactly_the_routes_of_its_function_and_all_of_them_require_iam(
    resources: dict[str, Resource],
) -> None:
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


def test_api_gateway_calls_the_function_with_its_own_permission_and_not_with_the_callers(
    resources: dict[str, Resource],
) -> None:
    # With the caller's credentials, a caller that has only execute-api:Invoke gets a 500. The local cloud ignores them.
    [api] = of_type(resources, "AWS::ApiGateway::RestApi").values()
    operations = {
        f"{method.upper()}{path}": operation["x-amazon-apigateway-integration"]
        for path, methods in api["Body"]["paths"].items()
        for method, operation in methods.items()
    }
    assert not {route: each["credentials"] for route, each in operations.items() if "credentials" in each}

    permitted = set()
    for permission in of_type(resources, "AWS::Lambda::Permission").values():
        if permission["Principal"] == "apigateway.amazonaws.com":
            assert permission["Action"] == "lambda:InvokeFunction"
            assert behind_alias(permission["FunctionName"]) == "EndpointsApiFunction"
            arn, names = permission["SourceArn"]["Fn::Sub"]
            assert names["__ApiId__"] == {"Ref": "Api"}
            permitted.add(arn.split("${__Stage__}/")[1])
    assert permitted == {re.sub(r"\{\w+\}", "*", route) for route in operations}
    assert "POST/endpoints/*/failover" in permitted


def test_the_api_answers_before_api_gateway_gives_up(resources: dict[str, Resource]) -> None:
    # Otherwise the caller gets a 504 while the write goes on.
    assert resources["EndpointsApiFunction"]["Properties"]["Timeout"] < API_GATEWAY_SECONDS


def test_the_api_has_one_stage_with_limits_of_its_own_and_without_a_trace_of_bodies(
    resources: dict[str, Resource],
) -> None:
    [stage] = of_type(resources, "AWS::ApiGateway::Stage").values()
    [every_method] = stage.get("MethodSettings", [None])
    assert every_method == {
        "HttpMethod": "*",
        "ResourcePath": "/*",
        "ThrottlingRateLimit": 50,
        "ThrottlingBurstLimit": 100,
        # A registration's body has its secret.
        "DataTraceEnabled": False,
    }
    # A deployment with a stage name makes a second stage, without these settings.
    [deployment] = of_type(resources, "AWS::ApiGateway::Deployment").values()
    assert "StageName" not in deployment


def test_api_gateway_logs_who_called_without_a_body_and_only_if_a_parameter_says_so(
    resources: dict[str, Resource],
) -> None:
    # Without a CloudWatch role in the account's settings, API Gateway refuses a stage with an access log.
    assert PARAMETERS["ApiAccessLog"]["Default"] == "false"
    assert template()["Conditions"]["LogsApiAccess"] == {"Fn::Equals": [{"Ref": "ApiAccessLog"}, "true"]}
    [stage] = of_type(resources, "AWS::ApiGateway::Stage").values()
    condition, setting, otherwise = stage["AccessLogSetting"]["Fn::If"]
    assert (condition, otherwise) == ("LogsApiAccess", {"Ref": "AWS::NoValue"})

    # API Gateway wants the ARN without the ":*" that Fn::GetAtt gives.
    assert setting["DestinationArn"]["Fn::Sub"].endswith(":log-group:${ApiAccessLogGroup}")
    group = resources["ApiAccessLogGroup"]
    assert (group["Condition"], group["Properties"]) == (condition, {"RetentionInDays": {"Ref": "LogRetentionDays"}})

    assert "\n" not in setting["Format"]
    assert json.loads(setting["Format"]) == {
        "requestId": "$context.requestId",
        "extendedRequestId": "$context.extendedRequestId",
        "invocation": "$context.integration.requestId",
        "caller": "$context.identity.userArn",
        "method": "$context.httpMethod",
        "route": "$context.resourcePath",
        "status": "$context.status",
        "integrationStatus": "$context.integration.integrationStatus",
        "integrationError": "$context.integration.error",
    }


# --- Versions, and updates that are rolled back


def version(resources: dict[str, Resource], function: str) -> tuple[str, Resource]:
    """Return logical id and properties of the version that the function's alias has."""
    alias = resources[function + ALIAS]["Properties"]
    assert alias["Name"] == "live"
    name = alias["FunctionVersion"]["Fn::GetAtt"][0]
    return name, resources[name]["Properties"]


def test_whatever_calls_a_function_calls_its_alias(resources: dict[str, Resource]) -> None:
    readers = {"EndpointStatusFunction", "ReconcileFunction", "ProbeFunction", "SignalFunction"}
    assert set(consumers(resources).values()) == readers
    scheduled = {"RefreshRule": "RefreshFunction", "ProbeClockRule": "ProbeClockFunction"}
    for rule, function in (scheduled | {"SignalLookRule": "SignalFunction"}).items():
        [rule_target] = resources[rule]["Properties"]["Targets"]
        assert behind_alias(rule_target["Arn"]) == function
    assert {behind_alias(each["FunctionName"]) for each in of_type(resources, "AWS::Lambda::Permission").values()} == {
        "RefreshFunction",
        "ProbeClockFunction",
        "EndpointsApiFunction",
        "SignalFunction",
    }
    [api] = of_type(resources, "AWS::ApiGateway::RestApi").values()
    integrations = {
        operation["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"].split("/functions/")[1]
        for methods in api["Body"]["paths"].values()
        for operation in methods.values()
    }
    assert integrations == {"${EndpointsApiFunctionAliaslive}/invocations"}
    calls = resources["EndpointsApiFunction"]["Properties"]["Environment"]["Variables"]
    assert behind_alias(calls["KEY_ROTATION_FUNCTION"]) == "KeyRotationFunction"
    assert behind_alias(calls["PROBE_FUNCTION"]) == "ProbeFunction"
    # Retries and destinations belong to the alias, too.
    assert {each["Qualifier"] for each in of_type(resources, "AWS::Lambda::EventInvokeConfig").values()} == {"live"}


@pytest.mark.parametrize("layer", ["DependenciesLayer", "SharedLayer"])
def test_a_changed_layer_is_a_new_version_of_every_function(resources: dict[str, Resource], layer: str) -> None:
    # Otherwise the alias would stay at the old code, since the functions themselves are a few lines.
    changed = deployed({layer: "changed"})
    assert [name for name in FUNCTIONS if version(changed, name)[0] == version(resources, name)[0]] == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_changed_parameter_is_a_new_version_of_every_function_that_uses_it(
    resources: dict[str, Resource], function: str
) -> None:
    # SAM does not see it. CloudFormation replaces a version when its description changes, and Lambda refuses a version
    # that differs in nothing but its description.
    properties = dict(resources[function]["Properties"])
    properties.pop("ReservedConcurrentExecutions", None)  # Of the function, not of a version.
    used = parameters_in(properties)
    if "InVpc" in json.dumps(properties):
        assert "VpcSubnetIds" in used
    description = version(resources, function)[1]["Description"]
    conditions = {name for name in template()["Conditions"] if f'"{name}"' in json.dumps(description)}
    decided = {name for condition in conditions for name in parameters_in(template()["Conditions"][condition])}
    assert parameters_in(description) | decided == used


def text_of(description: Any, parameters: dict[str, Any]) -> str:
    """Evaluate the functions of CloudFormation that a version's description has."""
    match description:
        case str():
            return description
        case {"Ref": name}:
            return str(parameters[name])
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{(\w+)\}", lambda found: str(parameters[found[1]]), text)
        case {"Fn::If": [condition, one, other]}:
            return text_of(one if evaluated(template()["Conditions"][condition], parameters) else other, parameters)
        case {"Fn::Join": [separator, {"Ref": name}]}:
            return str(separator).join(parameters[name])
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(text_of(part, parameters) for part in parts)
    raise NotImplementedError(description)


LONGEST = {
    "RefreshInterval": "23h59m",
    "HandoverTimeout": "5000ms",
    "MaxEndpoints": "999999999",
    "FlapDamping": "false",
    "RequireHostIdentity": "false",
    "RequireHttps": "false",
    "LogLevel": "WARNING",
    "Architecture": "x86_64",
    "SnapStart": "PublishedVersions",
    "ProbeWhenAllFail": "release",
    "ProbeShards": "200",
    "EventBusName": 33 * "x",
    "SignalTypes": "alarm,ec2,ecs,target,zone",
}
NO_VPC = {"VpcSubnetIds": [""], "VpcSecurityGroupIds": [""]}
IN_A_VPC = {
    "VpcSubnetIds": [f"subnet-0123456789abcdef{number}" for number in range(3)],
    "VpcSecurityGroupIds": ["sg-0123456789abcdef0"],
    "AllowedNetworks": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
    "CaBundle": "/opt/certificates/ours.pem",
    "ProbeNetworks": "",
    "ProbeReferences": "10.0.0.1:443,10.0.1.1:443",
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_parameters_fit_into_the_description_of_a_version(resources: dict[str, Resource], function: str) -> None:
    description = version(resources, function)[1]["Description"]
    longest = {name: "x" * parameter["MaxLength"] for name, parameter in PARAMETERS.items() if "MaxLength" in parameter}
    without_probe_networks = {**LONGEST, **longest, **NO_VPC, "ProbeNetworks": ""}
    for parameters in ({**LONGEST, **longest, **NO_VPC}, without_probe_networks, {**LONGEST, **IN_A_VPC}):
        assert len(text_of(description, parameters)) <= MAX_VERSION_DESCRIPTION


def test_old_versions_are_deleted_because_their_snapshots_cost(resources: dict[str, Resource]) -> None:
    for function in FUNCTIONS:
        assert resources[version(resources, function)[0]]["DeletionPolicy"] == "Delete"


def test_snapshots_are_for_functions_that_are_started_often_and_only_if_a_parameter_says_so(
    resources: dict[str, Resource],
) -> None:
    snapshots = {name: resources[name]["Properties"].get("SnapStart") for name in FUNCTIONS}
    asked = {"ApplyOn": {"Ref": "SnapStart"}}
    assert snapshots == {
        "EndpointStatusFunction": asked,
        "ReconcileFunction": asked,
        "RefreshFunction": None,
        "EndpointsApiFunction": asked,
        "KeyRotationFunction": None,
        "ProbeFunction": None,
        "ProbeClockFunction": None,
        "SignalFunction": None,
    }
    assert (PARAMETERS["SnapStart"]["Default"], PARAMETERS["SnapStart"]["AllowedValues"]) == (
        "None",
        ["None", "PublishedVersions"],
    )


def test_an_update_moves_the_work_slowly_and_is_rolled_back_by_the_alarms_on_failures() -> None:
    safe = deployed(SafeDeployment="true")
    groups = of_type(safe, "AWS::CodeDeploy::DeploymentGroup")
    # The key rotation runs about once a year.
    assert set(groups) == {f"{name}DeploymentGroup" for name in FUNCTIONS if name != "KeyRotationFunction"}
    for name, group in groups.items():
        policy = safe[name.removesuffix("DeploymentGroup") + ALIAS]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        assert policy["DeploymentGroupName"] == {"Ref": name}
        assert group["DeploymentConfigName"]["Fn::Sub"][1] == {"ConfigName": "Linear10PercentEvery2Minutes"}
        assert group["AutoRollbackConfiguration"]["Enabled"] is True
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
        watched = {alarm["Name"]["Ref"] for alarm in group["AlarmConfiguration"]["Alarms"]}
        failures = {f"{name.removesuffix('Function')}ErrorsAlarm" for name in FUNCTIONS} - {"KeyRotationErrorsAlarm"}
        if name != "SignalFunctionDeploymentGroup":
            # It may not be there.
            failures.remove("SignalErrorsAlarm")
        assert watched == failures | {"Api5xxAlarm", "FailedRecordsAlarm"}
        assert len(watched) <= MAX_ALARMS_OF_A_DEPLOYMENT
        for alarm in watched:
            properties = safe[alarm]["Properties"]
            assert properties["Period"] * properties["EvaluationPeriods"] < MINUTES_OF_A_DEPLOYMENT * 60


def test_an_update_is_made_at_once_unless_a_parameter_says_so(resources: dict[str, Resource]) -> None:
    assert PARAMETERS["SafeDeployment"]["Default"] == "false"
    assert resources.keys() == deployed(SafeDeployment="false").keys()
    assert [name for name, each in resources.items() if "CodeDeploy" in each["Type"] + json.dumps(each)] == []
    assert overrides("prod")["SafeDeployment"] == "true"
    assert "SafeDeployment" not in overrides("dev")


# --- Parameters


def accepted(parameter: str, text: str) -> bool:
    """Whether CloudFormation takes this text for the parameter: the pattern must match all of it."""
    return re.fullmatch(PARAMETERS[parameter]["AllowedPattern"], text) is not None


def values(parameter: dict[str, Any]) -> st.SearchStrategy[str]:
    """Values that CloudFormation takes for the parameter."""
    if "AllowedValues" in parameter:
        return st.sampled_from(parameter["AllowedValues"])
    texts = st.from_regex(parameter["AllowedPattern"], fullmatch=True, alphabet=string.printable)
    return texts.filter(lambda text: len(text) <= parameter.get("MaxLength", MAX_PARAMETER))


@pytest.mark.parametrize(
    "build", [deployment.reconciler, deployment.control_plane, deployment.prober, deployment.probe_clock]
)
@hypothesis.settings(max_examples=30)
@hypothesis.given(given=st.fixed_dictionaries({name: values(PARAMETERS[name]) for name in parameters_in(VARIABLES)}))
def test_the_functions_start_with_whatever_the_template_accepts(
    build: Callable[..., object], given: dict[str, str]
) -> None:
    # Otherwise a stack update ends green and every function fails when it starts.
    build(stack.environment(**given), client=lambda _: None)


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        ("RefreshInterval", "6s 15s 90s 5m 1h30m 24h", "100ms 1s 5s 48h 86401s 5 0s 1.5h"),
        ("HandoverTimeout", "0s 1s 1.5s 250ms 5000ms 5s", "6000ms 10s 5.1s 5001ms 1m -1s"),
        ("MaxEndpoints", "0 1 1000 999999999", "1000.5 -1 1000000000 1e3 01"),
        (
            "AllowedNetworks",
            "10.0.0.0/8 10.0.0.0/8,fd00::/8 127.0.0.0/8,192.168.1.1/32 10.0.0.1/8 ::1/128 64:ff9b:1::/48 0.0.0.0/0",
            "10.0.0.0 any 10.0.0.0/8, 10.0.0.0/33 256.0.0.0/8 010.0.0.0/8 fd00::/129 fd00/8 1:2:3:4:5:6:7:8:9/64",
        ),
        ("ProbeNetworks", "10.0.0.0/8 10.0.0.0/8,fd00::/8", "10.0.0.0 any 10.0.0.0/33"),
        (
            "ProbeReferences",
            "example.com:443 10.0.0.1:1,[fd00::1]:65535 one.example.com:53,two.example.com:8080",
            "example.com :443 example.com:0 a.example:65536 fd00::1:443 https://a.example:443 a.example:1,,b.example:2",
        ),
        ("ProbeShards", "1 9 10 99 100 200", "0 01 201 1000 1.5 -1"),
        (
            "CaBundle",
            "/opt/certificates/ours.pem",
            "ours.pem /tmp/ours.pem -----BEGIN https://example.com/ours.pem",
        ),
        (
            "AlarmTopicArn",
            "arn:aws:sns:eu-west-1:123456789012:alarms arn:aws-us-gov:sns:us-gov-west-1:123456789012:alarms",
            "alarms arn:aws:sqs:eu-west-1:123456789012:alarms arn:aws:sns:eu-west-1:123456789012",
        ),
    ],
)
def test_the_template_refuses_what_the_functions_or_the_alarms_could_not_use(
    parameter: str, good: str, bad: str
) -> None:
    assert [text for text in good.split() if not accepted(parameter, text)] == []
    assert [text for text in bad.split() if accepted(parameter, text)] == []


def test_defaults_match_their_patterns() -> None:
    for name, parameter in PARAMETERS.items():
        assert re.fullmatch(parameter.get("AllowedPattern", ".*"), str(parameter["Default"])), name


def overrides(environment: str) -> dict[str, str]:
    """Return the parameters that samconfig.toml gives in an environment."""
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    given = config[environment]["deploy"]["parameters"].get("parameter_overrides", "")
    return dict(one.split("=", 1) for one in given.split())


def test_production_is_not_deployed_before_its_alarms_have_a_topic() -> None:
    assert not accepted("AlarmTopicArn", overrides("prod")["AlarmTopicArn"])
    assert overrides("prod").get("DeletionProtection", "true") == "true"


@pytest.mark.parametrize("environment", ["default", "dev", "prod"])
def test_a_deployment_tags_its_resources(environment: str) -> None:
    deploy = tomllib.loads((ROOT / "samconfig.toml").read_text())[environment]["deploy"]["parameters"]
    tags = dict(one.split("=") for one in deploy["tags"].split())
    expected = {"application": "link-webhook"} | ({} if environment == "default" else {"environment": environment})
    assert tags == expected


def test_the_serverless_application_repository_would_take_the_metadata() -> None:
    # The table in AWS's guide to SAM, "AWS SAM template Metadata section properties".
    metadata = template()["Metadata"]["AWS::ServerlessRepo::Application"]
    assert re.fullmatch(r"[a-zA-Z0-9-]{1,140}", metadata["Name"])
    assert re.fullmatch(r"[a-z0-9](([a-z0-9]|-(?!-))*[a-z0-9])?", metadata["Author"])
    assert metadata["Description"] == template()["Description"]
    assert len(metadata["Description"]) <= 256
    assert len(metadata["Labels"]) <= 10
    assert [label for label in metadata["Labels"] if not re.fullmatch(r"[a-zA-Z0-9+\-_:/@]{1,127}", label)] == []
    assert metadata["SpdxLicenseId"] in (ROOT / metadata["LicenseUrl"]).read_text().splitlines()[0]
    assert (ROOT / metadata["ReadmeUrl"]).is_file()
    assert metadata["SemanticVersion"] == VERSION


@pytest.mark.parametrize("environment", ["dev", "prod", "local"])
def test_samconfig_gives_only_parameters_that_the_template_has(environment: str) -> None:
    assert overrides(environment).keys() <= PARAMETERS.keys()


@pytest.mark.parametrize("level", PARAMETERS["LogLevel"]["AllowedValues"])
def test_the_functions_log_at_the_level_of_the_parameter(resources: dict[str, Resource], level: str) -> None:
    for function in FUNCTIONS:
        properties = resources[function]["Properties"]
        assert properties["Environment"]["Variables"]["POWERTOOLS_LOG_LEVEL"] == {"Ref": "LogLevel"}
        logging = properties["LoggingConfig"]
        # What Lambda sets, and Powertools then prefers to its own variable.
        by_lambda = (
            {"AWS_LAMBDA_LOG_LEVEL": logging.get("ApplicationLogLevel", "INFO")}
            if logging.get("LogFormat") == "JSON"
            else {}
        )
        printed = level_in_a_process(POWERTOOLS_LOG_LEVEL=level, **by_lambda)
        assert printed == level, function


@cache
def level_in_a_process(**variables: str) -> str:
    """Return the level of the product's logger in a process with these variables; a warning is an error."""
    code = "import logging; from link.telemetry import logger; print(logging.getLevelName(logger.log_level))"
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        env={"PYTHONPATH": str(ROOT / "layers/shared"), **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


def violated(**parameters: Any) -> list[str]:
    """Return what the rules of the template say against these parameters."""
    given = {"VpcSubnetIds": [], "VpcSecurityGroupIds": [], "VpcIpv6": "false", "MaximumConcurrency": "0", **parameters}
    return [
        assertion["AssertDescription"]
        for rule in template()["Rules"].values()
        if "RuleCondition" not in rule or evaluated(rule["RuleCondition"], given)
        for assertion in rule["Assertions"]
        if not evaluated(assertion["Assert"], given)
    ]


@pytest.mark.parametrize("none", [[], [""]], ids=["no member", "an empty member"])  # It is not documented which.
def test_subnets_and_security_groups_are_accepted_only_together(none: list[str]) -> None:
    assert not violated(VpcSubnetIds=none, VpcSecurityGroupIds=none)
    assert not violated(VpcSubnetIds=["subnet-1", "subnet-2"], VpcSecurityGroupIds=["sg-1"])
    assert violated(VpcSubnetIds=["subnet-1"], VpcSecurityGroupIds=none) == ["VpcSubnetIds needs VpcSecurityGroupIds."]
    assert violated(VpcSubnetIds=none, VpcSecurityGroupIds=["sg-1"]) == ["VpcSecurityGroupIds needs VpcSubnetIds."]


def test_ipv6_is_off_by_default_and_refused_without_a_vpc(resources: dict[str, Resource]) -> None:
    in_vpc = [each for name in FUNCTIONS if (each := resources[name]["Properties"].get("VpcConfig"))]
    assert len(in_vpc) == 3
    for condition, configuration, _ in (each["Fn::If"] for each in in_vpc):
        assert condition == "InVpc"
        assert configuration["Ipv6AllowedForDualStack"] == {"Fn::If": ["AllowsIpv6", True, False]}
    assert PARAMETERS["VpcIpv6"]["Default"] == "false"
    assert template()["Conditions"]["AllowsIpv6"] == {"Fn::Equals": [{"Ref": "VpcIpv6"}, "true"]}
    assert not violated(VpcIpv6="true", VpcSubnetIds=["subnet-1"], VpcSecurityGroupIds=["sg-1"])
    assert violated(VpcIpv6="true", VpcSubnetIds=[""], VpcSecurityGroupIds=[""]) == ["VpcIpv6 needs VpcSubnetIds."]


def test_a_concurrency_of_one_is_refused_because_lambda_would() -> None:
    assert not violated(MaximumConcurrency="2")
    assert violated(MaximumConcurrency="1") == ["Lambda takes a MaximumConcurrency from 2 to 1000."]


# --- Artifacts


@pytest.fixture(scope="module")
def layers() -> list[Path]:
    return [
        built_layer("DependenciesLayer", ROOT / "layers/dependencies") / "python",
        built_layer("SharedLayer", ROOT / "layers/shared") / "python",
    ]


def test_layers_contain_no_machine_code_so_they_run_on_every_architecture(layers: list[Path]) -> None:
    assert (layers[0] / "boto3").is_dir()
    assert not [path for layer in layers for path in layer.rglob("*") if path.suffix in (".so", ".pyd")]


def test_layers_have_bytecode_of_lambdas_python_and_no_other(layers: list[Path]) -> None:
    for layer in layers:
        compiled = [path.name for path in layer.rglob("*.pyc")]
        assert compiled or sys.version_info[:2] != (3, 13)
        assert [name for name in compiled if not name.endswith(".cpython-313.pyc")] == []


def test_layers_are_small(layers: list[Path]) -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (path for layer in layers for path in layer.rglob("*")):
            archive.write(path)
    unpacked = sum(entry.file_size for entry in archive.infolist())
    # Lambda's limit for a function with its layers is 250 MB.
    assert (len(zipped.getvalue()) < 15_000_000, unpacked < 50_000_000) == (True, True)


def test_the_layer_describes_the_services_that_are_called_and_no_other(layers: list[Path]) -> None:
    called = set(re.findall(r'\bclient(?:\(|, )"([a-z]+)"', (ROOT / "layers/shared/link/deployment.py").read_text()))
    called |= set(signal_look._CLIENTS.values())
    assert {path.name for path in (layers[0] / "botocore/data").iterdir() if path.is_dir()} == called
    code = "import sys, boto3; print(boto3.__file__); [boto3.client(service) for service in sys.argv[1:]]"
    made = subprocess.run(
        [sys.executable, "-B", "-S", "-c", code, *called],
        env={"PYTHONPATH": str(layers[0]), "AWS_DEFAULT_REGION": "eu-west-1"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert made.stdout.startswith(str(layers[0]))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_import_only_the_layers_and_the_standard_library(
    resources: dict[str, Resource], layers: list[Path], function: str
) -> None:
    folder = ROOT / "functions" / FUNCTIONS[function]
    code = "import sys; sys.path[:0] = sys.argv[1:]; import app; assert callable(app.handler)"
    subprocess.run(
        # -S and -E: without this environment's site-packages and PYTHONPATH.
        [sys.executable, "-B", "-S", "-E", "-c", code, str(folder), *map(str, layers)],
        env={**environment(resources, function), "AWS_DEFAULT_REGION": "eu-west-1"},
        check=True,
        timeout=60,
    )


def test_the_layer_and_the_tests_use_the_same_versions() -> None:
    shipped, tested = (
        dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / file).read_text(), re.MULTILINE))
        for file in ("layers/dependencies/requirements.txt", "requirements/dev.txt")
    )
    assert {"boto3", "certifi", "aws-lambda-powertools", "requests", "urllib3"} <= shipped.keys()
    assert shipped == {name: tested.get(name) for name in shipped}
