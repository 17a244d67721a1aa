"""Who may report as whom: the policies of the template, on the local cloud with IAM enforced."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.site import Site, eventually

MAY_NOT = ["link", "link.host.london", "link.probe", "link.signal", "link.host.", "aws.ec2"]
"""Every other source that the rule passes, and some more."""


@pytest.fixture
def paris(site: Site) -> str:
    """A user with the bound policy and the tag host=paris."""
    user = f"paris-{uuid.uuid4()}"
    site.cloud.create_user(user, policy=site.cloud.outputs["BoundHostPolicyArn"], host="paris")
    return user


def put(site: Site, user: str, *sources: str, kind: str = "Endpoint Status Change", **detail: Any) -> None:
    """Puts one event for each source, in one request."""
    reported = {"resource_id": site.resource_id, "reported_at": time.time_ns() // 1_000_000, **detail}
    entry = {"EventBusName": site.cloud.outputs["EventBusName"], "DetailType": kind, "Detail": json.dumps(reported)}
    answer = site.cloud.client("events", user).put_events(Entries=[{**entry, "Source": one} for one in sources])
    assert answer["FailedEntryCount"] == 0, answer


def status(site: Site, endpoint_id: str) -> str:
    """The status as stored."""
    return str(site.resource().endpoints[endpoint_id].status)


def test_a_bound_host_reports_under_its_own_name_and_no_other(site: Site, paris: str) -> None:
    own = site.register("paris")
    for source in MAY_NOT:
        with pytest.raises(ClientError, match="AccessDenied"):
            put(site, paris, source, endpoint_id=own, status="FAILING")
    with pytest.raises(ClientError, match="AccessDenied"):
        put(site, paris, "link.host.paris", "link.probe", endpoint_id=own, status="FAILING")
    with pytest.raises(ClientError, match="AccessDenied"):
        put(site, paris, "link.host.paris", kind="Another Kind", endpoint_id=own, status="FAILING")
    put(site, paris, "link.host.paris", endpoint_id=own, status="ACTIVATED")
    eventually("its own report counts", lambda: status(site, own) == "ACTIVATED")


def test_a_bound_host_cannot_depose_another_one(site: Site, paris: str) -> None:
    other = site.register("london")
    site.report(other, "ACTIVATED")
    eventually("london is active", lambda: status(site, other) == "ACTIVATED")
    put(site, paris, "link.host.paris", endpoint_id=other, status="FAILING")
    queue = site.cloud.outputs["RejectedEventsQueueUrl"]
    kept: list[dict[str, Any]] = []

    def arrived() -> bool:
        answer = site.cloud.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        found = (json.loads(message["Body"]) for message in answer.get("Messages", []))
        kept.extend(body for body in found if body["event"]["detail"].get("endpoint_id") == other)
        return bool(kept)

    eventually("the report for london is rejected", arrived)
    assert kept[0]["reason"] == "host_mismatch"
    assert status(site, other) == "ACTIVATED"


def test_hosts_with_the_common_policy_may_report_as_any_host_and_as_no_other_observer(site: Site) -> None:
    london = site.register("london")
    for source in ("link.probe", "link.signal", "aws.ec2"):
        with pytest.raises(ClientError, match="AccessDenied"):
            put(site, "host", source, endpoint_id=london, status="ACTIVATED")
    put(site, "host", "link.host.london", endpoint_id=london, status="ACTIVATED")
    eventually("it counts", lambda: status(site, london) == "ACTIVATED")


def test_one_event_reports_for_all_endpoints_of_a_host_and_a_bad_report_stops_no_other(site: Site, paris: str) -> None:
    reports, ids = [], []
    for number in range(6):
        resource_id = f"{site.resource_id}-{number}"
        endpoint_id = site.register("paris", plugin_config={"resource_id": resource_id})
        ids.append(resource_id)
        reports.append({"endpoint_id": endpoint_id, "resource_id": resource_id, "status": "ACTIVATED"})
    bad = f"vip-{uuid.uuid4()}"
    reports[4] = {**reports[4], "endpoint_id": bad}
    detail = {"host": "paris", "at": time.time_ns() // 1_000_000, "reports": reports}
    put(site, paris, "link.host.paris", kind="Host Report", **detail)

    client, locks = site.cloud.client("dynamodb"), site.cloud.outputs["LocksTableName"]

    def held() -> int:
        keys = [{"resource_id": {"S": one}} for one in ids]
        items = client.batch_get_item(RequestItems={locks: {"Keys": keys}})["Responses"][locks]
        return sum("holder" in item for item in items)

    eventually("five have a holder", lambda: held() == 5)
    site.receiver.wait_for(lambda requests: len({request.brief()[0] for request in requests}) == 5)
