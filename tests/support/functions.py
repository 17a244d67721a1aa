"""The functions on moto: the deployment of template.yaml, empty, with functions that start cold."""

from __future__ import annotations

import functools
import importlib
import io
import json
import re
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from link.chance import Chance
from tests.support.deployed import create_tables, environment, settings
from tests.support.ids import RESOURCE, SECRETS
from tests.support.receiver import LoopbackReceiver

EVENTS = Path(__file__).parents[2] / "events"
QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/"
KEY = "alias/link-webhook"
LAST_EVENT_AT = 1_795_435_442_000
"""2026-11-23T12:04:02Z, the latest time in events/, except for the one that is in the future on purpose."""


class Context:
    """A Lambda context with 30 s left, and with its own id."""

    function_name = "function"
    memory_limit_in_mb = 256
    invoked_function_arn = "arn:aws:lambda:eu-west-1:123456789012:function:function"

    def __init__(self) -> None:
        self.aws_request_id = str(uuid.uuid4())

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


def event(name: str) -> dict[str, Any]:
    """events/<name>.json, with all times moved so that the latest of them is now."""
    moved = time.time_ns() // 1_000_000 - LAST_EVENT_AT
    text = (EVENTS / f"{name}.json").read_text()
    loaded: dict[str, Any] = json.loads(re.sub(r"17954[0-9]{8}", lambda at: str(int(at[0]) + moved), text))
    return loaded


class Lambda:
    """Records each invocation and invokes nothing; `invoked` is called each time, and `answer` is the answer."""

    def __init__(self) -> None:
        self.invocations: list[dict[str, Any]] = []
        self.invoked: Callable[[], None] = lambda: None
        self.answer: Any = None

    def invoke(self, **call: Any) -> dict[str, Any]:
        self.invocations.append(call)
        self.invoked()
        return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(self.answer).encode())}


_new_client = boto3.client


@functools.cache
def _client(service: str, **options: Any) -> Any:
    """One client for all tests: it has no state, and making one takes as long as ten calls."""
    return _new_client(service, **options)  # type: ignore[call-overload]


@dataclass
class Deployment:
    """Tables, key and queues on moto, and the functions. Lambda itself is a double: moto would need containers."""

    receiver: LoopbackReceiver
    monkeypatch: pytest.MonkeyPatch
    dynamodb: Any = field(init=False)
    sqs: Any = field(init=False)
    kms: Any = field(init=False)
    awslambda: Lambda = field(default_factory=Lambda)
    doubles: dict[str, Any] = field(init=False)
    """Clients that take the place of moto's, by service."""
    request_id: str = ""
    """Lambda's id of the last invocation."""
    _started: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.doubles = {"lambda": self.awslambda}
        self.monkeypatch.setattr(boto3, "client", self._client)
        self.dynamodb, self.sqs, self.kms = (boto3.client(service) for service in ("dynamodb", "sqs", "kms"))
        create_tables(self.dynamodb, settings())
        for queue in ("status", "wake-up", "rejected", "probe", "signal"):
            self.sqs.create_queue(QueueName=queue)
        key = self.kms.create_key()["KeyMetadata"]["KeyId"]
        self.kms.create_alias(AliasName=KEY, TargetKeyId=key)
        variables = {
            **environment(key=KEY),
            "STATUS_QUEUE_URL": QUEUE_URL + "status",
            "WAKE_UP_QUEUE_URL": QUEUE_URL + "wake-up",
            "REJECTED_EVENTS_QUEUE_URL": QUEUE_URL + "rejected",
            "PROBE_QUEUE_URL": QUEUE_URL + "probe",
            "SIGNAL_QUEUE_URL": QUEUE_URL + "signal",
            "ALLOWED_NETWORKS": "127.0.0.0/8",
            "MAX_ENDPOINTS": "1000",
        }
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)

    def _client(self, service: str, **options: Any) -> Any:
        return self.doubles[service] if service in self.doubles else _client(service, **options)

    def invoke(self, function: str, event: dict[str, Any], *, warm: bool = False) -> Any:
        """Invokes functions/<function>/app.py in a new process or, if `warm`, in the previous one."""
        name = f"functions.{function}.app"
        if not warm or name not in self._started:
            sys.modules.pop(name, None)
        self._started.add(name)
        context = Context()
        self.request_id = context.aws_request_id
        return importlib.import_module(name).handler(event, context)

    def register(self, *endpoint_ids: str, **more: Any) -> None:
        """Registers endpoints under known ids, through the API."""
        for endpoint_id in endpoint_ids:
            with self.monkeypatch.context() as patch:
                patch.setattr(Chance, "uuid", lambda chance, id=endpoint_id: id.removeprefix("vip-"))
                config = {"url": self.receiver.url, "resource_id": RESOURCE, "secret": SECRETS[endpoint_id]}
                body = {"plugin": "webhook", "plugin_config": config, **more}
                answer = self.invoke("endpoints_api", {**event("api_create"), "body": json.dumps(body)})
            assert answer["statusCode"] == 201, answer
            assert json.loads(answer["body"])["endpoint"]["id"] == endpoint_id

    def report(self, *names: str) -> None:
        """Handles the status events of events/<name>.json; each batch as a whole succeeds."""
        for name in names:
            assert self.invoke("endpoint_status", event(name)) == {"batchItemFailures": []}

    def statuses(self) -> dict[str, str]:
        """Status of every endpoint of the resource, as stored."""
        item = self.dynamodb.get_item(TableName="locks", Key={"resource_id": {"S": RESOURCE}}).get("Item")
        entries = item["endpoints"]["M"] if item else {}
        return {i: entry["M"].get("s", {"S": "BOOTING"})["S"] for i, entry in entries.items()}

    def registration(self, endpoint_id: str) -> dict[str, Any]:
        """A registration as stored."""
        key = {"endpoint_id": {"S": endpoint_id}}
        item: dict[str, Any] = self.dynamodb.get_item(TableName="endpoints", Key=key)["Item"]
        return item

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """What is in a queue; read, not deleted."""
        found = []
        while batch := self.sqs.receive_message(QueueUrl=QUEUE_URL + queue, MaxNumberOfMessages=10).get("Messages"):
            found += [json.loads(message["Body"]) for message in batch]
        return found
