"""What AWS's events say: each recorded event, and all of them in any order."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from link.election.state import Status
from link.errors import Rejected
from link.signals.events import Hook, hook, translate
from link.signals.keys import Signal, SignalType
from link.signals.words import Kind, Observed, Said, heard
from tests.support.functions import event

STATE, WARNING, END = Kind.STATE, Kind.WARNING, Kind.END
UP, STANDBY, DOWN = Status.ACTIVATED, Status.STANDBY, Status.FAILING
ALARMS = "alarm:arn:aws:cloudwatch:eu-west-1:123456789012:alarm:"
ROUTE53 = "alarm:arn:aws:cloudwatch:us-east-1:123456789012:alarm:link-london"
STOPPED, SPOT, GROUPED = "ec2:i-0123456789abcdef0", "ec2:i-0fedcba9876543210", "ec2:i-00aa11bb22cc33dd4"
TASK, SPOT_TASK = (
    "ecs-task:floating/c13b4cb40f1f4fe4a2971f76ae5a47ad",
    "ecs-task:floating/b99d40b351764f719a529dbd6f1cebef",
)
PARIS, LONDON = "ecs:floating/paris", "ecs:floating/london"
ZONE = "zone:euw1-az2"
MINUTE, HOUR = 60_000, 3_600_000


def at(clock: str) -> int:
    """The time on the day of the recorded events, in Unix milliseconds."""
    return round(datetime.fromisoformat(f"2026-11-23T{clock}Z").timestamp() * 1_000)


def warned(key: str, clock: str, reason: str, lasts: int) -> Said:
    return Said(key, WARNING, at(clock), reason, until=at(clock) + lasts)


RECORDED = {
    "alarm_ok": [Said(f"{ALARMS}paris-unhealthy", STATE, at("12:01:10.456"), "ok", UP)],
    "alarm_insufficient_data": [
        Said(f"{ALARMS}paris-unhealthy", Kind.NO_DATA, at("12:02:10.234"), "insufficient_data")
    ],
    "alarm": [Said(f"{ALARMS}paris-unhealthy", STATE, at("12:03:10.789"), "alarm", DOWN)],
    "composite_alarm": [Said(f"{ALARMS}london-down", STATE, at("12:03:12.345"), "alarm", DOWN)],
    "route53_alarm": [Said(ROUTE53, STATE, at("12:03:20.614"), "alarm", DOWN)],
    "ec2_running": [],
    "ec2_stopping": [Said(STOPPED, STATE, at("12:02:14.999"), "stopping", STANDBY)],
    "ec2_stopped": [
        Said(STOPPED, STATE, at("12:02:47.999"), "stopped", DOWN),
        Said(STOPPED, END, at("12:02:47.999"), "stopped"),
    ],
    "rebalance": [Said(SPOT, Kind.RISK, at("12:00:58.999"), "rebalance", until=at("13:00:58.999"))],
    "spot_warning": [warned(SPOT, "12:01:31.999", "spot_interruption", 10 * MINUTE)],
    "ec2_shutting_down": [Said(SPOT, STATE, at("12:03:32.999"), "shutting-down", STANDBY)],
    "ec2_terminated": [
        Said(SPOT, STATE, at("12:03:57.999"), "terminated", DOWN),
        Said(SPOT, END, at("12:03:57.999"), "terminated"),
    ],
    "autoscaling_terminate": [warned(GROUPED, "12:01:40.214", "terminate_hook", HOUR)],
    "autoscaling_not_terminated": [Said(GROUPED, END, at("12:02:50.301"), "not_terminated")],
    "autoscaling_terminated": [
        Said(GROUPED, STATE, at("12:02:52.118"), "terminated", DOWN),
        Said(GROUPED, END, at("12:02:52.118"), "terminated"),
    ],
    "ecs_running": [],
    "ecs_stopping": [warned(key, "12:02:20.404", "task_stopping", 10 * MINUTE) for key in (TASK, PARIS)],
    "ecs_stopped": [
        said
        for key in (TASK, PARIS)
        for said in (
            Said(key, STATE, at("12:02:51.870"), "task_stopped", DOWN, 8),
            Said(key, END, at("12:02:51.870"), "task_stopped"),
        )
    ],
    "ecs_spot": [warned(key, "12:01:33.720", "spot_interruption", 10 * MINUTE) for key in (SPOT_TASK, LONDON)],
    "autoshift": [Said(ZONE, STATE, at("12:01:05.999"), "autoshift", STANDBY)],
    "autoshift_completed": [Said(ZONE, STATE, at("12:03:45.999"), "autoshift_completed", UP)],
}


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_event_says(name: str) -> None:
    assert translate(event(f"signal_{name}")) == RECORDED[name]


FINALLY = {
    f"{ALARMS}paris-unhealthy": DOWN,
    f"{ALARMS}london-down": DOWN,
    ROUTE53: DOWN,
    STOPPED: DOWN,
    SPOT: DOWN,
    # Auto Scaling could not terminate it, and the look had found it running before.
    GROUPED: UP,
    TASK: DOWN,
    PARIS: DOWN,
    # It has been told that it will be interrupted.
    SPOT_TASK: STANDBY,
    LONDON: STANDBY,
    ZONE: UP,
}
"""What the recorded events come to, five minutes later, for an endpoint with this signal alone."""


def test_the_recorded_events_come_to_the_same_in_1000_of_1000_orders_and_three_times_each() -> None:
    running = {key: Said(key, STATE, at("12:00:30.000"), "running", UP) for key in FINALLY}
    events = [event(f"signal_{name}") for name in RECORDED if name != "autoscaling_terminated"]
    chance = random.Random(18)
    right = 0
    for _ in range(1_000):
        endpoints = {key: Observed(key, "10.0.0.1", (Signal(SignalType.EC2, key),)) for key in FINALLY}
        order = [*[translate(one) for one in events] * 3, *([said] for said in running.values())]
        chance.shuffle(order)
        for said in order:
            endpoints = {key: heard(one, said, at("12:05:00.000")) for key, one in endpoints.items()}
        right += {key: one.status for key, one in endpoints.items()} == FINALLY
    assert len(events) >= 12 and right == 1_000


def test_a_terminated_instance_of_a_group_is_down_whatever_came_before() -> None:
    group = Observed("vip-paris", "10.0.0.1", (Signal(SignalType.EC2, GROUPED),))
    for names in (["terminate", "terminated"], ["terminated", "terminate"]):
        said = [one for name in names for one in translate(event(f"signal_autoscaling_{name}"))]
        assert heard(group, said, at("12:05:00.000")).status is DOWN


def test_an_event_of_another_kind_says_nothing() -> None:
    assert translate({"source": "aws.rds", "detail-type": "RDS DB Instance Event", "detail": {}}) == []
    assert translate({**event("signal_alarm"), "source": "link"}) == []


@pytest.mark.parametrize("name", [name for name in RECORDED if RECORDED[name]])
def test_an_event_of_an_unknown_shape_is_rejected(name: str) -> None:
    with pytest.raises(Rejected, match="known shape of a"):
        translate({**event(f"signal_{name}"), "detail": {}, "resources": []})


@pytest.mark.parametrize("body", ["text", None, {}, {"detail": []}])
def test_what_is_no_event_is_rejected(body: Any) -> None:
    with pytest.raises(Rejected, match="no event of AWS"):
        translate(body)


def test_a_task_that_belongs_to_no_service_speaks_for_itself_alone() -> None:
    alone = event("signal_ecs_stopping")
    alone["detail"]["group"] = "family:batch"
    assert [said.key for said in translate(alone)] == [TASK]
    del alone["detail"]["group"]
    assert [said.key for said in translate(alone)] == [TASK]


@pytest.mark.parametrize(
    ("code", "reason"), [("SpotInterruption", "spot_interruption"), ("UserInitiated", "task_stopping")]
)
def test_the_reason_why_a_task_stops_is_told(code: str, reason: str) -> None:
    stopping = event("signal_ecs_stopping")
    stopping["detail"] |= {"stopCode": code}
    assert {said.reason for said in translate(stopping)} == {reason}


def test_our_lifecycle_hook_waits_five_minutes_and_that_of_others_is_left_alone() -> None:
    waiting = event("signal_autoscaling_terminate")
    ours = Hook(
        "paris", "link-handover", "i-00aa11bb22cc33dd4", "c613620e-07e2-4ed2-a9e2-ef8258911ade", at("12:06:40.214")
    )
    assert hook(waiting) == ours and ours.key == GROUPED
    waiting["detail"]["LifecycleHookName"] = "save-the-logs"
    assert hook(waiting) is None and hook(event("signal_spot_warning")) is None
    del waiting["detail"]["LifecycleHookName"]
    with pytest.raises(Rejected, match="LifecycleHookName"):
        hook(waiting)


def test_a_look_in_the_same_second_as_an_event_without_milliseconds_does_not_overrule_it() -> None:
    stopping = translate(event("signal_ec2_stopping"))
    looked = replace(stopping[0], at=at("12:02:14.700"), status=UP)
    paris = Observed("vip-paris", "10.0.0.1", (Signal(SignalType.EC2, STOPPED),))
    assert heard(paris, [*stopping, looked], at("12:02:15.000")).status is STANDBY
