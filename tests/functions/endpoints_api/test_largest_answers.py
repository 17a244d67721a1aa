"""No answer of the API is larger than Lambda lets a function answer, whatever is registered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from link.election.rules import MAX_ENTRIES
from link.registration import MAX_CHECKS, MAX_HOST_CHARACTERS, MAX_RESOURCE_ID_CHARACTERS
from tests.support.functions import Deployment, event
from tests.support.ids import PARIS, SECRETS
from tests.support.stack import Stack, batch

MAX_ANSWER_BYTES = 6_000_000
LONGEST = "\U0001f4a1"
"""Four bytes in DynamoDB, twelve in JSON, fourteen in the JSON of Lambda's answer around it."""
COPIES = 1_001


def endpoint_id(number: int) -> str:
    return f"vip-{number:08d}-1111-4111-8111-111111111111"


def resource_id(number: int) -> str:
    return LONGEST * (MAX_RESOURCE_ID_CHARACTERS - 4) + f"{number:04d}"


def largest(stack: Stack, *, checks: int = 0, host: str = LONGEST * MAX_HOST_CHARACTERS) -> dict[str, Any]:
    """Registers the largest endpoint that the API accepts, whose webhooks fail; returns what is stored, by table."""
    stack.functions.receiver.status = 500
    given = {
        "plugin": "webhook",
        "plugin_config": {"url": stack.functions.receiver.url, "resource_id": resource_id(0), "secret": SECRETS[PARIS]},
        "checks": [{"type": "TCP", "host": LONGEST * MAX_HOST_CHARACTERS, "port": 65_535}] * checks,
        "healthcheck_interval": 3_600,
        "priority": -1_000,
        "lease_seconds": 3_600,
        "observers": ["host"],
        **({"host": host} if host else {}),
    }
    status, answer = stack.call("api_create", given)
    assert status == 201, answer
    report = stack.status_event(answer["endpoint"]["id"], "ACTIVATED", resource_id(0))
    assert stack.functions.invoke("endpoint_status", batch(report)) == {"batchItemFailures": []}
    dynamodb = stack.functions.dynamodb
    return {table: dynamodb.scan(TableName=table)["Items"][0] for table in ("endpoints", "locks", "transitions")}


def fill(stack: Stack, table: str, items: list[dict[str, Any]]) -> None:
    for start in range(0, len(items), 25):
        puts = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        stack.functions.dynamodb.batch_write_item(RequestItems={table: puts})


def copies(stored: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The registrations and lock items of other endpoints, each alone on its resource."""
    [entry] = stored["locks"]["endpoints"]["M"].values()
    registrations, locks = [], []
    for number in range(1, COPIES):
        resource = {"resource_id": {"S": resource_id(number)}}
        registrations.append({**stored["endpoints"], **resource, "endpoint_id": {"S": endpoint_id(number)}})
        endpoints = {"M": {endpoint_id(number): entry}}
        locks.append({**stored["locks"], **resource, "endpoints": endpoints, "holder": {"S": endpoint_id(number)}})
    return registrations, locks


def answered(stack: Stack, name: str, **query: str) -> tuple[dict[str, Any], int]:
    """The body of an answer, and how many bytes the function sends to Lambda."""
    answer = stack.functions.invoke("endpoints_api", {**event(f"api_{name}"), "queryStringParameters": query or None})
    assert answer["statusCode"] == 200, answer
    body: dict[str, Any] = json.loads(answer["body"])
    return body, len(json.dumps(answer))


@pytest.fixture
def stack(deployment: Deployment) -> Stack:
    return Stack(deployment)


@pytest.mark.parametrize("checks", [0, MAX_CHECKS])
def test_a_page_of_the_largest_endpoints(stack: Stack, checks: int) -> None:
    registrations, locks = copies(largest(stack, checks=checks))
    fill(stack, "endpoints", registrations[: 60 if checks else COPIES])
    fill(stack, "locks", locks[: 60 if checks else COPIES])
    body, size = answered(stack, "list")
    assert "next" in body and body["endpoints"][0]["delivery"]["failure"]
    assert MAX_ANSWER_BYTES / 10 < size < MAX_ANSWER_BYTES


@pytest.mark.parametrize(
    "host", [pytest.param("", id="no host"), pytest.param(LONGEST * MAX_HOST_CHARACTERS, id="the longest host")]
)
def test_a_page_of_the_largest_resources(stack: Stack, host: str) -> None:
    fill(stack, "locks", copies(largest(stack, host=host))[1])
    body, size = answered(stack, "resources")
    assert "next" in body
    assert MAX_ANSWER_BYTES / 5 < size < MAX_ANSWER_BYTES


def test_pages_of_the_largest_transitions_lose_none(stack: Stack) -> None:
    stored = largest(stack)["transitions"]
    fill(stack, "transitions", [{**stored, "version": {"N": str(number)}} for number in range(1, COPIES)])
    query, versions = {"resource_id": resource_id(0), "limit": "1000"}, list[int]()
    while query:
        body, size = answered(stack, "transitions", **query)
        assert size < MAX_ANSWER_BYTES
        versions += [one["version"] for one in body["transitions"]]
        query = {**query, "before": str(body["next"])} if "next" in body else {}
    assert versions == list(range(COPIES - 1, 0, -1))


@pytest.mark.parametrize("name", ["resources", "hosts"])
def test_one_resource_with_as_many_of_the_largest_endpoints_as_it_can_have(stack: Stack, name: str) -> None:
    stored = largest(stack)
    [entry] = stored["locks"]["endpoints"]["M"].values()
    entries = {endpoint_id(number): entry for number in range(MAX_ENTRIES - 1)} | {PARIS: entry}
    fill(stack, "locks", [{**stored["locks"], "endpoints": {"M": entries}}])
    fill(stack, "endpoints", [{**stored["endpoints"], "endpoint_id": {"S": PARIS}}])
    _, size = answered(stack, name, resource_id=resource_id(0))
    assert MAX_ANSWER_BYTES / 10 < size < MAX_ANSWER_BYTES
