"""Run by test_kill.py: handles one report, and kills its own process with SIGKILL at a chosen moment."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from link import deployment
from link.election.result import Result
from link.plugins.webhook.sender import Sender
from link.reports import parse
from link.settings import load
from scripts.cloud import Cloud


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killer:
    """A DynamoDB client that kills the process before its second write: the outcome is never stored."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        if name == "put_item":
            die()
        return getattr(self._client, name)


def main() -> None:
    order = json.loads(sys.argv[1])
    cloud = Cloud(order["endpoint_url"], Path(os.devnull), 0)
    sender = Sender(allowed_networks=load(order["environment"]).allowed_networks)

    def post(url: str, body: bytes, headers: dict[str, str], *, not_after: int) -> Result:
        if order["moment"] == "before the webhook":
            die()
        result = sender.post(url, body, headers, not_after=not_after)
        if order["moment"] == "after the webhook":
            die()
        return result

    def client(service: str) -> Any:
        made = cloud.client(service)
        deadly = service == "dynamodb" and order["moment"] == "before the outcome is written"
        return Killer(made) if deadly else made

    reconciler = deployment.reconciler(order["environment"], client=client, post=post)
    reconciler.receive(parse(order["event"]), lambda: 30.0)
    print("survived")


if __name__ == "__main__":
    main()
