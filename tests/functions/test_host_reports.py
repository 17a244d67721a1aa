"""`Host Report` events through the handler: each report on its own, and only what failed is tried again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError

from link.store.aws import client
from link.store.locks import Locks
from tests.support.functions import QUEUE_URL, Context, Deployment
from tests.support.stack import Stack, batch

TEN = [f"ip-{number}" for number in range(10)]
NOBODY = {"endpoint_id": "vip-99999999-9999-4999-8999-999999999999", "resource_id": "ip-3", "status": "ACTIVATED"}


@pytest.fixture
def stack(deployment: Deployment) -> Stack:
    return Stack(deployment)


def host_report(stack: Stack, reports: list[Any], **envelope: Any) -> str:
    """The event with the reports of paris, as the status queue has it."""
    sent = json.loads(stack.status_event("any", "ACTIVATED"))
    detail = {"host": "paris", "at": stack.clock.at, "reports": reports}
    return json.dumps({**sent, "source": "link.host.paris", "detail-type": "Host Report", "detail": detail, **envelope})


def reports(stack: Stack, status: str = "ACTIVATED") -> list[dict[str, str]]:
    """The reports of paris for ten endpoints, which it registers."""
    return [{"endpoint_id": stack.registered(name), "resource_id": name, "status": status} for name in TEN]


def rejected(stack: Stack) -> list[dict[str, Any]]:
    """What is in the rejected-events queue."""
    messages = client("sqs").receive_message(QueueUrl=f"{QUEUE_URL}rejected", MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in messages.get("Messages", [])]


def holders(stack: Stack) -> int:
    """How many of the ten resources have a holder."""
    return sum("holder" in stack.item(name) for name in TEN)


def test_one_event_reports_for_all_endpoints_of_a_host_and_a_bad_report_is_rejected_alone(stack: Stack) -> None:
    given = host_report(stack, [*reports(stack), NOBODY, "text"])
    assert stack.functions.invoke("endpoint_status", batch(given)) == {"batchItemFailures": []}
    assert holders(stack) == 10
    assert len(stack.functions.receiver.requests) == 10
    found = {one["reason"]: one["event"]["detail"]["reports"] for one in rejected(stack)}
    assert found == {"unknown_endpoint": [NOBODY], "malformed": ["text"]}


def test_of_a_hundred_reports_in_one_event_one_bad_is_rejected_and_99_count(stack: Stack) -> None:
    names = [f"ip-{number}" for number in range(100)]
    found = [{"endpoint_id": stack.registered(name), "resource_id": name, "status": "ACTIVATED"} for name in names]
    found[42] = {**found[42], "endpoint_id": NOBODY["endpoint_id"]}
    assert stack.functions.invoke("endpoint_status", batch(host_report(stack, found))) == {"batchItemFailures": []}
    assert [one["event"]["detail"]["reports"] for one in rejected(stack)] == [[found[42]]]
    assert [name for name in names if "holder" not in stack.item(name)] == [names[42]]


def test_the_same_event_again_changes_nothing(stack: Stack) -> None:
    given = batch(host_report(stack, reports(stack)))
    stack.functions.invoke("endpoint_status", given)
    before = [stack.item(name) for name in TEN]
    assert stack.functions.invoke("endpoint_status", given) == {"batchItemFailures": []}
    assert [stack.item(name) for name in TEN] == before


def test_only_the_report_that_a_fault_met_is_put_back(stack: Stack) -> None:
    found, update = reports(stack), Locks.update
    given = host_report(stack, [*found, NOBODY])
    put: list[dict[str, Any]] = []

    def fails_for_one(self: Locks, resource_id: str, *arguments: Any, **more: Any) -> Any:
        if resource_id == TEN[7]:
            raise TimeoutError("DynamoDB did not answer")
        return update(self, resource_id, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Locks, "update", fails_for_one)
        patch.setattr(client("sqs"), "send_message_batch", lambda **call: put.append(call) or {})
        assert stack.functions.invoke("endpoint_status", batch(given)) == {"batchItemFailures": []}
    assert holders(stack) == 9
    assert [one["reason"] for one in rejected(stack)] == ["unknown_endpoint"]
    [call] = put
    [entry] = call["Entries"]
    assert (call["QueueUrl"], entry["DelaySeconds"]) == (f"{QUEUE_URL}status", 1)
    assert json.loads(entry["MessageBody"])["detail"]["reports"] == [found[7]]

    assert stack.functions.invoke("endpoint_status", batch(entry["MessageBody"])) == {"batchItemFailures": []}
    assert holders(stack) == 10, "what was put back is an event of its own"


def test_a_report_that_was_put_back_and_fails_again_comes_back_from_its_queue(stack: Stack) -> None:
    alone = host_report(stack, reports(stack)[:1])
    put_off = stack.calls("sqs", "change_message_visibility")

    def fails(*_: Any, **__: Any) -> None:
        raise TimeoutError("DynamoDB did not answer")

    stack.functions.monkeypatch.setattr(Locks, "update", fails)
    with pytest.raises(BatchProcessingError):
        stack.functions.invoke("endpoint_status", batch(alone))
    assert len(put_off) == 1, "its queue counts how often, and dead-letters it"


@pytest.mark.parametrize("answer", [TimeoutError("SQS did not answer"), {"Failed": [{"Code": "InternalError"}]}])
def test_the_whole_event_comes_back_if_what_failed_cannot_be_put_back(stack: Stack, answer: Any) -> None:
    given = host_report(stack, reports(stack))

    def send_message_batch(**_: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    stack.functions.monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda _: 11_999)
    stack.functions.monkeypatch.setattr(client("sqs"), "send_message_batch", send_message_batch)
    with pytest.raises(BatchProcessingError):
        stack.functions.invoke("endpoint_status", batch(given))


def test_what_there_is_no_time_for_is_put_back_in_tens(stack: Stack) -> None:
    found = [{"endpoint_id": f"vip-{number}", "status": "ACTIVATED"} for number in range(25)]
    put: list[dict[str, Any]] = []
    stack.functions.monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda _: 11_999)
    stack.functions.monkeypatch.setattr(client("sqs"), "send_message_batch", lambda **call: put.append(call) or {})
    stack.functions.invoke("endpoint_status", batch(host_report(stack, found)))
    bodies = [json.loads(entry["MessageBody"]) for call in put for entry in call["Entries"]]
    assert [len(call["Entries"]) for call in put] == [10, 10, 5]
    assert [body["detail"]["reports"] for body in bodies] == [[one] for one in found]


def test_what_is_put_back_has_only_what_its_report_needs(stack: Stack) -> None:
    """An unknown field of 100 KB beside 250 reports would be 25 MB."""
    found = [{"endpoint_id": f"vip-{number}", "status": "ACTIVATED"} for number in range(250)]
    sent = json.loads(host_report(stack, found, resources=["arn:aws:ec2:::instance/i-1"] * 1_000))
    sent["detail"]["labels"] = "x" * 100_000
    put: list[dict[str, Any]] = []
    stack.functions.monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda _: 11_999)
    stack.functions.monkeypatch.setattr(client("sqs"), "send_message_batch", lambda **call: put.append(call) or {})
    stack.functions.invoke("endpoint_status", batch(json.dumps(sent)))
    bodies = [json.loads(entry["MessageBody"]) for call in put for entry in call["Entries"]]
    assert [body["detail"]["reports"] for body in bodies] == [[one] for one in found]
    assert {name for body in bodies for name in body["detail"]} == {"host", "at", "reports"}
    assert sum(len(entry["MessageBody"]) for call in put for entry in call["Entries"]) < 150_000


def test_no_batch_that_is_put_back_is_larger_than_sqs_accepts(stack: Stack) -> None:
    """Ten reports of 30 KB are more than 256 KB."""
    found = [{"endpoint_id": f"vip-{number}", "status": "ACTIVATED", "labels": "x" * 30_000} for number in range(10)]
    put: list[dict[str, Any]] = []
    stack.functions.monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda _: 11_999)
    stack.functions.monkeypatch.setattr(client("sqs"), "send_message_batch", lambda **call: put.append(call) or {})
    stack.functions.invoke("endpoint_status", batch(host_report(stack, found)))
    assert [len(call["Entries"]) for call in put] == [8, 2]
    assert all(sum(len(entry["MessageBody"]) for entry in call["Entries"]) <= 262_144 for call in put)


def test_a_host_report_that_cannot_be_read_is_rejected_once(stack: Stack) -> None:
    given = host_report(stack, reports(stack), source="link.host.london")
    assert stack.functions.invoke("endpoint_status", batch(given)) == {"batchItemFailures": []}
    assert [one["reason"] for one in rejected(stack)] == ["host_mismatch"]
    assert holders(stack) == 0


def test_one_host_cannot_report_for_the_endpoint_of_another(stack: Stack) -> None:
    london = stack.registered("ip-0", host="london")
    found = [{"endpoint_id": london, "resource_id": "ip-0", "status": "ACTIVATED"}]
    stack.functions.invoke("endpoint_status", batch(host_report(stack, found)))
    assert [one["reason"] for one in rejected(stack)] == ["host_mismatch"]
    assert "holder" not in stack.item("ip-0")
