"""Webhooks as they are sent and received in tests."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from link.plugins.webhook import wire
from link.plugins.webhook.wire import Announcement
from link.receiver import Webhook, parse_and_validate_webhook
from tests.support.ids import PARIS, RESOURCE

VECTORS = Path(__file__).parents[1] / "vectors"
RECORDED: list[dict[str, Any]] = json.loads((VECTORS / "link_v3.3.0_webhooks.json").read_text())
NOW = 1_795_435_200
"""Unix seconds."""
SECRET = "paris' secret"
ANNOUNCED = Announcement(PARIS, RESOURCE, "webhook", "ACTIVATED", epoch=7, sequence=3, reason="elected", attempt=1)


def sent(
    announcement: Announcement = ANNOUNCED,
    secrets: Sequence[str] = (SECRET,),
    headers: Mapping[str, str] | None = None,
    timestamp: int = NOW,
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of one attempt."""
    return wire.request(announcement, secrets, headers or {}, timestamp=timestamp)


def received(headers: Any, body: bytes, secrets: Any = SECRET, now: int = NOW) -> Webhook:
    """The webhook that a receiver reads from a request; raises WebhookError."""
    return parse_and_validate_webhook(secrets, headers, body, now=now)


def captured(name: str) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of a request that was captured from LinK."""
    head, body = (VECTORS / name).read_bytes().split(b"\r\n\r\n")
    pairs = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
    return [(name, value) for name, _, value in pairs], body


def announced(endpoint_id: str, status: str, epoch: int, sequence: int) -> Announcement:
    """One announcement of the resource."""
    return dataclasses.replace(ANNOUNCED, endpoint_id=endpoint_id, status=status, epoch=epoch, sequence=sequence)


def verified(endpoint_id: str, status: str, epoch: int, sequence: int) -> Webhook:
    """One announcement of the resource, as a receiver reads it."""
    body, headers = sent(announced(endpoint_id, status, epoch, sequence))
    return received(headers, body)
