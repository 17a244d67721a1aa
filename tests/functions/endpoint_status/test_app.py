"""Every status event in events/, through the handler."""

from __future__ import annotations

import json

import pytest

from tests.functions.conftest import LONDON, PARIS, Deployment, event

RUNNING = {PARIS: "ACTIVATED", LONDON: "STANDBY"}


def report(deployment: Deployment, *names: str) -> None:
    """Handles the events; each batch as a whole succeeds."""
    for name in names:
        assert deployment.invoke("endpoint_status", event(name)) == {"batchItemFailures": []}


def told(deployment: Deployment) -> list[tuple[str, str, int, int, str]]:
    return [request.brief() for request in deployment.receiver.requests]


def test_winner_then_loser(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    report(deployment, "status_winner", "status_loser")
    assert deployment.statuses() == RUNNING
    assert told(deployment) == [(PARIS, "ACTIVATED", 1, 1, "elected"), (LONDON, "STANDBY", 1, 1, "joined")]


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
def test_what_follows(deployment: Deployment, name: str, statuses: dict[str, str], more: list[object]) -> None:
    deployment.register(PARIS, LONDON)
    report(deployment, "status_winner", "status_loser")
    before = len(deployment.receiver.requests)
    report(deployment, name)
    assert deployment.statuses() == statuses
    assert told(deployment)[before:] == more


def test_recovering(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    report(deployment, "status_winner", "status_loser", "status_failing", "status_recovering")
    assert deployment.statuses() == {PARIS: "STANDBY", LONDON: "ACTIVATED"}
    assert told(deployment)[-1] == (PARIS, "STANDBY", 2, 3, "recovered")


def test_a_late_event_changes_nothing_and_leaves_a_line_and_a_metric(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    deployment.register(PARIS, LONDON)
    report(deployment, "status_winner", "status_loser", "status_failing")
    capsys.readouterr()
    caplog.clear()
    report(deployment, "status_late")
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
def test_what_can_never_succeed_is_kept_with_its_reason(deployment: Deployment, name: str, reason: str) -> None:
    deployment.register(PARIS, LONDON)
    report(deployment, name)
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


def test_without_a_resource_id_the_registration_says_which(deployment: Deployment) -> None:
    deployment.register(PARIS)
    batch = event("status_winner")
    body = json.loads(batch["Records"][0]["body"])
    del body["detail"]["resource_id"]
    batch["Records"][0]["body"] = json.dumps(body)
    assert deployment.invoke("endpoint_status", batch) == {"batchItemFailures": []}
    assert deployment.statuses() == {PARIS: "ACTIVATED"}


def test_one_bad_event_does_not_hold_up_the_others(deployment: Deployment) -> None:
    deployment.register(PARIS)
    deployment.register(LONDON)
    report(deployment, "status_batch_with_one_bad")
    assert sorted(deployment.statuses().values()) == ["ACTIVATED", "STANDBY"]
    (kept,) = deployment.messages("rejected")
    assert (kept["reason"], kept["event"]) == ("malformed", "paris is up")


def test_a_passing_fault_gives_only_its_own_message_back(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.register(PARIS, LONDON)
    batch = event("status_winner")
    batch["Records"] += event("status_loser")["Records"]
    from link.reconcile import Reconciler

    sound = Reconciler.receive

    def faulty(self: Reconciler, report: object, seconds_left: object) -> None:
        if getattr(report, "endpoint_id", "") == LONDON:
            raise TimeoutError("DynamoDB did not answer")
        sound(self, report, seconds_left)  # type: ignore[arg-type]

    monkeypatch.setattr(Reconciler, "receive", faulty)
    failed = batch["Records"][1]["messageId"]
    assert deployment.invoke("endpoint_status", batch) == {"batchItemFailures": [{"itemIdentifier": failed}]}
    assert deployment.statuses() == {PARIS: "ACTIVATED", LONDON: "BOOTING"}
    assert deployment.messages("rejected") == []
