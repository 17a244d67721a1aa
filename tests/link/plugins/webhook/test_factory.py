from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from link.election.deliveries import Delivery
from link.election.result import Result, ResultKind
from link.election.state import Status
from link.plugins.seam import Config, Plugin
from link.plugins.webhook.config import Registration
from link.plugins.webhook.factory import WebhookFactory, election_key
from link.plugins.webhook.sealed import Sealed
from link.receiver import parse_and_validate_webhook
from link.store.aws import error_code
from tests.link.test_registry import PARIS
from tests.support.deployed import settings
from tests.world import START, VirtualClock

SECRETS = ({"value": "old-secret", "from": 1, "until": START + 1}, {"value": "new-secret", "from": 2, "until": None})
DELIVERY = Delivery(
    endpoint_id="vip-1",
    resource_id="ip ü",
    revision=1,
    token="token",
    until=START + 15_000,
    status=Status.ACTIVATED,
    epoch=7,
    sequence=3,
    reason="elected",
    attempt=2,
    refreshed_at=None,
)


class Vault:
    """Opens every ciphertext as `sealed`, or fails; remembers what it was asked."""

    def __init__(self, sealed: Sealed | Exception) -> None:
        self.sealed = sealed
        self.bound: dict[str, str] = {}

    def decrypt(self, ciphertext: bytes, **bound: str) -> Sealed:
        self.bound = bound
        if isinstance(self.sealed, Exception):
            raise self.sealed
        return self.sealed

    def encrypt(self, sealed: Sealed, **bound: str) -> bytes:
        self.sealed, self.bound = sealed, bound
        return b"ciphertext"


class Post:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, dict[str, str], int]] = []

    def __call__(self, url: str, body: bytes, headers: dict[str, str], *, not_after: int) -> Result:
        self.sent.append((url, body, headers, not_after))
        return Result(ResultKind.DELIVERED, "", 204)


def plugin(sealed: Sealed | Exception) -> tuple[Plugin, Post, Vault]:
    vault, post = Vault(sealed), Post()
    factory = WebhookFactory(vault, settings(), VirtualClock(), post)  # type: ignore[arg-type]
    return factory.create(PARIS), post, vault


@pytest.mark.parametrize(
    ("method", "status"), [("activate", "ACTIVATED"), ("deactivate", "STANDBY"), ("ensure", "ACTIVATED")]
)
def test_each_call_is_one_signed_post(method: str, status: str) -> None:
    webhook, post, vault = plugin(Sealed(SECRETS, {"X-Site": "paris"}))
    delivery = replace(DELIVERY, status=Status(status))
    assert getattr(webhook, method)(delivery) == Result(ResultKind.DELIVERED, "", 204)
    ((url, body, headers, not_after),) = post.sent
    assert url == PARIS.url
    assert json.loads(body) == {"endpoint_id": "vip-1", "resource_id": "ip ü", "plugin": "webhook", "status": status}
    assert headers["X-Site"] == "paris" and headers["X-Link-Webhook-Attempt"] == "2"
    assert not_after == DELIVERY.until - 7_000, "5 s for the attempt and 2 s of skew before the claim's end"
    assert vault.bound == {"endpoint_id": "vip-1", "resource_id": "ip ü", "url": PARIS.url}
    for secret in ("old-secret", ["new-secret", "old-secret"]):
        seen = parse_and_validate_webhook(secret, headers, body, now=START // 1000)
        assert (seen.epoch, seen.sequence) == (7, 3)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "Decrypt"),
            "secret_unreadable_AccessDeniedException",
        ),
        (ReadTimeoutError(endpoint_url="https://kms"), "secret_unreadable_ReadTimeoutError"),
        (Sealed(SECRETS[:1], {}), "secret_expired"),
    ],
    ids=["KMS says no", "KMS says nothing", "no secret is valid any more"],
)
def test_without_a_secret_nothing_is_sent(fault: Any, reason: str) -> None:
    vault, post = Vault(fault), Post()
    clock = VirtualClock()
    clock.at += 10
    factory = WebhookFactory(vault, settings(), clock, post)  # type: ignore[arg-type]
    assert factory.create(PARIS).activate(DELIVERY) == Result(ResultKind.UNREADABLE, reason)
    assert post.sent == []


def test_a_registration_is_stored_with_its_secrets_in_one_ciphertext() -> None:
    vault = Vault(Sealed((), {}))
    factory = WebhookFactory(vault, settings(), VirtualClock())  # type: ignore[arg-type]
    config = Registration(
        plugin="webhook", url=PARIS.url, resource_id="ip ü", secret="s3cret", headers={"X-Site": "marker"}, checks=[],
        healthcheck_interval=0, host="paris", priority=1, lease_seconds=30,
    )  # fmt: skip
    stored = factory.mutate(config, "vip-1", START)
    assert vault.sealed == Sealed(({"value": "s3cret", "from": START, "until": None},), {"X-Site": "marker"})
    assert (stored.ciphertext, stored.header_names, stored.revision) == (b"ciphertext", ("X-Site",), 1)
    assert "s3cret" not in repr(stored) and "marker" not in repr(stored)
    assert factory.create(stored).election_key() == election_key(stored) == "webhook/ip ü"


def test_how_often_an_active_endpoint_is_told() -> None:
    factory = WebhookFactory(Vault(Sealed((), {})), settings(refresh_ms=42_000), VirtualClock())  # type: ignore[arg-type]
    assert factory.config() == Config(refresh_every=42_000)


def test_an_error_in_one_word() -> None:
    assert error_code(ClientError({"Error": {"Code": "ThrottlingException", "Message": "x"}}, "Get")) == (
        "ThrottlingException"
    )
    assert error_code(TimeoutError("secret")) == "TimeoutError"
