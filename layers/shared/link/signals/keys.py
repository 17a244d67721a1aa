"""A signal: what of AWS speaks for an endpoint, and the key under which it is heard. Pure.

The key of a signal is a text, the same whether an event or a look says something of it:

    alarm:<ARN of the alarm>
    ec2:<instance id>
    ecs:<name of the cluster>/<name of the service>
    ecs-task:<name of the cluster>/<task id>
    target:<ARN of the target group>/<target id>
    zone:<zone id>
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from link.election.state import Status
from link.fields import MAX_SHOWN, Problems, json_type, unknown_field

MAX_SIGNALS = 8


class SignalType(StrEnum):
    """What kind of thing speaks. The parameter SignalTypes names those that a deployment listens to."""

    ALARM = "alarm"
    EC2 = "ec2"
    ECS = "ecs"
    TARGET = "target"
    ZONE = "zone"


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal of an endpoint."""

    type: SignalType
    key: str
    without_data: Status | None = None
    """What an alarm in INSUFFICIENT_DATA says; None: nothing, its last word stays."""
    heeds_risk: bool = False
    """Whether a rebalance recommendation counts as a warning."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a signal: what it has to be, in words and as a pattern."""

    rule: str
    pattern: re.Pattern[str]


_ARN = r"arn:aws[a-z-]*:"
_REGION = r"[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}"
_NAME = r"[A-Za-z0-9_-]{1,255}"
_WITHOUT_DATA = {"last": None, "ok": Status.ACTIVATED, "alarm": Status.FAILING}
_REBALANCE = {"ignore": False, "standby": True}
FIELDS: dict[SignalType, dict[str, Field]] = {
    SignalType.ALARM: {
        "arn": Field(
            "the ARN of a CloudWatch alarm",
            re.compile(rf"{_ARN}cloudwatch:{_REGION}:[0-9]{{12}}:alarm:[ -~]{{1,255}}"),
        ),
        "insufficient_data": Field(f"one of {', '.join(_WITHOUT_DATA)}", re.compile("|".join(_WITHOUT_DATA))),
    },
    SignalType.EC2: {
        "instance_id": Field("the id of an instance, like i-0123456789abcdef0", re.compile(r"i-[0-9a-f]{8,17}")),
        "rebalance": Field(f"one of {', '.join(_REBALANCE)}", re.compile("|".join(_REBALANCE))),
    },
    SignalType.ECS: {
        "cluster": Field(
            "the name or the ARN of a cluster", re.compile(rf"(?:{_ARN}ecs:{_REGION}:[0-9]{{12}}:cluster/)?{_NAME}")
        ),
        "service": Field(
            "the name or the ARN of a service",
            re.compile(rf"(?:{_ARN}ecs:{_REGION}:[0-9]{{12}}:service/(?:{_NAME}/)?)?{_NAME}"),
        ),
        "task": Field(
            "the id or the ARN of a task",
            re.compile(rf"(?:{_ARN}ecs:{_REGION}:[0-9]{{12}}:task/(?:{_NAME}/)?)?[0-9a-f-]{{32,36}}"),
        ),
    },
    SignalType.TARGET: {
        "target_group_arn": Field(
            "the ARN of a target group",
            re.compile(
                rf"{_ARN}elasticloadbalancing:{_REGION}:[0-9]{{12}}:targetgroup/[A-Za-z0-9-]{{1,32}}/[0-9a-f]{{16}}"
            ),
        ),
        "target_id": Field("the id, the address or the ARN of a target", re.compile(r"[!-~]{1,512}")),
    },
    SignalType.ZONE: {
        "zone_id": Field("the id of a zone, like use1-az1", re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*-az[0-9]{1,2}")),
    },
}
REQUIRED = {
    SignalType.ALARM: ("arn",),
    SignalType.EC2: ("instance_id",),
    SignalType.ECS: ("cluster",),
    SignalType.TARGET: ("target_group_arn", "target_id"),
    SignalType.ZONE: ("zone_id",),
}


def check(given: object, name: str, problems: Problems) -> dict[str, Any]:
    """One signal of a request, as it is stored. `name`: where it stands in the body."""
    if not isinstance(given, dict):
        problems[name].append(f"{json_type(given)} is not a signal: use {{type, …}}")
        return {}
    kind = given.get("type")
    if kind not in tuple(SignalType):
        problems[f"{name}.type"].append(f"{_shown(kind)} is not a type of signals: use {', '.join(SignalType)}")
        return {}
    fields = FIELDS[SignalType(kind)]
    problems[name] += [unknown_field(key, ("type", *fields)) for key in sorted(given.keys() - {"type", *fields})]
    for field, rule in fields.items():
        value = given.get(field)
        if value is None and field not in REQUIRED[SignalType(kind)]:
            continue
        if not isinstance(value, str) or not rule.pattern.fullmatch(value):
            problems[f"{name}.{field}"].append(f"{_shown(value)} is not {rule.rule}")
    if kind == SignalType.ECS and (given.get("service") is None) == (given.get("task") is None):
        problems[name].append("a signal of ECS is about a service or about a task: give one of the two")
    return {"type": kind} | {field: given[field] for field in fields if given.get(field) is not None}


def check_heard(signals: Collection[Mapping[str, Any]], types: Collection[str], problems: Problems) -> None:
    """Notes the signals that nobody listens to."""
    for position, signal in enumerate(signals):
        if signal.get("type") not in {None, *types}:
            problems[f"signals.{position}.type"].append(
                f"this deployment does not listen to {signal['type']!r}: add it to the parameter SignalTypes, or leave "
                "signal out of observers"
            )


def read(stored: Mapping[str, Any]) -> Signal:
    """The signal of a registration. The API has validated it.

    >>> read({"type": "ecs", "cluster": "arn:aws:ecs:eu-west-1:111122223333:cluster/shop", "service": "web"}).key
    'ecs:shop/web'
    >>> read({"type": "alarm", "arn": "arn:aws:cloudwatch:eu-west-1:111122223333:alarm:web down"}).key
    'alarm:arn:aws:cloudwatch:eu-west-1:111122223333:alarm:web down'
    """
    kind = SignalType(stored["type"])
    if kind is SignalType.ALARM:
        without_data = _WITHOUT_DATA[stored.get("insufficient_data", "last")]
        return Signal(kind, alarm_key(stored["arn"]), without_data=without_data)
    if kind is SignalType.EC2:
        return Signal(kind, ec2_key(stored["instance_id"]), heeds_risk=_REBALANCE[stored.get("rebalance", "ignore")])
    if kind is SignalType.ECS:
        cluster = stored["cluster"]
        if "task" in stored:
            return Signal(kind, task_key(cluster, stored["task"]))
        return Signal(kind, service_key(cluster, stored["service"]))
    if kind is SignalType.TARGET:
        return Signal(kind, target_key(stored["target_group_arn"], stored["target_id"]))
    return Signal(kind, zone_key(stored["zone_id"]))


def alarm_key(arn: str) -> str:
    """The key of an alarm."""
    return f"alarm:{arn}"


def ec2_key(instance_id: str) -> str:
    """The key of an instance."""
    return f"ec2:{instance_id}"


def service_key(cluster: str, service: str) -> str:
    """The key of a service of ECS, by the names or the ARNs of its cluster and itself."""
    return f"ecs:{_last(cluster)}/{_last(service)}"


def task_key(cluster: str, task: str) -> str:
    """The key of a task of ECS, by the name or the ARN of its cluster and its own id or ARN."""
    return f"ecs-task:{_last(cluster)}/{_last(task)}"


def target_key(target_group_arn: str, target_id: str) -> str:
    """The key of a target of a load balancer."""
    return f"target:{target_group_arn}/{target_id}"


def zone_key(zone_id: str) -> str:
    """The key of an Availability Zone."""
    return f"zone:{zone_id}"


def parts(key: str) -> tuple[str, str, str]:
    """What kind of thing a key is about, where it is, and its name or id there.

    >>> parts("ec2:i-0123456789abcdef0")
    ('ec2', '', 'i-0123456789abcdef0')
    >>> parts("ecs:floating/paris")
    ('ecs', 'floating', 'paris')
    >>> parts("alarm:arn:aws:cloudwatch:eu-west-1:111122223333:alarm:web: down")
    ('alarm', 'arn:aws:cloudwatch:eu-west-1:111122223333:alarm', 'web: down')
    >>> parts("target:arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/web/0123456789abcdef/10.0.0.1")
    ('target', 'arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/web/0123456789abcdef', '10.0.0.1')
    """
    kind, _, rest = key.partition(":")
    # An alarm's name and a target's id can have every separator themselves.
    separator, before = {"alarm": (":", 6), "ecs": ("/", 1), "ecs-task": ("/", 1), "target": ("/", 3)}.get(
        kind, ("/", 0)
    )
    pieces = rest.split(separator, before)
    return kind, separator.join(pieces[:-1]), pieces[-1]


def _last(name_or_arn: str) -> str:
    return name_or_arn.rpartition("/")[2]


def _shown(value: object) -> str:
    return repr(str(value)[:MAX_SHOWN]) if isinstance(value, str) else json_type(value)
