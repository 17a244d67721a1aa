"""The look: asks AWS itself about the signals that are registered. Events can be lost, and target health has none.

AWS calls of a look: 1 DescribeAlarms per 100 alarms of a Region; 1 DescribeInstanceStatus per 100 instances, and up to
14 more for each that EC2 does not know; 1 DescribeTasks per 100 tasks of a cluster; 1 ListTasks and 1 DescribeTasks per
100 tasks of a service; 1 DescribeTargetHealth per target group; 1 ListAutoshifts for all zones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from link.chance import Chance
from link.clock import Clock
from link.signals import looks
from link.signals.keys import alarm_key, ec2_key, parts, service_key, target_key, task_key
from link.signals.words import Said
from link.store.aws import FAULTS, error_code
from link.telemetry import logger, metric

AT_ONCE = 4
"""Few, because these calls share their limits with everything else in the account."""
LOOK_SECONDS = 10
"""No call begins later. One takes 12 s at most with its repetitions, and then the function has to tell what is new."""
MAX_IN_A_CALL = 100
"""Names, ids or ARNs; the same in each of these calls."""
MAX_SHOWN = 10
"""Keys in a log line."""

_CLIENTS = {
    "alarm": "cloudwatch",
    "ec2": "ec2",
    "ecs": "ecs",
    "ecs-task": "ecs",
    "target": "elbv2",
    "zone": "arc-zonal-shift",
}
_REFUSED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")


class TooLate(Exception):
    """The time of the look is over."""


@dataclass(frozen=True, slots=True)
class Missing:
    """AWS does not know what this signal is about."""

    key: str


Answers = Iterator[Said | Missing]


class Question(NamedTuple):
    """Signals that AWS is asked about together."""

    keys: list[str]
    ask: Callable[[], Answers]


class Answered(NamedTuple):
    """How a question ended."""

    said: list[Said]
    missing: list[str]
    unseen: list[str]
    reason: str
    """Why nothing is known about the unseen ones."""


class SignalLook:
    """Looks at signals."""

    def __init__(self, client: Callable[..., Any], clock: Clock, chance: Chance) -> None:
        self._new_client = client
        self._clients: dict[tuple[str, str], Any] = {}
        self._clock = clock
        self._chance = chance

    def look(self, keys: Iterable[str]) -> list[Said]:
        """What AWS says of these signals now. What could not be asked is left out, and counted."""
        # ● In another order each time. Otherwise, if there is no time for all, it is always the same ones that miss it.
        questions = sorted(self._questions(keys), key=lambda _: self._chance.jitter())
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answered = list(pool.map(_answered, questions))
        _tell(answered)
        return [said for one in answered for said in one.said]

    def _questions(self, keys: Iterable[str]) -> list[Question]:
        """One for all that a call can ask for. The clients are made here: making one is not thread-safe."""
        together: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        for key in keys:
            kind, where, what = parts(key)
            together[kind, where][key] = what
        asking = _Asking(self._clock)
        ask = {
            "alarm": asking.alarms,
            "ec2": asking.instances,
            "ecs": asking.service,
            "ecs-task": asking.tasks,
            "target": asking.targets,
            "zone": asking.zones,
        }
        questions = []
        for (kind, where), things in together.items():
            client = self._client(_CLIENTS[kind], where.split(":")[3] if where.startswith("arn:") else "")
            size = 1 if kind == "ecs" else MAX_IN_A_CALL
            for some in _parted([*things.items()], size):
                questions.append(
                    Question([key for key, _ in some], partial(ask[kind], client, where, [*dict(some).values()]))
                )
        return questions

    def _client(self, service: str, region: str) -> Any:
        if (service, region) not in self._clients:
            self._clients[service, region] = self._new_client(service, region=region)
        return self._clients[service, region]


class _Asking:
    """The calls of one look. Each method asks about things of one kind that are in one place."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at = clock.now()
        self._until = clock.monotonic() + LOOK_SECONDS

    def alarms(self, cloudwatch: Any, where: str, names: list[str]) -> Answers:
        """Alarms of an account and a Region, which are those of the client or do not exist."""
        missing = {alarm_key(f"{where}:{name}") for name in names}
        # By default 50 metric alarms, and no composite one.
        which: dict[str, Any] = {"AlarmTypes": ["CompositeAlarm", "MetricAlarm"], "MaxRecords": MAX_IN_A_CALL}
        for page in self._pages(cloudwatch, "describe_alarms", AlarmNames=names, **which):
            said = looks.alarms(page)
            missing -= {one.key for one in said}
            yield from said
        yield from map(Missing, missing)

    def instances(self, ec2: Any, where: str, ids: list[str]) -> Answers:
        """Instances. ● One id that EC2 does not know fails the call for all, so it is looked for by halves."""
        try:
            for page in self._pages(ec2, "describe_instance_status", InstanceIds=ids, IncludeAllInstances=True):
                yield from looks.instances(page, self._at)
        except ClientError as error:
            if error_code(error) not in ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"):
                raise
            if len(ids) > 1:
                yield from self.instances(ec2, where, ids[: len(ids) // 2])
                yield from self.instances(ec2, where, ids[len(ids) // 2 :])
            else:
                yield looks.unknown(ec2_key(ids[0]), self._at)
                yield Missing(ec2_key(ids[0]))

    def tasks(self, ecs: Any, cluster: str, ids: list[str]) -> Answers:
        """Tasks of a cluster."""
        try:
            answer = self._call(ecs.describe_tasks, cluster=cluster, tasks=ids)
        except ecs.exceptions.ClusterNotFoundException:
            gone = ids
        else:
            yield from looks.tasks(cluster, answer, self._at)
            gone = [failure["arn"] for failure in answer["failures"] if failure.get("reason") == "MISSING"]
        for id in gone:
            yield looks.unknown(task_key(cluster, id), self._at)
            yield Missing(task_key(cluster, id))

    def service(self, ecs: Any, cluster: str, names: list[str]) -> Answers:
        """A service of a cluster."""
        [name] = names
        found: list[Any] = []
        try:
            for page in self._pages(ecs, "list_tasks", cluster=cluster, serviceName=name, desiredStatus="RUNNING"):
                if page["taskArns"]:
                    found += self._call(ecs.describe_tasks, cluster=cluster, tasks=page["taskArns"])["tasks"]
        except (ecs.exceptions.ServiceNotFoundException, ecs.exceptions.ClusterNotFoundException):
            yield looks.unknown(service_key(cluster, name), self._at)
            yield Missing(service_key(cluster, name))
        else:
            yield from looks.service(cluster, name, found, self._at)

    def targets(self, elbv2: Any, group_arn: str, ids: list[str]) -> Answers:
        """Targets of a group."""
        try:
            answer = self._call(elbv2.describe_target_health, TargetGroupArn=group_arn)
        except elbv2.exceptions.TargetGroupNotFoundException:
            yield from (Missing(target_key(group_arn, id)) for id in ids)
        else:
            yield from looks.targets(group_arn, ids, answer, self._at)

    def zones(self, zonal_shift: Any, where: str, ids: list[str]) -> Answers:
        """Zones of the Region."""
        shifts = [one for page in self._pages(zonal_shift, "list_autoshifts", status="ACTIVE") for one in page["items"]]
        yield from looks.zones(ids, shifts, self._at)

    def _pages(self, client: Any, operation: str, **given: Any) -> Iterator[Any]:
        pages = iter(client.get_paginator(operation).paginate(**given))
        while (page := self._call(next, pages, None)) is not None:
            yield page

    def _call(self, call: Callable[..., Any], *arguments: Any, **given: Any) -> Any:
        if self._clock.monotonic() > self._until:
            raise TooLate
        return call(*arguments, **given)


def _parted(things: list[Any], size: int) -> list[list[Any]]:
    return [things[start : start + size] for start in range(0, len(things), size)]


def _answered(question: Question) -> Answered:
    """Asks. What was answered before a fault counts."""
    said: list[Said] = []
    missing: list[str] = []
    reason = ""
    try:
        for one in question.ask():
            if isinstance(one, Missing):
                missing.append(one.key)
            else:
                said.append(one)
    except TooLate:
        reason = "too_late"
    except FAULTS as error:
        reason = error_code(error)
    known = {*missing, *(one.key for one in said)}
    return Answered(said, missing, [key for key in question.keys if key not in known] if reason else [], reason)


def _tell(answered: Iterable[Answered]) -> None:
    """Counts and logs what nothing is known about."""
    missing: list[str] = []
    unseen: dict[str, list[str]] = defaultdict(list)
    for one in answered:
        missing += one.missing
        unseen[one.reason] += one.unseen
    for reason, keys in unseen.items():
        if keys:
            do = "add their type to SignalTypes" if reason in _REFUSED else "nothing, unless it goes on"
            logger.warning("signals.unseen", reason=reason, count=len(keys), signals=keys[:MAX_SHOWN], to_do=do)
            metric("SignalsUnseen", len(keys))
    if missing:
        do = "create what they name, or change the registrations that name it"
        logger.warning("signals.missing", count=len(missing), signals=missing[:MAX_SHOWN], to_do=do)
        metric("SignalsMissing", len(missing))
