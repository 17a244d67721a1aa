from __future__ import annotations

import json
from typing import Any

import pytest

from link import VERSION
from tests.functions.conftest import LONDON, PARIS, RESOURCE, Deployment, event

NOBODY = "vip-99999999-9999-4999-8999-999999999999"


def call(deployment: Deployment, name: str, **changes: Any) -> tuple[int, Any]:
    """(status, JSON body or '') of an API call out of events/; its `id` and `body` can be changed."""
    request = event(f"api_{name}")
    if "id" in changes:
        request["path"] = request["path"].replace(PARIS, changes["id"])
        request["pathParameters"] = {"id": changes["id"]}
    if "body" in changes:
        body = changes["body"]
        request["body"] = body if body is None or isinstance(body, str) else json.dumps(body)
    request["queryStringParameters"] = changes.get("query")
    answer = deployment.invoke("endpoints_api", request)
    content_type = answer["multiValueHeaders"]["Content-Type"]
    assert content_type == ["application/json"]
    return answer["statusCode"], json.loads(answer["body"]) if answer["body"] else ""


def endpoint(id: str, status: str, **more: Any) -> dict[str, Any]:
    """LinK's object, with ours added."""
    linked = {"id": id, "status": status, "healthcheck_interval": 0, "plugin": "webhook"}
    return {
        **linked,
        "election_key": f"webhook/{RESOURCE}",
        "host": "",
        "priority": 0,
        "lease_seconds": None,
        "delivery": None,
        **more,
    }


def undated(view: dict[str, Any]) -> dict[str, Any]:
    """A view of an endpoint without the times of its delivery."""
    return {**view, "delivery": {k: v for k, v in view["delivery"].items() if not k.endswith("_at")}}


def told(status: str, epoch: int, sequence: int, reason: str) -> dict[str, Any]:
    return {"status": status, "epoch": epoch, "sequence": sequence, "reason": reason}


def report(deployment: Deployment, *names: str) -> None:
    for name in names:
        deployment.invoke("endpoint_status", event(name))


def test_create(deployment: Deployment) -> None:
    status, body = call(deployment, "create")
    created = body["endpoint"]
    assert (status, created) == (201, endpoint(created["id"], "BOOTING", host="paris"))
    assert list(created)[:5] == ["id", "status", "healthcheck_interval", "plugin", "election_key"]
    row = deployment.dynamodb.get_item(TableName="endpoints", Key={"endpoint_id": {"S": created["id"]}})["Item"]
    assert row["url"] == {"S": "https://receiver.example.com/floating-ip"}
    assert row["header_names"] == {"L": [{"S": "Authorization"}]}
    assert deployment.statuses() == {created["id"]: "BOOTING"}


def test_create_with_everything(deployment: Deployment) -> None:
    body = json.loads(event("api_create")["body"])
    more = {"checks": [{"type": "TCP", "host": "203.0.113.7", "port": 443}], "healthcheck_interval": 10}
    status, answer = call(deployment, "create", body={**body, **more, "priority": -5, "lease_seconds": 30})
    created = answer["endpoint"]
    expected = endpoint(created["id"], "BOOTING", host="paris", priority=-5, lease_seconds=30, **more)
    assert (status, created) == (201, expected)


def test_create_tells_every_problem_at_once(deployment: Deployment) -> None:
    status, body = call(deployment, "create_invalid")
    assert status == 422
    assert body["errors"].keys() == {"plugin_config.url", "plugin_config.secret", "plugin_config.resource_id"}
    assert body["errors"]["plugin_config.url"][0] == "invalid URL scheme"
    assert body["errors"]["plugin_config.secret"] == ["missing secret"]
    assert body["errors"]["plugin_config.resource_id"] == ["missing resource ID"]
    assert deployment.dynamodb.scan(TableName="endpoints")["Count"] == 0


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        pytest.param("", 400, "decode endpoint", id="empty"),
        pytest.param("{", 400, "decode endpoint", id="not JSON"),
        pytest.param([], 422, "plugin not found", id="a list"),
        pytest.param({}, 422, "plugin not found", id="nothing"),
        pytest.param({"plugin": "arp"}, 422, "plugin not found", id="another plugin"),
        pytest.param({"plugin": ["webhook"]}, 422, "plugin not found", id="a list of plugins"),
    ],
)
def test_create_with_a_body_that_cannot_be_used(deployment: Deployment, body: Any, status: int, text: str) -> None:
    got, answer = call(deployment, "create", body=body)
    assert got == status and text in json.dumps(answer)


def test_create_with_more_than_kms_takes(deployment: Deployment) -> None:
    body = json.loads(event("api_create")["body"])
    body["plugin_config"]["secret"] = "é" * 2_100
    status, answer = call(deployment, "create", body=body)
    assert status == 422
    assert "KMS encrypts at most 4096" in answer["errors"]["plugin_config"][0]


def test_the_same_host_twice_is_a_conflict(deployment: Deployment) -> None:
    assert call(deployment, "create")[0] == 201
    status, body = call(deployment, "create")
    assert (status, body) == (
        409,
        {
            "error": "start scheduler: endpoint already assigned: "
            "An endpoint with the same election key already exists on that host"
        },
    )
    assert deployment.dynamodb.scan(TableName="endpoints")["Count"] == 1


def test_too_many_endpoints(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_ENDPOINTS", "1")
    deployment.register(PARIS)
    status, body = call(deployment, "create")
    assert status == 409
    assert body == {"error": "create endpoint: Too many endpoints configured: 1, max allowed: 1"}


def test_show_and_list(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    report(deployment, "status_winner", "status_loser")
    paris = endpoint(PARIS, "ACTIVATED", delivery=told("ACTIVATED", 1, 1, "elected"))
    london = endpoint(LONDON, "STANDBY", delivery=told("STANDBY", 1, 1, "joined"))
    status, body = call(deployment, "show")
    assert (status, undated(body["endpoint"])) == (200, paris)
    status, body = call(deployment, "list")
    assert (status, [undated(each) for each in body["endpoints"]]) == (200, [paris, london])


def test_list_of_nothing(deployment: Deployment) -> None:
    assert call(deployment, "list") == (200, {"endpoints": []})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("show", "Endpoint not found"),
        ("delete", "stop endpoint manager: Endpoint not found"),
        ("failover", "fail to failover endpoint: Endpoint not found"),
    ],
)
def test_an_endpoint_that_is_not_there(deployment: Deployment, name: str, text: str) -> None:
    assert call(deployment, name, id=NOBODY) == (404, {"error": text})
    for id in ("vip-1", "VIP-99999999-9999-4999-8999-999999999999", NOBODY + "0"):
        assert call(deployment, name, id=id) == (400, {"error": "Invalid endpoint ID"})


def test_delete_the_holder_tells_its_receiver_then_takes_everything_away(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    report(deployment, "status_winner", "status_loser")
    assert call(deployment, "delete") == (204, "")
    assert call(deployment, "show") == (404, {"error": "Endpoint not found"})
    assert call(deployment, "delete")[0] == 404
    (left,) = call(deployment, "list")[1]["endpoints"]
    assert undated(left) == endpoint(LONDON, "ACTIVATED", delivery=told("ACTIVATED", 2, 2, "elected"))
    before = len(deployment.receiver.requests)
    deployment.invoke("reconcile", event("wake_up"))
    assert [request.brief() for request in deployment.receiver.requests[before:]] == [
        (PARIS, "STANDBY", 1, 2, "deleted"),
        (LONDON, "ACTIVATED", 2, 2, "elected"),
    ]
    rows = deployment.dynamodb.scan(TableName="endpoints")["Items"]
    assert [row["endpoint_id"]["S"] for row in rows] == [LONDON]
    assert deployment.statuses() == {LONDON: "ACTIVATED"}


def test_delete_a_standby_sends_nothing(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    report(deployment, "status_winner", "status_loser")
    before = len(deployment.receiver.requests)
    assert call(deployment, "delete", id=LONDON) == (204, "")
    deployment.invoke("reconcile", event("wake_up"))
    assert deployment.receiver.requests[before:] == []
    assert deployment.statuses() == {PARIS: "ACTIVATED"}


def test_delete_by_force_tells_nobody(deployment: Deployment) -> None:
    deployment.register(PARIS)
    report(deployment, "status_winner")
    assert call(deployment, "delete", query={"force": "yes"})[0] == 400
    assert call(deployment, "delete", query={"force": "true"}) == (204, "")
    deployment.invoke("reconcile", event("wake_up"))
    assert len(deployment.receiver.requests) == 1
    assert deployment.dynamodb.scan(TableName="endpoints")["Count"] == 0


def test_failover(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    report(deployment, "status_winner", "status_loser")
    assert call(deployment, "failover", body=None) == (204, "")
    assert deployment.statuses() == {PARIS: "STANDBY", LONDON: "ACTIVATED"}
    assert deployment.messages("wake-up"), "somebody has to send it"


@pytest.mark.parametrize(
    ("id", "body", "status", "text"),
    [
        pytest.param(LONDON, None, 409, "this node is not master of this endpoint", id="a standby"),
        pytest.param(PARIS, {"to": NOBODY}, 409, "not another endpoint of this resource", id="to a stranger"),
        pytest.param(PARIS, {"to": 7}, 422, "is not an endpoint's id", id="to a number"),
        pytest.param(PARIS, "{", 400, "not JSON", id="not JSON"),
        pytest.param(PARIS, [], 422, "JSON object", id="a list"),
    ],
)
def test_failover_refused(deployment: Deployment, id: str, body: Any, status: int, text: str) -> None:
    deployment.register(PARIS, LONDON)
    report(deployment, "status_winner", "status_loser")
    got, answer = call(deployment, "failover", id=id, body=body)
    assert got == status and text in json.dumps(answer)
    assert deployment.statuses() == {PARIS: "ACTIVATED", LONDON: "STANDBY"}


def test_failover_of_one_alone(deployment: Deployment) -> None:
    deployment.register(PARIS)
    report(deployment, "status_winner")
    status, body = call(deployment, "failover", body=None)
    assert status == 409
    assert body == {
        "error": f"fail to failover endpoint: fail to failover the endpoint {PARIS}: "
        "no other nodes are listening for this endpoint"
    }


def test_version(deployment: Deployment) -> None:
    assert call(deployment, "version") == (200, {"version": VERSION})


def test_an_unknown_route(deployment: Deployment) -> None:
    request = event("api_version")
    request["path"] = request["resource"] = "/nothing"
    answer = deployment.invoke("endpoints_api", request)
    assert answer["statusCode"] == 404
