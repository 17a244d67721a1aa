"""Answers of AWS about signals, with the fields that their tests need and the shapes that botocore knows."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.validate import ParamValidator

from tests.support.ids import NOW

ACCOUNT = "123456789012"
GROUP = f"arn:aws:elasticloadbalancing:eu-west-1:{ACCOUNT}:targetgroup/web/0123456789abcdef"
MINUTE = 60_000


def alarm_arn(name: str, region: str = "eu-west-1") -> str:
    return f"arn:aws:cloudwatch:{region}:{ACCOUNT}:alarm:{name}"


def task_arn(task_id: str) -> str:
    return f"arn:aws:ecs:eu-west-1:{ACCOUNT}:task/floating/{task_id}"


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1_000, UTC)


def alarm(name: str, value: str, changed: int = NOW, updated: int = NOW) -> dict[str, Any]:
    """An alarm whose state changed, and was evaluated last, at these times."""
    return {
        "AlarmArn": alarm_arn(name),
        "AlarmName": name,
        "StateValue": value,
        "StateTransitionedTimestamp": moment(changed),
        "StateUpdatedTimestamp": moment(updated),
    }


def alarms(*metric: dict[str, Any], composite: tuple[dict[str, Any], ...] = (), **more: Any) -> dict[str, Any]:
    return answer("cloudwatch", "DescribeAlarms", MetricAlarms=[*metric], CompositeAlarms=[*composite], **more)


def instance(instance_id: str, state: str, instance: str = "not-applicable", system: str = "", **more: str) -> Any:
    """An instance with its state and the status of its checks; `more` has further checks by their names."""
    checks = {"InstanceStatus": instance, "SystemStatus": system or instance, **more}
    return {
        "InstanceId": instance_id,
        "InstanceState": {"Name": state},
        **{name: {"Status": status} for name, status in checks.items()},
    }


def instances(*some: dict[str, Any]) -> dict[str, Any]:
    return answer("ec2", "DescribeInstanceStatus", InstanceStatuses=[*some])


def task(
    task_id: str, last: str, desired: str = "RUNNING", health: str = "UNKNOWN", started: int = NOW - 2 * MINUTE
) -> dict[str, Any]:
    return {
        "taskArn": task_arn(task_id),
        "lastStatus": last,
        "desiredStatus": desired,
        "healthStatus": health,
        "startedAt": moment(started),
        "version": 5,
    }


def tasks(*some: dict[str, Any], missing: tuple[str, ...] = ()) -> dict[str, Any]:
    failures = [{"arn": task_arn(task_id), "reason": "MISSING"} for task_id in missing]
    return answer("ecs", "DescribeTasks", tasks=[*some], failures=failures)


def target(target_id: str, state: str, port: int = 80, override: str = "no_override") -> dict[str, Any]:
    return {
        "Target": {"Id": target_id, "Port": port},
        "TargetHealth": {"State": state},
        "AdministrativeOverride": {"State": override},
    }


def targets(*some: dict[str, Any]) -> dict[str, Any]:
    return answer("elbv2", "DescribeTargetHealth", TargetHealthDescriptions=[*some])


def autoshifts(*away_from: str) -> dict[str, Any]:
    items = [{"awayFrom": zone, "startTime": moment(NOW), "status": "ACTIVE"} for zone in away_from]
    return answer("arc-zonal-shift", "ListAutoshifts", items=items)


def answer(service: str, operation: str, **members: Any) -> dict[str, Any]:
    """An answer that AWS could give, so far as botocore's model says."""
    shape = _client(service).meta.service_model.operation_model(operation).output_shape
    problems = ParamValidator().validate(members, shape)
    assert not problems.has_errors(), problems.generate_report()
    return members


@functools.cache
def _client(service: str) -> Any:
    return boto3.client(service)  # type: ignore[call-overload]
