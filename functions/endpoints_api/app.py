"""The API: LinK's routes and answers, and more routes of ours. IAM checks every caller."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from link import VERSION, deployment
from link.control.commands import is_endpoint_id
from link.control.queries import PAGE_SIZE
from link.errors import BadRequest, Conflict, Invalid, NotFound
from link.fields import json_type
from link.registration import MAX_RESOURCE_ID_CHARACTERS
from link.telemetry import logger

COMMANDS, QUERIES = deployment.control_plane()
# Not debug, even if POWERTOOLS_DEV is set: it prints each event, and the API's events contain secrets.
app = APIGatewayRestResolver(debug=False)


@contextmanager
def link_says(not_found: str = "", conflict: str = "", *, invalid: str = "", **by_code: str) -> Iterator[None]:
    """Put LinK's words before the message of an error. `by_code` has other words for some Conflicts."""
    try:
        yield
    except Invalid as error:
        raise Invalid(error.errors, invalid + _first_group(error.errors)) from None
    except NotFound as error:
        raise NotFound(not_found + str(error)) from None
    except Conflict as error:
        raise Conflict(by_code.get(error.code, conflict) + str(error)) from None


def _first_group(errors: dict[str, list[str]]) -> str:
    """Return the problems that LinK would tell: those of the first group that it checks."""
    groups: dict[str, list[str]] = {"health checks": [], "endpoint parameters": [], "plugin": []}
    for name, texts in errors.items():
        if name == "plugin":
            groups["plugin"] += texts
        elif name.startswith("plugin_config"):
            groups["plugin"] += [f"validate plugin: {name}={text}" for text in texts]
        else:
            checks = name == "checks" or name.isdecimal()
            groups["health checks" if checks else "endpoint parameters"] += [f"{name}={text}" for text in texts]
    return next(f"validate {group}: {'; '.join(texts)}" for group, texts in groups.items() if texts)


@app.post("/endpoints")
def create() -> Response[str]:
    token = app.current_event.headers.get("Idempotency-Key")
    if token is not None and not re.fullmatch(r"[\x21-\x7e]{1,256}", token):
        raise BadRequest("Idempotency-Key: use 1 to 256 visible ASCII characters, a UUID for one")
    body = _body("decode endpoint")
    words = {"assigned": "start scheduler: endpoint already assigned: ", "limit": "create endpoint: "}
    with link_says(invalid="create endpoint: ", **words):
        return _answer(201, {"endpoint": COMMANDS.create(body, _request_id(), token, by=_by())})


@app.get("/endpoints")
def list_all() -> Response[str]:
    return _page("endpoints", *QUERIES.endpoints(_limit(), _key("after")))


@app.get("/endpoints/<endpoint_id>")
def show(endpoint_id: str) -> Response[str]:
    return _answer(200, {"endpoint": QUERIES.show(_checked(endpoint_id))})


@app.put("/endpoints/<endpoint_id>")
@app.patch("/endpoints/<endpoint_id>")
def change(endpoint_id: str) -> Response[str]:
    force, dry_run = _flag("force"), _flag("dry_run")
    _checked(endpoint_id)
    body = _body("invalid JSON")
    with link_says():
        if dry_run:
            return _answer(200, {"change": COMMANDS.outlook(endpoint_id, body, force=force)})
        # As in LinK, there is no object around this answer, unlike the others.
        return _answer(200, COMMANDS.change(endpoint_id, body, _request_id(), force=force, by=_by()))


@app.delete("/endpoints/<endpoint_id>")
def delete(endpoint_id: str) -> Response[str]:
    force = _flag("force")
    with link_says("stop endpoint manager: ", "stop endpoint manager: "):
        COMMANDS.delete(_checked(endpoint_id), _request_id(), force=force, by=_by())
    return _answer(204)


@app.get("/endpoints/<endpoint_id>/hosts")
def hosts(endpoint_id: str) -> Response[str]:
    return _answer(200, {"hosts": QUERIES.hosts(_checked(endpoint_id))})


@app.get("/endpoints/<endpoint_id>/preview")
def preview(endpoint_id: str) -> Response[str]:
    return _answer(200, {"request": QUERIES.preview(_checked(endpoint_id))})


@app.post("/endpoints/<endpoint_id>/failover")
def failover(endpoint_id: str) -> Response[str]:
    body = _body("fail to failover endpoint") if app.current_event.body else {}
    if not isinstance(body, dict):
        raise Invalid({"body": ['is not a JSON object: send {"to": id}, or nothing']})
    to = body.get("to")
    if to is not None and not isinstance(to, str):
        # Not the value: a list in a list in a list ... has no text.
        example = "vip-95f26078-bd86-4bfd-a119-f4f476e91565"
        raise Invalid({"to": [f"{json_type(to)} is not an endpoint's id, e.g. {example}"]})
    dry_run, prefix = _flag("dry_run"), "fail to failover endpoint: "
    with link_says(prefix, f"{prefix}fail to failover the endpoint {endpoint_id}: "):
        if dry_run:
            return _answer(200, {"failover": QUERIES.outlook(_checked(endpoint_id), to=to)})
        COMMANDS.failover(_checked(endpoint_id), _request_id(), to=to, by=_by())
    return _answer(204)


@app.post("/endpoints/<endpoint_id>/redeliver")
def redeliver(endpoint_id: str) -> Response[str]:
    COMMANDS.redeliver(_checked(endpoint_id), _request_id(), by=_by())
    return _answer(204)


@app.post("/endpoints/<endpoint_id>/probe")
def probe(endpoint_id: str) -> Response[str]:
    return _answer(200, {"probe": QUERIES.probe(_checked(endpoint_id))})


@app.post("/encrypted_storage/key_rotation")
def rotate_key() -> Response[str]:
    COMMANDS.rotate_key()
    return _answer(204)


@app.get("/encrypted_storage/key_rotation")
def key_rotation() -> Response[str]:
    return _answer(200, {"key_rotation": QUERIES.key_rotation(_whole("since", 0, 10**15) or 0)})


@app.get("/resources")
def resources() -> Response[str]:
    resource_id = _key("resource_id")
    if resource_id is not None:
        return _answer(200, {"resource": QUERIES.resource(resource_id)})
    return _page("resources", *QUERIES.resources(_limit(), _key("after")))


@app.patch("/resources")
def freeze() -> Response[str]:
    resource_id = _required_key("resource_id")
    body = _body("change resource")
    frozen = body.get("frozen") if isinstance(body, dict) else None
    if not isinstance(frozen, bool):
        raise Invalid({"frozen": ['is neither true nor false: send {"frozen": true} or {"frozen": false}']})
    return _answer(200, {"resource": COMMANDS.freeze(resource_id, frozen, _request_id(), by=_by())})


@app.get("/transitions")
def transitions() -> Response[str]:
    resource_id = _required_key("resource_id")
    return _page("transitions", *QUERIES.transitions(resource_id, _limit(default=100), _whole("before", 1, 10**15)))


@app.get("/version")
def version() -> Response[str]:
    return _answer(200, {"version": VERSION})


@app.exception_handler(Invalid)
def invalid(error: Invalid) -> Response[str]:
    # LinK's client shows `error` only.
    return _answer(422, {"error": str(error), "errors": error.errors})


@app.exception_handler([BadRequest, NotFound, Conflict])
def refused(error: Exception) -> Response[str]:
    status = 400 if isinstance(error, BadRequest) else 404 if isinstance(error, NotFound) else 409
    return _answer(status, {"error": str(error)})


@app.not_found
def unknown(_: Exception) -> Response[str]:
    return _answer(404, {"error": "404 page not found"})


# No event is logged, even if POWERTOOLS_LOGGER_LOG_EVENT is set: the API's events contain secrets.
@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one call of the API."""
    # Not the event's path: behind a domain of the operator it begins with the base path of the mapping.
    path = event["resource"].format(**event["pathParameters"] or {})
    return app.resolve({**event, "path": path}, context)


def _answer(status: int, body: dict[str, Any] | None = None) -> Response[str]:
    # "" and not None: some gateways answer 500 to a null body.
    return Response(status, "application/json", "" if body is None else json.dumps(body))


def _body(prefix: str) -> Any:
    try:
        return json.loads(app.current_event.decoded_body or "")
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{prefix}: the body is not JSON: {error}") from None


def _page(name: str, found: list[dict[str, Any]], more: str | int | None) -> Response[str]:
    # LinK's clients read the list and ignore `next`.
    return _answer(200, {name: found} | ({} if more is None else {"next": more}))


def _query(name: str) -> str | None:
    return app.current_event.get_query_string_value(name)


def _key(name: str) -> str | None:
    """Return a key of a table. DynamoDB would refuse a longer one with an error that looks like a fault of ours."""
    value = _query(name)
    if value is not None and not 1 <= len(value) <= MAX_RESOURCE_ID_CHARACTERS:
        raise BadRequest(f"{name}: {len(value)} characters: use 1 to {MAX_RESOURCE_ID_CHARACTERS}")
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


def _limit(default: int = PAGE_SIZE) -> int:
    return _whole("limit", 1, PAGE_SIZE) or default


def _checked(endpoint_id: str) -> str:
    if not is_endpoint_id(endpoint_id):
        raise BadRequest("Invalid endpoint ID")
    return endpoint_id


def _request_id() -> str:
    # Lambda's id, not API Gateway's, which a caller can set by a header: a failover with a known id does nothing.
    return str(app.lambda_context.aws_request_id)


def _by() -> str:
    """The ARN of the caller."""
    return app.current_event.request_context.identity.user_arn or ""
