"""What AWS answers when it is asked about signals, as what is said of them. Pure.

Each function takes the answer of one call, as boto3 returns it. A state that it does not know says nothing. In a look
every signal has one state at most: of an instance that is about to be taken back, AWS says that it is running.

Whether something that AWS does not know any more has failed depends on what it is. Instances, tasks and services are
the host itself: their ids are never used again (a name of a service is, by its next tasks), so without them there is
no host. An alarm or a target group only watches the host. It can be replaced while the host works, so it says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from link.election.state import GRAVITY, Status
from link.signals import keys
from link.signals.events import ALARMS, INSTANCES, ended
from link.signals.words import Kind, Said

Answer = Mapping[str, Any]

HEALTH_KNOWN_MS = 60_000
"""ECS says UNKNOWN of a task without health checks, and of one whose first check is under way. So long after its start
UNKNOWN counts as without."""

_TARGETS = {
    "healthy": Status.ACTIVATED,
    "draining": Status.STANDBY,
    "unhealthy": Status.FAILING,
    # Unhealthy, and draining: connections to it stay open.
    "unhealthy.draining": Status.FAILING,
    "unused": Status.FAILING,
}
_SHIFTED = ("zonal_shift_active", "zonal_shift_delegated_to_dns")


def alarms(answer: Answer) -> list[Said]:
    """DescribeAlarms."""
    said = []
    for alarm in [*answer.get("MetricAlarms", ()), *answer.get("CompositeAlarms", ())]:
        key, value = keys.alarm_key(alarm["AlarmArn"]), alarm["StateValue"]
        # ● When it became so, not when we looked: CloudWatch can answer with a state that an event has overtaken.
        at = _ms(alarm.get("StateTransitionedTimestamp") or alarm["StateUpdatedTimestamp"])
        if value == "INSUFFICIENT_DATA":
            said.append(Said(key, Kind.NO_DATA, at, "insufficient_data"))
        elif value in ALARMS:
            said.append(Said(key, Kind.STATE, at, value.lower(), ALARMS[value]))
    return said


def instances(answer: Answer, at: int) -> list[Said]:
    """DescribeInstanceStatus, with all instances and not only those that run."""
    said = []
    for instance in answer["InstanceStatuses"]:
        key, state = keys.ec2_key(instance["InstanceId"]), instance["InstanceState"]["Name"]
        if state == "running":
            said += _state(key, at, *_checked(instance))
        elif state in INSTANCES:
            said += ended(key, INSTANCES[state], at, state)
    return said


def unknown(key: str, at: int) -> Said:
    """An instance, a task or a service that AWS does not know. It forgets them about an hour after their end."""
    return Said(key, Kind.STATE, at, "unknown", Status.FAILING)


def tasks(cluster: str, answer: Answer, at: int) -> list[Said]:
    """DescribeTasks of a cluster."""
    said = []
    for task in answer["tasks"]:
        said += _state(keys.task_key(cluster, task["taskArn"]), at, *_ran(task, at), version=task.get("version", 0))
    return said


def service(cluster: str, name: str, its_tasks: Iterable[Answer], at: int) -> list[Said]:
    """The tasks of a service that are meant to run. ● One that is ready is enough: a deployment has two for a while."""
    ran = [_ran(task, at) for task in its_tasks if task["lastStatus"] == "RUNNING"]
    best = min(ran, key=lambda one: GRAVITY[one[0]], default=(Status.FAILING, "no_task"))
    return _state(keys.service_key(cluster, name), at, *best)


def targets(group_arn: str, ids: Iterable[str], answer: Answer, at: int) -> list[Said]:
    """DescribeTargetHealth of a whole group, about the targets with these ids."""
    said = []
    for id in ids:
        # A target can be registered with several ports.
        ports = [_health(one) for one in answer["TargetHealthDescriptions"] if one["Target"]["Id"] == id]
        worst = max(ports, key=lambda one: GRAVITY[one[0]], default=(Status.FAILING, "unregistered"))
        said += _state(keys.target_key(group_arn, id), at, *worst)
    return said


def zones(ids: Iterable[str], shifts: Iterable[Answer], at: int) -> list[Said]:
    """ListAutoshifts, the items of all pages, about the zones with these ids."""
    away = {shift["awayFrom"] for shift in shifts if shift["status"] == "ACTIVE"}
    return [
        Said(keys.zone_key(id), Kind.STATE, at, "autoshift", Status.STANDBY)
        if id in away
        else Said(keys.zone_key(id), Kind.STATE, at, "no_autoshift", Status.ACTIVATED)
        for id in ids
    ]


def _state(key: str, at: int, status: Status | None, reason: str, version: int = 0) -> list[Said]:
    return [] if status is None else [Said(key, Kind.STATE, at, reason, status, version)]


def _checked(instance: Answer) -> tuple[Status | None, str]:
    """What the status checks of a running instance say. Not every instance has all four."""
    basic = {instance[name]["Status"] for name in ("InstanceStatus", "SystemStatus") if name in instance}
    more = {instance[name]["Status"] for name in ("AttachedEbsStatus", "ApplicationStatus") if name in instance}
    if "impaired" in basic | more:
        return Status.FAILING, "impaired"
    if basic == {"ok"} and more <= {"ok", "not-applicable"}:
        return Status.ACTIVATED, "checks_passed"
    return None, ""


def _ran(task: Answer, at: int) -> tuple[Status | None, str]:
    if task["lastStatus"] == "STOPPED":
        return Status.FAILING, "stopped"
    if task["desiredStatus"] == "STOPPED":
        return Status.STANDBY, "stopping"
    if task["lastStatus"] != "RUNNING":
        return None, ""
    match task.get("healthStatus", "UNKNOWN"):
        case "HEALTHY":
            return Status.ACTIVATED, "healthy"
        case "UNHEALTHY":
            return Status.FAILING, "unhealthy"
    if "startedAt" in task and at >= _ms(task["startedAt"]) + HEALTH_KNOWN_MS:
        return Status.ACTIVATED, "running"
    return None, ""


def _health(described: Answer) -> tuple[Status | None, str]:
    state = described["TargetHealth"]["State"]
    status = _TARGETS.get(state)
    # The load balancer sends it nothing, however healthy it is.
    if described.get("AdministrativeOverride", {}).get("State") in _SHIFTED and status is not Status.FAILING:
        return Status.STANDBY, "zonal_shift"
    return status, state


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
