"""linkctl against the API's function, which runs on moto behind a small HTTP gateway."""

from __future__ import annotations

import json
import os
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import boto3
import pytest

from linkctl import proxy
from linkctl.api import Deployment as Stack
from linkctl.errors import Unreachable
from tests.support.functions import Deployment, event
from tests.support.ids import LONDON, PARIS, RESOURCE

Run = Callable[..., tuple[int, str, str]]


def report(deployment: Deployment, *events: str) -> None:
    for name in events:
        deployment.invoke("endpoint_status", event(name))


@pytest.fixture
def running(deployment: Deployment) -> Deployment:
    """Return a deployment in which paris is active, london is on standby, and both receivers know."""
    deployment.register(PARIS, LONDON)
    report(deployment, "status_winner", "status_loser")
    return deployment


def test_create_reads_the_secret_from_a_pipe_and_never_prints_it(deployment: Deployment, linkctl: Run) -> None:
    status, out, err = linkctl(
        "endpoints", "create", "--url", deployment.receiver.url, "--resource-id", "ip 1/ü", "--secret-file", "-",
        "--host", "paris", "--lease-seconds", "60", "--priority", "5", stdin="hidden-secret\n",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "is registered" in out and "hidden" not in out
    _, listed, _ = linkctl("-o", "json", "endpoints", "list")
    (one,) = json.loads(listed)
    assert (one["election_key"], one["host"], one["priority"], one["lease_seconds"]) == (
        "webhook/ip 1/ü",
        "paris",
        5,
        60,
    )


def test_create_reads_headers_from_a_file_and_never_prints_them(
    deployment: Deployment, linkctl: Run, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("hidden-secret")
    (tmp_path / "headers").write_text(json.dumps({"Authorization": "Bearer hidden"}))
    arguments = ["--url", deployment.receiver.url, "--resource-id", "ip", "--secret-file", str(tmp_path / "secret")]
    status, out, _ = linkctl(
        "-o", "json", "endpoints", "create", *arguments, "--header-file", str(tmp_path / "headers")
    )
    assert status == 0 and "hidden" not in out
    row = deployment.dynamodb.get_item(TableName="endpoints", Key={"endpoint_id": {"S": json.loads(out)["id"]}})["Item"]
    assert row["header_names"] == {"L": [{"S": "Authorization"}]}


@pytest.mark.parametrize(
    ("headers", "text"), [("{", "is not JSON"), (None, "cannot be read")], ids=["not JSON", "missing file"]
)
def test_an_unusable_header_file_is_a_usage_error(linkctl: Run, tmp_path: Path, headers: str | None, text: str) -> None:
    if headers is not None:
        (tmp_path / "headers").write_text(headers)
    arguments = ["--url", "https://x.example", "--resource-id", "ip", "--secret-file", "-"]
    status, _, err = linkctl("endpoints", "create", *arguments, "--header-file", str(tmp_path / "headers"), stdin="s")
    assert status == 2 and text in err


def test_every_reason_of_a_refusal_is_printed(linkctl: Run) -> None:
    arguments = ["--url", "ftp://receiver.example.com", "--resource-id", "ip", "--secret-file", "-"]
    status, out, err = linkctl("endpoints", "create", *arguments, stdin="")
    assert (status, out) == (1, "")
    assert "plugin_config.url: invalid URL scheme" in err and "plugin_config.secret: missing secret" in err


def test_resources_show_the_active_endpoint_and_the_reason(running: Deployment, linkctl: Run) -> None:
    status, out, _ = linkctl("resources", "show", RESOURCE)
    assert status == 0
    assert f"{RESOURCE}: {PARIS}, epoch 1, elected" in out
    assert [line for line in out.splitlines() if LONDON in line and "STANDBY" in line and "yes" in line]
    status, out, _ = linkctl("resources", "list")
    assert status == 0 and PARIS in out and "elected" in out


def test_a_password_in_netrc_does_not_replace_the_signature(
    running: Deployment, linkctl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login paris password s3cret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    status, _, err = linkctl("endpoints", "list")
    assert status == 0, err


def test_an_undelivered_webhook_is_shown_with_its_error(deployment: Deployment, linkctl: Run) -> None:
    deployment.register(PARIS)
    deployment.receiver.status = 500
    report(deployment, "status_winner")
    _, out, _ = linkctl("resources", "show", RESOURCE)
    assert "ACTIVATED is undelivered, announced" in out and "answered status_500, again " in out
    assert "Check the receiver." in out
    _, out, _ = linkctl("endpoints", "show", PARIS)
    assert "answered status_500" in out and "Check the receiver." in out


def test_a_deleted_endpoint_is_shown_until_its_receiver_knows(running: Deployment, linkctl: Run) -> None:
    running.receiver.status = 500
    status, out, _ = linkctl("endpoints", "delete", PARIS)
    assert status == 0 and f"{PARIS} is being deleted: its receiver gets STANDBY first" in out
    _, out, _ = linkctl("resources", "show", RESOURCE)
    assert f"{PARIS} is being deleted: STANDBY is undelivered" in out
    assert linkctl("endpoints", "delete", LONDON, "--force")[1] == f"{LONDON} is deleted\n"


def test_a_dry_run_changes_nothing_and_a_failover_does(running: Deployment, linkctl: Run) -> None:
    status, out, _ = linkctl("failover", PARIS, "--dry-run")
    assert status == 0 and f"active would be {LONDON}" in out
    assert running.statuses() == {PARIS: "ACTIVATED", LONDON: "STANDBY"}
    assert linkctl("failover", PARIS, "--to", LONDON)[0] == 0
    assert running.statuses() == {PARIS: "STANDBY", LONDON: "ACTIVATED"}
    status, _, err = linkctl("failover", PARIS)
    assert status == 1 and "this node is not master of this endpoint" in err


def test_a_drain_shows_what_would_follow_and_asks(running: Deployment, linkctl: Run) -> None:
    status, out, err = linkctl("endpoints", "drain", PARIS, stdin="n\n")
    assert status == 1 and f"active would be {LONDON}" in err and not out.strip()
    assert running.statuses() == {PARIS: "ACTIVATED", LONDON: "STANDBY"}
    status, out, _ = linkctl("endpoints", "drain", PARIS, stdin="y\n")
    assert (status, out.strip()) == (0, f"{PARIS} is drained")
    assert running.statuses() == {PARIS: "STANDBY", LONDON: "ACTIVATED"}
    assert "drained" in linkctl("resources", "show", RESOURCE)[1]
    status, out, err = linkctl("endpoints", "undrain", PARIS, "--yes")
    assert (status, out, err) == (0, f"{PARIS} is no longer drained\n", "")


def test_the_last_ready_endpoint_is_drained_with_force_only(deployment: Deployment, linkctl: Run) -> None:
    deployment.register(PARIS)
    report(deployment, "status_winner")
    status, _, err = linkctl("endpoints", "drain", PARIS, stdin="y\n")
    assert status == 1 and "no other endpoint of this resource is ready" in err
    status, _, err = linkctl("endpoints", "drain", PARIS, "--force", stdin="y\n")
    assert status == 0 and "active would be none" in err
    assert deployment.statuses() == {PARIS: "STANDBY"}


def test_a_resource_shows_every_word_and_what_an_endpoint_waits_for(running: Deployment, linkctl: Run) -> None:
    observers = ("--observer", "host", "--observer", "probe")
    status, out, _ = linkctl("-o", "json", "endpoints", "change", LONDON, *observers, "--ready-when", "all")
    assert (status, json.loads(out)["observers"], json.loads(out)["ready_when"]) == (0, ["host", "probe"], "all")
    _, out, _ = linkctl("resources", "show", RESOURCE)
    (london,) = [line for line in out.splitlines() if LONDON in line and "STANDBY" in line]
    assert "host ACTIVATED" in london and "waits for probe" in london


def test_create_names_the_observers(deployment: Deployment, linkctl: Run) -> None:
    status, out, err = linkctl(
        "-o", "json", "endpoints", "create", "--url", deployment.receiver.url, "--resource-id", "ip",
        "--secret-file", "-", "--observer", "probe", "--observer", "host", "--ready-when", "any", stdin="s",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert (json.loads(out)["observers"], json.loads(out)["ready_when"]) == (["host", "probe"], "any")


def test_create_with_health_checks_is_probed_and_show_says_what_was_found(deployment: Deployment, linkctl: Run) -> None:
    create = ("endpoints", "create", "--url", deployment.receiver.url, "--resource-id", "ip", "--secret-file", "-")
    checks = ("--healthcheck", "https://paris.example.com/healthy?deep=1", "--healthcheck", "paris.example.com:80")
    status, out, err = linkctl(*create, *checks, "--healthcheck-interval", "20", stdin="s")
    assert (status, err) == (0, "")
    assert "The probe looks at it within a minute" in out
    paris = out.split()[0]
    _, out, _ = linkctl("-o", "json", "endpoints", "show", paris)
    one = json.loads(out)
    assert one["checks"] == [
        {"type": "HTTPS", "host": "paris.example.com", "port": 443, "path": "/healthy?deep=1"},
        {"type": "TCP", "host": "paris.example.com", "port": 80},
    ]
    assert (one["observers"], one["healthcheck_interval"], one["probe"]["up"]) == (["probe"], 20, None)
    assert re.search("probe +has not looked yet, next look ", linkctl("endpoints", "show", paris)[1])

    deployment.awslambda.answer = ["status_503", ""]
    status, out, _ = linkctl("endpoints", "probe", paris)
    assert status == 0
    assert [line.split() for line in out.splitlines() if "example" in line] == [
        ["HTTPS", "paris.example.com:443/healthy?deep=1", "status_503"],
        ["TCP", "paris.example.com:80", "passed"],
    ]


@pytest.mark.parametrize(
    "wrong", ["ftp://paris.example.com", "https://", "https://user@paris.example.com", "http://a:b"]
)
def test_a_health_check_that_is_neither_a_port_nor_a_web_address_is_a_usage_error(linkctl: Run, wrong: str) -> None:
    status, _, err = linkctl("endpoints", "change", PARIS, "--healthcheck", wrong)
    assert status == 2 and "is neither HOST:PORT nor a URL" in err


def test_create_with_signals_is_observed_by_aws_and_show_says_what_was_heard(
    deployment: Deployment, linkctl: Run
) -> None:
    create = ("endpoints", "create", "--url", deployment.receiver.url, "--resource-id", "ip", "--secret-file", "-")
    alarm = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:paris, down"
    status, out, err = linkctl(
        *create, "--signal", "ec2:i-0fedcba9876543210", "--signal", f"alarm:{alarm},insufficient_data=alarm", stdin="s"
    )
    assert (status, err) == (0, "") and "AWS is asked about it within a minute" in out
    paris = out.split()[0]
    one = json.loads(linkctl("-o", "json", "endpoints", "show", paris)[1])
    assert one["signals"] == [
        {"type": "ec2", "instance_id": "i-0fedcba9876543210"},
        {"type": "alarm", "arn": alarm, "insufficient_data": "alarm"},
    ]
    assert "ec2:i-0fedcba9876543210: has said nothing yet" in linkctl("endpoints", "show", paris)[1]
    group = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef"
    task = "c13b4cb40f1f4fe4a2971f76ae5a47ad"
    status, out, _ = linkctl(
        "-o", "json", "endpoints", "change", paris, "--signal", f"target:{group}/10.0.0.7", "--signal", "ecs:shop/web",
        "--signal", f"ecs-task:shop/{task}", "--signal", "zone:euw1-az2",
    )  # fmt: skip
    assert (status, json.loads(out)["signals"]) == (
        0,
        [
            {"type": "target", "target_group_arn": group, "target_id": "10.0.0.7"},
            {"type": "ecs", "cluster": "shop", "service": "web"},
            {"type": "ecs", "cluster": "shop", "task": task},
            {"type": "zone", "zone_id": "euw1-az2"},
        ],
    )


def test_transitions_are_listed_newest_first(running: Deployment, linkctl: Run) -> None:
    report(running, "status_failing")
    status, out, _ = linkctl("transitions", RESOURCE, "--limit", "1")
    assert status == 0 and f"{PARIS} ACTIVATED → FAILING (failing)" in out and "report" in out
    _, out, _ = linkctl("-o", "json", "transitions", RESOURCE)
    assert [row["epoch"] for row in json.loads(out)] == [2, 1, 1]


def test_hosts_are_listed_and_the_next_webhook_is_previewed(running: Deployment, linkctl: Run) -> None:
    assert linkctl("endpoints", "hosts", PARIS)[1] == f"{PARIS}\n{LONDON}\n"
    _, out, _ = linkctl("endpoints", "preview", PARIS)
    assert json.loads(out)["headers"]["X-Link-Webhook-Reason"] == "refresh"


def test_change_changes_only_the_given_settings(running: Deployment, linkctl: Run) -> None:
    status, out, err = linkctl(
        "-o", "json", "endpoints", "change", LONDON, "--priority", "7", "--lease-seconds", "60",
        "--healthcheck", "203.0.113.7:443", "--healthcheck", "::1:80", "--healthcheck-interval", "20",
    )  # fmt: skip
    assert (status, err) == (0, "")
    changed = json.loads(out)
    assert (changed["priority"], changed["lease_seconds"], changed["healthcheck_interval"]) == (7, 60, 20)
    assert [(check["host"], check["port"]) for check in changed["checks"]] == [("203.0.113.7", 443), ("::1", 80)]
    assert json.loads(linkctl("-o", "json", "endpoints", "change", LONDON, "--lease-seconds", "0")[1]) == changed | {
        "lease_seconds": None
    }


def test_changing_the_url_needs_the_secret_and_never_prints_it(
    running: Deployment, linkctl: Run, tmp_path: Path
) -> None:
    moved = running.receiver.url + "/moved"
    (tmp_path / "headers").write_text('{"X-Site": "hidden-header"}')
    arguments = ("endpoints", "change", LONDON, "--url", moved, "--header-file", str(tmp_path / "headers"))
    status, out, err = linkctl(*arguments)
    assert status == 1 and "missing secret" in err
    status, out, err = linkctl(*arguments, "--secret-file", "-", stdin="hidden-secret\n")
    assert (status, err) == (0, "") and "hidden" not in out
    row = running.dynamodb.get_item(TableName="endpoints", Key={"endpoint_id": {"S": LONDON}})["Item"]
    assert (row["url"], row["header_names"]) == ({"S": moved}, {"L": [{"S": "X-Site"}]})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "nothing to change"),
        (["--healthcheck", "203.0.113.7"], "is neither HOST:PORT nor a URL"),
        (["--healthcheck", ":80"], "is neither HOST:PORT nor a URL"),
        (["--signal", "i-0fedcba9876543210"], "is none of alarm:ARN, ec2:INSTANCE"),
    ],
)
def test_a_wrong_change_is_a_usage_error(linkctl: Run, arguments: list[str], text: str) -> None:
    status, _, err = linkctl("endpoints", "change", LONDON, *arguments)
    assert status == 2 and text in err


def test_a_secret_is_rotated_with_an_overlap_and_without(running: Deployment, linkctl: Run) -> None:
    before = time.time_ns() // 1_000_000
    rotate = ("endpoints", "rotate-secret", PARIS, "--secret-file", "-")
    status, out, err = linkctl("-o", "json", *rotate, "--overlap-hours", "2", stdin="hidden-secret")
    assert (status, err) == (0, "")
    until = json.loads(out)["previous_secret_until"]
    assert before <= until - 7_200_000 <= time.time_ns() // 1_000_000
    status, _, err = linkctl(*rotate, stdin="hidden-third")
    assert status == 1 and "only two secrets can sign" in err
    status, out, _ = linkctl(*rotate, "--overlap-hours", "0", stdin="hidden-third")
    assert status == 0 and "the old secret is no longer used" in out and "hidden" not in out
    assert json.loads(linkctl("-o", "json", "endpoints", "show", PARIS)[1])["previous_secret_until"] is None


def test_the_overlap_of_a_rotation_is_ended_by_a_command(running: Deployment, linkctl: Run) -> None:
    rotate = ("endpoints", "rotate-secret", PARIS, "--secret-file", "-")
    assert linkctl(*rotate, stdin="hidden-secret")[0] == 0
    status, _, err = linkctl(*rotate, stdin="hidden-third")
    assert status == 1 and f"To end it now: linkctl endpoints end-overlap {PARIS}" in err
    assert re.search(r"ends at 20..-..-..T..:..:..Z", err)
    assert "also signs until 20" in linkctl("endpoints", "show", PARIS)[1]
    assert linkctl("endpoints", "end-overlap", PARIS)[0] == 0
    assert "old secret" not in linkctl("endpoints", "show", PARIS)[1]
    assert linkctl(*rotate, stdin="hidden-third")[0] == 0


def test_redeliver_sends_the_current_status_again(running: Deployment, linkctl: Run) -> None:
    status, out, _ = linkctl("endpoints", "redeliver", LONDON)
    assert status == 0 and out == f"{LONDON}: the current status is being sent again\n"
    running.invoke("reconcile", event("wake_up"))
    assert running.receiver.requests[-1].brief() == (LONDON, "STANDBY", 1, 1, "joined")


def test_a_frozen_resource_keeps_its_holder_until_it_is_unfrozen(running: Deployment, linkctl: Run) -> None:
    status, out, _ = linkctl("resources", "freeze", RESOURCE)
    assert status == 0 and f"{PARIS} (frozen)" in out
    report(running, "status_failing")
    assert f"{PARIS} (frozen)" in linkctl("resources", "list")[1]
    status, out, _ = linkctl("resources", "unfreeze", RESOURCE)
    assert status == 0 and f"{RESOURCE}: {LONDON}, epoch 2" in out and "frozen" not in out


def test_key_rotation_waits_until_all_endpoints_are_re_encrypted(
    running: Deployment, linkctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[object] = []

    def rotate(seconds: float) -> None:
        waits.append(running.invoke("key_rotation", {}))

    # The function runs some time after the call that starts it, while linkctl waits.
    running.awslambda.invoked = lambda: monkeypatch.setattr("linkctl.commands.top_level.time.sleep", rotate)
    status, out, err = linkctl("rotate-encryption-key")
    assert (status, err, out.strip()) == (0, "", "2 endpoints are re-encrypted")
    assert waits == [{"endpoints": 2}]


def test_a_key_rotation_that_does_not_end_fails_after_patience(running: Deployment, linkctl: Run) -> None:
    status, _, err = linkctl("rotate-encryption-key", "--patience", "1")
    assert status == 1 and "0 of 2 endpoints" in err and "key_rotation.failed" in err and "(504)" not in err


def test_create_with_the_same_key_registers_once(deployment: Deployment, linkctl: Run) -> None:
    create = [
        "-o", "json", "endpoints", "create", "--url", deployment.receiver.url, "--resource-id", RESOURCE,
        "--secret-file", "-", "--idempotency-key", "mine",
    ]  # fmt: skip
    first, second = (json.loads(linkctl(*create, stdin="hidden-secret")[1]) for _ in range(2))
    assert first == second


def test_create_is_retried_after_a_lost_answer_and_registers_once(
    deployment: Deployment, linkctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, keys = Stack.forward, []

    def lossy(self: Stack, method: str, url: str, data: bytes, headers: dict[str, str]) -> Any:
        answer = forward(self, method, url, data, headers)
        keys.append(headers["Idempotency-Key"])
        if len(keys) == 1:
            raise Unreachable("the answer was lost")
        return answer

    monkeypatch.setattr(Stack, "forward", lossy)
    status, out, err = linkctl(
        "endpoints", "create", "--url", deployment.receiver.url, "--resource-id", RESOURCE, "--secret-file", "-",
        stdin="hidden-secret",
    )  # fmt: skip
    assert (status, err) == (0, "") and "is registered" in out
    assert keys[0] == keys[1]
    assert deployment.dynamodb.scan(TableName="endpoints")["Count"] == 1


def test_a_look_of_watch_that_fails_is_repeated(
    running: Deployment, linkctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, looks = Stack.forward, []

    def second_fails(self: Stack, method: str, url: str, data: bytes, headers: dict[str, str]) -> Any:
        looks.append(url)
        if len(looks) == 2:
            raise Unreachable("the network is down")
        return forward(self, method, url, data, headers)

    monkeypatch.setattr(Stack, "forward", second_fails)
    status, out, _ = linkctl("watch", RESOURCE, "--times", "3", "--interval", "0.2")
    assert (status, len(looks)) == (0, 3)
    assert PARIS in out and "looks fail" not in out.splitlines()[-1]


def test_watch_of_a_resource_that_is_not_there_is_an_error(deployment: Deployment, linkctl: Run) -> None:
    status, _, err = linkctl("watch", "nothing", "--times", "2")
    assert status == 1 and "Resource not found" in err


def test_watch_prints_the_requested_number_of_tables(running: Deployment, linkctl: Run) -> None:
    status, out, _ = linkctl("watch", "--times", "2", "--interval", "0.2")
    assert status == 0 and RESOURCE in out
    status, out, _ = linkctl("watch", RESOURCE, "--times", "1")
    assert status == 0 and PARIS in out


def test_a_drill_fails_over_and_back(running: Deployment, linkctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def reconciles() -> None:
        message = event("wake_up")
        while not ended.wait(0.05):
            for body in running.messages("wake-up"):
                message["Records"][0]["body"] = json.dumps(body)
                running.invoke("reconcile", message)

    # One call at a time: moto is not atomic, and each call imports the function's module again.
    lock, invoke = threading.Lock(), running.invoke

    def one_at_a_time(function: str, request: dict[str, Any], **more: Any) -> Any:
        with lock:
            return invoke(function, request, **more)

    monkeypatch.setattr(running, "invoke", one_at_a_time)
    thread = threading.Thread(target=reconciles)
    thread.start()
    try:
        status, out, err = linkctl("drill", RESOURCE)
    finally:
        ended.set()
        thread.join(10)
    assert (status, err) == (0, "")
    # In this process the functions print to the same stream.
    printed = re.findall(r"^(vip-\S+) → (vip-\S+) in [0-9.]+ s$", out, re.MULTILINE)
    assert printed == [(PARIS, LONDON), (LONDON, PARIS)]
    assert running.statuses() == {PARIS: "ACTIVATED", LONDON: "STANDBY"}


def test_a_drill_needs_a_holder_and_no_undelivered_webhooks(deployment: Deployment, linkctl: Run) -> None:
    deployment.register(PARIS)
    status, _, err = linkctl("drill", RESOURCE)
    assert status == 1 and err.startswith(f"linkctl: {RESOURCE} has no active endpoint") and "(409)" not in err
    deployment.receiver.status = 500
    report(deployment, "status_winner")
    status, _, err = linkctl("drill", RESOURCE)
    assert status == 1 and err.startswith(f"linkctl: {RESOURCE} has undelivered webhooks") and "(409)" not in err


def test_a_drill_fails_when_a_webhook_stays_undelivered(running: Deployment, linkctl: Run) -> None:
    running.receiver.status = 500
    status, out, err = linkctl("drill", RESOURCE, "--patience", "1")
    assert (status, "→" in out) == (1, False)
    assert err.startswith(f"linkctl: {RESOURCE} still has undelivered webhooks") and "(504)" not in err


@pytest.fixture
def bus(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return what linkctl put on the bus. An event is handled as EventBridge and the queue would have it handled."""
    put: list[dict[str, Any]] = []

    def handle(self: Stack, detail: dict[str, Any]) -> None:
        put.append(detail)
        message = event("status_winner")
        body = json.loads(message["Records"][0]["body"]) | {"detail": detail}
        message["Records"] = [message["Records"][0] | {"body": json.dumps(body)}]
        deployment.invoke("endpoint_status", message)

    monkeypatch.setattr(Stack, "report", handle)
    return put


def test_report_waits_until_the_report_counts(deployment: Deployment, linkctl: Run, bus: list[dict[str, Any]]) -> None:
    deployment.register(PARIS, host="paris")
    status, out, _ = linkctl("report", f"paris@{RESOURCE}", "ACTIVATED", "--wait")
    assert status == 0 and f"ACTIVATED of paris@{RESOURCE} counts" in out
    assert deployment.statuses() == {PARIS: "ACTIVATED"}


def test_report_says_that_a_report_does_not_count(
    deployment: Deployment, linkctl: Run, bus: list[dict[str, Any]]
) -> None:
    deployment.register(PARIS, host="paris", observers=["probe"])
    status, _, err = linkctl("report", PARIS, "ACTIVATED", "--wait", "--patience", "1")
    assert status == 1 and "the report does not count after 1 s" in err and "observers" in err


def test_report_without_waiting_says_that_nothing_is_decided_yet(linkctl: Run, bus: list[dict[str, Any]]) -> None:
    status, out, _ = linkctl("report", PARIS, "ACTIVATED")
    assert status == 0 and "EventBridge took ACTIVATED" in out and "Whether it counts is decided after that" in out


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ((), {RESOURCE, "empty", "stuck"}),
        (("--undelivered",), {"stuck"}),
        (("--frozen",), {RESOURCE}),
        (("--without-holder",), {"empty"}),
        (("--frozen", "--undelivered"), set()),
    ],
)
def test_resources_are_filtered(
    linkctl: Run, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], listed: set[str]
) -> None:
    usual = {"holder": PARIS, "undelivered": 0, "frozen": False}
    found = [
        {"resource_id": RESOURCE, **usual, "frozen": True},
        {"resource_id": "empty", **usual, "holder": None},
        {"resource_id": "stuck", **usual, "undelivered": 1},
    ]
    monkeypatch.setattr(Stack, "call", lambda *_, **__: {"resources": found})
    _, out, _ = linkctl("resources", "list", *options, "-o", "json")
    assert {one["resource_id"] for one in json.loads(out)} == listed


@pytest.mark.parametrize("command", [("resources", "list"), ("version",), ("endpoints", "list")])
def test_the_output_is_chosen_before_or_after_the_command(
    running: Deployment, linkctl: Run, command: tuple[str, ...]
) -> None:
    first = linkctl("-o", "json", *command)
    assert first[0] == 0 and json.loads(first[1])
    assert [linkctl(*command, *option) for option in (("-o", "json"), ("--output", "json"))] == [first, first]


def test_report_puts_the_event_that_a_host_would_put(
    deployment: Deployment, linkctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto3.client("events").create_event_bus(Name="bus")
    put: list[dict[str, Any]] = []
    client: Any = boto3.Session.client

    def watched(self: boto3.Session, service: str, **more: Any) -> Any:
        made = client(self, service, **more)
        if service == "events":
            made.meta.events.register("provide-client-params.events.PutEvents", lambda params, **_: put.append(params))
        return made

    monkeypatch.setattr(boto3.Session, "client", watched)
    assert linkctl("report", PARIS, "FAILING", "--resource-id", RESOURCE)[0] == 0
    (entry,) = put[0]["Entries"]
    detail = json.loads(entry["Detail"])
    assert (entry["EventBusName"], entry["Source"], entry["DetailType"]) == ("bus", "link", "Endpoint Status Change")
    assert detail.pop("reported_at") > 1_700_000_000_000
    assert detail == {"endpoint_id": PARIS, "status": "FAILING", "plugin": "webhook", "resource_id": RESOURCE}


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["endpoints", "show", "vip-99999999-9999-4999-8999-999999999999"], 1, "Endpoint not found (404)"),
        (["endpoints", "show", "vip-1"], 1, "there is no endpoint vip-1"),
        (["endpoints", "show", "paris"], 2, "'paris' is not an endpoint"),
        (["endpoints", "show", "paris@nothing"], 1, "Resource not found (404)"),
        (["transitions", "nothing"], 1, "Resource not found (404)"),
        (["resources", "show", "nothing"], 1, "Resource not found (404)"),
        (["report", PARIS, "ACTIVE"], 2, "ACTIVE"),
        (["nonsense"], 2, "nonsense"),
        (["--api-url", "http://127.0.0.1:1", "version"], 3, "cannot be reached"),
    ],
)
def test_errors_have_an_exit_status_and_a_reason(linkctl: Run, arguments: list[str], status: int, text: str) -> None:
    got, _, err = linkctl(*arguments)
    assert got == status and text in err and "Traceback" not in err


def test_without_credentials_or_a_stack_the_error_says_what_to_do(
    linkctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LINKCTL_API_URL")
    status, _, err = linkctl("--endpoint-url", "http://127.0.0.1:1", "version")
    assert status == 3 and "Give --stack, or --api-url" in err
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    status, _, err = linkctl("--api-url", "http://127.0.0.1:1", "version")
    assert status == 3 and "no AWS credentials" in err


def test_output_without_a_terminal_has_no_colours(running: Deployment, linkctl: Run) -> None:
    _, out, _ = linkctl("endpoints", "list")
    assert "\x1b" not in out and PARIS in out


# The proxy


@pytest.fixture
def proxied(api: str) -> Iterator[str]:
    server = proxy.Server(Stack("stack", api_url=api, session=boto3.Session(region_name="eu-west-1")), 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def ask(url: str, method: str = "GET", body: bytes | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(url, body, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_proxy_signs_unsigned_requests(running: Deployment, proxied: str) -> None:
    status, body = ask(f"{proxied}/endpoints/{PARIS}")
    assert (status, body["endpoint"]["id"]) == (200, PARIS)
    assert ask(f"{proxied}/endpoints/{PARIS}/failover", "POST", b"")[0] == 204
    assert running.statuses() == {PARIS: "STANDBY", LONDON: "ACTIVATED"}
    assert ask(f"{proxied}/endpoints/{PARIS}/failover", "POST", b"")[0] == 409


@pytest.mark.parametrize(
    ("path", "signed"),
    [
        ("/resources", "/resources"),
        ("/resources?limit=5&after=a+b", "/resources?limit=5&after=a%20b"),
        ("/resources?after=%28%E2%94%BB%29%2B", "/resources?after=%28%E2%94%BB%29%2B"),
        ("/resources?after=%41(%ff)", "/resources?after=A%28%FF%29"),
        ("/resources?after=", "/resources?after="),
    ],
)
def test_the_proxy_escapes_a_query_as_aws_signs_it(path: str, signed: str) -> None:
    assert proxy.signable(path) == signed


def test_the_proxy_forwards_the_idempotency_key(running: Deployment, proxied: str) -> None:
    config = {"url": running.receiver.url, "resource_id": RESOURCE, "secret": "hidden-secret"}
    body = json.dumps({"plugin": "webhook", "plugin_config": config}).encode()
    ids = set()
    for _ in range(2):
        request = urllib.request.Request(f"{proxied}/endpoints", data=body, headers={"Idempotency-Key": "mine"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            ids.add(json.loads(answer.read())["endpoint"]["id"])
    assert len(ids) == 1


def test_the_proxy_answers_502_when_the_api_cannot_be_reached() -> None:
    nowhere = Stack("stack", api_url="http://127.0.0.1:1", session=boto3.Session(region_name="eu-west-1"))
    server = proxy.Server(nowhere, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        status, body = ask(f"http://127.0.0.1:{server.server_port}/version")
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
    assert status == 502 and "cannot be reached" in body["error"]
    assert os.environ["AWS_ACCESS_KEY_ID"] not in body["error"]
