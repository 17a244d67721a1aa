"""The handler gets wake-ups."""

from __future__ import annotations

from tests.support.functions import Deployment, event
from tests.support.ids import LONDON, PARIS


def test_a_wake_up_sends_what_is_due(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    deployment.invoke("endpoints_api", event("api_failover"))
    before = len(deployment.receiver.requests)
    assert deployment.invoke("reconcile", event("wake_up")) == {"batchItemFailures": []}
    assert [request.brief() for request in deployment.receiver.requests[before:]] == [
        (PARIS, "STANDBY", 1, 2, "failover"),
        (LONDON, "ACTIVATED", 2, 2, "failover"),
    ]


def test_a_wake_up_for_what_is_not_due_does_nothing(deployment: Deployment) -> None:
    deployment.register(PARIS)
    assert deployment.invoke("reconcile", event("wake_up")) == {"batchItemFailures": []}
    assert deployment.receiver.requests == []


def test_one_bad_message_goes_back_alone(deployment: Deployment) -> None:
    batch = event("wake_up_batch_with_one_bad_message")
    bad = batch["Records"][1]["messageId"]
    assert deployment.invoke("reconcile", batch) == {"batchItemFailures": [{"itemIdentifier": bad}]}


def test_a_forged_wake_up_creates_nothing(deployment: Deployment) -> None:
    assert deployment.invoke("reconcile", event("wake_up")) == {"batchItemFailures": []}
    assert deployment.dynamodb.scan(TableName="locks")["Count"] == 0
