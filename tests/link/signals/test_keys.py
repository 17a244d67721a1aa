"""Signals of a registration: what is accepted, and the key under which each is heard."""

from __future__ import annotations

from typing import Any

import pytest

from link.election.state import Status
from link.fields import Problems
from link.signals.keys import Signal, SignalType, check, check_heard, read

ARN = "arn:aws:cloudwatch:eu-west-1:111122223333:alarm:paris is down"
GROUP = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/web/0123456789abcdef"
ECS = "arn:aws:ecs:eu-west-1:111122223333:"
TASK = "c13b4cb40f1f4fe4a2971f76ae5a47ad"


def problems(given: object) -> dict[str, list[str]]:
    found = Problems()
    check(given, "signals.0", found)
    return {name: texts for name, texts in found.items() if texts}


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"type": "alarm", "arn": ARN}, f"alarm:{ARN}"),
        ({"type": "ec2", "instance_id": "i-0123456789abcdef0"}, "ec2:i-0123456789abcdef0"),
        ({"type": "ecs", "cluster": "shop", "service": "web"}, "ecs:shop/web"),
        ({"type": "ecs", "cluster": f"{ECS}cluster/shop", "service": f"{ECS}service/shop/web"}, "ecs:shop/web"),
        ({"type": "ecs", "cluster": "shop", "task": f"{ECS}task/shop/{TASK}"}, f"ecs-task:shop/{TASK}"),
        ({"type": "target", "target_group_arn": GROUP, "target_id": "10.0.0.7"}, f"target:{GROUP}/10.0.0.7"),
        ({"type": "zone", "zone_id": "use1-az2"}, "zone:use1-az2"),
    ],
)
def test_a_signal_is_stored_as_it_is_given_and_heard_under_its_key(given: dict[str, Any], key: str) -> None:
    assert problems(given) == {}
    stored = check(given, "signals.0", Problems())
    assert (stored, read(stored).key) == (given, key)


def test_a_registration_says_what_an_alarm_without_data_is_and_whether_a_risk_counts() -> None:
    said = {word: read({"type": "alarm", "arn": ARN, "insufficient_data": word}) for word in ("last", "ok", "alarm")}
    assert {word: signal.without_data for word, signal in said.items()} == {
        "last": None,
        "ok": Status.ACTIVATED,
        "alarm": Status.FAILING,
    }
    assert read({"type": "ec2", "instance_id": "i-0a", "rebalance": "standby"}).heeds_risk
    assert read({"type": "ec2", "instance_id": "i-0a"}) == Signal(SignalType.EC2, "ec2:i-0a")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("i-0a", {"signals.0": ["a string is not a signal: use {type, …}"]}),
        (
            {"type": "rds"},
            {"signals.0.type": ["'rds' is not a type of signals: use alarm, ec2, ecs, target, zone"]},
        ),
        (
            {"type": "ec2", "instance_id": "web-1"},
            {"signals.0.instance_id": ["'web-1' is not the id of an instance, like i-0123456789abcdef0"]},
        ),
        ({"type": "alarm"}, {"signals.0.arn": ["null is not the ARN of a CloudWatch alarm"]}),
        (
            {"type": "alarm", "arn": ARN, "insufficient_data": "OK"},
            {"signals.0.insufficient_data": ["'OK' is not one of last, ok, alarm"]},
        ),
        (
            {"type": "zone", "zone": "us-east-1a"},
            {
                "signals.0": ["field 'zone' is not known: write 'zone_id'"],
                "signals.0.zone_id": ["null is not the id of a zone, like use1-az1"],
            },
        ),
        (
            {"type": "ecs", "cluster": "shop"},
            {"signals.0": ["a signal of ECS is about a service or about a task: give one of the two"]},
        ),
    ],
)
def test_a_wrong_signal_is_refused_with_the_value_and_the_rule(given: object, found: dict[str, list[str]]) -> None:
    assert problems(given) == found


def test_a_signal_that_nobody_listens_to_is_refused() -> None:
    found = Problems()
    check_heard([{"type": "ec2"}, {"type": "alarm"}, {}], [SignalType.ALARM], found)
    assert found == {
        "signals.0.type": [
            "this deployment does not listen to 'ec2': add it to the parameter SignalTypes, or leave signal out of "
            "observers"
        ]
    }


@pytest.mark.parametrize("region", ["-a", "123", "eu", "EU-WEST-1"])
def test_an_arn_needs_a_region_because_a_look_makes_a_client_for_it(region: str) -> None:
    alarm = f"arn:aws:cloudwatch:{region}:111122223333:alarm:paris"
    group = GROUP.replace("eu-west-1", region)
    assert [*problems({"type": "alarm", "arn": alarm})] == ["signals.0.arn"]
    given = {"type": "target", "target_group_arn": group, "target_id": "10.0.0.7"}
    assert [*problems(given)] == ["signals.0.target_group_arn"]
