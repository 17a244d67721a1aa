"""What AWS's events say of signals. Pure, and standard library only.

Shapes: the files events/signal_*.json, and AWS's page of each service's events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from link.election.state import Status
from link.errors import Rejected
from link.signals.keys import alarm_key, ec2_key, service_key, task_key, zone_key
from link.signals.words import Kind, Said

SPOT_MS = TASK_MS = 600_000
"""An instance that is interrupted has two minutes, a task at most a load balancer's five and its own two."""
HOOK_MS = RISK_MS = 3_600_000
"""As long as a lifecycle hook waits by default. No event ends a rebalance recommendation."""
OUR_HOOKS = "link-handover"
"""How the names of the lifecycle hooks begin that wait for a handover. ● Others wait for somebody else's work."""
HOOK_WAITS_MS = 300_000
"""How long such a hook waits for a handover that does not end."""

ALARMS = {"OK": Status.ACTIVATED, "ALARM": Status.FAILING}
INSTANCES = {
    "stopping": Status.STANDBY,
    "shutting-down": Status.STANDBY,
    "stopped": Status.FAILING,
    "terminated": Status.FAILING,
}
_SERVICE = "service:"
_TERMINATING = ("aws.autoscaling", "EC2 Instance-terminate Lifecycle Action")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Hook:
    """A lifecycle hook that keeps an instance until its endpoints have handed over."""

    group: str
    name: str
    instance_id: str
    token: str
    until: int
    """Then it is completed, whatever happened. Unix milliseconds."""

    @property
    def key(self) -> str:
        """The key of its instance."""
        return ec2_key(self.instance_id)


def translate(event: Any) -> list[Said]:
    """What an event says; nothing if it is of a kind that says nothing. Raises Rejected if it cannot be read."""
    detail = event.get("detail") if isinstance(event, dict) else None
    if not isinstance(detail, dict):
        raise Rejected("malformed", "it has no detail: it is no event of AWS")
    read = _KINDS.get(_kind(event))
    return [] if read is None else _read(event, read)


def hook(event: Mapping[str, Any]) -> Hook | None:
    """The lifecycle hook that waits for a handover, if the event is about one. Raises Rejected as `translate` does."""
    return _read(event, _hook) if _kind(event) == _TERMINATING else None


def _read(event: Mapping[str, Any], read: Callable[[Mapping[str, Any], Mapping[str, Any]], _T]) -> _T:
    try:
        return read(event, event["detail"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Rejected("malformed", f"it is not of the known shape of a {event['detail-type']}: {error!r}") from None


def _kind(event: Mapping[str, Any]) -> tuple[str, str]:
    return str(event.get("source")), str(event.get("detail-type"))


def _hook(event: Mapping[str, Any], detail: Mapping[str, Any]) -> Hook | None:
    if not detail["LifecycleHookName"].startswith(OUR_HOOKS):
        return None
    return Hook(
        group=detail["AutoScalingGroupName"],
        name=detail["LifecycleHookName"],
        instance_id=detail["EC2InstanceId"],
        token=detail["LifecycleActionToken"],
        until=_time(event) + HOOK_WAITS_MS,
    )


def _alarm(event: Mapping[str, Any], detail: Mapping[str, Any]) -> list[Said]:
    key, state = alarm_key(event["resources"][0]), detail["state"]
    value, at = state["value"], _ms(state["timestamp"])
    if value == "INSUFFICIENT_DATA":
        return [Said(key, Kind.NO_DATA, at, "insufficient_data")]
    return [Said(key, Kind.STATE, at, value.lower(), ALARMS[value])]


def _instance(event: Mapping[str, Any], detail: Mapping[str, Any]) -> list[Said]:
    # ● "running" says nothing: the service on the instance may not be there yet. The look waits for the status checks.
    status = INSTANCES.get(detail["state"])
    if status is None:
        return []
    return ended(ec2_key(detail["instance-id"]), status, _time(event), detail["state"])


def _spot(event: Mapping[str, Any], detail: Mapping[str, Any]) -> list[Said]:
    at = _time(event)
    return [Said(ec2_key(detail["instance-id"]), Kind.WARNING, at, "spot_interruption", until=at + SPOT_MS)]


def _rebalance(event: Mapping[str, Any], detail: Mapping[str, Any]) -> list[Said]:
    at = _time(event)
    return [Said(ec2_key(detail["instance-id"]), Kind.RISK, at, "rebalance", until=at + RISK_MS)]


def _terminating(event: Mapping[str, Any], detail: Mapping[str, Any]) -> list[Said]:
    at = _time(event)
    return [Said(ec2_key(detail["EC2InstanceId"]), Kind.WARNING, at, "terminate_hook", until=at + HOOK_MS)]


def _terminated(event: Mapping[str, Any], detail: Mapping[str, Any]) -> list[Said]:
    return ended(ec2_key(detail["EC2InstanceId"]), Status.FAILING, _time(event), "terminated")


def _not_terminated(event: Mapping[str, Any], detail: Mapping[str, Any]) -> list[Said]:
    return [Said(ec2_key(detail["EC2InstanceId"]), Kind.END, _time(event), "not_terminated")]


def _task(event: Mapping[str, Any], detail: Mapping[str, Any]) -> list[Said]:
    cluster, group = detail["clusterArn"], detail.get("group", "")
    keys = [task_key(cluster, detail["taskArn"])]
    if group.startswith(_SERVICE):
        keys.append(service_key(cluster, group.removeprefix(_SERVICE)))
    at, version = _ms(detail["updatedAt"]) if "updatedAt" in detail else _time(event), int(detail.get("version", 0))
    if detail["lastStatus"] == "STOPPED":
        return [said for key in keys for said in ended(key, Status.FAILING, at, "task_stopped", version)]
    if detail["desiredStatus"] == "STOPPED":
        # `stopCode` has had two names for this, and may get a third.
        spot = "Spot" in f"{detail.get('stopCode')} {detail.get('stoppedReason')}"
        reason = "spot_interruption" if spot else "task_stopping"
        return [Said(key, Kind.WARNING, at, reason, until=at + TASK_MS) for key in keys]
    return []


def _shift(event: Mapping[str, Any], detail: Mapping[str, Any]) -> list[Said]:
    away = event["detail-type"].endswith("In Progress")
    status = Status.STANDBY if away else Status.ACTIVATED
    reason = "autoshift" if away else "autoshift_completed"
    return [Said(zone_key(detail["metadata"]["awayFrom"]), Kind.STATE, _time(event), reason, status)]


def ended(key: str, status: Status, at: int, reason: str, version: int = 0) -> list[Said]:
    """A state, and the end of warnings if it is the end of what they warned of."""
    said = [Said(key, Kind.STATE, at, reason, status, version)]
    return [*said, Said(key, Kind.END, at, reason)] if status is Status.FAILING else said


def _time(event: Mapping[str, Any]) -> int:
    """● Without milliseconds it is the end of its second, or a look in that second would be newer."""
    text = event["time"]
    return _ms(text) + (0 if "." in text else 999)


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000)


_KINDS = {
    ("aws.cloudwatch", "CloudWatch Alarm State Change"): _alarm,
    ("aws.ec2", "EC2 Instance State-change Notification"): _instance,
    ("aws.ec2", "EC2 Spot Instance Interruption Warning"): _spot,
    ("aws.ec2", "EC2 Instance Rebalance Recommendation"): _rebalance,
    _TERMINATING: _terminating,
    ("aws.autoscaling", "EC2 Instance Terminate Successful"): _terminated,
    ("aws.autoscaling", "EC2 Instance Terminate Unsuccessful"): _not_terminated,
    ("aws.ecs", "ECS Task State Change"): _task,
    ("aws.arc-zonal-shift", "Autoshift In Progress"): _shift,
    ("aws.arc-zonal-shift", "Autoshift Completed"): _shift,
}
