"""What AWS's answers say of signals."""

from __future__ import annotations

from typing import Any

import pytest

from link.election.state import Status
from link.signals import looks
from link.signals.looks import HEALTH_KNOWN_MS
from link.signals.words import Kind, Said
from tests.support.answers import (
    GROUP,
    MINUTE,
    alarm,
    alarm_arn,
    alarms,
    autoshifts,
    instance,
    instances,
    target,
    targets,
    task,
    tasks,
)
from tests.support.ids import NOW

UP, STANDBY, DOWN = Status.ACTIVATED, Status.STANDBY, Status.FAILING
PARIS, LONDON = "i-0123456789abcdef0", "i-0fedcba9876543210"


def states(said: list[Said]) -> list[tuple[str, Status | None, str]]:
    """Key, status and reason of what is said of states."""
    return [(one.key, one.status, one.reason) for one in said if one.kind is Kind.STATE]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("OK", [Said(f"alarm:{alarm_arn('paris')}", Kind.STATE, NOW - MINUTE, "ok", UP)]),
        ("ALARM", [Said(f"alarm:{alarm_arn('paris')}", Kind.STATE, NOW - MINUTE, "alarm", DOWN)]),
        (
            "INSUFFICIENT_DATA",
            [Said(f"alarm:{alarm_arn('paris')}", Kind.NO_DATA, NOW - MINUTE, "insufficient_data")],
        ),
    ],
)
@pytest.mark.parametrize("composite", [False, True])
def test_an_alarm_says_its_state_since_it_changed(value: str, said: list[Said], composite: bool) -> None:
    paris = alarm("paris", value, changed=NOW - MINUTE, updated=NOW)
    answer = alarms(composite=(paris,)) if composite else alarms(paris)
    assert looks.alarms(answer) == said


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        (instance(PARIS, "running", "ok"), [(UP, "checks_passed")]),
        (instance(PARIS, "running", "ok", AttachedEbsStatus="ok"), [(UP, "checks_passed")]),
        (instance(PARIS, "running", "ok", ApplicationStatus="not-applicable"), [(UP, "checks_passed")]),
        (instance(PARIS, "running", "impaired", "ok"), [(DOWN, "impaired")]),
        (instance(PARIS, "running", "ok", "impaired"), [(DOWN, "impaired")]),
        (instance(PARIS, "running", "ok", AttachedEbsStatus="impaired"), [(DOWN, "impaired")]),
        (instance(PARIS, "running", "initializing", ApplicationStatus="impaired"), [(DOWN, "impaired")]),
        (instance(PARIS, "running", "initializing"), []),
        (instance(PARIS, "running", "ok", "initializing"), []),
        (instance(PARIS, "running", "insufficient-data", "ok"), []),
        (instance(PARIS, "running", "ok", AttachedEbsStatus="initializing"), []),
        (instance(PARIS, "running", "not-applicable"), []),
        (instance(PARIS, "running", "a new status"), []),
        (instance(PARIS, "pending"), []),
        (instance(PARIS, "stopping"), [(STANDBY, "stopping")]),
        (instance(PARIS, "shutting-down"), [(STANDBY, "shutting-down")]),
        (instance(PARIS, "stopped"), [(DOWN, "stopped")]),
        (instance(PARIS, "terminated"), [(DOWN, "terminated")]),
        (instance(PARIS, "a new state"), []),
    ],
)
def test_an_instance_is_up_when_it_runs_and_passed_its_checks(answered: dict[str, Any], said: list[Any]) -> None:
    assert states(looks.instances(instances(answered), NOW)) == [(f"ec2:{PARIS}", *one) for one in said]


@pytest.mark.parametrize(("state", "ends"), [("stopped", True), ("terminated", True), ("stopping", False)])
def test_an_instance_that_ended_ends_what_was_warned_of_it(state: str, ends: bool) -> None:
    said = looks.instances(instances(instance(PARIS, state)), NOW)
    assert [one.kind for one in said] == [Kind.STATE, *[Kind.END] * ends]


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        (task("a", "RUNNING", health="HEALTHY", started=NOW), [(UP, "healthy")]),
        (task("a", "RUNNING", health="UNHEALTHY"), [(DOWN, "unhealthy")]),
        (task("a", "RUNNING", started=NOW - HEALTH_KNOWN_MS), [(UP, "running")]),
        (task("a", "RUNNING", started=NOW - HEALTH_KNOWN_MS + 1), []),
        (task("a", "PENDING"), []),
        (task("a", "RUNNING", desired="STOPPED", health="HEALTHY"), [(STANDBY, "stopping")]),
        (task("a", "DEPROVISIONING", desired="STOPPED"), [(STANDBY, "stopping")]),
        (task("a", "STOPPED", desired="STOPPED"), [(DOWN, "stopped")]),
    ],
)
def test_a_task_is_up_while_it_runs_and_is_healthy(answered: dict[str, Any], said: list[Any]) -> None:
    found = looks.tasks("floating", tasks(answered), NOW)
    assert states(found) == [("ecs-task:floating/a", *one) for one in said]
    assert {one.version for one in found} <= {5}


@pytest.mark.parametrize(
    ("its_tasks", "said"),
    [
        ([], [(DOWN, "no_task")]),
        ([task("a", "PENDING")], [(DOWN, "no_task")]),
        ([task("a", "STOPPED", "STOPPED")], [(DOWN, "no_task")]),
        ([task("a", "RUNNING", health="UNHEALTHY")], [(DOWN, "unhealthy")]),
        ([task("a", "RUNNING", "STOPPED")], [(STANDBY, "stopping")]),
        # A deployment: the old task is stopped, the new one runs.
        ([task("a", "RUNNING", "STOPPED"), task("b", "RUNNING", health="HEALTHY")], [(UP, "healthy")]),
        # The new one is not known to be healthy yet.
        ([task("a", "RUNNING", health="UNHEALTHY"), task("b", "RUNNING", started=NOW)], []),
    ],
)
def test_a_service_is_as_well_as_the_best_of_its_tasks_that_run(its_tasks: list[Any], said: list[Any]) -> None:
    found = looks.service("floating", "paris", tasks(*its_tasks)["tasks"], NOW)
    assert states(found) == [("ecs:floating/paris", *one) for one in said]


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        ([target(PARIS, "healthy")], [(UP, "healthy")]),
        ([target(PARIS, "draining")], [(STANDBY, "draining")]),
        ([target(PARIS, "unhealthy")], [(DOWN, "unhealthy")]),
        ([target(PARIS, "unhealthy.draining")], [(DOWN, "unhealthy.draining")]),
        ([target(PARIS, "unused")], [(DOWN, "unused")]),
        ([target(PARIS, "initial")], []),
        ([target(PARIS, "unavailable")], []),
        ([target(LONDON, "healthy")], [(DOWN, "unregistered")]),
        ([target(PARIS, "healthy", 80), target(PARIS, "unhealthy", 81)], [(DOWN, "unhealthy")]),
        ([target(PARIS, "healthy", 80), target(PARIS, "initial", 81)], []),
        ([target(PARIS, "healthy", override="zonal_shift_active")], [(STANDBY, "zonal_shift")]),
        ([target(PARIS, "healthy", override="zonal_shift_delegated_to_dns")], [(STANDBY, "zonal_shift")]),
        ([target(PARIS, "unhealthy", override="zonal_shift_active")], [(DOWN, "unhealthy")]),
    ],
)
def test_a_target_is_as_well_as_the_worst_of_its_ports(answered: list[Any], said: list[Any]) -> None:
    found = looks.targets(GROUP, [PARIS], targets(*answered), NOW)
    assert states(found) == [(f"target:{GROUP}/{PARIS}", *one) for one in said]


def test_a_zone_is_on_standby_while_aws_shifts_traffic_away_from_it() -> None:
    found = looks.zones(["euw1-az1", "euw1-az2"], autoshifts("euw1-az2")["items"], NOW)
    assert states(found) == [("zone:euw1-az1", UP, "no_autoshift"), ("zone:euw1-az2", STANDBY, "autoshift")]
