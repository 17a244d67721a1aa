"""A key rotation, on moto's KMS: the local cloud has no ReEncrypt."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from link import deployment
from link.key_rotation import Unfinished
from link.plugins.webhook.config import StoredWebhook
from link.plugins.webhook.sealed import Sealed, context, seal, unseal
from link.registration import Registration
from link.settings import load
from link.store.endpoints import Registrations, to_item
from link.store.vault import Vault
from tests.support.deployed import create_tables, environment
from tests.support.hands import HeldClock
from tests.support.ids import NOW
from tests.support.registrations import REGISTERED

NAMES = ("paris", "berlin", "london")
"""The ciphertext of berlin is 10 ms older than that of paris, that of london 20 ms. The secret of berlin changes."""


class Deployment:
    """Three endpoints, and KMS as the key-rotation function may call it: ReEncrypt and nothing else."""

    def __init__(self) -> None:
        self.kms, self.dynamodb = boto3.client("kms"), boto3.client("dynamodb")
        env = environment(key=self.kms.create_key()["KeyMetadata"]["Arn"])
        self.settings = load(env, probes=True, signals=True)
        create_tables(self.dynamodb, self.settings)
        self.registrations, self.clock = Registrations(self.dynamodb, self.settings), HeldClock()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.before: Any = lambda endpoint_id: None
        for number, name in enumerate(NAMES):
            self.put(name, encrypted_at=NOW - 10 * number)
        clients = {"dynamodb": self.dynamodb, "kms": self}
        self.rotation = deployment.key_rotation(env, client=clients.__getitem__, clock=self.clock)

    def re_encrypt(self, **arguments: Any) -> Any:
        endpoint_id = arguments["SourceEncryptionContext"]["endpoint_id"]
        self.calls.append((endpoint_id, arguments))
        self.before(endpoint_id)
        return self.kms.re_encrypt(**arguments)

    def vault(self) -> Vault:
        """KMS as another function may call it, with nothing cached."""
        return Vault(self.kms, self.settings, HeldClock())

    def sealed(self, name: str, secret: str) -> bytes:
        return seal(self.vault(), Sealed(secret, {"X-Site": name}), context(name, "ip", f"https://{name}.example/"))

    def put(self, name: str, *, revision: int = 1, encrypted_at: int) -> None:
        webhook = StoredWebhook(
            url=f"https://{name}.example/",
            ciphertext=self.sealed(name, f"{name}-secret"),
            encrypted_at=encrypted_at,
        )
        if name == "berlin":
            previous = self.sealed(name, "berlin-before")
            webhook = replace(webhook, previous_ciphertext=previous, previous_until=NOW + 5_000)
        registration = replace(
            REGISTERED, endpoint_id=name, resource_id="ip", revision=revision, config=webhook.attributes()
        )
        self.dynamodb.put_item(TableName=self.settings.endpoints_table, Item=to_item(registration))

    def webhook(self, name: str) -> StoredWebhook:
        return StoredWebhook.of(self.registrations.existing(name))

    def secrets(self, name: str) -> list[str]:
        """The secrets in its ciphertexts."""
        webhook = self.webhook(name)
        bound_to = context(name, "ip", webhook.url)
        both = [webhook.ciphertext, *([webhook.previous_ciphertext] if webhook.previous_ciphertext else [])]
        return [unseal(self.vault(), ciphertext, bound_to).secret for ciphertext in both]


@pytest.fixture
def deployed() -> Iterator[Deployment]:
    with mock_aws():
        yield Deployment()


def test_every_ciphertext_is_renewed_oldest_first_and_keeps_its_plaintext(deployed: Deployment) -> None:
    before = {name: deployed.registrations.existing(name) for name in NAMES}
    deployed.clock.at = NOW + 1_000
    assert deployed.rotation.run(lambda: 900.0) == {"endpoints": 3}
    assert [name for name, _ in deployed.calls] == ["london", "berlin", "berlin", "paris"]
    for name in NAMES:
        after = deployed.registrations.existing(name)
        assert after.config["ciphertext"] != before[name].config["ciphertext"]
        assert after.config["encrypted_at"] == NOW + 1_000
        assert without_ciphertexts(after) == without_ciphertexts(before[name])
    assert deployed.secrets("paris") == ["paris-secret"]
    assert deployed.secrets("berlin") == ["berlin-secret", "berlin-before"]


def without_ciphertexts(registration: Registration) -> Registration:
    kept = {name: value for name, value in registration.config.items() if name in ("url", "previous_until")}
    return replace(registration, config=kept)


def test_a_secret_that_signs_no_longer_is_removed(deployed: Deployment) -> None:
    deployed.clock.at = NOW + 5_000
    deployed.rotation.run(lambda: 900.0)
    webhook = deployed.webhook("berlin")
    assert (webhook.previous_ciphertext, webhook.previous_until) == (None, None)
    assert deployed.secrets("berlin") == ["berlin-secret"]
    assert [name for name, _ in deployed.calls].count("berlin") == 1


def test_no_ciphertext_is_bound_to_another_context(deployed: Deployment) -> None:
    deployed.rotation.run(lambda: 900.0)
    for name, call in deployed.calls:
        assert call["SourceEncryptionContext"] == call["DestinationEncryptionContext"]
        assert call["SourceEncryptionContext"] == context(name, "ip", f"https://{name}.example/")
        assert call["SourceKeyId"] == call["DestinationKeyId"] == deployed.settings.secrets_key_arn
    webhook = deployed.webhook("paris")
    with pytest.raises(ClientError, match="InvalidCiphertext"):
        deployed.vault().decrypt(webhook.ciphertext, context("london", "ip", webhook.url))


def test_what_is_changed_or_deleted_meanwhile_stays_so(deployed: Deployment) -> None:
    def change(name: str) -> None:
        if name == "london":
            deployed.put("london", encrypted_at=NOW + 5, revision=2)
        elif name == "paris":
            key = {"endpoint_id": {"S": "paris"}}
            deployed.dynamodb.delete_item(TableName=deployed.settings.endpoints_table, Key=key)

    deployed.before = change
    deployed.clock.at = NOW + 1_000
    deployed.rotation.run(lambda: 900.0)
    assert deployed.registrations.existing("london").revision == 2
    assert deployed.webhook("london").encrypted_at == NOW + 5
    assert deployed.registrations.get("paris") is None, "a rotation never creates an item"


def test_a_run_that_is_cut_off_says_what_is_left_and_the_next_one_starts_there(
    deployed: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    left = iter((100.0, 15.0, 14.9))
    deployed.clock.at = NOW + 1_000
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(Unfinished, match="0 of 3 endpoints failed, 1 were not reached"),
    ):
        deployed.rotation.run(lambda: next(left))
    (line,) = [record for record in caplog.records if record.message == "key_rotation.done"]
    assert (line.endpoints, line.reencrypted, line.failed, line.left) == (3, 2, 0, 1)  # type: ignore[attr-defined]
    done = [name for name, _ in deployed.calls]
    assert done == ["london", "berlin", "berlin"]
    deployed.rotation.run(lambda: 900.0)
    assert [name for name, _ in deployed.calls][len(done)] == "paris"


def test_an_endpoint_that_fails_is_named_and_stops_no_other(
    deployed: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(name: str) -> None:
        if name == "london":
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ReEncrypt")

    deployed.before = fail
    deployed.clock.at = NOW + 1_000
    with pytest.raises(Unfinished, match="1 of 3 endpoints failed, 0 were not reached"):
        deployed.rotation.run(lambda: 900.0)
    (line,) = [record for record in caplog.records if record.message == "key_rotation.failed"]
    assert (line.endpoint_id, line.reason) == ("london", "AccessDeniedException")  # type: ignore[attr-defined]
    ages = {name: deployed.webhook(name).encrypted_at for name in NAMES}
    assert ages == {"paris": NOW + 1_000, "berlin": NOW + 1_000, "london": NOW - 20}
    assert "secret" not in json.dumps([record.__dict__ for record in caplog.records], default=str)
