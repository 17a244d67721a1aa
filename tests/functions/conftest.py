"""The functions on moto: every test gets the deployment of template.yaml, empty, and functions that start cold."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.support.deployed import create_tables
from tests.support.deployed import settings as deployment_settings
from tests.support.ids import RESOURCE, SECRETS
from tests.support.receiver import LoopbackReceiver

EVENTS = Path(__file__).parents[2] / "events"
QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/"

# Read when a function is imported, as in Lambda.
os.environ.update(
    LOCKS_TABLE="locks",
    ENDPOINTS_TABLE="endpoints",
    TRANSITIONS_TABLE="transitions",
    WAKE_UP_QUEUE_URL=QUEUE_URL + "wake-up",
    REJECTED_EVENTS_QUEUE_URL=QUEUE_URL + "rejected",
    SECRETS_KEY_ARN="alias/link-webhook",
    ALLOWED_NETWORKS="127.0.0.0/8",
)


class Context:
    """A Lambda context with a whole invocation left."""

    function_name = "function"
    memory_limit_in_mb = 256
    invoked_function_arn = "arn:aws:lambda:eu-west-1:123456789012:function:function"
    aws_request_id = "52fdfc07-2182-454f-963f-5f0f9a621d72"

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


LAST_EVENT_AT = 1_795_435_442_000
"""2026-11-23T12:04:02Z, after every time in events/ but the one in the future."""


def event(name: str) -> dict[str, Any]:
    """events/<name>.json, with its times moved so that the last of them is now."""
    moved = time.time_ns() // 1_000_000 - LAST_EVENT_AT
    text = (EVENTS / f"{name}.json").read_text()
    loaded: dict[str, Any] = json.loads(re.sub(r"17954[0-9]{8}", lambda at: str(int(at[0]) + moved), text))
    return loaded


@dataclass
class Deployment:
    """Tables, key and queues on moto, and the four functions."""

    receiver: LoopbackReceiver
    monkeypatch: pytest.MonkeyPatch
    dynamodb: Any = field(init=False)
    sqs: Any = field(init=False)
    kms: Any = field(init=False)

    def __post_init__(self) -> None:
        self.dynamodb, self.sqs, self.kms = (boto3.client(service) for service in ("dynamodb", "sqs", "kms"))
        create_tables(self.dynamodb, deployment_settings())
        for queue in ("wake-up", "rejected"):
            self.sqs.create_queue(QueueName=queue)
        key = self.kms.create_key()["KeyMetadata"]["KeyId"]
        self.kms.create_alias(AliasName="alias/link-webhook", TargetKeyId=key)

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        """Invokes functions/<function>/app.py in a process that has just started."""
        for name in ("link.process", f"functions.{function}.app"):
            sys.modules.pop(name, None)
        return importlib.import_module(f"functions.{function}.app").handler(event, Context())

    def register(self, *endpoint_ids: str, **more: Any) -> None:
        """Registers endpoints under known ids, through the API."""
        for endpoint_id in endpoint_ids:
            with self.monkeypatch.context() as patch:
                patch.setattr("link.control.uuid.uuid4", lambda id=endpoint_id: uuid.UUID(id.removeprefix("vip-")))
                body = {
                    "plugin": "webhook",
                    "plugin_config": {
                        "url": self.receiver.url,
                        "resource_id": RESOURCE,
                        "secret": SECRETS[endpoint_id],
                    },
                    **more,
                }
                answer = self.invoke("endpoints_api", {**event("api_create"), "body": json.dumps(body)})
            assert answer["statusCode"] == 201, answer
            assert json.loads(answer["body"])["endpoint"]["id"] == endpoint_id

    def statuses(self) -> dict[str, str]:
        """Status of every endpoint of the resource, as stored."""
        item = self.dynamodb.get_item(TableName="locks", Key={"resource_id": {"S": RESOURCE}}).get("Item")
        entries = item["endpoints"]["M"] if item else {}
        return {i: entry["M"].get("s", {"S": "BOOTING"})["S"] for i, entry in entries.items()}

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """What lies in a queue; read, not deleted."""
        found = []
        while batch := self.sqs.receive_message(QueueUrl=QUEUE_URL + queue, MaxNumberOfMessages=10).get("Messages"):
            found += [json.loads(message["Body"]) for message in batch]
        return found


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with mock_aws(), LoopbackReceiver() as receiver:
        yield Deployment(receiver, monkeypatch)
