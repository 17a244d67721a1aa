"""The OpenAPI document is generated from the code, and every answer to a generated request conforms to it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

import jsonschema
import pytest
import schemathesis
import werkzeug.test
from schemathesis import GenerationMode

from scripts import openapi
from scripts.cloud import ROOT
from tests.support.functions import Deployment, event
from tests.support.generated import try_all
from tests.support.ids import LONDON, PARIS, RESOURCE

EXAMPLES = int(os.environ.get("API_EXAMPLES", "15"))
"""Cases per operation and mode."""
SUCCESSES = 0.3


def test_the_document_in_the_repository_is_the_one_of_the_code() -> None:
    assert openapi.DOCUMENT.read_text() == openapi.text(), "make openapi"


def test_it_has_the_routes_of_the_function() -> None:
    code = (ROOT / "functions/endpoints_api/app.py").read_text()
    routes = {
        (path.replace("<endpoint_id>", "{id}"), method)
        for method, path in re.findall(r'^@app\.(\w+)\("(/[^"]*)"\)', code, re.MULTILINE)
    }
    assert {(path, method) for path, methods in openapi.PATHS.items() for method in methods} == routes
    assert len(routes) > 15


def gateway(deployment: Deployment) -> Callable[..., Iterable[bytes]]:
    """A WSGI application that calls the function with the event that API Gateway would make."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/openapi.json":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [openapi.text().encode()]
        path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode(errors="replace")
        token = environ.get("HTTP_IDEMPOTENCY_KEY")
        request = event("api_show") | {
            "httpMethod": environ["REQUEST_METHOD"],
            "resource": path.replace("{", "{{").replace("}", "}}"),
            "pathParameters": None,
            "headers": {} if token is None else {"Idempotency-Key": token},
            "queryStringParameters": dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True)) or None,
            "body": body or None,
        }
        answer = deployment.invoke("endpoints_api", request, warm=True)
        headers = [(name, value) for name, values in answer["multiValueHeaders"].items() for value in values]
        start_response(f"{answer['statusCode']} x", headers)
        return [answer["body"].encode()]

    return application


ON = "/endpoints/{id}"
CONFIG = {"url": "https://receiver.example.com/hook", "resource_id": RESOURCE, "secret": "secret"}
REGISTRATION = {"plugin": "webhook", "plugin_config": CONFIG, "host": "berlin"}
STRANGER = "vip-99999999-9999-4999-8999-999999999999"
HERE, NOWHERE = {"resource_id": RESOURCE}, {"resource_id": "nowhere"}
STATUSES: dict[tuple[str, str, int], dict[str, Any]] = {
    ("get", "/endpoints", 200): {},
    ("get", "/endpoints", 400): {"query": {"limit": "0"}},
    ("post", "/endpoints", 201): {"body": REGISTRATION},
    ("post", "/endpoints", 400): {"body": "{"},
    ("post", "/endpoints", 409): {"body": {**REGISTRATION, "host": "paris"}},
    ("post", "/endpoints", 422): {"body": {"plugin": "arp"}},
    **{("get", ON + rest, 200): {} for rest in ("", "/hosts", "/preview")},
    **{("get", ON + rest, 400): {"id": "vip-1"} for rest in ("", "/hosts", "/preview")},
    **{("get", ON + rest, 404): {"id": STRANGER} for rest in ("", "/hosts", "/preview")},
    ("get", ON + "/preview", 409): {"id": LONDON},
    **{(method, ON, 200): {"body": {"priority": 1}} for method in ("put", "patch")},
    **{(method, ON, 400): {"body": ""} for method in ("put", "patch")},
    **{(method, ON, 404): {"body": {}, "id": STRANGER} for method in ("put", "patch")},
    **{
        (method, ON, 409): {"body": {"plugin_config": {"url": "https://new.example/", "secret": "secret"}}}
        for method in ("put", "patch")
    },
    **{(method, ON, 422): {"body": {"priority": 1_001}} for method in ("put", "patch")},
    ("delete", ON, 204): {},
    ("delete", ON, 400): {"query": {"force": "yes"}},
    ("delete", ON, 404): {"id": STRANGER},
    ("delete", ON, 409): {"frozen": True},
    ("post", ON + "/failover", 200): {"query": {"dry_run": "true"}},
    ("post", ON + "/failover", 204): {},
    ("post", ON + "/failover", 400): {"query": {"dry_run": "perhaps"}},
    ("post", ON + "/failover", 404): {"id": STRANGER},
    ("post", ON + "/failover", 409): {"id": LONDON},
    ("post", ON + "/failover", 422): {"body": {"to": 7}},
    ("post", ON + "/redeliver", 204): {},
    ("post", ON + "/redeliver", 400): {"id": "vip-1"},
    ("post", ON + "/redeliver", 404): {"id": STRANGER},
    ("post", ON + "/redeliver", 409): {"booting": True},
    ("post", ON + "/probe", 200): {"probed": True},
    ("post", ON + "/probe", 400): {"id": "vip-1"},
    ("post", ON + "/probe", 404): {"id": STRANGER},
    ("post", ON + "/probe", 409): {},
    ("get", "/encrypted_storage/key_rotation", 200): {},
    ("get", "/encrypted_storage/key_rotation", 400): {"query": {"since": "yesterday"}},
    ("post", "/encrypted_storage/key_rotation", 204): {},
    ("get", "/resources", 200): {},
    ("get", "/resources", 400): {"query": {"limit": "many"}},
    ("get", "/resources", 404): {"query": NOWHERE},
    ("patch", "/resources", 200): {"query": HERE, "body": {"frozen": True}},
    ("patch", "/resources", 400): {"body": {"frozen": True}},
    ("patch", "/resources", 404): {"query": NOWHERE, "body": {"frozen": True}},
    ("patch", "/resources", 409): {"query": HERE, "body": {"frozen": True}, "booting": True},
    ("patch", "/resources", 422): {"query": HERE, "body": {"frozen": "yes"}},
    ("get", "/transitions", 200): {"query": HERE},
    ("get", "/transitions", 400): {},
    ("get", "/version", 200): {},
}
"""A request for every documented status. paris is active and london on standby, unless they are `booting`; paris can be
`probed`."""


def test_every_documented_status_is_tried() -> None:
    documented = {
        (method, path, int(status))
        for path, methods in openapi.PATHS.items()
        for method, operation in methods.items()
        for status in operation["responses"]
    }
    assert set(STATUSES) == documented


@pytest.mark.parametrize("documented", [pytest.param(key, id=f"{key[0]} {key[1]} {key[2]}") for key in STATUSES])
def test_each_documented_status(deployment: Deployment, documented: tuple[str, str, int]) -> None:
    method, path, status = documented
    how = STATUSES[documented]
    deployment.register(PARIS, host="paris")
    deployment.register(LONDON)
    if not how.get("booting"):
        deployment.report("status_winner", "status_loser")
    client = werkzeug.test.Client(gateway(deployment))
    if how.get("frozen"):
        assert client.patch("/resources", query_string=HERE, json={"frozen": True}).status_code == 200
    if how.get("probed"):
        checks = {"observers": ["probe"], "checks": [{"type": "TCP", "host": "paris.example.com", "port": 443}]}
        assert client.patch(f"/endpoints/{PARIS}", json=checks).status_code == 200
        deployment.awslambda.answer = [""]
    body = how.get("body")
    answer = client.open(
        path.replace("{id}", how.get("id", PARIS)),
        method=method.upper(),
        query_string=how.get("query", {}),
        data=body if body is None or isinstance(body, str) else json.dumps(body),
    )
    assert answer.status_code == status, answer.data
    content = openapi.PATHS[path][method]["responses"][str(status)].get("content")
    if content is None:
        assert answer.data == b""
    else:
        schema = {**content["application/json"]["schema"], "components": {"schemas": openapi.SCHEMAS}}
        jsonschema.Draft202012Validator(schema).validate(answer.json)


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_every_answer_is_one_that_the_document_has(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_ENDPOINTS", "0")
    deployment.register(PARIS, LONDON)
    deployment.report("status_winner", "status_loser")
    schema = schemathesis.openapi.from_wsgi("/openapi.json", gateway(deployment))
    answers: Counter[tuple[str, int]] = Counter()
    for found in schema.get_all_operations():
        for mode in GenerationMode:
            try_all(found.ok(), mode, EXAMPLES, ([PARIS, LONDON], RESOURCE), answers)
            capsys.readouterr()
    cases = answers.total()
    good = sum(number for (_, status), number in answers.items() if status < 300)
    with capsys.disabled():
        print(f"\n{cases} cases, {good / cases:.0%} of them 2xx; {dict(Counter(s for _, s in answers.elements()))}")
    assert good / cases >= SUCCESSES
    assert len({label for label, _ in answers}) == sum(len(methods) for methods in openapi.PATHS.values())
