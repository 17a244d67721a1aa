"""The webhook behind the seam: what is stored of a registration, and the POST of a delivery."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from link.clock import Clock
from link.election.deliveries import Delivery
from link.election.result import Result, ResultKind
from link.election.state import Status
from link.errors import Conflict
from link.plugins.seam import Config, Plugin, StorablePluginConfig
from link.plugins.webhook.config import StoredWebhook, WebhookConfig
from link.plugins.webhook.factory import WebhookFactory
from link.plugins.webhook.sealed import Sealed, context, unseal
from link.plugins.webhook.sender import Sender
from link.receiver import parse_and_validate_webhook
from link.registration import Registration
from tests.hostile.receiver import Receiver
from tests.support.deployed import settings
from tests.support.ids import NOW, PARIS, URL
from tests.support.keys import RecordingKeys, vault
from tests.support.registrations import registration

DAY_MS = 86_400_000
DELIVERY = Delivery(
    endpoint_id=PARIS,
    resource_id="ip ü",
    revision=1,
    token="token",
    until=NOW + 15_000,
    status=Status.ACTIVATED,
    epoch=7,
    sequence=3,
    reason="elected",
    attempt=2,
    refreshed_at=None,
)


class Deployed:
    """A process with the webhook plugin: its keys and its network are in memory, its clock stands still."""

    def __init__(self) -> None:
        self.keys = RecordingKeys()
        self.at = NOW
        self.sent: list[tuple[str, bytes, dict[str, str], int]] = []
        held = type("Held", (Clock,), {"now": lambda clock: self.at})()
        self.vault = vault(self.keys, held)
        self.factory = WebhookFactory(self.vault, settings(refresh_ms=42_000), held, self._post)

    def _post(self, url: str, body: bytes, headers: dict[str, str], *, not_after: int) -> Result:
        self.sent.append((url, body, headers, not_after))
        return Result(ResultKind.DELIVERED, "", 204)

    def registered(self, secret: str, **headers: str) -> Registration:
        """paris with this secret."""
        config = WebhookConfig(url=URL, resource_id="ip ü", secret=secret, headers=headers)
        return replace(registration(), config=self.factory.mutate(config, PARIS, NOW))

    def changed(self, stored: Registration, **given: Any) -> Registration:
        """The registration after a PATCH with this plugin_config."""
        return replace(stored, config=self.factory.change(stored, given, self.at).config)

    def plugin(self, stored: Registration) -> Plugin:
        return self.factory.create(stored)

    def unsealed(self, ciphertext: object, url: str = URL) -> Sealed:
        """The secret and headers in a ciphertext of paris."""
        assert isinstance(ciphertext, bytes)
        return unseal(self.vault, ciphertext, context(PARIS, "ip ü", url))


@pytest.fixture
def deployed() -> Deployed:
    return Deployed()


# What is sent


@pytest.mark.parametrize(
    ("method", "status"), [("activate", "ACTIVATED"), ("deactivate", "STANDBY"), ("ensure", "ACTIVATED")]
)
def test_each_call_is_one_signed_post(deployed: Deployed, method: str, status: str) -> None:
    old = deployed.registered("old-secret", **{"X-Site": "paris"})
    both = {"secret": "new-secret", "headers": {"X-Site": "paris"}, "previous_secret_until": NOW + 1}
    plugin = deployed.plugin(deployed.changed(old, **both))

    assert getattr(plugin, method)(replace(DELIVERY, status=Status(status))) == Result(ResultKind.DELIVERED, "", 204)

    ((url, body, headers, not_after),) = deployed.sent
    assert url == URL
    assert json.loads(body) == {"endpoint_id": PARIS, "resource_id": "ip ü", "plugin": "webhook", "status": status}
    assert headers["X-Site"] == "paris" and headers["X-Link-Webhook-Attempt"] == "2"
    assert not_after == DELIVERY.until - 7_000, "5 s for the attempt and 2 s of skew before the claim's end"
    assert deployed.keys.decrypted == [context(PARIS, "ip ü", URL)] * 2
    for secret in ("old-secret", ["new-secret", "old-secret"]):
        seen = parse_and_validate_webhook(secret, headers, body, now=NOW // 1000)
        assert (seen.epoch, seen.sequence) == (7, 3)


def test_the_receiver_is_told_which_host_it_is(deployed: Deployed) -> None:
    stored = deployed.registered("s3cret")

    for host in ("", "paris"):
        deployed.plugin(replace(stored, host=host)).activate(DELIVERY)

    assert [headers.get("X-Link-Webhook-Host") for *_, headers, _ in deployed.sent] == [None, "paris"]


@pytest.mark.parametrize(("late_ms", "begins"), [(0, True), (1, False)])
def test_an_attempt_begins_just_before_it_is_sent_and_not_when_it_is_too_late(
    deployed: Deployed, late_ms: int, begins: bool
) -> None:
    begun: list[int] = []
    plugin = deployed.plugin(deployed.registered("s3cret"))
    deployed.at = DELIVERY.until - 7_000 + late_ms

    result = plugin.deactivate(replace(DELIVERY, status=Status.STANDBY, begin=lambda: begun.append(len(deployed.sent))))

    assert begun == ([0] if begins else [])
    assert result == (Result(ResultKind.DELIVERED, "", 204) if begins else Result(ResultKind.TOO_LATE, "claim_ending"))


def test_a_header_value_that_was_stored_before_it_was_refused_is_sent_as_it_is(deployed: Deployed) -> None:
    value = "a\u0085b\u009bc\u2028d"
    with Receiver() as receiver:
        config = WebhookConfig(url=receiver.url, resource_id="ip ü", secret="s3cret", headers={"X-Site": value})
        stored = replace(registration(), config=deployed.factory.mutate(config, PARIS, NOW))
        sender = Sender(allowed_networks=[ip_network("127.0.0.0/8")])
        plugin = WebhookFactory(deployed.vault, settings(), Clock(), sender.post).create(stored)
        result = plugin.activate(replace(DELIVERY, until=Clock().now() + 60_000))

    assert result == Result(ResultKind.DELIVERED, status_code=204)
    ((head, _),) = receiver.requests
    assert f"X-Site: {value}".encode() in head.split(b"\r\n")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(
            ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "Decrypt"),
            "secret_unreadable_AccessDeniedException",
            id="KMS refuses",
        ),
        pytest.param(
            ReadTimeoutError(endpoint_url="https://kms"),
            "secret_unreadable_ReadTimeoutError",
            id="KMS does not answer",
        ),
    ],
)
def test_without_a_secret_nothing_is_sent(deployed: Deployed, fault: Exception, reason: str) -> None:
    plugin = deployed.plugin(deployed.registered("s3cret"))
    deployed.keys.fault = fault
    assert plugin.activate(DELIVERY) == Result(ResultKind.UNREADABLE, reason)
    assert deployed.sent == []


def test_a_ciphertext_of_another_endpoint_is_not_used(deployed: Deployed) -> None:
    stolen = replace(deployed.registered("s3cret"), endpoint_id="vip-of-london")
    result = deployed.plugin(stolen).activate(DELIVERY)
    assert result == Result(ResultKind.UNREADABLE, "secret_unreadable_InvalidCiphertextException")
    assert deployed.sent == []


@pytest.mark.parametrize(
    ("now", "secrets"),
    [
        pytest.param(NOW + DAY_MS - 1, ["old", "new"], id="both until the moment, LinK's header with the older"),
        pytest.param(NOW + DAY_MS, ["new"], id="the new one alone from the moment on"),
    ],
)
def test_the_old_secret_signs_until_its_moment_and_the_headers_are_the_new_ones(
    deployed: Deployed, now: int, secrets: list[str]
) -> None:
    old = deployed.registered("old", **{"X-Of": "old"})
    new = {"secret": "new", "headers": {"X-Of": "new"}, "previous_secret_until": NOW + DAY_MS}
    plugin = deployed.plugin(deployed.changed(old, **new))
    deployed.at = now

    assert plugin.activate(replace(DELIVERY, until=now + 15_000)) == Result(ResultKind.DELIVERED, "", 204)

    ((_, body, headers, _),) = deployed.sent
    assert headers["X-Of"] == "new"
    assert len(headers["webhook-signature"].split(" ")) == len(secrets)
    assert len(deployed.keys.decrypted) == len(secrets), "a Decrypt per ciphertext that still signs"
    assert parse_and_validate_webhook(secrets[0], headers, body, now=now // 1000).epoch == 7


def test_an_active_endpoint_is_refreshed_as_often_as_the_deployment_says(deployed: Deployed) -> None:
    assert deployed.factory.config() == Config(refresh_every=42_000)


# What is stored


def test_a_registration_is_stored_with_its_secret_and_headers_in_one_ciphertext(deployed: Deployed) -> None:
    stored = deployed.registered("s3cret", **{"X-Site": "marker"})
    assert deployed.unsealed(stored.config["ciphertext"]) == Sealed("s3cret", {"X-Site": "marker"})
    assert {name: value for name, value in stored.config.items() if name != "ciphertext"} == {
        "url": URL,
        "header_names": ("X-Site",),
        "encrypted_at": NOW,
    }
    assert deployed.keys.encrypted == [context(PARIS, "ip ü", URL)]
    assert "s3cret" not in repr(stored) and "marker" not in repr(stored)


def test_the_election_key_is_plugin_and_resource(deployed: Deployed) -> None:
    assert deployed.plugin(registration()).election_key() == "webhook/ip ü"


@pytest.mark.parametrize("given", [None, {}, {"resource_id": "ip ü"}])
def test_an_empty_change_stores_what_was_stored(deployed: Deployed, given: object) -> None:
    stored = registration()
    replacement = deployed.factory.change(stored, given, NOW)
    assert replacement.config is stored.config and not replacement.new_receiver
    assert deployed.keys.encrypted == []


PLAIN = registration(header_names=())
ROTATING = registration(header_names=(), previous_ciphertext=b"before", previous_until=NOW + DAY_MS)


def changed(deployed: Deployed, stored: Registration, **given: Any) -> StorablePluginConfig:
    """What is stored after a PATCH with this plugin_config."""
    return deployed.factory.change(stored, given, NOW).config


def test_a_new_url_has_its_own_secret_and_the_old_secrets_end(deployed: Deployed) -> None:
    given = {"url": "https://new.example/", "secret": "new", "headers": {"X-Site": "london"}}
    replacement = deployed.factory.change(ROTATING, given, NOW)
    ciphertext = replacement.config["ciphertext"]
    assert replacement.new_receiver
    assert replacement.config == {
        "url": "https://new.example/",
        "ciphertext": ciphertext,
        "header_names": ("X-Site",),
        "encrypted_at": NOW,
    }
    assert deployed.keys.encrypted == [context(PARIS, "ip ü", "https://new.example/")]
    assert deployed.unsealed(ciphertext, "https://new.example/") == Sealed("new", {"X-Site": "london"})


def test_a_new_secret_alone_is_current_at_once(deployed: Deployed) -> None:
    replacement = deployed.factory.change(PLAIN, {"secret": "new"}, NOW)
    ciphertext = replacement.config["ciphertext"]
    assert deployed.unsealed(ciphertext) == Sealed("new", {})
    assert replacement.config == registration(header_names=(), ciphertext=ciphertext, encrypted_at=NOW).config
    assert not replacement.new_receiver


@pytest.mark.parametrize("headers", [{"X-Site": "paris"}, {}])
def test_the_names_of_the_new_headers_are_stored(deployed: Deployed, headers: dict[str, str]) -> None:
    config = changed(deployed, registration(), secret="new", headers=headers)
    assert config["header_names"] == tuple(headers)


def test_with_a_time_the_old_secret_signs_until_then(deployed: Deployed) -> None:
    webhook = stored_webhook(changed(deployed, PLAIN, secret="new", previous_secret_until=NOW + DAY_MS))
    assert deployed.unsealed(webhook.ciphertext).secret == "new"
    assert (webhook.previous_ciphertext, webhook.previous_until) == (PLAIN.config["ciphertext"], NOW + DAY_MS)


def test_while_two_secrets_sign_a_third_is_refused(deployed: Deployed) -> None:
    with pytest.raises(Conflict, match=f"signs until {NOW + DAY_MS}"):
        changed(deployed, ROTATING, secret="third", previous_secret_until=NOW + 2 * DAY_MS)


@pytest.mark.parametrize(
    "given", [pytest.param({"previous_secret_until": NOW + DAY_MS}, id="the same call again"), pytest.param({}, id="-")]
)
def test_a_third_secret_does_not_change_the_end_of_the_first(deployed: Deployed, given: dict[str, Any]) -> None:
    webhook = stored_webhook(changed(deployed, ROTATING, secret="third", **given))
    assert deployed.unsealed(webhook.ciphertext).secret == "third"
    assert (webhook.previous_ciphertext, webhook.previous_until) == (b"before", NOW + DAY_MS)


def test_a_previous_secret_whose_time_is_over_makes_room(deployed: Deployed) -> None:
    over = registration(header_names=(), previous_ciphertext=b"before", previous_until=NOW)
    rotated = stored_webhook(changed(deployed, over, secret="third", previous_secret_until=NOW + 2 * DAY_MS))
    assert (rotated.previous_ciphertext, rotated.previous_until) == (over.config["ciphertext"], NOW + 2 * DAY_MS)
    replaced = stored_webhook(changed(deployed, over, secret="third"))
    assert (replaced.previous_ciphertext, replaced.previous_until) == (None, None), "what signs no longer is removed"


@pytest.mark.parametrize("given", [{}, {"secret": "third"}])
def test_the_old_secret_can_be_ended_at_once(deployed: Deployed, given: dict[str, Any]) -> None:
    webhook = stored_webhook(changed(deployed, ROTATING, previous_secret_until=None, **given))
    assert (webhook.previous_ciphertext, webhook.previous_until) == (None, None)


def stored_webhook(config: StorablePluginConfig) -> StoredWebhook:
    """The webhook's part of a registration with this config."""
    return StoredWebhook.of(replace(PLAIN, config=config))


# Repeated registrations


@pytest.mark.parametrize(
    ("given", "same"),
    [
        pytest.param({}, True, id="the same"),
        pytest.param({"secret": "another"}, True, id="another secret, which cannot be compared"),
        pytest.param({"headers": {"X-Site": "another", "Authorization": ""}}, True, id="other values of the headers"),
        pytest.param({"url": "https://other.example/"}, False, id="another url"),
        pytest.param({"headers": {"X-Site": "paris"}}, False, id="other headers"),
    ],
)
def test_a_repeated_registration_is_the_same_by_url_and_names_of_headers(
    deployed: Deployed, given: dict[str, Any], same: bool
) -> None:
    headers = {"Authorization": "Bearer x", "X-Site": "paris"}
    config = {"url": URL, "resource_id": "ip ü", "secret": "s3cret", "headers": headers, **given}
    assert deployed.factory.same(registration(), WebhookConfig(**config)) is same
