"""The API, route by route: LinK's answers, and what this project adds."""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from typing import Any

import pytest

from link import VERSION
from link.election import rules
from link.election.state import Resource
from link.store.endpoints import Registrations, from_item
from link.store.locks import Locks
from tests.support.functions import Deployment, event
from tests.support.ids import LONDON, NOW, PARIS, RESOURCE

STRANGER = "vip-99999999-9999-4999-8999-999999999999"
DEEP = "[" * 900 + "]" * 900
"""Python reads so many lists in each other, but may fail to write them as text."""


def call(deployment: Deployment, name: str, **changes: Any) -> tuple[int, Any]:
    """Make the API call in events/api_<name>.json with the changes; return its status and its JSON body or ''."""
    request = event(f"api_{name}")
    if "id" in changes:
        request["pathParameters"] = {"id": changes["id"]}
    if "body" in changes:
        body = changes["body"]
        request["body"] = body if body is None or isinstance(body, str) else json.dumps(body)
    if "query" in changes:
        request["queryStringParameters"] = changes["query"]
    request["headers"] |= changes.get("headers", {})
    request["httpMethod"] = changes.get("method", request["httpMethod"])
    answer = deployment.invoke("endpoints_api", request)
    content_type = answer["multiValueHeaders"]["Content-Type"]
    assert content_type == ["application/json"]
    return answer["statusCode"], json.loads(answer["body"]) if answer["body"] else ""


def endpoint(id: str, status: str, **more: Any) -> dict[str, Any]:
    """LinK's members of an endpoint, and ours."""
    linked = {"id": id, "status": status, "healthcheck_interval": 0, "plugin": "webhook"}
    return {
        **linked,
        "election_key": f"webhook/{RESOURCE}",
        "host": "",
        "priority": 0,
        "lease_seconds": None,
        "observers": ["host"],
        "ready_when": "all",
        "drained": False,
        "previous_secret_until": None,
        "delivery": None,
        **more,
    }


def undated(view: dict[str, Any]) -> dict[str, Any]:
    """A view of an endpoint without the times of its delivery."""
    return {**view, "delivery": {k: v for k, v in view["delivery"].items() if not k.endswith("_at")}}


def last_status(status: str, epoch: int, sequence: int, reason: str) -> dict[str, Any]:
    return {"status": status, "epoch": epoch, "sequence": sequence, "reason": reason}


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
    more = {"checks": [{"type": "TCP", "host": "paris.example.com", "port": 443}], "healthcheck_interval": 10}
    more |= {"observers": ["host", "probe"], "ready_when": "any", "drained": True}
    status, answer = call(deployment, "create", body={**body, **more, "priority": -5, "lease_seconds": 30})
    created = answer["endpoint"]
    expected = endpoint(created["id"], "BOOTING", host="paris", priority=-5, lease_seconds=30, **more)
    assert (status, created) == (201, expected)


def test_create_lists_every_problem_at_once(deployment: Deployment) -> None:
    status, body = call(deployment, "create_invalid")
    assert status == 422
    assert body["errors"].keys() == {"plugin_config.url", "plugin_config.secret", "plugin_config.resource_id"}
    assert body["errors"]["plugin_config.url"][0] == "invalid URL scheme"
    assert body["errors"]["plugin_config.secret"] == ["missing secret"]
    assert body["errors"]["plugin_config.resource_id"] == ["missing resource ID"]
    assert deployment.dynamodb.scan(TableName="endpoints")["Count"] == 0


VALIDATE = "create endpoint: validate "
WEBHOOK = {"plugin": "webhook", "plugin_config": {"url": "https://x.example", "resource_id": "ip", "secret": "s"}}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param(
            {"plugin_config": {"resource_id": "ip", "secret": "s"}},
            VALIDATE + "plugin: validate plugin: plugin_config.url=missing URL",
            id="plugin",
        ),
        pytest.param({"plugin": "arp"}, VALIDATE + "plugin: plugin not found: use webhook", id="unknown plugin"),
        pytest.param(
            {"checks": [{"type": "UDP", "host": "x", "port": 1}], "healthcheck_interval": -1},
            VALIDATE + "health checks: 0=type=Health check type is not supported",
            id="checks before the interval",
        ),
        pytest.param(
            {"healthcheck_interval": -1, "plugin_config": {}},
            VALIDATE + "endpoint parameters: healthcheck_interval=Health check interval must be greater than 0",
            id="interval before the plugin",
        ),
        pytest.param(
            {"hots": "paris"},
            VALIDATE + "endpoint parameters: body=field 'hots' is not known: write 'host'",
            id="a field that LinK ignores",
        ),
    ],
)
def test_an_invalid_registration_is_told_as_link_tells_it(
    deployment: Deployment, changes: dict[str, Any], error: str
) -> None:
    status, body = call(deployment, "create", body={**WEBHOOK, **changes})
    assert (status, body["error"]) == (422, error)
    assert body["errors"]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        pytest.param("", 400, "decode endpoint", id="empty"),
        pytest.param("{", 400, "decode endpoint", id="not JSON"),
        pytest.param([], 422, "plugin not found: use webhook", id="a list"),
        pytest.param({}, 422, "plugin not found: use webhook", id="nothing"),
        pytest.param({"plugin": "arp"}, 422, "plugin not found: use webhook", id="another plugin"),
        pytest.param({"plugin": ["webhook"]}, 422, "plugin not found: use webhook", id="a list of plugins"),
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


def test_the_same_host_twice_is_a_conflict_that_names_the_endpoint(deployment: Deployment) -> None:
    status, body = call(deployment, "create")
    assert status == 201
    text = f"An endpoint with the same election key already exists on that host: {body['endpoint']['id']}"
    assert call(deployment, "create") == (409, {"error": f"start scheduler: endpoint already assigned: {text}"})
    assert deployment.dynamodb.scan(TableName="endpoints")["Count"] == 1


def test_a_full_resource_is_a_conflict(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_ENDPOINTS_PER_RESOURCE", 1)
    deployment.register(PARIS)
    text = "Too many endpoints for this resource: 1, max allowed: 1"
    assert call(deployment, "create") == (409, {"error": f"start scheduler: endpoint already assigned: {text}"})
    assert deployment.dynamodb.scan(TableName="endpoints")["Count"] == 1


def test_too_many_endpoints(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_ENDPOINTS", "1")
    deployment.register(PARIS)
    status, body = call(deployment, "create")
    assert status == 409
    assert body == {"error": "create endpoint: Too many endpoints configured: 1, max allowed: 1"}


def test_show_and_list(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    paris = endpoint(PARIS, "ACTIVATED", delivery=last_status("ACTIVATED", 1, 1, "elected"))
    london = endpoint(LONDON, "STANDBY", delivery=last_status("STANDBY", 1, 1, "joined"))
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
    assert call(deployment, name, id=STRANGER) == (404, {"error": text})
    for id in ("vip-1", "VIP-99999999-9999-4999-8999-999999999999", STRANGER + "0"):
        assert call(deployment, name, id=id) == (400, {"error": "Invalid endpoint ID"})


def test_deleting_the_holder_notifies_its_receiver_and_then_removes_everything(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    assert call(deployment, "delete") == (204, "")
    assert call(deployment, "show") == (404, {"error": "Endpoint not found"})
    assert call(deployment, "delete")[0] == 404
    (left,) = call(deployment, "list")[1]["endpoints"]
    assert undated(left) == endpoint(LONDON, "ACTIVATED", delivery=last_status("ACTIVATED", 2, 2, "elected"))
    before = len(deployment.receiver.requests)
    deployment.invoke("reconcile", event("wake_up"))
    assert [request.brief() for request in deployment.receiver.requests[before:]] == [
        (PARIS, "STANDBY", 1, 2, "deleted"),
        (LONDON, "ACTIVATED", 2, 2, "elected"),
    ]
    rows = deployment.dynamodb.scan(TableName="endpoints")["Items"]
    assert [row["endpoint_id"]["S"] for row in rows] == [LONDON]
    assert deployment.statuses() == {LONDON: "ACTIVATED"}


def test_deleting_a_standby_sends_nothing(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    before = len(deployment.receiver.requests)
    assert call(deployment, "delete", id=LONDON) == (204, "")
    deployment.invoke("reconcile", event("wake_up"))
    assert deployment.receiver.requests[before:] == []
    assert deployment.statuses() == {PARIS: "ACTIVATED"}


def test_delete_by_force_sends_nothing(deployment: Deployment) -> None:
    deployment.register(PARIS)
    deployment.report("status_winner")
    assert call(deployment, "delete", query={"force": "yes"})[0] == 400
    assert call(deployment, "delete", query={"force": "true"}) == (204, "")
    deployment.invoke("reconcile", event("wake_up"))
    assert len(deployment.receiver.requests) == 1
    assert deployment.dynamodb.scan(TableName="endpoints")["Count"] == 0


def test_failover(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    assert call(deployment, "failover", body=None) == (204, "")
    assert deployment.statuses() == {PARIS: "STANDBY", LONDON: "ACTIVATED"}
    assert deployment.messages("wake-up"), "a process has to send it"


def test_a_request_id_that_a_caller_chose_suppresses_no_failover(deployment: Deployment) -> None:
    """Lambda's id identifies a repeated call. API Gateway's id, which a caller can choose, is the same in both."""
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    assert call(deployment, "failover", body=None) == (204, "")
    assert call(deployment, "failover", id=LONDON, body=None) == (204, "")
    assert deployment.statuses() == {PARIS: "ACTIVATED", LONDON: "STANDBY"}


@pytest.mark.parametrize(
    ("id", "body", "status", "text"),
    [
        pytest.param(LONDON, None, 409, "this node is not master of this endpoint", id="a standby"),
        pytest.param(PARIS, {"to": STRANGER}, 409, "not another endpoint of this resource", id="to a stranger"),
        pytest.param(PARIS, {"to": 7}, 422, "a number is not an endpoint's id", id="to a number"),
        pytest.param(PARIS, f'{{"to": {DEEP}}}', 422, "a list is not an endpoint's id", id="to a list that is deep"),
        pytest.param(PARIS, '{"to": ' + "[" * 99_999, 400, "not JSON", id="to what Python cannot read"),
        pytest.param(PARIS, "{", 400, "not JSON", id="not JSON"),
        pytest.param(PARIS, [], 422, "JSON object", id="a list"),
    ],
)
def test_failover_refused(deployment: Deployment, id: str, body: Any, status: int, text: str) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    got, answer = call(deployment, "failover", id=id, body=body)
    assert got == status and text in json.dumps(answer)
    assert deployment.statuses() == {PARIS: "ACTIVATED", LONDON: "STANDBY"}


IN_LINKS_WORDS = "fail to failover endpoint: "


@pytest.mark.parametrize("query", [pytest.param({}, id="done"), pytest.param({"dry_run": "true"}, id="dry run")])
@pytest.mark.parametrize(
    ("id", "to", "text"),
    [
        pytest.param(LONDON, None, "this node is not master of this endpoint", id="not the holder"),
        pytest.param(
            PARIS,
            None,
            f"no other nodes are listening for this endpoint: {LONDON} is not ready: its host has not reported",
            id="no other is ready",
        ),
        pytest.param(
            PARIS,
            LONDON,
            f"{LONDON} is not another endpoint of this resource that is ready: it is not ready: "
            "its host has not reported",
            id="`to` is not ready",
        ),
    ],
)
def test_a_refused_failover_is_explained_in_links_words(
    deployment: Deployment, query: dict[str, str], id: str, to: str | None, text: str
) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner")
    answer = call(deployment, "failover", id=id, body=None if to is None else {"to": to}, query=query)
    assert answer == (409, {"error": f"{IN_LINKS_WORDS}fail to failover the endpoint {id}: {text}"})
    assert deployment.statuses() == {PARIS: "ACTIVATED", LONDON: "BOOTING"}


def test_a_dry_run_of_an_endpoint_that_is_not_there_is_refused_in_links_words(deployment: Deployment) -> None:
    answer = call(deployment, "failover", id=STRANGER, query={"dry_run": "true"})
    assert answer == (404, {"error": f"{IN_LINKS_WORDS}Endpoint not found"})


def test_an_endpoint_being_deleted_is_not_found_in_links_words(deployment: Deployment) -> None:
    deployment.register(PARIS)
    deployment.report("status_winner")
    assert call(deployment, "delete") == (204, "")
    assert call(deployment, "delete") == (404, {"error": "stop endpoint manager: Endpoint not found"})
    assert call(deployment, "failover") == (404, {"error": f"{IN_LINKS_WORDS}Endpoint not found"})


def test_the_holder_of_a_frozen_resource_is_not_deleted(deployment: Deployment) -> None:
    deployment.register(PARIS)
    deployment.report("status_winner")
    assert call(deployment, "freeze")[0] == 200
    text = "it holds a frozen resource: fail over to another endpoint, or unfreeze the resource, first"
    assert call(deployment, "delete") == (409, {"error": f"stop endpoint manager: {text}"})


@pytest.mark.parametrize("name", ["change", "redeliver"])
def test_calls_that_link_does_not_have_are_refused_without_links_words(deployment: Deployment, name: str) -> None:
    assert call(deployment, name, id=STRANGER) == (404, {"error": "Endpoint not found"})


def test_version(deployment: Deployment) -> None:
    assert call(deployment, "version") == (200, {"version": VERSION})


def test_an_unknown_route(deployment: Deployment) -> None:
    request = event("api_version")
    request["resource"] = "/nothing"
    answer = deployment.invoke("endpoints_api", request)
    assert (answer["statusCode"], json.loads(answer["body"])) == (404, {"error": "404 page not found"})


@pytest.mark.parametrize("base_path", ["", "/lights", "/endpoints", "/v3/resources"])
@pytest.mark.parametrize("name", ["list", "show", "hosts"])
def test_a_domain_of_the_operator_may_have_a_base_path(deployment: Deployment, name: str, base_path: str) -> None:
    deployment.register(PARIS)
    request = event(f"api_{name}")
    # As API Gateway sends it: both paths begin with the base path of the mapping, the stage is in neither.
    request["path"] = request["requestContext"]["path"] = base_path + request["path"]
    request["requestContext"] |= {"domainName": "api.example.com", "domainPrefix": "api"}
    answer = deployment.invoke("endpoints_api", request)
    assert answer["statusCode"] == 200, answer


# Views that LinK does not have


def test_hosts_are_those_that_compete(deployment: Deployment) -> None:
    deployment.register(PARIS, host="paris.example")
    deployment.register(LONDON)
    assert call(deployment, "hosts") == (200, {"hosts": [{"hostname": "paris.example"}, {"hostname": LONDON}]})
    call(deployment, "delete", id=LONDON)
    assert call(deployment, "hosts") == (200, {"hosts": [{"hostname": "paris.example"}]})


@pytest.mark.parametrize("name", ["hosts", "preview"])
@pytest.mark.parametrize(
    ("id", "status", "text"), [(STRANGER, 404, "Endpoint not found"), ("vip-1", 400, "Invalid endpoint ID")]
)
def test_a_view_of_an_endpoint_that_is_not_there(
    deployment: Deployment, name: str, id: str, status: int, text: str
) -> None:
    assert call(deployment, name, id=id) == (status, {"error": text})


@pytest.mark.parametrize("name", ["hosts", "preview"])
def test_an_endpoint_being_deleted_has_no_views(deployment: Deployment, name: str) -> None:
    deployment.register(PARIS)
    deployment.report("status_winner")
    call(deployment, "delete")
    assert call(deployment, name) == (404, {"error": "Endpoint not found"})


def test_one_resource_shows_its_holder_since_when_and_why(deployment: Deployment) -> None:
    deployment.register(PARIS, host="paris", lease_seconds=3600, priority=5)
    deployment.register(LONDON)
    deployment.report("status_winner")
    began = time.time_ns() // 1_000_000 - 60_000
    status, body = call(deployment, "resources", query={"resource_id": RESOURCE})
    resource = body["resource"]
    assert status == 200
    assert {**resource, "since": 0, "candidates": [], "undelivered": []} == {
        "resource_id": RESOURCE,
        "holder": PARIS,
        "holder_host": "paris",
        "epoch": 1,
        "since": 0,
        "reason": "elected",
        "frozen": False,
        "endpoints": 2,
        "candidates": [],
        "undelivered": [],
    }
    assert began < resource["since"]
    paris, london = resource["candidates"]
    assert {name: paris[name] for name in ("id", "host", "status", "ready", "reported", "priority")} == {
        "id": PARIS,
        "host": "paris",
        "status": "ACTIVATED",
        "ready": True,
        "reported": "ACTIVATED",
        "priority": 5,
    }
    assert (paris["lease_seconds"], paris["lease_expires_at"]) == (3600, paris["reported_at"] + 3_600_000)
    assert (london["id"], london["status"], london["ready"]) == (LONDON, "BOOTING", False)
    assert (london["reported"], london["reported_at"], london["lease_expires_at"]) == (None, None, None)


def test_one_resource_shows_what_is_undelivered_and_why(deployment: Deployment) -> None:
    deployment.register(PARIS)
    deployment.receiver.status = 500
    deployment.report("status_winner")
    _, body = call(deployment, "resources", query={"resource_id": RESOURCE})
    (pending,) = body["resource"]["undelivered"]
    assert body["resource"]["undelivered"] == [pending]
    assert (pending["id"], pending["status"], pending["sequence"], pending["deleting"]) == (
        PARIS,
        "ACTIVATED",
        1,
        False,
    )
    assert (pending["failure"], pending["delivered_at"]) == ("answered status_500", None)
    assert pending["attempt"] == len(deployment.receiver.requests)
    assert pending["next_attempt_at"] > pending["announced_at"] and "Check the receiver." in pending["next_step"]


def test_an_endpoint_being_deleted_is_undelivered_and_no_candidate(deployment: Deployment) -> None:
    deployment.register(PARIS)
    deployment.report("status_winner")
    call(deployment, "delete")
    _, body = call(deployment, "resources", query={"resource_id": RESOURCE})
    resource = body["resource"]
    assert (resource["holder"], resource["since"], resource["reason"]) == (None, None, None)
    assert (resource["endpoints"], resource["candidates"]) == (0, [])
    (pending,) = resource["undelivered"]
    assert (pending["id"], pending["deleting"], pending["status"], pending["reason"]) == (
        PARIS,
        True,
        "STANDBY",
        "deleted",
    )


@pytest.mark.parametrize("resource_id", ["nothing/of the kind", ""])
def test_a_resource_that_is_not_there(deployment: Deployment, resource_id: str) -> None:
    deployment.register(PARIS)
    assert call(deployment, "resources", query={"resource_id": resource_id or "x"})[0] == 404


def test_resources_are_listed_without_those_that_only_keep_their_epoch(deployment: Deployment) -> None:
    deployment.register(PARIS)
    assert call(deployment, "resources") == (
        200,
        {"resources": [{"resource_id": RESOURCE, "holder": None, "holder_host": None, "epoch": 0, "since": None,
                        "reason": None, "frozen": False,
                        "endpoints": 1, "undelivered": 0}]},
    )  # fmt: skip
    call(deployment, "delete")
    assert call(deployment, "resources") == (200, {"resources": []})


def test_lists_can_be_paged_through(deployment: Deployment) -> None:
    ids = set()
    for number in range(5):
        body = json.loads(event("api_create")["body"])
        body["plugin_config"]["resource_id"] = f"ip {number}/ü"
        ids.add(call(deployment, "create", body=body)[1]["endpoint"]["id"])
    for name, key in (("list", "endpoints"), ("resources", "resources")):
        found: list[dict[str, Any]] = []
        query = {"limit": "2"}
        while True:
            status, answer = call(deployment, name, query=query)
            assert status == 200 and len(answer[key]) <= 2
            found += answer[key]
            if "next" not in answer:
                break
            query = {"limit": "2", "after": answer["next"]}
        assert len(found) == 5
        if name == "list":
            assert {one["id"] for one in found} == ids
        else:
            assert {one["resource_id"] for one in found} == {f"ip {number}/ü" for number in range(5)}
        assert len(call(deployment, name)[1][key]) == 5, "without a limit all of it"


def test_the_audit_newest_first_and_paged(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser", "status_failing")
    status, body = call(deployment, "transitions")
    rows = body["transitions"]
    assert status == 200 and "next" not in body
    assert [row["version"] for row in rows] == sorted((row["version"] for row in rows), reverse=True)
    newest = rows[0]
    assert {**newest, "version": 0, "at": 0} == {
        "resource_id": RESOURCE,
        "version": 0,
        "at": 0,
        "epoch": 2,
        "holder": LONDON,
        "changes": [
            {"endpoint_id": PARIS, "from": "ACTIVATED", "to": "FAILING", "reason": "failing", "sequence": 2},
            {"endpoint_id": LONDON, "from": "STANDBY", "to": "ACTIVATED", "reason": "elected", "sequence": 2},
        ],
        "cause": {"kind": "report", "id": json.loads(event("status_failing")["Records"][0]["body"])["id"]},
    }
    paged, query = [], {"resource_id": RESOURCE, "limit": "1"}
    while True:
        _, answer = call(deployment, "transitions", query=query)
        paged += answer["transitions"]
        if "next" not in answer:
            break
        query = {**query, "before": str(answer["next"])}
    assert paged == rows


def test_the_audit_of_an_unknown_resource_is_empty_and_needs_a_resource_id(deployment: Deployment) -> None:
    assert call(deployment, "transitions", query={"resource_id": "unknown"}) == (200, {"transitions": []})
    status, body = call(deployment, "transitions", query=None)
    assert status == 400 and "resource_id is missing" in body["error"]


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("list", {"limit": "0"}),
        ("list", {"limit": "1001"}),
        ("resources", {"limit": "many"}),
        ("resources", {"limit": "-1"}),
        ("transitions", {"resource_id": RESOURCE, "limit": "١"}),
        ("transitions", {"resource_id": RESOURCE, "before": "0"}),
    ],
)
def test_a_limit_that_is_not_a_number_in_range(deployment: Deployment, name: str, query: dict[str, str]) -> None:
    status, body = call(deployment, name, query=query)
    assert status == 400 and "is not a whole number from 1 to" in body["error"]


def test_a_dry_run_shows_the_next_holder_and_writes_nothing(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    before = deployment.dynamodb.get_item(TableName="locks", Key={"resource_id": {"S": RESOURCE}})["Item"]
    status, body = call(deployment, "failover", body={"to": LONDON}, query={"dry_run": "true"})
    assert (status, body) == (
        200,
        {
            "failover": {
                "holder": LONDON,
                "epoch": 2,
                "webhooks": [
                    {"id": PARIS, "status": "STANDBY", "epoch": 1, "sequence": 2, "reason": "failover"},
                    {"id": LONDON, "status": "ACTIVATED", "epoch": 2, "sequence": 2, "reason": "failover"},
                ],
            }
        },
    )
    assert deployment.dynamodb.get_item(TableName="locks", Key={"resource_id": {"S": RESOURCE}})["Item"] == before
    assert call(deployment, "failover", id=LONDON, query={"dry_run": "true"})[0] == 409, "refused as the real one"
    assert call(deployment, "failover", query={"dry_run": "maybe"})[0] == 400


def test_a_preview_has_everything_but_what_is_secret(deployment: Deployment) -> None:
    config = json.loads(event("api_create")["body"])["plugin_config"]
    deployment.register(PARIS, LONDON)
    assert call(deployment, "preview")[0] == 409, "nothing announced yet"
    deployment.report("status_winner", "status_loser")
    told_by = deployment.receiver.requests[0]
    status, body = call(deployment, "preview")
    request = body["request"]
    assert (status, request["method"]) == (200, "POST")
    assert request["body"] == told_by.body.decode()
    assert request["url"] == deployment.receiver.url.rpartition("/")[0], "never more than scheme and host"
    hidden = {name for name, value in request["headers"].items() if value is None}
    assert hidden == {
        "X-Link-Webhook-Timestamp", "X-Link-Webhook-Signature", "webhook-timestamp", "webhook-signature",
    }  # fmt: skip
    assert request["headers"]["X-Link-Webhook-Reason"] == "refresh"
    assert request["headers"]["webhook-id"].startswith(f"{PARIS}_1_1_")
    assert call(deployment, "preview", id=LONDON)[0] == 409, "a delivered STANDBY is never sent again"
    assert config["secret"] not in json.dumps(body)


def test_a_preview_shows_the_users_headers_by_name_only(deployment: Deployment) -> None:
    body = json.loads(event("api_create")["body"])
    body["plugin_config"]["url"] = deployment.receiver.url
    body["plugin_config"]["headers"] = {"Authorization": "Bearer hidden-value", "X-Site": "hidden-too"}
    deployment.receiver.status = 500
    id = call(deployment, "create", body=body)[1]["endpoint"]["id"]
    message = event("status_winner")
    message["Records"][0]["body"] = message["Records"][0]["body"].replace(PARIS, id)
    deployment.invoke("endpoint_status", message)
    status, answer = call(deployment, "preview", id=id)
    assert status == 200, answer
    headers = answer["request"]["headers"]
    assert (headers["Authorization"], headers["X-Site"]) == (None, None)
    assert (headers["X-Link-Webhook-Reason"], headers["X-Link-Webhook-Attempt"]) == (
        "elected",
        str(len(deployment.receiver.requests) + 1),
    )
    assert "hidden" not in json.dumps(answer)


@pytest.mark.parametrize("value", ["", "x" * 257])
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("resources", "resource_id"),
        ("resources", "after"),
        ("list", "after"),
        ("transitions", "resource_id"),
        ("freeze", "resource_id"),
    ],
)
def test_a_key_that_no_table_can_hold(deployment: Deployment, name: str, key: str, value: str) -> None:
    """Found by generated requests: DynamoDB refuses an empty key, and that was a 500."""
    status, answer = call(deployment, name, query={key: value, "limit": "5"})
    assert (status, answer["error"]) == (400, f"{key}: {len(value)} characters: use 1 to 256")


# --- PUT and PATCH


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_change_answers_with_the_endpoint_as_link_does(deployment: Deployment, method: str) -> None:
    deployment.register(PARIS)
    checks = [{"type": "TCP", "host": "203.0.113.7", "port": 443}]
    assert call(deployment, "change", method=method) == (200, endpoint(PARIS, "BOOTING", checks=checks, priority=5))
    assert call(deployment, "show") == (200, {"endpoint": endpoint(PARIS, "BOOTING", checks=checks, priority=5)})
    assert deployment.registration(PARIS)["revision"] == {"N": "2"}
    # LinK clears the health checks here.
    assert call(deployment, "change", method=method, body={})[1]["checks"] == checks
    assert deployment.registration(PARIS)["revision"] == {"N": "2"}


@pytest.mark.parametrize(
    ("id", "body", "status", "text"),
    [
        pytest.param("vip-1", {}, 400, "Invalid endpoint ID", id="no id"),
        pytest.param(PARIS, "", 400, "invalid JSON", id="empty"),
        pytest.param(PARIS, "{", 400, "invalid JSON", id="not JSON"),
        pytest.param(STRANGER, {}, 404, "Endpoint not found", id="unknown"),
        pytest.param(PARIS, {"healthchecks": [{}]}, 422, "type=Health check type is not supported", id="a bad check"),
        pytest.param(PARIS, {"host": "x"}, 422, "register another endpoint", id="another host"),
        pytest.param(
            PARIS, {"plugin_config": {"url": "https://x.example", "secret": "s"}}, 409, "fail over first", id="active"
        ),
    ],
)
def test_a_refused_change(deployment: Deployment, id: str, body: Any, status: int, text: str) -> None:
    deployment.register(PARIS)
    deployment.report("status_winner")
    got, answer = call(deployment, "change", id=id, body=body)
    assert got == status and text in json.dumps(answer)
    assert deployment.registration(PARIS)["revision"] == {"N": "1"}


def test_a_standby_moves_to_another_url_and_its_webhooks_go_there(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    moved = deployment.receiver.url + "/moved"
    config = {"url": moved, "secret": "moved-secret-0123456789abcdef0123", "headers": {"X-Site": "london"}}
    assert call(deployment, "change", id=LONDON, body={"plugin_config": config})[0] == 200
    assert call(deployment, "redeliver", id=LONDON) == (204, "")
    deployment.invoke("reconcile", event("wake_up"))
    request = deployment.receiver.requests[-1]
    assert request.path == "/hook/moved" and request.header("X-Site") == "london"
    assert request.brief() == (LONDON, "STANDBY", 1, 1, "joined")


def test_a_change_beside_a_key_rotation_is_a_conflict(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment.register(PARIS)
    row = deployment.registration(PARIS)
    old = from_item({**row, "ciphertext": {"B": b"as it was before the rotation"}})
    monkeypatch.setattr(Registrations, "get", lambda self, endpoint_id: old)
    status, answer = call(deployment, "change")
    assert (status, answer["error"]) == (409, "a key rotation changed this endpoint concurrently: retry")
    assert deployment.registration(PARIS) == row


def test_two_changes_at_once_are_a_conflict_for_one(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment.register(PARIS)
    old = from_item(deployment.registration(PARIS))
    assert call(deployment, "change")[0] == 200
    monkeypatch.setattr(Registrations, "get", lambda self, endpoint_id: old)
    status, answer = call(deployment, "change", body={"priority": 6})
    assert (status, answer["error"]) == (
        409,
        "the endpoint was changed concurrently (expected revision 1, found 2): fetch it and retry",
    )


# --- Observers, drain


def locks(deployment: Deployment) -> Any:
    return deployment.dynamodb.scan(TableName="locks")["Items"]


def test_a_drained_holder_hands_over_and_stays_drained_when_it_reports(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    status, body = call(deployment, "drain")
    assert (status, body["drained"]) == (200, True)
    deployment.report("status_heartbeat")
    assert deployment.statuses() == {PARIS: "STANDBY", LONDON: "ACTIVATED"}
    _, body = call(deployment, "resources", query={"resource_id": RESOURCE})
    (paris,) = [one for one in body["resource"]["candidates"] if one["id"] == PARIS]
    assert paris["drained_at"] and not paris["ready"] and paris["words"]["host"]["status"] == "ACTIVATED"
    audit = call(deployment, "transitions")[1]["transitions"]
    assert {change["reason"] for row in audit for change in row["changes"]} >= {"drained"}
    status, body = call(deployment, "drain", body={"drained": False})
    assert (status, body["drained"], body["status"]) == (200, False, "STANDBY")


def test_a_dry_run_of_a_drain_shows_what_the_drain_does_and_writes_nothing(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    before = locks(deployment)
    assert call(deployment, "drain", query={"dry_run": "true"}) == (
        200,
        {
            "change": {
                "holder": LONDON,
                "epoch": 2,
                "webhooks": [
                    {"id": PARIS, "status": "STANDBY", "epoch": 1, "sequence": 2, "reason": "drained"},
                    {"id": LONDON, "status": "ACTIVATED", "epoch": 2, "sequence": 2, "reason": "elected"},
                ],
            }
        },
    )
    status, body = call(deployment, "change", body={}, query={"dry_run": "true"})
    assert (status, body["change"]["holder"], body["change"]["webhooks"]) == (200, PARIS, [])
    assert locks(deployment) == before
    assert deployment.registration(PARIS)["revision"] == {"N": "1"}


@pytest.mark.parametrize("query", [pytest.param({}, id="done"), pytest.param({"dry_run": "true"}, id="dry run")])
def test_the_last_ready_endpoint_is_drained_with_force_only(deployment: Deployment, query: dict[str, str]) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner")
    status, body = call(deployment, "drain", query=query)
    assert (
        status == 409
        and "no other endpoint of this resource is ready" in body["error"]
        and "host has not reported" in body["error"]
    )
    assert call(deployment, "drain", query={**query, "force": "yes"})[0] == 400
    status, body = call(deployment, "drain", query={**query, "force": "true"})
    assert status == 200
    if query:
        assert body["change"]["holder"] is None
    assert deployment.statuses()[PARIS] == ("ACTIVATED" if query else "STANDBY")


@pytest.mark.parametrize("query", [pytest.param({}, id="done"), pytest.param({"dry_run": "true"}, id="dry run")])
@pytest.mark.parametrize("drained", ["yes", 1, []])
def test_drained_is_true_or_false(deployment: Deployment, drained: object, query: dict[str, str]) -> None:
    deployment.register(PARIS)
    status, body = call(deployment, "drain", body={"drained": drained}, query=query)
    assert status == 422 and "is not true or false" in body["errors"]["drained"][0]
    assert body["error"].startswith("validate endpoint parameters: drained=")


def test_an_endpoint_waits_for_an_observer_that_was_added(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    status, body = call(deployment, "change", body={"observers": ["probe", "host"]})
    assert (status, body["observers"], body["status"]) == (200, ["host", "probe"], "ACTIVATED")
    _, body = call(deployment, "resources", query={"resource_id": RESOURCE})
    (paris,) = [one for one in body["resource"]["candidates"] if one["id"] == PARIS]
    assert (paris["observers"], paris["waits_for"], paris["ready"]) == (["host", "probe"], ["probe"], False)


# --- Redeliver, freeze


def test_redeliver_sends_the_same_status_again(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    for id in (PARIS, LONDON):
        assert call(deployment, "redeliver", id=id) == (204, "")
    deployment.invoke("reconcile", event("wake_up"))
    told_again = deployment.receiver.requests[-2:]
    assert sorted(request.brief() for request in told_again) == [
        (PARIS, "ACTIVATED", 1, 1, "elected"),
        (LONDON, "STANDBY", 1, 1, "joined"),
    ]
    first, again = deployment.receiver.requests[0], next(r for r in told_again if r.brief()[0] == PARIS)
    assert first.header("webhook-id") == again.header("webhook-id"), "one message, sent twice"


@pytest.mark.parametrize(
    ("id", "status", "text"),
    [
        ("vip-1", 400, "Invalid endpoint ID"),
        (STRANGER, 404, "Endpoint not found"),
        (PARIS, 409, "nothing has been announced"),
    ],
)
def test_redeliver_refused(deployment: Deployment, id: str, status: int, text: str) -> None:
    deployment.register(PARIS)
    got, answer = call(deployment, "redeliver", id=id)
    assert got == status and text in answer["error"]


def test_a_frozen_resource_keeps_its_holder_until_it_is_unfrozen(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    for _ in range(2):
        status, answer = call(deployment, "freeze")
        assert (status, answer["resource"]["frozen"], answer["resource"]["holder"]) == (200, True, PARIS)
    deployment.report("status_failing")
    assert deployment.statuses()[PARIS] == "ACTIVATED"
    assert call(deployment, "delete")[0] == 409
    assert call(deployment, "resources")[1]["resources"][0]["frozen"] is True
    status, answer = call(deployment, "freeze", body={"frozen": False})
    assert (status, answer["resource"]["frozen"], answer["resource"]["holder"]) == (200, False, LONDON)
    assert deployment.statuses() == {PARIS: "FAILING", LONDON: "ACTIVATED"}
    audit = call(deployment, "transitions")[1]["transitions"]
    assert [(row["cause"]["kind"], len(row["changes"])) for row in audit[:2]] == [("unfreeze", 2), ("freeze", 0)]


@pytest.mark.parametrize(
    ("query", "body", "status", "text"),
    [
        pytest.param({}, {"frozen": True}, 400, "resource_id is missing", id="no resource"),
        pytest.param({"resource_id": "x"}, "{", 400, "not JSON", id="not JSON"),
        pytest.param({"resource_id": "x"}, {"frozen": True}, 404, "Resource not found", id="no such resource"),
        pytest.param({"resource_id": RESOURCE}, {"frozen": "yes"}, 422, "neither true nor false", id="a text"),
        pytest.param({"resource_id": RESOURCE}, [], 422, "neither true nor false", id="a list"),
        pytest.param({"resource_id": RESOURCE}, {"frozen": True}, 409, "nothing to keep", id="no holder"),
    ],
)
def test_freeze_refused(deployment: Deployment, query: dict[str, str], body: Any, status: int, text: str) -> None:
    deployment.register(PARIS)
    got, answer = call(deployment, "freeze", query=query, body=body)
    assert got == status and text in json.dumps(answer)


# --- Idempotency


def test_a_repeated_create_registers_once(deployment: Deployment) -> None:
    key = {"Idempotency-Key": "a6a4e4ee-7a4b-4d0e-a0f4-0d5b9ab0ab0c"}
    status, first = call(deployment, "create", headers=key)
    assert (status, call(deployment, "create", headers=key)) == (201, (201, first))
    assert deployment.dynamodb.scan(TableName="endpoints")["Count"] == 1
    # After a delete, the same key registers a new endpoint: the sequence of an id never starts again.
    assert call(deployment, "delete", id=first["endpoint"]["id"])[0] == 204
    status, second = call(deployment, "create", headers=key)
    assert status == 201 and second["endpoint"]["id"] != first["endpoint"]["id"]


def test_a_create_that_was_overtaken_by_its_repetition(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    key = {"Idempotency-Key": "again"}
    _, first = call(deployment, "create", headers=key)
    # The slow one read the item before the fast one wrote it.
    stale = iter([Resource(RESOURCE)])
    read = Locks.read
    monkeypatch.setattr(Locks, "read", lambda self, resource_id: next(stale, None) or read(self, resource_id))
    assert call(deployment, "create", headers=key) == (201, first)
    assert deployment.dynamodb.scan(TableName="endpoints")["Count"] == 1


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"headers": {"Idempotency-Key": "a b"}}, 400, "visible ASCII"),
        ({"headers": {"Idempotency-Key": ""}}, 400, "visible ASCII"),
        ({"headers": {"Idempotency-Key": "x" * 257}}, 400, "visible ASCII"),
        ({"headers": {"Idempotency-Key": "k"}, "host": "london"}, 409, "used for another registration"),
    ],
)
def test_an_idempotency_key_that_cannot_be_used(
    deployment: Deployment, changes: dict[str, Any], status: int, text: str
) -> None:
    assert call(deployment, "create", headers={"Idempotency-Key": "k"})[0] == 201
    if "host" in changes:
        changes = {**changes, "body": {**json.loads(event("api_create")["body"]), "host": changes["host"]}}
    got, answer = call(deployment, "create", **changes)
    assert got == status and text in answer["error"]


# --- Signals


def test_an_endpoint_with_signals_shows_what_each_said_last(deployment: Deployment) -> None:
    signals = [
        {"type": "ec2", "instance_id": "i-0fedcba9876543210"},
        {"type": "alarm", "arn": "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:paris-unhealthy"},
    ]
    body = json.loads(event("api_create")["body"])
    status, created = call(deployment, "create", body={**body, "signals": signals})
    paris = created["endpoint"]["id"]
    assert (status, created["endpoint"]["signals"], created["endpoint"]["observers"]) == (201, signals, ["signal"])
    nothing = {"status": None, "since": None, "reason": None, "warned_until": None}
    shown = call(deployment, "show", id=paris)[1]["endpoint"]["signal"]
    assert (shown["status"], shown["said"][0]) == (None, {"signal": "ec2:i-0fedcba9876543210", **nothing})
    warned = ["ACTIVATED", NOW - 9, 0, "checks_passed", NOW, 2**42, "spot_interruption", 0]
    deployment.dynamodb.update_item(
        TableName="signals",
        Key={"signal_key": {"S": "observed"}, "endpoint_id": {"S": paris}},
        UpdateExpression="SET words = :w, #status = :s, #at = :a",
        ExpressionAttributeNames={"#status": "status", "#at": "at"},
        ExpressionAttributeValues={
            ":w": {"S": json.dumps({"ec2:i-0fedcba9876543210": warned})},
            ":s": {"S": "STANDBY"},
            ":a": {"N": str(NOW)},
        },
    )
    shown = call(deployment, "show", id=paris)[1]["endpoint"]["signal"]
    assert (shown["status"], shown["since"]) == ("STANDBY", NOW)
    assert shown["said"][0] == {
        "signal": "ec2:i-0fedcba9876543210",
        "status": "STANDBY",
        "since": NOW,
        "reason": "spot_interruption",
        "warned_until": 2**42,
    }


def test_signals_are_replaced_by_a_change_and_gone_with_the_endpoint(deployment: Deployment) -> None:
    body = json.loads(event("api_create")["body"])
    ec2 = {"type": "ec2", "instance_id": "i-0fedcba9876543210"}
    paris = call(deployment, "create", body={**body, "signals": [ec2]})[1]["endpoint"]["id"]

    def kept() -> list[str]:
        return sorted(item["signal_key"]["S"] for item in deployment.dynamodb.scan(TableName="signals")["Items"])

    assert kept() == ["ec2:i-0fedcba9876543210", "observed"]
    zone = {"type": "zone", "zone_id": "euw1-az2"}
    status, changed = call(deployment, "change", id=paris, body={"signals": [zone]})
    assert (status, changed["signals"], kept()) == (200, [zone], ["observed", "zone:euw1-az2"])
    assert (call(deployment, "delete", id=paris)[0], kept()) == (204, [])


def test_a_wrong_signal_is_refused_with_its_place(deployment: Deployment) -> None:
    body = json.loads(event("api_create")["body"])
    status, answer = call(deployment, "create", body={**body, "signals": [{"type": "ec2"}]})
    assert (status, [*answer["errors"]]) == (422, ["signals.0.instance_id"])
    assert deployment.dynamodb.scan(TableName="signals")["Count"] == 0


# --- Probes

CHECKS = [
    {"type": "TCP", "host": "paris.example.com", "port": 443},
    {"type": "HTTP", "host": "paris.example.com", "port": 80},
]


def probed(deployment: Deployment) -> str:
    """The id of an endpoint that a probe observes."""
    body = json.loads(event("api_create")["body"])
    endpoint_id: str = call(deployment, "create", body={**body, "checks": CHECKS})[1]["endpoint"]["id"]
    return endpoint_id


def test_a_probed_endpoint_shows_what_its_probe_found(deployment: Deployment) -> None:
    paris = probed(deployment)
    probe = call(deployment, "show", id=paris)[1]["endpoint"]["probe"]
    unknown = {"up": None, "since": None, "failed_check": None, "reason": None, "held_until": None}
    assert {name: value for name, value in probe.items() if name != "next_look_at"} == unknown
    found = json.dumps({paris: [False, NOW, "1:status_503", 0, 3, False]})
    item = {"shard": {"S": "0/1"}, "version": {"N": "1"}, "slot": {"N": "1"}, "mass": {"N": "0"}}
    deployment.dynamodb.put_item(TableName="probes", Item={**item, "endpoints": {"S": found}})
    probe = call(deployment, "show", id=paris)[1]["endpoint"]["probe"]
    assert (probe["up"], probe["since"], probe["reason"]) == (False, NOW, "status_503")
    assert probe["failed_check"] == CHECKS[1]
    assert call(deployment, "change", id=paris, body={"checks": CHECKS[:1]})[0] == 200
    probe = call(deployment, "show", id=paris)[1]["endpoint"]["probe"]
    assert (probe["reason"], probe["failed_check"]) == ("status_503", None), "that check is gone"


def test_a_look_is_made_by_the_prober_and_changes_nothing(deployment: Deployment) -> None:
    paris = probed(deployment)
    deployment.awslambda.answer = ["", "refused"]
    status, body = call(deployment, "probe", id=paris)
    assert (status, body["probe"]["up"]) == (200, False)
    assert body["probe"]["checks"] == [{**CHECKS[0], "reason": ""}, {**CHECKS[1], "reason": "refused"}]
    [invocation] = deployment.awslambda.invocations
    assert (invocation["FunctionName"], json.loads(invocation["Payload"])) == ("probe", {"checks": CHECKS})
    assert deployment.statuses() == {paris: "BOOTING"}


def test_an_endpoint_without_a_probe_is_not_looked_at(deployment: Deployment) -> None:
    paris = call(deployment, "create")[1]["endpoint"]["id"]
    status, body = call(deployment, "probe", id=paris)
    assert status == 409 and "no probe looks at this endpoint" in body["error"]


# --- Key rotation


def test_a_key_rotation_is_started_without_any_input_and_shows_its_progress(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    status, answer = call(deployment, "key_rotation")
    before = answer["key_rotation"]
    assert status == 200 and (before["endpoints"], before["encrypted_since"]) == (2, 2)
    assert before["oldest_encrypted_at"] <= before["now"]

    assert call(deployment, "rotate_key") == (204, "")
    assert deployment.awslambda.invocations == [{"FunctionName": "key-rotation", "InvocationType": "Event"}]

    since = before["now"] + 1
    query = {"since": str(since)}
    while call(deployment, "key_rotation")[1]["key_rotation"]["now"] < since:
        pass
    assert call(deployment, "key_rotation", query=query)[1]["key_rotation"]["encrypted_since"] == 0
    ciphertext = deployment.registration(PARIS)["ciphertext"]
    assert deployment.invoke("key_rotation", {"url": "ignored"}) == {"endpoints": 2}
    after = call(deployment, "key_rotation", query=query)[1]["key_rotation"]
    assert (after["endpoints"], after["encrypted_since"], after["since"]) == (2, 2, since)
    assert after["oldest_encrypted_at"] >= since
    assert deployment.registration(PARIS)["ciphertext"] != ciphertext
    deployment.report("status_winner")
    assert deployment.receiver.requests[-1].brief() == (PARIS, "ACTIVATED", 1, 1, "elected")


def test_the_progress_of_a_rotation_without_endpoints(deployment: Deployment) -> None:
    status, answer = call(deployment, "key_rotation", query={"since": "7"})
    assert status == 200
    assert answer["key_rotation"] | {"now": 0} == {
        "now": 0,
        "since": 7,
        "endpoints": 0,
        "encrypted_since": 0,
        "oldest_encrypted_at": None,
    }
    assert call(deployment, "key_rotation", query={"since": "yesterday"})[0] == 400


def test_the_audit_names_the_operator_and_an_id_that_no_caller_chose(
    deployment: Deployment,
) -> None:
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    chosen_by_the_caller = event("api_failover")
    chosen_by_the_caller["requestContext"]["requestId"] = "chosen"

    assert deployment.invoke("endpoints_api", chosen_by_the_caller)["statusCode"] == 204
    of_the_invocation = deployment.request_id

    _, body = call(deployment, "transitions")
    assert body["transitions"][0]["cause"] == {
        "kind": "failover",
        "id": of_the_invocation,
        "by": "arn:aws:iam::123456789012:user/operator",
    }


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({}, id="the level of the function's logging configuration"),
        pytest.param({"POWERTOOLS_LOGGER_LOG_EVENT": "true"}, id="log event"),
        pytest.param({"POWERTOOLS_DEV": "true"}, id="dev"),
        pytest.param({"POWERTOOLS_LOG_LEVEL": "DEBUG", "AWS_LAMBDA_LOG_LEVEL": "DEBUG"}, id="levels"),
    ],
)
def test_no_setting_of_the_logger_shows_a_secret(
    deployment: Deployment,
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    caplog.set_level(logging.DEBUG)  # As Lambda's runtime sets the root logger's level.
    secret = json.loads(event("api_create")["body"])["plugin_config"]["secret"]

    assert call(deployment, "create")[0] == 201

    shown = "".join([str(vars(record)) for record in caplog.records] + list(capfd.readouterr()))
    assert secret not in shown
    # KMS's protocol has the plaintext in base64.
    in_base64 = re.findall(r"[A-Za-z0-9+/]{40,}={0,2}", shown)
    assert [text for text in in_base64 if secret.encode() in base64.b64decode(text[: len(text) // 4 * 4])] == []
