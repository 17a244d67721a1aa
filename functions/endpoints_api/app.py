"""The API: LinK's routes, answered as LinK does, with IAM in front."""

from __future__ import annotations

import json
import os
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
)
app = APIGatewayRestResolver()


@app.post("/endpoints")
def create() -> Response[str]:
    return _answer(201, {"endpoint": CONTROL.create(_body("decode endpoint"), _request_id())})


@app.get("/endpoints")
def list_all() -> Response[str]:
    return _answer(200, {"endpoints": CONTROL.list()})


@app.get("/endpoints/<endpoint_id>")
def show(endpoint_id: str) -> Response[str]:
    return _answer(200, {"endpoint": CONTROL.show(_checked(endpoint_id))})


@app.delete("/endpoints/<endpoint_id>")
def delete(endpoint_id: str) -> Response[str]:
    force = app.current_event.get_query_string_value("force", "false")
    if force not in ("true", "false"):
        raise BadRequest(f"force: {force!r} is neither true nor false")
    CONTROL.delete(_checked(endpoint_id), _request_id(), force=force == "true")
    return _answer(204)


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
    CONTROL.failover(_checked(endpoint_id), _request_id(), to=to)
    return _answer(204)


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


def _checked(endpoint_id: str) -> str:
    if not is_endpoint_id(endpoint_id):
        raise BadRequest("Invalid endpoint ID")
    return endpoint_id


def _request_id() -> str:
    return str(app.current_event.request_context.request_id)
