"""`linkctl doctor` on a deployment that works, and with one thing wrong at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
from botocore.exceptions import ClientError, SSOTokenLoadError

from linkctl import doctor
from linkctl.api import Deployment as Stack
from tests.support.functions import Deployment
from tests.support.ids import LONDON, PARIS, RESOURCE

Run = Callable[..., tuple[int, str, str]]

TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"
DESCRIPTION = {
    "StackStatus": "UPDATE_COMPLETE",
    "Outputs": [
        {"OutputKey": name, "OutputValue": name}
        for name in ("EventBusName", "RejectedEventsQueueUrl", "StatusDeadLetterQueueUrl", "ProbeDeadLetterQueueUrl")
    ],
}


def http(seconds_ago: float = 0.0) -> dict[str, Any]:
    return {"HTTPHeaders": {"date": formatdate(time.time() - seconds_ago, usegmt=True)}}


def denied(operation: str) -> ClientError:
    answer: Any = {"Error": {"Code": "AccessDeniedException", "Message": "no"}, "ResponseMetadata": http()}
    return ClientError(answer, operation)


class Aws:
    """The clients of one session: each call has an answer, or an error that it raises."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "get_caller_identity": {"Arn": "arn:aws:iam::123456789012:user/alice", "ResponseMetadata": http()},
            "describe_stacks": {"Stacks": [DESCRIPTION]},
            "describe_event_bus": {"Name": "bus"},
            "describe_alarms": {"MetricAlarms": [self.alarm()]},
            "list_subscriptions_by_topic": {"Subscriptions": [{"SubscriptionArn": f"{TOPIC}:1"}]},
            "RejectedEventsQueueUrl": 0,
            "StatusDeadLetterQueueUrl": 0,
            "ProbeDeadLetterQueueUrl": 0,
        }

    @staticmethod
    def alarm(**more: Any) -> dict[str, Any]:
        return {"AlarmName": "link-webhook-UndeliveredAlarm", "StateValue": "OK", "AlarmActions": [TOPIC], **more}

    def __call__(self, service: str) -> Aws:
        return self

    def __getattr__(self, name: str) -> Any:
        return lambda **parameters: self.answer(name, parameters)

    def answer(self, name: str, parameters: dict[str, Any]) -> Any:
        found = self.answers[name]
        if isinstance(found, Exception):
            raise found
        return found

    def get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> Any:
        return {"Attributes": {"ApproximateNumberOfMessages": str(self.answer(QueueUrl, {}))}}

    def get_paginator(self, name: str) -> Any:
        class Paginator:
            paginate = staticmethod(lambda **parameters: [self.answer(name, parameters)])

        return Paginator


@pytest.fixture
def aws_answers(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """Return the answers of AWS for a deployment that works: paris is active, london is on standby."""
    deployment.register(PARIS, host="paris")
    deployment.register(LONDON, host="london")
    deployment.report("status_winner", "status_loser")
    made = Aws()
    monkeypatch.setattr(Stack, "client", lambda self, service: made(service))
    return made


def test_a_deployment_that_works_passes_every_check(aws_answers: Aws, linkctl: Run) -> None:
    status, out, err = linkctl("doctor")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == len(doctor.CHECKS)
    # In a checkout linkctl has no version.
    assert [line for line in lines if not line.startswith("passed")] == [
        "not checked version: linkctl runs from a checkout"
    ]


WRONG = [
    (
        "get_caller_identity",
        SSOTokenLoadError(error_msg="Token for corp does not exist"),
        "credentials",
        "aws configure",
    ),
    ("describe_stacks", {"Stacks": [{**DESCRIPTION, "StackStatus": "ROLLBACK_FAILED"}]}, "stack", "deploy again"),
    ("describe_alarms", {"MetricAlarms": [Aws.alarm(AlarmActions=[])]}, "alarms", "Deploy with AlarmTopicArn"),
    ("describe_alarms", {"MetricAlarms": [Aws.alarm(StateValue="ALARM")]}, "alarms", "The alarm's description"),
    (
        "list_subscriptions_by_topic",
        {"Subscriptions": [{"SubscriptionArn": "PendingConfirmation"}]},
        "alarms",
        "confirm by the link",
    ),
    ("RejectedEventsQueueUrl", 3, "rejected events", "event.rejected in the log"),
    ("ProbeDeadLetterQueueUrl", 1, "dead letters", "the queue's alarm"),
]


@pytest.mark.parametrize(
    ("call", "answer", "check", "todo"), WRONG, ids=[f"{call}-{todo}" for call, _, _, todo in WRONG]
)
def test_each_thing_that_is_wrong_is_told_with_what_to_do(
    aws_answers: Aws, linkctl: Run, call: str, answer: Any, check: str, todo: str
) -> None:
    aws_answers.answers[call] = answer
    status, out, err = linkctl("doctor", "-o", "json")
    failed = [one for one in json.loads(out) if one["result"] == "failed"]
    assert (status, [one["check"] for one in failed]) == (1, [check])
    assert todo in failed[0]["todo"] and f"1 of {len(doctor.CHECKS)} checks failed" in err


@pytest.mark.parametrize(("seconds_ago", "text"), [(30, "30 s ahead of AWS"), (-60, "s behind AWS")])
def test_a_wrong_clock_is_told_even_if_aws_refuses_every_signature(
    aws_answers: Aws, linkctl: Run, seconds_ago: float, text: str
) -> None:
    answer: Any = {
        "Error": {"Code": "SignatureDoesNotMatch", "Message": "Signature expired"},
        "ResponseMetadata": http(seconds_ago + 0.5),
    }
    aws_answers.answers["get_caller_identity"] = ClientError(answer, "GetCallerIdentity")
    status, out, _ = linkctl("doctor")
    assert status == 1 and "credentials: SignatureDoesNotMatch" in out
    assert text in out.replace("29 s", "30 s") and "Set the clock (NTP)" in out


def test_a_missing_permission_is_named_and_is_no_failure(aws_answers: Aws, linkctl: Run) -> None:
    aws_answers.answers["describe_alarms"] = denied("DescribeAlarms")
    status, out, _ = linkctl("doctor")
    assert status == 0
    assert "not checked alarms: these credentials lack cloudwatch:DescribeAlarms, sns:ListSubscriptionsByTopic" in out


def test_endpoints_that_were_never_reported_for_are_named(
    aws_answers: Aws, deployment: Deployment, linkctl: Run
) -> None:
    deployment.receiver.status = 500
    linkctl("endpoints", "create", "--url", deployment.receiver.url, "--resource-id", "web", "--host", "rome",
            "--secret-file", "-", stdin="hidden-secret")  # fmt: skip
    linkctl("failover", PARIS)
    status, out, _ = linkctl("doctor")
    assert status == 1
    assert "failed      reports: 1 of 3 endpoints were never reported for: rome@web" in out
    assert "failed      active endpoints: 1 of 2 resources have no active endpoint: web" in out
    assert f"failed      deliveries: 1 resources have undelivered webhooks: {RESOURCE}" in out


def test_linkctl_of_another_version_than_the_deployment_is_told(
    aws_answers: Aws, linkctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "9.9.9")
    status, out, _ = linkctl("doctor")
    assert status == 1 and "linkctl has 9.9.9" in out and "Install linkctl of the deployed version" in out
    assert "passed      reports" in out
