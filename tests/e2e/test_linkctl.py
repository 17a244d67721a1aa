"""linkctl in a process of its own, with signed requests, against the deployed template."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from scripts.cloud import Cloud
from tests.e2e.site import linkctl_environment
from tests.support.receiver import LoopbackReceiver

RESOURCE = "by hand: ü/1"


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def linkctl(cloud: Cloud) -> Run:
    """Return a function that runs linkctl with the keys of a user: the operator's, or those of a host."""

    def run(*arguments: str, stdin: str = "", user: str = "operator") -> subprocess.CompletedProcess[str]:
        environment = linkctl_environment(cloud, user)
        command = [sys.executable, "-m", "linkctl", *arguments]
        return subprocess.run(
            command, env=environment, input=stdin, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def test_register_report_show_drill_and_delete(linkctl: Run) -> None:
    with LoopbackReceiver() as receiver:
        ids = []
        for host in ("paris", "london"):
            made = linkctl(
                "-o", "json", "endpoints", "create", "--url", receiver.url, "--resource-id", RESOURCE,
                "--secret-file", "-", "--host", host, stdin=f"{host}-0123456789abcdef0123456789abcdef",
            )  # fmt: skip
            assert made.returncode == 0, made.stderr
            ids.append(json.loads(made.stdout)["id"])
            reported = linkctl("report", ids[-1], "ACTIVATED", "--resource-id", RESOURCE, user="host")
            assert reported.returncode == 0, reported.stderr
            receiver.wait_for(lambda requests: {r.brief()[0] for r in requests} == set(ids))
        shown = linkctl("resources", "show", RESOURCE)
        assert f"{RESOURCE}: paris, epoch 1, elected" in shown.stdout, shown.stderr
        drilled = linkctl("-o", "json", "drill", RESOURCE)
        assert drilled.returncode == 0, drilled.stderr
        there, back = json.loads(drilled.stdout)
        assert [there["from"], there["to"], back["to"]] == [ids[0], ids[1], ids[0]]
        # On a busy machine a refresh comes in between.
        received = [brief[:3] for brief in (r.brief() for r in receiver.requests) if brief[4] != "refresh"]
        assert received[2:] == [
            (ids[0], "STANDBY", 1),
            (ids[1], "ACTIVATED", 2),
            (ids[1], "STANDBY", 2),
            (ids[0], "ACTIVATED", 3),
        ]
        rows = json.loads(linkctl("-o", "json", "transitions", RESOURCE).stdout)
        assert [row["epoch"] for row in rows] == [3, 2, 1, 1]
        for id in ids:
            assert linkctl("endpoints", "delete", id, "--force").returncode == 0


def test_missing_permissions_are_an_error_that_names_the_action(linkctl: Run) -> None:
    refused = linkctl("endpoints", "list", user="host")
    assert refused.returncode == 1, refused.stdout
    assert "execute-api:Invoke" in refused.stderr and "Traceback" not in refused.stderr


def test_doctor_looks_at_the_whole_deployment(linkctl: Run) -> None:
    done = linkctl("doctor", "-o", "json", user="admin")
    found = {one["check"]: one["result"] for one in json.loads(done.stdout)}
    # The others say what other tests left behind, and nothing subscribed to the local cloud's alarms.
    working = ("credentials", "clock", "stack", "API", "event bus")
    assert {check: found[check] for check in working} == dict.fromkeys(working, "passed"), done.stdout
    assert found["alarms"] == "failed" and found.keys() >= {"rejected events", "dead letters", "reports", "deliveries"}


def test_doctor_says_which_permissions_are_missing(linkctl: Run) -> None:
    done = linkctl("doctor", user="host")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "not checked alarms: these credentials lack cloudwatch:DescribeAlarms" in done.stdout
