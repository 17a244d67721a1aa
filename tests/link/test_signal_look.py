"""The look: what is asked of AWS, in which parts, and what it comes to when AWS does not answer all of it.

moto has CloudWatch, EC2 and target groups. What it lacks comes from botocore's Stubber, which holds questions and
answers to AWS's model: composite alarms, tasks of services, autoshifts, pages and errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from link import signal_look
from link.clock import Clock
from link.election.state import Status
from link.signal_look import LOOK_SECONDS, MAX_IN_A_CALL, SignalLook
from link.signals.keys import Signal, SignalType
from link.signals.words import Kind, Observed, Said, heard, news
from link.store import aws as our_aws
from scripts.cloud import template
from tests.support.answers import (
    GROUP,
    alarm,
    alarm_arn,
    alarms,
    autoshifts,
    instance,
    instances,
    task,
    task_arn,
    tasks,
)
from tests.support.hands import FixedChance, HeldClock

UP, STANDBY, DOWN = Status.ACTIVATED, Status.STANDBY, Status.FAILING
NEVER_LAUNCHED = "i-0123456789abcdef0"


class Watch(HeldClock):
    """Each time that it is read, some seconds have passed."""

    seconds, pass_by = 0.0, 0.0

    def monotonic(self) -> float:
        self.seconds += self.pass_by
        return self.seconds


class Stubbed:
    """Clients that give the next answer that a test has prepared, in order."""

    def __init__(self) -> None:
        self.clock = Watch()
        self._stubbers: dict[str, Stubber] = {}
        self._clients: dict[str, Any] = {}
        self._stack = ExitStack()

    def client(self, service: str, *, region: str = "") -> Any:
        if service not in self._clients:
            self._clients[service] = boto3.client(service)  # type: ignore[call-overload]
            self._stubbers[service] = self._stack.enter_context(Stubber(self._clients[service]))
        return self._clients[service]

    def answers(self, service: str, operation: str, answer: dict[str, Any], **asked: Any) -> None:
        self.client(service)
        self._stubbers[service].add_response(operation, answer, asked)

    def refuses(self, service: str, operation: str, code: str) -> None:
        self.client(service)
        self._stubbers[service].add_client_error(operation, code)

    def look(self, *keys: str) -> list[Said]:
        return SignalLook(self.client, self.clock, FixedChance()).look(keys)

    def verdicts(self, *keys: str) -> dict[str, Status | None]:
        return verdicts(self.look(*keys))

    def close(self) -> None:
        with self._stack:
            for stubber in self._stubbers.values():
                stubber.assert_no_pending_responses()


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubbed]:
    # In order, and each answer for the question that it is for.
    monkeypatch.setattr(signal_look, "AT_ONCE", 1)
    stubs = Stubbed()
    yield stubs
    stubs.close()


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Name and value of each metric line that the look writes."""
    written: list[tuple[str, float]] = []
    monkeypatch.setattr(signal_look, "metric", lambda name, value=1: written.append((name, value)))
    return written


def verdicts(said: list[Said]) -> dict[str, Status | None]:
    return {one.key: one.status for one in said if one.kind is Kind.STATE}


def look(*keys: str) -> dict[str, Status | None]:
    """What a look says on moto."""
    return verdicts(SignalLook(our_aws.client, Clock(), FixedChance()).look(keys))


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, Any, Any]]:
    """Message, signals and what to do, of each log line."""
    ours = [line for line in caplog.records if line.message.startswith("signals.")]
    return [(line.message, line.signals, line.to_do) for line in ours]  # type: ignore[attr-defined]


# --- Alarms


def put_alarm(name: str, value: str, region: str = "eu-west-1") -> str:
    """Make an alarm; return its key."""
    cloudwatch = boto3.client("cloudwatch", region)
    cloudwatch.put_metric_alarm(
        AlarmName=name, Namespace="AWS/ApplicationELB", MetricName="HealthyHostCount", Statistic="Maximum", Period=60,
        EvaluationPeriods=1, Threshold=1, ComparisonOperator="LessThanThreshold",
    )  # fmt: skip
    cloudwatch.set_alarm_state(AlarmName=name, StateValue=value, StateReason="a drill")
    return f"alarm:{alarm_arn(name, region)}"


def test_an_alarm_of_another_region_is_asked_there(aws: None) -> None:
    ours, route53 = put_alarm("paris", "OK"), put_alarm("paris", "ALARM", "us-east-1")
    assert look(ours, route53) == {ours: UP, route53: DOWN}


def test_composite_alarms_and_every_page_of_an_answer_count(stubbed: Stubbed) -> None:
    paris, london = (f"alarm:{alarm_arn(name)}" for name in ("paris", "london"))
    asked = {
        "AlarmNames": ["paris", "london"],
        "AlarmTypes": ["CompositeAlarm", "MetricAlarm"],
        "MaxRecords": MAX_IN_A_CALL,
    }
    first = alarms(alarm("paris", "OK"), NextToken="more")
    stubbed.answers("cloudwatch", "describe_alarms", first, **asked)
    second = alarms(composite=(alarm("london", "ALARM"),))
    stubbed.answers("cloudwatch", "describe_alarms", second, **asked, NextToken="more")
    assert stubbed.verdicts(paris, london) == {paris: UP, london: DOWN}


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param(alarm_arn("deleted"), id="deleted"),
        # CloudWatch finds alarms of this account only, by their names: paris is another alarm.
        pytest.param("arn:aws:cloudwatch:eu-west-1:210987654321:alarm:paris", id="of another account"),
    ],
)
def test_an_alarm_that_does_not_exist_is_told_and_says_nothing(
    aws: None, metrics: list[tuple[str, float]], caplog: pytest.LogCaptureFixture, gone: str
) -> None:
    paris = put_alarm("paris", "OK")
    said = look(paris, f"alarm:{gone}")
    assert said == {paris: UP}
    assert metrics == [("SignalsMissing", 1)]
    [line] = logged(caplog)
    assert line[:2] == ("signals.missing", [f"alarm:{gone}"])
    assert "change the registrations" in line[2]


# --- Instances


def launched(number: int) -> list[str]:
    """Launch instances; return their ids."""
    launched = boto3.client("ec2").run_instances(ImageId="ami-1", MinCount=number, MaxCount=number)["Instances"]
    return [one["InstanceId"] for one in launched]


@pytest.mark.parametrize("position", [0, 3, 5])
def test_an_instance_that_ec2_does_not_know_has_failed_and_does_not_hide_the_others(
    aws: None, metrics: list[tuple[str, float]], caplog: pytest.LogCaptureFixture, position: int
) -> None:
    keys = [f"ec2:{instance_id}" for instance_id in launched(5)]
    asked = [*keys[:position], f"ec2:{NEVER_LAUNCHED}", *keys[position:]]
    assert look(*asked) == {**dict.fromkeys(keys, UP), f"ec2:{NEVER_LAUNCHED}": DOWN}
    assert metrics == [("SignalsMissing", 1)]
    assert [line[:2] for line in logged(caplog)] == [("signals.missing", [f"ec2:{NEVER_LAUNCHED}"])]


def test_one_unknown_instance_among_a_hundred_costs_a_few_calls(stubbed: Stubbed) -> None:
    ids = [f"i-{number:017x}" for number in range(MAX_IN_A_CALL)]
    calls = 0

    def described(InstanceIds: list[str], IncludeAllInstances: bool) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        assert IncludeAllInstances, "otherwise only those that run"
        if ids[41] in InstanceIds:
            raise stubbed.client("ec2").exceptions.ClientError({"Error": {"Code": "InvalidInstanceID.NotFound"}}, "")
        return instances(*(instance(one, "running", "ok") for one in InstanceIds))

    pages = stubbed.client("ec2").get_paginator("describe_instance_status")
    pages._method = described
    stubbed.client("ec2").get_paginator = lambda operation: pages
    assert stubbed.verdicts(*(f"ec2:{one}" for one in ids))[f"ec2:{ids[41]}"] is DOWN
    assert calls <= 1 + 14


def test_an_instance_whose_end_no_event_told_is_found(aws: None) -> None:
    [paris] = launched(1)
    key, clock = f"ec2:{paris}", HeldClock()
    looking = SignalLook(our_aws.client, clock, FixedChance())
    endpoint = Observed("vip-1", "floating-ip", (Signal(SignalType.EC2, key),))
    running = heard(endpoint, looking.look([key]), clock.now())
    boto3.client("ec2").terminate_instances(InstanceIds=[paris])
    clock.pause(60)
    found = news(running, looking.look([key]))
    assert (running.status, heard(running, found, clock.now()).status) == (UP, DOWN)


# --- Tasks


def test_the_tasks_of_a_cluster_are_asked_together_and_one_that_ecs_does_not_know_has_failed(
    stubbed: Stubbed, metrics: list[tuple[str, float]]
) -> None:
    stubbed.answers(
        "ecs", "describe_tasks", tasks(task("a", "RUNNING", health="HEALTHY"), missing=("b",)),
        cluster="floating", tasks=["a", "b"],
    )  # fmt: skip
    said = stubbed.verdicts("ecs-task:floating/a", "ecs-task:floating/b")
    assert said == {"ecs-task:floating/a": UP, "ecs-task:floating/b": DOWN}
    assert metrics == [("SignalsMissing", 1)]


def test_of_a_service_every_page_of_tasks_counts(stubbed: Stubbed) -> None:
    asked = {"cluster": "floating", "serviceName": "paris", "desiredStatus": "RUNNING"}
    stubbed.answers("ecs", "list_tasks", {"taskArns": [task_arn("a")], "nextToken": "more"}, **asked)
    healthy = tasks(task("a", "RUNNING", health="HEALTHY"))
    stubbed.answers("ecs", "describe_tasks", healthy, cluster="floating", tasks=[task_arn("a")])
    stubbed.answers("ecs", "list_tasks", {"taskArns": [task_arn("b")]}, **asked, nextToken="more")
    stubbed.answers("ecs", "describe_tasks", tasks(task("b", "PENDING")), cluster="floating", tasks=[task_arn("b")])
    assert stubbed.verdicts("ecs:floating/paris") == {"ecs:floating/paris": UP}


def test_a_service_without_a_task_that_is_meant_to_run_has_failed_and_each_service_is_asked(stubbed: Stubbed) -> None:
    for name, arns in (("paris", []), ("london", [task_arn("a")])):
        asked = {"cluster": "floating", "serviceName": name, "desiredStatus": "RUNNING"}
        stubbed.answers("ecs", "list_tasks", {"taskArns": arns}, **asked)
    running = tasks(task("a", "RUNNING"))
    stubbed.answers("ecs", "describe_tasks", running, cluster="floating", tasks=[task_arn("a")])
    said = stubbed.verdicts("ecs:floating/paris", "ecs:floating/london")
    assert said == {"ecs:floating/paris": DOWN, "ecs:floating/london": UP}


@pytest.mark.parametrize("code", ["ServiceNotFoundException", "ClusterNotFoundException"])
def test_a_service_that_ecs_does_not_know_has_failed_and_is_told(
    stubbed: Stubbed, metrics: list[tuple[str, float]], code: str
) -> None:
    stubbed.refuses("ecs", "list_tasks", code)
    assert stubbed.verdicts("ecs:floating/paris") == {"ecs:floating/paris": DOWN}
    assert metrics == [("SignalsMissing", 1)]


def test_the_tasks_of_a_cluster_that_ecs_does_not_know_have_failed(
    stubbed: Stubbed, metrics: list[tuple[str, float]]
) -> None:
    stubbed.refuses("ecs", "describe_tasks", "ClusterNotFoundException")
    assert stubbed.verdicts("ecs-task:floating/a") == {"ecs-task:floating/a": DOWN}
    assert metrics == [("SignalsMissing", 1)]


# --- Targets and zones


def test_the_targets_of_a_group_are_asked_together_and_one_that_was_deregistered_has_failed(aws: None) -> None:
    ec2, elbv2 = boto3.client("ec2"), boto3.client("elbv2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = elbv2.create_target_group(Name="floating", Protocol="HTTP", Port=80, VpcId=vpc)["TargetGroups"][0]
    arn, (paris, london) = group["TargetGroupArn"], launched(2)
    elbv2.register_targets(TargetGroupArn=arn, Targets=[{"Id": paris}])
    assert look(f"target:{arn}/{paris}", f"target:{arn}/{london}") == {
        f"target:{arn}/{paris}": UP,
        f"target:{arn}/{london}": DOWN,
    }


def test_a_target_group_that_does_not_exist_is_told_and_says_nothing(
    aws: None, metrics: list[tuple[str, float]]
) -> None:
    assert look(f"target:{GROUP}/10.0.0.1") == {}
    assert metrics == [("SignalsMissing", 1)]


def test_all_zones_are_one_call(stubbed: Stubbed) -> None:
    stubbed.answers("arc-zonal-shift", "list_autoshifts", autoshifts("euw1-az2"), status="ACTIVE")
    assert stubbed.verdicts("zone:euw1-az1", "zone:euw1-az2") == {"zone:euw1-az1": UP, "zone:euw1-az2": STANDBY}


# --- Batches


@pytest.mark.parametrize(
    ("key", "service", "operation", "names", "answer", "more"),
    [
        (
            f"alarm:{alarm_arn('')}{{}}", "cloudwatch", "describe_alarms", "AlarmNames", alarms(),
            {"AlarmTypes": ANY, "MaxRecords": ANY},
        ),
        (
            "ec2:{}", "ec2", "describe_instance_status", "InstanceIds", instances(),
            {"IncludeAllInstances": True},
        ),
        ("ecs-task:floating/{}", "ecs", "describe_tasks", "tasks", tasks(), {"cluster": "floating"}),
    ],
    ids=["alarms", "instances", "tasks"],
)  # fmt: skip
def test_a_call_asks_for_a_hundred_at_most(
    stubbed: Stubbed, key: str, service: str, operation: str, names: str, answer: dict[str, Any], more: dict[str, Any]
) -> None:
    asked = [str(number) for number in range(101)]
    for some in (asked[:100], asked[100:]):
        stubbed.answers(service, operation, answer, **{names: some}, **more)
    stubbed.look(*map(key.format, asked))


# --- What cannot be asked


@pytest.mark.parametrize(
    ("code", "to_do"),
    [
        ("UnauthorizedOperation", "SignalTypes"),
        ("RequestLimitExceeded", "unless it goes on"),
        ("InternalError", "unless it goes on"),
    ],
)
def test_a_fault_of_one_service_is_told_and_hides_no_other(
    stubbed: Stubbed, metrics: list[tuple[str, float]], caplog: pytest.LogCaptureFixture, code: str, to_do: str
) -> None:
    stubbed.refuses("ec2", "describe_instance_status", code)
    stubbed.answers("arc-zonal-shift", "list_autoshifts", autoshifts(), status="ACTIVE")
    assert stubbed.verdicts("ec2:i-1", "ec2:i-2", "zone:euw1-az2") == {"zone:euw1-az2": UP}
    assert metrics == [("SignalsUnseen", 2)]
    [line] = logged(caplog)
    assert line[:2] == ("signals.unseen", ["ec2:i-1", "ec2:i-2"])
    assert to_do in line[2]


def test_what_was_answered_before_a_fault_counts(stubbed: Stubbed, metrics: list[tuple[str, float]]) -> None:
    paris, london = (f"alarm:{alarm_arn(name)}" for name in ("paris", "london"))
    stubbed.client("cloudwatch")
    stubbed._stubbers["cloudwatch"].add_response("describe_alarms", alarms(alarm("paris", "OK"), NextToken="more"))
    stubbed.refuses("cloudwatch", "describe_alarms", "Throttling")
    assert stubbed.verdicts(paris, london) == {paris: UP}
    assert metrics == [("SignalsUnseen", 1)]


def test_no_call_begins_when_the_time_of_a_look_is_over_and_what_was_not_asked_is_told(
    stubbed: Stubbed, metrics: list[tuple[str, float]], caplog: pytest.LogCaptureFixture
) -> None:
    answer = instances(instance("i-1", "running", "ok"))
    stubbed.answers("ec2", "describe_instance_status", answer, InstanceIds=["i-1"], IncludeAllInstances=True)
    stubbed.clock.pass_by = LOOK_SECONDS * 0.6
    assert stubbed.verdicts("ec2:i-1", "zone:euw1-az2", "ecs:floating/paris") == {"ec2:i-1": UP}
    assert metrics == [("SignalsUnseen", 2)]
    assert [line.reason for line in caplog.records if line.message == "signals.unseen"] == ["too_late"]  # type: ignore[attr-defined]


def test_every_signal_is_asked_about_within_75_seconds_and_a_look_is_over_before_its_function_is() -> None:
    assert 60 + LOOK_SECONDS <= 75
    config = our_aws.client("ec2").meta.config
    tries = config.retries["total_max_attempts"]
    # botocore waits up to 1 s before the second try and 2 s before the third.
    slowest_call = tries * (config.connect_timeout + config.read_timeout) + 1 + 2
    assert LOOK_SECONDS + slowest_call < template()["Globals"]["Function"]["Timeout"] < 60


def test_a_look_asks_in_another_order_each_time(stubbed: Stubbed, monkeypatch: pytest.MonkeyPatch) -> None:
    jitters = iter([0.9, 0.1])
    chance = FixedChance()
    monkeypatch.setattr(chance, "jitter", lambda: next(jitters))
    asked: list[str] = []
    for kind in ("alarms", "zones"):
        monkeypatch.setattr(
            signal_look._Asking, kind, lambda asking, client, where, names: iter(asked.append(names[0]) or [])
        )
    SignalLook(stubbed.client, stubbed.clock, chance).look([f"alarm:{alarm_arn('paris')}", "zone:euw1-az2"])
    assert asked == ["euw1-az2", "paris"]


def test_a_look_without_signals_asks_nobody(stubbed: Stubbed, metrics: list[tuple[str, float]]) -> None:
    assert (stubbed.look(), metrics) == ([], [])
