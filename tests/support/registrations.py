"""A registration of paris as it is stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from link.plugins.webhook.config import StoredWebhook
from link.registration import Registration
from tests.support.ids import NOW, PARIS, URL

WEBHOOK = StoredWebhook(
    url=URL, ciphertext=b"\x00\xff", header_names=("Authorization", "X-Site"), encrypted_at=NOW - 1_000
)


def registration(**webhook: Any) -> Registration:
    """paris, registered with everything that it can have; with some of its webhook's attributes replaced."""
    return Registration(
        endpoint_id=PARIS,
        plugin="webhook",
        resource_id="ip ü",
        config=replace(WEBHOOK, **webhook).attributes(),
        host="paris",
        priority=-5,
        lease_seconds=30,
        checks=({"type": "TCP", "host": "203.0.113.7", "port": 443},),
        healthcheck_interval=10,
        created_at=NOW - 1_000,
    )
