"""The small templates beside template.yaml: route53.yaml, and the examples of signals."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from scripts.cloud import ROOT, template
from tests.support.functions import Deployment, event
from tests.support.stack import evaluated
from tests.support.transformed import raised_by

ROUTE53 = template("route53.yaml")
ACCOUNT = {
    "AWS::Partition": "aws",
    "AWS::AccountId": "123456789012",
    "AlarmPrefix": ROUTE53["Parameters"]["AlarmPrefix"]["Default"],
    "TargetRegion": "eu-west-1",
}
OUR_DEFAULT_BUS = "arn:aws:events:eu-west-1:123456789012:event-bus/default"
EXAMPLES = ROOT / "examples/signals"


def resolved(value: Any) -> Any:
    """Return a value of route53.yaml with its parameters filled in."""
    match value:
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{([\w:]+)\}", lambda found: ACCOUNT[found[1]], text)
        case dict():
            return {key: resolved(inner) for key, inner in value.items()}
        case list():
            return [resolved(inner) for inner in value]
    return value


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = resolved(ROUTE53["Resources"][name]["Properties"])
    return found


# --- route53.yaml


@pytest.mark.parametrize(
    ("change", "forwarded"),
    [
        ({}, True),
        ({"resources": ["arn:aws:cloudwatch:us-east-1:123456789012:alarm:billing"]}, False),
        ({"resources": ["arn:aws:cloudwatch:eu-west-1:123456789012:alarm:link-london"]}, False),
        ({"resources": ["arn:aws:cloudwatch:us-east-1:210987654321:alarm:link-london"]}, False),
        ({"detail-type": "CloudWatch Alarm Configuration Change"}, False),
        ({"source": "aws.health"}, False),
    ],
)
def test_alarms_with_the_prefix_are_forwarded_and_nothing_else(change: dict[str, Any], forwarded: bool) -> None:
    from moto.events.models import EventPattern

    told = event("signal_route53_alarm")
    pattern = EventPattern.load(json.dumps(properties("AlarmRule")["EventPattern"]))
    assert pattern.matches_event(told | change) is forwarded


def test_alarms_are_forwarded_to_the_bus_that_has_the_rules_for_signals_unchanged_and_kept_if_it_fails() -> None:
    [bus] = properties("AlarmRule")["Targets"]
    assert bus["Arn"] == OUR_DEFAULT_BUS
    assert bus["RoleArn"] == {"Fn::GetAtt": ["ForwardingRole", "Arn"]}
    assert bus["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}}
    assert not {"Input", "InputPath", "InputTransformer"} & bus.keys()


def test_the_forwarding_role_may_put_events_on_that_bus_and_nothing_else() -> None:
    role = properties("ForwardingRole")
    [statement] = [each for policy in role["Policies"] for each in policy["PolicyDocument"]["Statement"]]
    assert statement == {"Effect": "Allow", "Action": "events:PutEvents", "Resource": OUR_DEFAULT_BUS}
    [trusted] = role["AssumeRolePolicyDocument"]["Statement"]
    assert trusted["Principal"] == {"Service": "events.amazonaws.com"}
    assert "ManagedPolicyArns" not in role


def test_only_this_rule_may_fill_the_dead_letter_queue() -> None:
    policy = properties("DeadLetterQueuePolicy")
    assert policy["Queues"] == [{"Ref": "DeadLetterQueue"}]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert (statement["Principal"], statement["Action"]) == ({"Service": "events.amazonaws.com"}, "sqs:SendMessage")
    assert statement["Resource"] == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["AlarmRule", "Arn"]}}}


@pytest.mark.parametrize(
    ("here", "there", "refused"),
    [
        ("us-east-1", "eu-west-1", []),
        ("eu-west-1", "us-west-2", ["InUsEast1"]),
        # The rule would match its own events.
        ("us-east-1", "us-east-1", ["ToAnotherRegion"]),
    ],
)
def test_it_is_deployed_in_us_east_1_for_another_region(here: str, there: str, refused: list[str]) -> None:
    given = {"AWS::Region": here, "TargetRegion": there}
    assert re.fullmatch(ROUTE53["Parameters"]["TargetRegion"]["AllowedPattern"], there)
    assert [
        name
        for name, rule in ROUTE53["Rules"].items()
        if not all(evaluated(each["Assert"], given) for each in rule["Assertions"])
    ] == refused


# --- The examples


def registered(example: str, host: str) -> dict[str, Any]:
    """Return the signal of the endpoint of `host`."""
    body = json.loads((EXAMPLES / example / f"{host}.json").read_text())
    assert body["host"] == host
    [signal] = body["signals"]
    found: dict[str, Any] = signal
    return found


def resources(example: str, kind: str) -> list[dict[str, Any]]:
    of_all = template(f"examples/signals/{example}/template.yaml")["Resources"].values()
    return [each["Properties"] for each in of_all if each["Type"] == kind]


@pytest.mark.parametrize("example", sorted(folder.name for folder in EXAMPLES.iterdir()))
def test_the_api_takes_the_endpoints_of_an_example_and_hears_their_signals(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, example: str
) -> None:
    monkeypatch.setenv("SIGNAL_TYPES", "alarm,ec2,ecs")
    for host in ("paris", "london"):
        body = (EXAMPLES / example / f"{host}.json").read_text()
        answer = deployment.invoke("endpoints_api", {**event("api_create"), "body": body})
        assert answer["statusCode"] == 201, answer
        endpoint = json.loads(answer["body"])["endpoint"]
        assert (endpoint["host"], endpoint["observers"]) == (host, ["signal"])
        assert endpoint["signals"] == [registered(example, host)]


def test_the_alarms_of_the_example_are_those_that_its_endpoints_name() -> None:
    alarms = {alarm["AlarmName"]: alarm for alarm in resources("target_group_alarm", "AWS::CloudWatch::Alarm")}
    named = [registered("target_group_alarm", host) for host in ("paris", "london")]
    assert [signal["type"] for signal in named] == ["alarm"] * 2
    assert [signal["arn"].rpartition(":")[2] for signal in named] == [*alarms] == ["link-paris", "link-london"]
    for alarm in alarms.values():
        # A group without a load balancer has no metric, and must not stay as it was.
        assert [raised_by(alarm, [healthy]) for healthy in (0, 1, 2, None)] == [True, False, False, True]


def test_the_instances_of_the_example_are_two_and_their_ids_are_outputs() -> None:
    assert len(resources("two_instances", "AWS::EC2::Instance")) == 2
    outputs = template("examples/signals/two_instances/template.yaml")["Outputs"]
    assert [output["Value"] for output in outputs.values()] == [{"Ref": "Paris"}, {"Ref": "London"}]
    assert {registered("two_instances", host)["type"] for host in ("paris", "london")} == {"ec2"}


def test_the_services_of_the_example_are_those_that_its_endpoints_name() -> None:
    [cluster] = resources("ecs_services", "AWS::ECS::Cluster")
    services = [service["ServiceName"] for service in resources("ecs_services", "AWS::ECS::Service")]
    assert [registered("ecs_services", host) for host in services] == [
        {"type": "ecs", "cluster": cluster["ClusterName"], "service": host} for host in ("paris", "london")
    ]
