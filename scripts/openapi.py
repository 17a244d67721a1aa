"""`make openapi`: writes docs/openapi.json, the OpenAPI 3.1 document of the API, from the code's names and limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from link import VERSION, registration
from link.control.queries import PAGE_SIZE
from link.election.state import NEVER, Observer, ReadyWhen, Reason, Status
from link.plugins.webhook import config
from link.plugins.webhook.factory import PLUGIN
from link.probing.checks import CheckType
from link.signals import keys

DOCUMENT = Path(__file__).parents[1] / "docs/openapi.json"
ENDPOINT_ID = "^vip-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
LARGEST = 10**15
"""Limit of times and versions in a query."""

Schema = dict[str, Any]

ERRORS = {
    400: "The request is malformed: its id, its query or its JSON.",
    404: "There is no such endpoint or resource, or the endpoint is being deleted.",
    409: "The request conflicts with the current state; the text says what to do.",
    422: "The body is invalid; the answer lists every problem, by field.",
}


def an(object_of: dict[str, Schema], *optional: str) -> Schema:
    """An object with exactly these members; all of them are required except the `optional` ones."""
    required = [name for name in object_of if name not in optional]
    return {"type": "object", "properties": object_of, "required": required, "additionalProperties": False}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def a_list(of: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": of, **more}


TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TIME: Schema = {"type": "integer", "minimum": 0, "maximum": NEVER, "description": "Unix milliseconds"}
ID: Schema = {"type": "string", "pattern": ENDPOINT_ID, "examples": ["vip-95f26078-bd86-4bfd-a119-f4f476e91565"]}
STATUS: Schema = {"type": "string", "enum": [str(one) for one in Status]}
REPORTED: Schema = {"type": "string", "enum": [str(one) for one in Status][1:]}
WIRE: Schema = {"type": "string", "enum": [str(Status.ACTIVATED), str(Status.STANDBY)]}
REASON: Schema = {"type": "string", "enum": [str(one) for one in Reason]}
HOST: Schema = {"type": "string", "maxLength": registration.MAX_HOST_CHARACTERS}


def _range(limits: tuple[int, int]) -> Schema:
    return {"type": "integer", "minimum": limits[0], "maximum": limits[1]}


_CHECK: dict[str, Schema] = {
    "type": {"enum": [*CheckType]},
    "host": {**HOST, "minLength": 1},
    "port": _range((1, 65_535)),
    "path": {"type": "string", "pattern": "^/[!-~]*$", "maxLength": registration.MAX_PATH_CHARACTERS},
    "expect": {"type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$"},
    "verify": {"type": "boolean"},
}
_OF_HTTP = ("path", "expect", "verify")
CHECK = an(_CHECK, *_OF_HTTP)
"""`path` and `expect` belong to HTTP and HTTPS, `verify` to HTTPS."""


def _signal(kind: keys.SignalType) -> Schema:
    fields = {
        name: {"type": "string", "pattern": f"^(?:{field.pattern.pattern})$", "description": field.rule}
        for name, field in keys.FIELDS[kind].items()
    }
    optional = fields.keys() - {*keys.REQUIRED[kind]}
    return an({"type": {"const": str(kind)}, **fields}, *sorted(optional))


SIGNALS = a_list({"oneOf": [_signal(kind) for kind in keys.SignalType]}, maxItems=keys.MAX_SIGNALS)
"""Of ECS, either `service` or `task`."""
RESOURCE_ID: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": registration.MAX_RESOURCE_ID_CHARACTERS,
    "description": "No U+0000-U+001F except TAB, no U+007F, no space or TAB at either end. Use visible ASCII: "
    "receivers get it as a header in UTF-8, too.",
}
INTERVAL, PRIORITY = _range(registration.HEALTHCHECK_INTERVAL_SECONDS), _range(registration.PRIORITY)
LEASE = maybe(_range(registration.LEASE_SECONDS))
OBSERVER: Schema = {"type": "string", "enum": [str(one) for one in Observer]}
OBSERVERS = a_list(OBSERVER, minItems=1, description="Whose words count; with lease_seconds, host is one of them")
READY_WHEN: Schema = {"type": "string", "enum": [str(one) for one in ReadyWhen]}
DRAINED: Schema = {"type": "boolean", "description": "true keeps the endpoint from being elected until it is false"}
HEADERS: Schema = {
    "type": "object",
    "maxProperties": config.MAX_HEADERS,
    "propertyNames": {
        "pattern": f"^{config.HEADER_NAME.pattern}$",
        "maxLength": config.MAX_HEADER_NAME_CHARACTERS,
    },
    "additionalProperties": {
        **TEXT,
        "description": "No U+0000-U+001F except TAB, no U+007F-U+009F, no U+2028 and U+2029. Sent as UTF-8.",
    },
}
SECRET: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": config.MAX_SECRET_CHARACTERS,
    "writeOnly": True,
    "description": "At most 4,096 bytes together with the headers. 32 random bytes, as hex or base64, are enough.",
}
URL: Schema = {"type": "string", "format": "uri", "examples": ["https://receiver.example.com/hook"]}

DELIVERY = an(
    {
        "status": WIRE,
        "epoch": COUNT,
        "sequence": COUNT,
        "reason": REASON,
        "announced_at": TIME,
        "delivered_at": maybe(TIME),
        "attempt": COUNT,
        "failure": {**TEXT, "description": "Kind and reason of the last failed attempt"},
        "next_attempt_at": TIME,
        "next_step": TEXT,
    },
    *("attempt", "failure", "next_attempt_at", "next_step"),
)
SUMMARY: dict[str, Schema] = {
    "resource_id": RESOURCE_ID,
    "holder": maybe(ID),
    "holder_host": maybe(HOST),
    "epoch": COUNT,
    "since": maybe(TIME),
    "reason": maybe(REASON),
    "frozen": FLAG,
    "endpoints": COUNT,
    "undelivered": COUNT,
}
UNDELIVERED: Schema = {
    "type": "object",
    "properties": {"id": ID, "deleting": FLAG, **DELIVERY["properties"]},
    "required": ["id", "deleting"],
    "additionalProperties": False,
}

SCHEMAS: dict[str, Schema] = {
    "Registration": {
        "type": "object",
        "properties": {
            "plugin": {"const": PLUGIN},
            "plugin_config": {
                "type": "object",
                "properties": {"url": URL, "resource_id": RESOURCE_ID, "secret": SECRET, "headers": HEADERS},
                "required": ["url", "resource_id", "secret"],
            },
            "checks": a_list(CHECK, maxItems=registration.MAX_CHECKS),
            "healthcheck_interval": INTERVAL,
            "host": {**HOST, "minLength": 1},
            "priority": PRIORITY,
            "lease_seconds": LEASE,
            "observers": OBSERVERS,
            "ready_when": READY_WHEN,
            "drained": DRAINED,
            "signals": SIGNALS,
        },
        "required": ["plugin", "plugin_config"],
    },
    "Change": {
        "type": "object",
        "description": "Fields that are absent stay unchanged. A new url or new headers need the secret again; "
        "a new secret needs all headers again.",
        "properties": {
            "healthchecks": a_list(CHECK, maxItems=registration.MAX_CHECKS),
            "checks": a_list(CHECK, maxItems=registration.MAX_CHECKS),
            "healthcheck_interval": INTERVAL,
            "priority": PRIORITY,
            "lease_seconds": LEASE,
            "observers": OBSERVERS,
            "ready_when": READY_WHEN,
            "drained": DRAINED,
            "signals": SIGNALS,
            "plugin_config": {
                "type": "object",
                "properties": {
                    "url": URL,
                    "secret": SECRET,
                    "headers": HEADERS,
                    "previous_secret_until": {
                        **maybe(TIME),
                        "description": "Until when the current secret signs beside the new one, at most 30 days ahead",
                    },
                },
            },
        },
    },
    "Endpoint": an(
        {
            "id": ID,
            "status": STATUS,
            "checks": a_list(CHECK),
            "signals": SIGNALS,
            "healthcheck_interval": INTERVAL,
            "plugin": {"const": PLUGIN},
            "election_key": TEXT,
            "host": HOST,
            "priority": PRIORITY,
            "lease_seconds": LEASE,
            "observers": OBSERVERS,
            "ready_when": READY_WHEN,
            "drained": FLAG,
            "previous_secret_until": maybe(TIME),
            "delivery": maybe(DELIVERY),
            "warnings": {**a_list(TEXT), "description": "In the answer to a registration or a change"},
            "probe": an(
                {
                    "up": maybe(FLAG),
                    "since": maybe(TIME),
                    "failed_check": maybe(CHECK),
                    "reason": maybe(TEXT),
                    "held_until": maybe(TIME),
                    "next_look_at": TIME,
                }
            ),
            "signal": an(
                {
                    "status": maybe(STATUS),
                    "since": maybe(TIME),
                    "said": a_list(
                        an(
                            {
                                "signal": TEXT,
                                "status": maybe(STATUS),
                                "since": maybe(TIME),
                                "reason": maybe(TEXT),
                                "warned_until": maybe(TIME),
                            }
                        )
                    ),
                }
            ),
        },
        "checks",
        "probe",
        "signal",
        "signals",
        "warnings",
    ),
    "ResourceSummary": an(SUMMARY),
    "Resource": an(
        {
            **SUMMARY,
            "candidates": a_list(
                an(
                    {
                        "id": ID,
                        "host": HOST,
                        "status": STATUS,
                        "ready": FLAG,
                        "reported": maybe(REPORTED),
                        "reported_at": maybe(TIME),
                        "observers": OBSERVERS,
                        "ready_when": READY_WHEN,
                        "words": {
                            "type": "object",
                            "description": "Each observer's last report",
                            "propertyNames": OBSERVER,
                            "additionalProperties": an({"status": REPORTED, "at": TIME}),
                        },
                        "waits_for": a_list(OBSERVER),
                        "drained_at": maybe(TIME),
                        "lease_seconds": LEASE,
                        "lease_expires_at": maybe(TIME),
                        "held_until": maybe(TIME),
                        "priority": PRIORITY,
                        "joined_at": TIME,
                    }
                )
            ),
            "undelivered": a_list(UNDELIVERED),
        }
    ),
    "Transition": an(
        {
            "resource_id": RESOURCE_ID,
            "version": COUNT,
            "at": TIME,
            "epoch": COUNT,
            "holder": maybe(ID),
            "changes": a_list(
                an({"endpoint_id": ID, "from": STATUS, "to": STATUS, "reason": REASON, "sequence": COUNT})
            ),
            "cause": an({"kind": TEXT, "id": TEXT, "by": TEXT}, "by"),
        }
    ),
    "Outlook": an(
        {
            "holder": maybe(ID),
            "epoch": COUNT,
            "webhooks": a_list(an({"id": ID, "status": WIRE, "epoch": COUNT, "sequence": COUNT, "reason": REASON})),
        }
    ),
    "Request": an(
        {
            "method": {"const": "POST"},
            "url": TEXT,
            "headers": {"type": "object", "additionalProperties": maybe(TEXT)},
            "body": TEXT,
        }
    ),
    "KeyRotation": an(
        {
            "now": TIME,
            "since": TIME,
            "endpoints": COUNT,
            "encrypted_since": COUNT,
            "oldest_encrypted_at": maybe(TIME),
        }
    ),
    "Error": an({"error": TEXT}),
    "Errors": an(
        {
            "error": {**TEXT, "description": "The problems that LinK would tell, in its words"},
            "errors": {"type": "object", "additionalProperties": a_list(TEXT, minItems=1)},
        }
    ),
}


def query(name: str, schema: Schema, says: str, *, required: bool = False) -> Schema:
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": says}


ENDPOINT = {"name": "id", "in": "path", "required": True, "schema": ID, "description": "The endpoint"}
OF_RESOURCE = query("resource_id", RESOURCE_ID, "The resource", required=True)
LIMIT = query(
    "limit",
    _range((1, PAGE_SIZE)) | {"default": PAGE_SIZE},
    "Maximum number of results. A page can be shorter although there is a `next`",
)
LIMIT_OF_TRANSITIONS = {**LIMIT, "schema": LIMIT["schema"] | {"default": 100}}
BEFORE = query("before", _range((1, LARGEST)), "`next` of the previous page")
AFTER = query("after", {**TEXT, "minLength": 1, "maxLength": 256}, "`next` of the previous page")
TOKEN = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!-~]{1,256}$"},
    "description": "While the endpoint exists, the same key returns the same endpoint",
}


def operation(
    says: str,
    *answers: tuple[int, Schema | None],
    errors: tuple[int, ...] = (),
    parameters: tuple[Schema, ...] = (),
    body: Schema | None = None,
    body_required: bool = True,
) -> Schema:
    """One method of one path. `answers` are the successful ones."""
    responses: dict[str, Any] = {}
    for status, schema in answers:
        responses[str(status)] = {"description": "Done"} | (
            {} if schema is None else {"content": {"application/json": {"schema": schema}}}
        )
    for status in errors:
        schema = ref("Errors" if status == 422 else "Error")
        responses[str(status)] = {"description": ERRORS[status], "content": {"application/json": {"schema": schema}}}
    made: Schema = {"summary": says, "parameters": list(parameters), "responses": responses}
    if body is not None:
        made["requestBody"] = {"required": body_required, "content": {"application/json": {"schema": body}}}
    return made


def _page(name: str, of: Schema, next_one: Schema) -> Schema:
    return an({name: a_list(of), "next": next_one}, "next")


CHANGE = operation(
    "Changes the fields in the body. PUT does the same, as in LinK.",
    (200, {"anyOf": [ref("Endpoint"), an({"change": ref("Outlook")})]}),
    errors=(400, 404, 409, 422),
    parameters=(
        ENDPOINT,
        query("force", FLAG, "Drain the last ready endpoint of its resource, too"),
        query("dry_run", FLAG, "Writes nothing; answers with the holder and the webhooks that would follow"),
    ),
    body=ref("Change"),
)
PATHS: dict[str, dict[str, Schema]] = {
    "/endpoints": {
        "get": operation(
            "Lists endpoints, oldest first on each page. `next` is there if there are more.",
            (200, _page("endpoints", ref("Endpoint"), TEXT)),
            errors=(400,),
            parameters=(LIMIT, AFTER),
        ),
        "post": operation(
            "Registers an endpoint. It is BOOTING until its host reports.",
            (201, an({"endpoint": ref("Endpoint")})),
            errors=(400, 409, 422),
            parameters=(TOKEN,),
            body=ref("Registration"),
        ),
    },
    "/endpoints/{id}": {
        "get": operation(
            "Shows one endpoint.", (200, an({"endpoint": ref("Endpoint")})), errors=(400, 404), parameters=(ENDPOINT,)
        ),
        "put": CHANGE,
        "patch": CHANGE,
        "delete": operation(
            "Deletes an endpoint. Its receiver gets a STANDBY if it may believe the endpoint active.",
            (204, None),
            errors=(400, 404, 409),
            parameters=(ENDPOINT, query("force", FLAG, "Delete at once and do not send its receiver a STANDBY")),
        ),
    },
    "/endpoints/{id}/failover": {
        "post": operation(
            "Hands over from the active endpoint to another one that is ready.",
            (204, None),
            (200, an({"failover": ref("Outlook")})),
            errors=(400, 404, 409, 422),
            parameters=(
                ENDPOINT,
                query("dry_run", FLAG, "Writes nothing; answers 200 with the endpoint that would win"),
            ),
            body={"type": "object", "properties": {"to": ID}},
            body_required=False,
        )
    },
    "/endpoints/{id}/hosts": {
        "get": operation(
            "Lists the hosts that compete for the resource, its own included.",
            (200, an({"hosts": a_list(an({"hostname": TEXT}))})),
            errors=(400, 404),
            parameters=(ENDPOINT,),
        )
    },
    "/endpoints/{id}/preview": {
        "get": operation(
            "Shows its next webhook. Nothing is sent; secret values are null.",
            (200, an({"request": ref("Request")})),
            errors=(400, 404, 409),
            parameters=(ENDPOINT,),
        )
    },
    "/endpoints/{id}/redeliver": {
        "post": operation(
            "Sends the current status to its receiver again.",
            (204, None),
            errors=(400, 404, 409),
            parameters=(ENDPOINT,),
        )
    },
    "/endpoints/{id}/probe": {
        "post": operation(
            "Looks once at each of its checks, and changes nothing.",
            (200, an({"probe": an({"up": FLAG, "checks": a_list(an({**_CHECK, "reason": TEXT}, *_OF_HTTP))})})),
            errors=(400, 404, 409),
            parameters=(ENDPOINT,),
        )
    },
    "/encrypted_storage/key_rotation": {
        "get": operation(
            "Counts the endpoints that were encrypted at `since` or later.",
            (200, an({"key_rotation": ref("KeyRotation")})),
            errors=(400,),
            parameters=(query("since", _range((0, LARGEST)), "Unix milliseconds"),),
        ),
        "post": operation("Starts encrypting every stored secret again; it continues in the background.", (204, None)),
    },
    "/resources": {
        "get": operation(
            "Lists resources; with `resource_id`, that resource in full. `next` is there if there are more.",
            (200, {"anyOf": [_page("resources", ref("ResourceSummary"), TEXT), an({"resource": ref("Resource")})]}),
            errors=(400, 404),
            parameters=({**OF_RESOURCE, "required": False}, LIMIT, AFTER),
        ),
        "patch": operation(
            "Freezes a resource, so that its holder stays whatever is reported, or unfreezes it.",
            (200, an({"resource": ref("Resource")})),
            errors=(400, 404, 409, 422),
            parameters=(OF_RESOURCE,),
            body={"type": "object", "properties": {"frozen": FLAG}, "required": ["frozen"]},
        ),
    },
    "/transitions": {
        "get": operation(
            "Lists the transitions of a resource, newest first.",
            (200, _page("transitions", ref("Transition"), COUNT)),
            errors=(400,),
            parameters=(OF_RESOURCE, LIMIT_OF_TRANSITIONS, BEFORE),
        )
    },
    "/version": {"get": operation("Shows the deployment's version.", (200, an({"version": TEXT})))},
}


def document() -> Schema:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "link-webhook",
            "version": VERSION,
            "description": "One active endpoint per resource. Every request must be signed with AWS Signature Version "
            "4 for the service execute-api. API Gateway answers 403 to any other request, and 429 above the account's "
            "rate.",
        },
        "security": [{"sigv4": []}],
        "paths": PATHS,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"sigv4": {"type": "apiKey", "name": "Authorization", "in": "header"}},
        },
    }


def text() -> str:
    """The content of the file."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(text())
