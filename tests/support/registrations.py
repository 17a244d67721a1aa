"""A registration of paris with the webhook, as version 0.1 stored it and as the code reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from link.plugins.webhook.config import StoredWebhook
from link.registration import Registration
from tests.support.ids import NOW, PARIS, URL

STORED: dict[str, Any] = {
    "endpoint_id": {"S": PARIS},
    "revision": {"N": "1"},
    "plugin": {"S": "webhook"},
    "resource_id": {"S": "ip ü"},
    "url": {"S": URL},
    "ciphertext": {"B": b"\x00\xff"},
    "header_names": {"L": [{"S": "Authorization"}, {"S": "X-Site"}]},
    "checks": {"S": '[{"type": "TCP", "host": "203.0.113.7", "port": 443}]'},
    "healthcheck_interval": {"N": "10"},
    "host": {"S": "paris"},
    "priority": {"N": "-5"},
    "lease_seconds": {"N": "30"},
    "created_at": {"N": "1795435200000"},
    "encrypted_at": {"N": "1795435200000"},
}
"""What the code of version 0.1 wrote, attribute by attribute."""

REGISTERED = Registration(
    endpoint_id=PARIS,
    plugin="webhook",
    resource_id="ip ü",
    config={
        "url": URL,
        "ciphertext": b"\x00\xff",
        "header_names": ("Authorization", "X-Site"),
        "encrypted_at": NOW,
    },
    revision=1,
    host="paris",
    priority=-5,
    lease_seconds=30,
    checks=({"type": "TCP", "host": "203.0.113.7", "port": 443},),
    healthcheck_interval=10,
    created_at=NOW,
)


def with_config(registration: Registration = REGISTERED, **changes: Any) -> dict[str, Any]:
    """The config of a registration with other attributes; None removes an attribute."""
    changed = {**registration.config, **changes}
    return {name: value for name, value in changed.items() if value is not None}


REGISTERED_AT = NOW - 1_000
WEBHOOK = StoredWebhook(
    url=URL, ciphertext=b"\x00\xff", header_names=("Authorization", "X-Site"), encrypted_at=REGISTERED_AT
)


def registration(**webhook: Any) -> Registration:
    """paris, registered a second ago, with some of its webhook's attributes replaced."""
    return replace(REGISTERED, config=replace(WEBHOOK, **webhook).attributes(), created_at=REGISTERED_AT)
