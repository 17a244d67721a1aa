"""The functions as template.yaml deploys them with given parameters, at a time that the test holds."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from link import deployment
from link.probing.checks import Check
from link.probing.looks import Looker, Looks
from link.probing.states import SLOT_MS
from link.store import aws
from scripts.cloud import template
from tests.support.functions import KEY, QUEUE_URL, Deployment, event
from tests.support.hands import HeldClock
from tests.support.ids import RESOURCE

TEMPLATE = template()
PARAMETERS: dict[str, dict[str, Any]] = TEMPLATE["Parameters"]
FUNCTIONS = [one["Properties"] for one in TEMPLATE["Resources"].values() if one["Type"] == "AWS::Serverless::Function"]
VARIABLES: dict[str, Any] = {
    name: value
    for one in (TEMPLATE["Globals"]["Function"], *FUNCTIONS)
    for name, value in one.get("Environment", {"Variables": {}})["Variables"].items()
}
"""The variables of all functions together: no two functions have different values for one."""
_STACK = {"AWS::StackName": "link-webhook", "AWS::Region": "eu-west-1", "AWS::URLSuffix": "amazonaws.com"}
_ON_MOTO = {
    "LocksTable": "locks",
    "EndpointsTable": "endpoints",
    "TransitionsTable": "transitions",
    "ProbesTable": "probes",
    "SignalsTable": "signals",
    "StatusQueue": f"{QUEUE_URL}status",
    "WakeUpQueue": f"{QUEUE_URL}wake-up",
    "RejectedEventsQueue": f"{QUEUE_URL}rejected",
    "ProbeQueue": f"{QUEUE_URL}probe",
    "SignalQueue": f"{QUEUE_URL}signal",
    "EventBus": "link-webhook-events",
    "SecretsKey": KEY,
    "KeyRotationFunction.Alias": "arn:aws:lambda:eu-west-1:123456789012:function:key-rotation:live",
    "ProbeFunction.Alias": "arn:aws:lambda:eu-west-1:123456789012:function:probe:live",
}
"""What `Deployment` has for the resources that the functions' variables name."""


def environment(**parameters: str) -> dict[str, str]:
    """The variables that a deployment with these parameters, and otherwise the defaults, gives to its functions."""
    given: dict[str, Any] = {name: str(parameter["Default"]) for name, parameter in PARAMETERS.items()} | parameters
    names = given | _ON_MOTO | _STACK

    def resolved(value: Any) -> str:
        match value:
            case str():
                return value
            case {"Ref": name} | {"Fn::GetAtt": [name, "Arn"]}:
                return str(names[name])
            case {"Fn::If": [condition, one, other]}:
                return resolved(one if evaluated(TEMPLATE["Conditions"][condition], given) else other)
            case {"Fn::Sub": text}:
                return re.sub(r"\$\{([\w:]+)\}", lambda found: str(names[found[1]]), text)
        raise NotImplementedError(value)

    return {name: resolved(value) for name, value in VARIABLES.items()}


def evaluated(expression: Any, parameters: dict[str, Any]) -> Any:
    """What a condition or the assertion of a rule comes to, as far as ours use CloudFormation's functions."""
    match expression:
        case str():
            return expression
        case {"Ref": name}:
            return parameters[name]
        case {"Fn::Not": [inner]}:
            return not evaluated(inner, parameters)
        case {"Condition": name}:
            return evaluated(TEMPLATE["Conditions"][name], parameters)
        case {"Fn::Or": parts}:
            return any(evaluated(part, parameters) for part in parts)
        case {"Fn::Equals": [one, other]}:
            return evaluated(one, parameters) == evaluated(other, parameters)
        case {"Fn::Join": [separator, parts]}:
            return separator.join(evaluated(parts, parameters))
        case {"Fn::Split": [separator, text]}:
            return evaluated(text, parameters).split(separator)
        case {"Fn::EachMemberEquals": [members, text]}:
            return all(member == text for member in evaluated(members, parameters))
    raise NotImplementedError(expression)


def parameters_in(value: Any) -> set[str]:
    """The template's parameters that a value uses."""
    return {name for name in PARAMETERS if re.search(rf'"{name}"|\$\{{{name}\}}', json.dumps(value))}


class Stack:
    """The functions on moto. `deploy` gives them the variables of other parameters; each invocation starts cold."""

    def __init__(self, functions: Deployment) -> None:
        self.functions = functions
        self.clock = HeldClock(time.time_ns() // 1_000_000)
        functions.monkeypatch.setattr(deployment, "Clock", lambda: self.clock)
        self.deploy()

    def deploy(self, **parameters: str) -> None:
        """Updates the stack. Without `AllowedNetworks` the receiver on loopback may be called."""
        for name, value in environment(**{"AllowedNetworks": "127.0.0.0/8", **parameters}).items():
            self.functions.monkeypatch.setenv(name, value)

    def register(self, resource_id: str = RESOURCE, host: str = "paris", **more: Any) -> tuple[int, dict[str, Any]]:
        """Registers an endpoint through the API; returns the status and the body of the answer."""
        config = {"url": self.functions.receiver.url, "resource_id": resource_id, "secret": f"{host}-secret-0123456789"}
        body = {"plugin": "webhook", "plugin_config": config, "host": host, **more}
        return self.call("api_create", body)

    def call(self, name: str, body: object, **more: Any) -> tuple[int, dict[str, Any]]:
        """Calls the API with the request of events/<name>.json and another body."""
        answer = self.functions.invoke("endpoints_api", {**event(name), "body": json.dumps(body), **more})
        return answer["statusCode"], json.loads(answer["body"] or "{}")

    def registered(self, resource_id: str = RESOURCE, host: str = "paris", **more: Any) -> str:
        """Registers an endpoint; returns its id."""
        status, body = self.register(resource_id, host, **more)
        assert status == 201, body
        endpoint_id: str = body["endpoint"]["id"]
        return endpoint_id

    def status_event(self, endpoint_id: str, status: str, resource_id: str = RESOURCE) -> str:
        """The event that a host sends now, as the status queue has it."""
        sent: dict[str, Any] = json.loads(event("status_winner")["Records"][0]["body"])
        detail = {"endpoint_id": endpoint_id, "status": status, "resource_id": resource_id}
        return json.dumps({**sent, "detail": {**detail, "reported_at": self.clock.at}})

    def report(self, endpoint_id: str, status: str) -> None:
        """Has a host's report handled."""
        answer = self.functions.invoke("endpoint_status", batch(self.status_event(endpoint_id, status)))
        assert answer == {"batchItemFailures": []}

    def next_minute(self) -> dict[str, Any]:
        """The clock's event of the minute that begins next. Then its first slot begins, and none is over."""
        begins = self.clock.at // 60_000 * 60 + 60
        self.clock.at = (begins + 10) * 1_000
        return {**event("schedule_tick"), "time": datetime.fromtimestamp(begins, UTC).isoformat()}

    def probe(self) -> None:
        """Has the present slot handled; the next one begins. There is one shard."""
        slot = {"shard": 0, "of": 1, "slot": self.clock.at // SLOT_MS}
        assert self.functions.invoke("probe", batch(json.dumps(slot))) is None
        self.clock.at += SLOT_MS

    def look(self, reason: Callable[[Check], str], *, lag_ms: int = 0) -> list[Check]:
        """From now on, probes see the reason of each check and connect to nothing; returns what they will look at."""
        seen: list[Check] = []

        def look(looker: Looker, wanted: Mapping[Check, int]) -> Looks:
            seen.extend(wanted)
            return Looks({check: reason(check) for check in wanted}, lag_ms)

        self.functions.monkeypatch.setattr(Looker, "look", look)
        return seen

    def told(self) -> list[dict[str, Any]]:
        """The entries that an observer of ours puts on the bus from now on. The bus takes each and passes on none."""
        entries: list[dict[str, Any]] = []

        def put_events(Entries: list[dict[str, Any]]) -> dict[str, Any]:
            entries.extend(Entries)
            return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in Entries]}

        self.functions.monkeypatch.setattr(aws.client("events"), "put_events", put_events)
        return entries

    def pass_on(self, entry: dict[str, Any]) -> None:
        """Has what an observer of ours put on the bus handled as a status event."""
        sent: dict[str, Any] = json.loads(event("status_winner")["Records"][0]["body"])
        passed = {"source": entry["Source"], "detail-type": entry["DetailType"], "detail": json.loads(entry["Detail"])}
        assert self.functions.invoke("endpoint_status", batch(json.dumps(sent | passed))) == {"batchItemFailures": []}

    def wake_up(self, due_at: int | None = None, resource_id: str = RESOURCE) -> None:
        """Has a wake-up message handled; without `due_at` the one that the item says, when it is due."""
        if due_at is None:
            due_at = self.clock.at = self.due_at(resource_id)
        message = json.dumps({"resource_id": resource_id, "due_at": due_at})
        assert self.functions.invoke("reconcile", batch(message)) == {"batchItemFailures": []}

    def calls(self, service: str, method: str) -> list[dict[str, Any]]:
        """The calls of a client's method that the functions make from now on. They have no effect."""
        made: list[dict[str, Any]] = []
        self.functions.monkeypatch.setattr(aws.client(service), method, lambda **call: made.append(call))
        return made

    def item(self, resource_id: str = RESOURCE) -> dict[str, Any]:
        """The lock item as stored."""
        item: dict[str, Any] = self.functions.dynamodb.get_item(
            TableName="locks", Key={"resource_id": {"S": resource_id}}
        )["Item"]
        return item

    def due_at(self, resource_id: str = RESOURCE) -> int:
        """When something has to be done for the resource next."""
        return int(self.item(resource_id)["due_at"]["N"])


def batch(*bodies: str) -> dict[str, Any]:
    """An SQS batch; the ids of its messages are message-0, message-1, …, their receipt handles handle-0, …"""
    (record,) = event("wake_up")["Records"]
    return {
        "Records": [
            {**record, "messageId": f"message-{number}", "receiptHandle": f"handle-{number}", "body": body}
            for number, body in enumerate(bodies)
        ]
    }
