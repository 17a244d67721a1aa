"""One resource on the local cloud, as hosts and operators see it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from link.election.state import Resource
from link.store.lock_item import from_item
from scripts.cloud import REGION, ROOT, Cloud
from tests.support.receiver import LoopbackReceiver


@dataclass
class Site:
    """One resource of its own on the shared cloud, with the endpoints a test registers for it."""

    cloud: Cloud
    receiver: LoopbackReceiver
    resource_id: str

    def register(self, host: str, **more: Any) -> str:
        """Registers an endpoint; its secret is its host's name, made longer."""
        config = {"url": self.receiver.url, "resource_id": self.resource_id, "secret": secret(host)}
        body = {"plugin": "webhook", "plugin_config": {**config, **more.pop("plugin_config", {})}, "host": host, **more}
        status, answer = self.cloud.call("POST", "/endpoints", body)
        assert status == 201, answer
        endpoint_id: str = answer["endpoint"]["id"]
        return endpoint_id

    def put(self, detail: dict[str, Any]) -> None:
        """Puts a status event on the bus, as a host does."""
        entry = {"EventBusName": self.cloud.outputs["EventBusName"], "Source": "link"}
        entry |= {"DetailType": "Endpoint Status Change", "Detail": json.dumps(detail)}
        answer = self.cloud.client("events", "host").put_events(Entries=[entry])
        assert answer["FailedEntryCount"] == 0, answer

    def report(self, endpoint_id: str, status: str) -> None:
        detail = {"endpoint_id": endpoint_id, "status": status, "resource_id": self.resource_id}
        self.put({**detail, "reported_at": time.time_ns() // 1_000_000})

    def sweep(self) -> None:
        """Runs the scheduled function now."""
        answer = self.cloud.client("lambda").invoke(
            FunctionName=self.cloud.outputs["RefreshFunctionName"], Payload="{}"
        )
        assert "FunctionError" not in answer, answer["Payload"].read()

    def resource(self) -> Resource:
        """The lock item as stored."""
        key = {"resource_id": {"S": self.resource_id}}
        table = self.cloud.outputs["LocksTableName"]
        answer = self.cloud.client("dynamodb").get_item(TableName=table, Key=key, ConsistentRead=True)
        return from_item(answer["Item"]) if "Item" in answer else Resource(self.resource_id)

    def transitions(self) -> list[dict[str, Any]]:
        """The audit of the resource, oldest first."""
        pages = (
            self.cloud.client("dynamodb")
            .get_paginator("query")
            .paginate(
                TableName=self.cloud.outputs["TransitionsTableName"],
                KeyConditionExpression="resource_id = :r",
                ExpressionAttributeValues={":r": {"S": self.resource_id}},
            )
        )
        return [item for page in pages for item in page["Items"]]


def linkctl_environment(cloud: Cloud, user: str) -> dict[str, str]:
    """Everything that a linkctl in a process of its own gets to see."""
    keys = cloud.credentials(user)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "cli"),
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_REGION": REGION,
        "LINKCTL_API_URL": cloud.api_url(),
        "LINKCTL_EVENT_BUS": cloud.outputs["EventBusName"],
        "AWS_ENDPOINT_URL": cloud.endpoint_url,
        "NO_PROXY": "127.0.0.1",
    }


def secret(host: str) -> str:
    return f"{host}-secret-0123456789abcdef0123456789"


def eventually(what: str, condition: Callable[[], object], seconds: float = 60) -> None:
    """Returns as soon as `condition` holds; fails after `seconds`."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.1)
