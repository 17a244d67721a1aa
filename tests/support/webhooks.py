"""Webhooks as they are sent and received in tests."""

import dataclasses
import json
from pathlib import Path

from link.plugins.webhook import wire
from link.plugins.webhook.wire import Announcement
from link.receiver import parse_and_validate_webhook

VECTORS = Path(__file__).parents[1] / "vectors"
RECORDED = json.loads((VECTORS / "link_v3.3.0_webhooks.json").read_text())
from tests.support.ids import LONDON, PARIS, RESOURCE

NOW = 1_795_435_200
SECRET = "paris' secret"
ANNOUNCED = Announcement(PARIS, RESOURCE, "webhook", "ACTIVATED", epoch=7, sequence=3, reason="elected", attempt=1)


def sent(announcement=ANNOUNCED, secrets=(SECRET,), headers=None, timestamp=NOW):
    return wire.request(announcement, secrets, headers or {}, timestamp=timestamp)


def received(headers, body, secrets=SECRET, now=NOW, **seen):
    return parse_and_validate_webhook(secrets, headers, body, now=now, **seen)


def captured(name):
    head, body = (VECTORS / name).read_bytes().split(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return [tuple(line.split(": ", 1)) for line in lines], body


def told(endpoint_id, status, epoch, sequence):
    return dataclasses.replace(ANNOUNCED, endpoint_id=endpoint_id, status=status, epoch=epoch, sequence=sequence)


def verified(*announcement):
    body, headers = sent(told(*announcement))
    return received(headers, body)
