"""Who may do what: IAM in front of the API, on the bus, and behind the functions."""

from __future__ import annotations

import json
import time

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from scripts.cloud import Cloud
from tests.e2e.site import Site, eventually


def test_an_unsigned_call_gets_403(cloud: Cloud) -> None:
    for method, path in (("GET", "/version"), ("GET", "/endpoints"), ("POST", "/endpoints")):
        assert cloud.call(method, path, signed=False)[0] == 403
        assert cloud.call("GET", "/version")[0] == 200


def test_a_wrongly_signed_call_gets_403(cloud: Cloud) -> None:
    operator = cloud.credentials("operator")
    wrong_secret = Credentials(operator.access_key, operator.secret_key[::-1])
    unknown = Credentials("AKIAIOSFODNN7EXAMPLE", operator.secret_key)
    for credentials in (wrong_secret, unknown):
        assert cloud.call("GET", "/version", credentials=credentials)[0] == 403


def test_a_host_may_not_call_the_api(cloud: Cloud) -> None:
    assert cloud.call("GET", "/endpoints", credentials=cloud.credentials("host"))[0] == 403


def test_the_operator_may_call_the_api_and_nothing_else(cloud: Cloud) -> None:
    attempts = {
        "read the locks": lambda: cloud.client("dynamodb", "operator").scan(TableName=cloud.outputs["LocksTableName"]),
        "read a queue": lambda: cloud.client("sqs", "operator").receive_message(
            QueueUrl=cloud.outputs["StatusQueueUrl"]
        ),
        "encrypt": lambda: cloud.client("kms", "operator").encrypt(
            KeyId=cloud.outputs["SecretsKeyArn"], Plaintext=b"x", EncryptionContext={"purpose": "webhook-config"}
        ),
        "report for a host": lambda: cloud.client("events", "operator").put_events(
            Entries=[
                {"EventBusName": cloud.outputs["EventBusName"], "Source": "link", "DetailType": "x", "Detail": "{}"}
            ]
        ),
    }
    for what, attempt in attempts.items():
        with pytest.raises(ClientError, match="AccessDenied"):
            print(what, attempt())


@pytest.mark.parametrize(
    ("detail", "reason"),
    [
        ({"endpoint_id": "vip-99999999-9999-4999-8999-999999999999", "status": "ACTIVATED"}, "unknown_endpoint"),
        ({"status": "ACTIVATED"}, "malformed"),
        ({"endpoint_id": "paris", "status": "ACTIVATED", "resource_id": "another"}, "resource_mismatch"),
    ],
)
def test_what_can_never_succeed_ends_in_the_rejected_events_queue(
    site: Site, detail: dict[str, str], reason: str
) -> None:
    paris = site.register("paris")
    marked = {**detail, "note": site.resource_id}
    if detail.get("endpoint_id") == "paris":
        marked["endpoint_id"] = paris
    site.put(marked)
    sqs = site.cloud.client("sqs")
    queue = site.cloud.outputs["RejectedEventsQueueUrl"]
    kept: list[dict[str, object]] = []

    def arrived() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            body = json.loads(message["Body"])
            if body["event"]["detail"].get("note") == site.resource_id:
                kept.append(body)
        return bool(kept)

    eventually("the event is kept", arrived)
    assert kept[0]["reason"] == reason
    attributes = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    status_queue = site.cloud.outputs["StatusQueueUrl"]
    eventually(
        "the handler succeeded: nothing is left to retry",
        lambda: (
            set(sqs.get_queue_attributes(QueueUrl=status_queue, AttributeNames=attributes)["Attributes"].values())
            == {"0"}
        ),
    )


def test_the_same_event_ten_times_sends_one_webhook(site: Site) -> None:
    paris = site.register("paris")
    at = time.time_ns() // 1_000_000 - 1_000
    detail = {"endpoint_id": paris, "status": "ACTIVATED", "resource_id": site.resource_id, "reported_at": at}
    for _ in range(10):
        site.put(detail)
    site.receiver.wait_for(lambda requests: len(requests) >= 1)
    # The last thing put is the last thing seen: a report that changes something.
    site.put({**detail, "status": "STANDBY", "reported_at": at + 1})
    site.receiver.wait_for(lambda requests: len(requests) >= 2)
    assert [request.brief() for request in site.receiver.requests] == [
        (paris, "ACTIVATED", 1, 1, "elected"),
        (paris, "STANDBY", 1, 2, "demoted"),
    ]


def test_the_api_has_the_permissions_for_everything_it_offers(site: Site) -> None:
    paris, london = site.register("paris"), site.register("london")
    site.report(paris, "ACTIVATED")
    site.receiver.wait_for(lambda requests: len(requests) == 1)
    call = site.cloud.call
    listed = {e["id"]: e["status"] for e in call("GET", "/endpoints")[1]["endpoints"]}
    assert (listed[paris], listed[london]) == ("ACTIVATED", "BOOTING")
    assert call("GET", f"/endpoints/{paris}")[1]["endpoint"]["status"] == "ACTIVATED"
    assert call("POST", f"/endpoints/{paris}/failover")[0] == 409
    assert call("PATCH", f"/endpoints/{paris}", {"priority": 5, "lease_seconds": 3_600})[1]["priority"] == 5
    assert call("PUT", f"/endpoints/{london}", {"plugin_config": {"secret": "a new secret"}})[0] == 200
    assert call("POST", f"/endpoints/{paris}/redeliver") == (204, "")
    site.receiver.wait_for(lambda requests: len(requests) == 2)
    assert site.receiver.requests[1].brief() == site.receiver.requests[0].brief()
    here = f"/resources?resource_id={site.resource_id}"
    assert call("PATCH", here, {"frozen": True})[1]["resource"]["holder"] == paris
    assert call("DELETE", f"/endpoints/{paris}")[0] == 409
    assert call("PATCH", here, {"frozen": False})[1]["resource"]["frozen"] is False
    assert call("DELETE", f"/endpoints/{london}") == (204, "")
    assert call("DELETE", f"/endpoints/{paris}?force=true") == (204, "")
    assert site.resource().endpoints == {}
    assert site.resource().epoch == 1, "the item stays"


def test_the_api_starts_a_key_rotation_and_shows_how_far_it_comes(site: Site) -> None:
    """The local cloud has no ReEncrypt, so every endpoint fails there: nothing is lost by it, and it is said."""
    paris = site.register("paris")
    call, path = site.cloud.call, "/encrypted_storage/key_rotation"
    before = call("GET", path)[1]["key_rotation"]
    assert before["endpoints"] >= 1
    assert call("POST", path) == (204, "")
    logs = site.cloud.client("logs")
    function = site.cloud.outputs["KeyRotationFunctionName"]
    group = site.cloud.client("lambda").get_function_configuration(FunctionName=function)["LoggingConfig"]["LogGroup"]

    def failed() -> bool:
        events = logs.filter_log_events(logGroupName=group, filterPattern="")["events"]
        return any("key_rotation.failed" in one["message"] and paris in one["message"] for one in events)

    eventually("the function ran and could not encrypt anew", failed)
    assert call("GET", f"{path}?since={before['now'] + 1}")[1]["key_rotation"]["encrypted_since"] == 0
    site.report(paris, "ACTIVATED")
    site.receiver.wait_for(lambda requests: len(requests) == 1)
