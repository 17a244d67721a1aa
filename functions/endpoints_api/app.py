"""The API: LinK's routes, answered as LinK does, with IAM in front."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from link import VERSION, aws, plugin, settings
from link.clock import Clock
from link.control import ControlPlane, is_endpoint_id
from link.delivery import WebhookFactory
from link.encryption import Vault
from link.errors import BadRequest, Conflict, Invalid, NotFound
from link.lock import Locks
from link.queues import Queues
from link.registration import RESOURCE_ID_CHARACTERS
from link.registry import Registry
from link.telemetry import logger
from link.webhook import PLUGIN

SETTINGS = settings.load(os.environ)
CLOCK = Clock()
_DYNAMODB = aws.client("dynamodb")
plugin.register(PLUGIN, WebhookFactory(Vault(aws.client("kms"), SETTINGS), SETTINGS, CLOCK))
CONTROL = ControlPlane(
    Locks(_DYNAMODB, SETTINGS, CLOCK),
    Registry(_DYNAMODB, SETTINGS),
    Queues(aws.client("sqs"), SETTINGS),
    SETTINGS,
    CLOCK,
    # Its client is made when it is called for, once a year.
    lambda function: aws.client("lambda").invoke(FunctionName=function, InvocationType="Event") and None,
)
app = APIGatewayRestResolver()


@app.post("/endpoints")
def create() -> Response[str]:
    token = app.current_event.headers.get("Idempotency-Key")
    if token is not None and not re.fullmatch(r"[\x21-\x7e]{1,256}", token):
        raise BadRequest("Idempotency-Key: use 1 to 256 visible ASCII characters, a UUID for one")
    return _answer(201, {"endpoint": CONTROL.create(_body("decode endpoint"), _request_id(), token)})


@app.get("/endpoints")
def list_all() -> Response[str]:
    limit, after = _whole("limit", 1, 1_000), _key("after")
    if limit is None:
        return _answer(200, {"endpoints": CONTROL.endpoints()})
    return _page("endpoints", *CONTROL.page(limit, after))


@app.get("/endpoints/<endpoint_id>")
def show(endpoint_id: str) -> Response[str]:
    return _answer(200, {"endpoint": CONTROL.show(_checked(endpoint_id))})


@app.put("/endpoints/<endpoint_id>")
@app.patch("/endpoints/<endpoint_id>")
def change(endpoint_id: str) -> Response[str]:
    # Without the wrapper of the other answers, as LinK has it.
    return _answer(200, CONTROL.change(_checked(endpoint_id), _body("invalid JSON"), _request_id()))


@app.delete("/endpoints/<endpoint_id>")
def delete(endpoint_id: str) -> Response[str]:
    CONTROL.delete(_checked(endpoint_id), _request_id(), force=_flag("force"))
    return _answer(204)


@app.get("/endpoints/<endpoint_id>/hosts")
def hosts(endpoint_id: str) -> Response[str]:
    return _answer(200, {"hosts": CONTROL.hosts(_checked(endpoint_id))})


@app.get("/endpoints/<endpoint_id>/preview")
def preview(endpoint_id: str) -> Response[str]:
    return _answer(200, {"request": CONTROL.preview(_checked(endpoint_id))})


@app.post("/endpoints/<endpoint_id>/failover")
def failover(endpoint_id: str) -> Response[str]:
    body = _body("fail to failover endpoint") if app.current_event.body else {}
    if not isinstance(body, dict):
        raise Invalid({"body": ['is not a JSON object: send {"to": id}, or nothing']})
    to = body.get("to")
    if to is not None and not isinstance(to, str):
        raise Invalid(
            {"to": [f"{str(to)[:80]!r} is not an endpoint's id, e.g. vip-95f26078-bd86-4bfd-a119-f4f476e91565"]}
        )
    outlook = CONTROL.failover(_checked(endpoint_id), _request_id(), to=to, dry_run=_flag("dry_run"))
    return _answer(204) if outlook is None else _answer(200, {"failover": outlook})


@app.post("/endpoints/<endpoint_id>/redeliver")
def redeliver(endpoint_id: str) -> Response[str]:
    CONTROL.redeliver(_checked(endpoint_id), _request_id())
    return _answer(204)


@app.post("/encrypted_storage/key_rotation")
def rotate_key() -> Response[str]:
    CONTROL.rotate_key()
    return _answer(204)


@app.get("/encrypted_storage/key_rotation")
def key_rotation() -> Response[str]:
    return _answer(200, {"key_rotation": CONTROL.key_rotation(_whole("since", 0, 10**15) or 0)})


@app.get("/resources")
def resources() -> Response[str]:
    resource_id = _key("resource_id")
    if resource_id is not None:
        return _answer(200, {"resource": CONTROL.resource(resource_id)})
    return _page("resources", *CONTROL.resources(_whole("limit", 1, 1_000), _key("after")))


@app.patch("/resources")
def freeze() -> Response[str]:
    resource_id = _required_key("resource_id")
    body = _body("change resource")
    frozen = body.get("frozen") if isinstance(body, dict) else None
    if not isinstance(frozen, bool):
        raise Invalid({"frozen": ['is neither true nor false: send {"frozen": true} or {"frozen": false}']})
    return _answer(200, {"resource": CONTROL.freeze(resource_id, frozen, _request_id())})


@app.get("/transitions")
def transitions() -> Response[str]:
    resource_id = _required_key("resource_id")
    limit, before = _whole("limit", 1, 1_000) or 100, _whole("before", 1, 10**15)
    return _page("transitions", *CONTROL.transitions(resource_id, limit, before))


@app.get("/version")
def version() -> Response[str]:
    return _answer(200, {"version": VERSION})


@app.exception_handler(Invalid)
def invalid(error: Invalid) -> Response[str]:
    return _answer(422, {"errors": error.errors})


@app.exception_handler([BadRequest, NotFound, Conflict])
def refused(error: Exception) -> Response[str]:
    status = 400 if isinstance(error, BadRequest) else 404 if isinstance(error, NotFound) else 409
    return _answer(status, {"error": str(error)})


@app.not_found
def unknown(_: Exception) -> Response[str]:
    return _answer(404, {"error": "404 page not found"})


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One call of the API."""
    return app.resolve(event, context)


def _answer(status: int, body: dict[str, Any] | None = None) -> Response[str]:
    # "" and not None: some gateways answer 500 to a null body.
    return Response(status, "application/json", "" if body is None else json.dumps(body))


def _body(prefix: str) -> Any:
    try:
        return json.loads(app.current_event.decoded_body or "")
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{prefix}: the body is not JSON: {error}") from None


def _page(name: str, found: list[dict[str, Any]], more: str | int | None) -> Response[str]:
    # LinK's clients look at the list alone.
    return _answer(200, {name: found} | ({} if more is None else {"next": more}))


def _query(name: str) -> str | None:
    return app.current_event.get_query_string_value(name)


def _key(name: str) -> str | None:
    """A key of a table; more than it can hold would be DynamoDB's error and not the caller's."""
    value = _query(name)
    if value is not None and not 1 <= len(value) <= RESOURCE_ID_CHARACTERS:
        raise BadRequest(f"{name}: {len(value)} characters: use 1 to {RESOURCE_ID_CHARACTERS}")
    return value


def _required_key(name: str) -> str:
    value = _key(name)
    if value is None:
        raise BadRequest(f"{name} is missing: {app.current_event.path}?{name}=…, percent-encoded")
    return value


def _flag(name: str) -> bool:
    value = _query(name) or "false"
    if value not in ("true", "false"):
        raise BadRequest(f"{name}: {value[:80]!r} is neither true nor false")
    return value == "true"


def _whole(name: str, lowest: int, highest: int) -> int | None:
    value = _query(name)
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,16}", value) or not lowest <= int(value) <= highest:
        raise BadRequest(f"{name}: {value[:80]!r} is not a whole number from {lowest} to {highest}")
    return int(value)


def _checked(endpoint_id: str) -> str:
    if not is_endpoint_id(endpoint_id):
        raise BadRequest("Invalid endpoint ID")
    return endpoint_id


def _request_id() -> str:
    return str(app.current_event.request_context.request_id)
