"""The handler gets every status event in events/."""

from __future__ import annotations

import json

import pytest

from link.reconcile import Reconciler
from tests.support.functions import Deployment, event
from tests.support.ids import LONDON, PARIS

RUNNING = {PARIS: "ACTIVATED", LONDON: "STANDBY"}


def sent(deployment: Deployment) -> list[tuple[str, str, int, int, str]]:
    return [request.brief() for request in deployment.receiver.requests]


def test_the_first_to_report_is_active_and_the_second_on_standby(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    assert deployment.statuses() == RUNNING
    assert sent(deployment) == [(PARIS, "ACTIVATED", 1, 1, "elected"), (LONDON, "STANDBY", 1, 1, "joined")]


@pytest.mark.parametrize(
    ("name", "statuses", "more"),
    [
        pytest.param(
            "status_failing",
            {PARIS: "FAILING", LONDON: "ACTIVATED"},
            [(PARIS, "STANDBY", 1, 2, "failing"), (LONDON, "ACTIVATED", 2, 2, "elected")],
            id="failing",
        ),
        pytest.param("status_stepping_down", RUNNING, [], id="a standby steps down"),
        pytest.param("status_heartbeat", RUNNING, [], id="heartbeat"),
        pytest.param("status_duplicate", RUNNING, [], id="duplicate"),
    ],
)
def test_a_report_of_each_kind(deployment: Deployment, name: str, statuses: dict[str, str], more: list[object]) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    before = len(deployment.receiver.requests)
    deployment.report(name)
    assert deployment.statuses() == statuses
    assert sent(deployment)[before:] == more


def test_a_failed_host_that_recovers_is_on_standby(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser", "status_failing", "status_recovering")
    assert deployment.statuses() == {PARIS: "STANDBY", LONDON: "ACTIVATED"}
    assert sent(deployment)[-1] == (PARIS, "STANDBY", 2, 3, "recovered")


def test_a_late_event_changes_nothing_and_is_logged_and_counted(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser", "status_failing")
    capsys.readouterr()
    caplog.clear()
    deployment.report("status_late")
    assert deployment.statuses() == {PARIS: "FAILING", LONDON: "ACTIVATED"}
    ignored = [line for line in caplog.records if line.message == "report.ignored"]
    assert [(line.endpoint_id, line.reason) for line in ignored] == [(PARIS, "older_than_last")]  # type: ignore[attr-defined]
    metrics = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "ReportsIgnored" in line]
    assert [metric["ReportsIgnored"] for metric in metrics] == [[1.0]]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("status_unknown_endpoint", "unknown_endpoint"),
        ("status_mismatching_resource", "resource_mismatch"),
        ("status_malformed", "malformed"),
        ("status_future", "reported_in_future"),
    ],
)
def test_an_event_that_cannot_succeed_is_kept_with_its_reason(deployment: Deployment, name: str, reason: str) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report(name)
    (kept,) = deployment.messages("rejected")
    assert kept["reason"] == reason and kept["message"] and kept["rejected_at"] > 10**12
    assert kept["event"]["detail-type"] == "Endpoint Status Change"
    assert deployment.statuses() == {PARIS: "BOOTING", LONDON: "BOOTING"}


def test_another_plugin_is_rejected(deployment: Deployment) -> None:
    deployment.register(PARIS)
    batch = event("status_winner")
    batch["Records"][0]["body"] = batch["Records"][0]["body"].replace('"webhook"', '"arp"')
    assert deployment.invoke("endpoint_status", batch) == {"batchItemFailures": []}
    (kept,) = deployment.messages("rejected")
    assert kept["reason"] == "plugin_mismatch"


def test_without_a_resource_id_the_registration_names_the_resource(deployment: Deployment) -> None:
    deployment.register(PARIS)
    batch = event("status_winner")
    body = json.loads(batch["Records"][0]["body"])
    del body["detail"]["resource_id"]
    batch["Records"][0]["body"] = json.dumps(body)
    assert deployment.invoke("endpoint_status", batch) == {"batchItemFailures": []}
    assert deployment.statuses() == {PARIS: "ACTIVATED"}


def test_one_bad_event_does_not_delay_the_others(deployment: Deployment) -> None:
    deployment.register(PARIS)
    deployment.register(LONDON)
    deployment.report("status_batch_with_one_bad")
    assert sorted(deployment.statuses().values()) == ["ACTIVATED", "STANDBY"]
    (kept,) = deployment.messages("rejected")
    assert (kept["reason"], kept["event"]) == ("malformed", "paris is up")


def test_a_temporary_fault_returns_only_its_own_message(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.register(PARIS, LONDON)
    batch = event("status_winner")
    batch["Records"] += event("status_loser")["Records"]
    receive = Reconciler.receive

    def faulty(self: Reconciler, report: object, seconds_left: object) -> None:
        if getattr(report, "endpoint_id", "") == LONDON:
            raise TimeoutError("DynamoDB did not answer")
        receive(self, report, seconds_left)  # type: ignore[arg-type]

    monkeypatch.setattr(Reconciler, "receive", faulty)
    failed = batch["Records"][1]["messageId"]
    assert deployment.invoke("endpoint_status", batch) == {"batchItemFailures": [{"itemIdentifier": failed}]}
    assert deployment.statuses() == {PARIS: "ACTIVATED", LONDON: "BOOTING"}
    assert deployment.messages("rejected") == []
