"""Clients without signatures work through `linkctl proxy`: LinK's own, and generated requests."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import pytest
import schemathesis
from schemathesis import GenerationMode

from scripts import openapi
from scripts.cloud import Cloud
from tests.e2e.site import Site, linkctl_environment
from tests.support.generated import try_all

MIN_SUCCESSES = 0.3
"""Share of the generated requests that must get a 2xx; otherwise they would test refusals only."""


@pytest.fixture(scope="module")
def proxy(cloud: Cloud) -> Iterator[str]:
    """Yield the URL of a proxy that signs with the operator's keys."""
    command = [sys.executable, "-m", "linkctl", "proxy", "--port", "0"]
    environment = linkctl_environment(cloud, "operator")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split(" ")[0]
    finally:
        process.terminate()
        process.wait(30)


class LinkClient:
    """Sends the requests of LinK's Go client: without Content-Type and without a signature.

    Like that client it accepts exactly one status as success, and reads `error` from any other answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, path: str, expected: int, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers={"User-Agent": "link-cli"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                assert answer.status == expected
                text = answer.read()
        except HTTPError as error:
            raise RuntimeError(json.loads(error.read())["error"]) from None
        return json.loads(text) if text else None


def as_struct(endpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the client's Endpoint, with Go's zero values; fails if one has another type."""
    zeros = {"id": "", "status": "", "checks": [], "healthcheck_interval": 0, "plugin": "", "election_key": ""}
    seen = {name: endpoint.get(name, zero) for name, zero in zeros.items()}
    assert {name: type(value) for name, value in seen.items()} == {name: type(zero) for name, zero in zeros.items()}
    return seen


def test_the_requests_of_links_client_work(proxy: str, site: Site) -> None:
    """Its commands are list, show, failover, set-health-checks, hosts, destroy, rotate-encryption-key and version."""
    client = LinkClient(proxy)
    paris, london = site.register("paris"), site.register("london")
    for host in (paris, london):
        site.report(host, "ACTIVATED")
        site.receiver.wait_for(lambda requests, host=host: any(r.brief()[0] == host for r in requests))  # type: ignore[misc]
    listed = {one["id"]: as_struct(one) for one in client.ask("GET", "/endpoints", 200)["endpoints"]}
    key = f"webhook/{site.resource_id}"
    seen = {"id": paris, "status": "ACTIVATED", "checks": [], "healthcheck_interval": 0, "plugin": "webhook"}
    assert listed[paris] == {**seen, "election_key": key}
    assert as_struct(client.ask("GET", f"/endpoints/{london}", 200)["endpoint"])["status"] == "STANDBY"
    checks = [{"type": "TCP", "host": "203.0.113.7", "port": 443}]
    updated = as_struct(client.ask("PATCH", f"/endpoints/{paris}", 200, {"healthchecks": checks}))
    assert (updated["id"], updated["checks"]) == (paris, checks)
    assert client.ask("GET", f"/endpoints/{paris}/hosts", 200) == {
        "hosts": [{"hostname": host} for _, host in sorted(((paris, "paris"), (london, "london")))]
    }
    client.ask("POST", f"/endpoints/{paris}/failover", 204)
    assert client.ask("GET", f"/endpoints/{london}", 200)["endpoint"]["status"] == "ACTIVATED"
    with pytest.raises(RuntimeError, match=r"^fail to failover endpoint: .*this node is not master of this endpoint$"):
        client.ask("POST", f"/endpoints/{paris}/failover", 204)
    client.ask("POST", "/encrypted_storage/key_rotation", 204)
    assert set(client.ask("GET", "/version", 200)) == {"version"}
    for id in (paris, london):
        client.ask("DELETE", f"/endpoints/{id}", 204)
    with pytest.raises(RuntimeError, match=r"^Endpoint not found$"):
        client.ask("GET", f"/endpoints/{paris}", 200)


def test_generated_requests_get_the_documented_answers(proxy: str, site: Site) -> None:
    there = [site.register("paris"), site.register("london")]
    site.report(there[0], "ACTIVATED")
    site.receiver.wait_for(lambda requests: len(requests) == 1)
    document = openapi.document()
    # A key rotation fails on the local cloud, and Lambda would retry it during the next tests.
    del document["paths"]["/encrypted_storage/key_rotation"]["post"]
    schema = schemathesis.openapi.from_dict(document)
    answers: Counter[tuple[str, int]] = Counter()
    for found in schema.get_all_operations():
        try_all(found.ok(), GenerationMode.POSITIVE, 10, (there, site.resource_id), answers, base_url=proxy)
    good = sum(number for (_, status), number in answers.items() if status < 300)
    print(f"{answers.total()} cases, {good / answers.total():.0%} of them 2xx")
    assert answers.total() >= 150
    assert good / answers.total() >= MIN_SUCCESSES
