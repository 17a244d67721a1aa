"""A key rotation, on moto's KMS: the local cloud has no ReEncrypt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from link.key_rotation import Unfinished
from link.plugins.webhook.sealed import Sealed
from link.store.endpoints import to_item
from link.store.vault import Vault
from tests.link.test_registry import PARIS
from tests.support.deployed import create_tables, settings
from tests.world import START, VirtualClock


class Deployment:
    """Three endpoints, Berlin's secret itself under rotation, and KMS and the table as the function sees them."""

    def __init__(self) -> None:
        self.kms, self.dynamodb = boto3.client("kms"), boto3.client("dynamodb")
        key = self.kms.create_key()["KeyMetadata"]["Arn"]
        self.settings = settings(secrets_key_arn=key)
        create_tables(self.dynamodb, self.settings)
        self.registry, self.clock = Registry(self.dynamodb, self.settings), VirtualClock()
        self.vault = Vault(self.kms, self.settings)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.before: Any = lambda endpoint_id: None
        for number, name in enumerate(("paris", "london", "berlin")):
            self.put(name, encrypted_at=START - 10 * number)
        self.rotation = Rotation(self.registry, Vault(self, self.settings), self.clock)  # type: ignore[arg-type]

    def sealed(self, name: str, value: str) -> bytes:
        sealed = Sealed(({"value": value, "from": 1, "until": None},), {"X-Site": name})
        return self.vault.encrypt(sealed, endpoint_id=name, resource_id="ip", url=f"https://{name}.example/")

    def put(self, name: str, **changes: Any) -> None:
        row = replace(
            PARIS, endpoint_id=name, resource_id="ip", url=f"https://{name}.example/",
            ciphertext=self.sealed(name, f"{name}-secret"), **changes,
        )  # fmt: skip
        if name == "berlin":
            row = replace(row, previous_ciphertext=self.sealed(name, "berlin-before"), previous_until=START + 5_000)
        self.dynamodb.put_item(TableName=self.settings.endpoints_table, Item=to_item(row))

    def re_encrypt(self, **arguments: Any) -> Any:
        """KMS, as the function's role may call it: this and nothing else."""
        self.calls.append((arguments["SourceEncryptionContext"]["endpoint_id"], arguments))
        self.before(arguments["SourceEncryptionContext"]["endpoint_id"])
        return self.kms.re_encrypt(**arguments)

    def opened(self, name: str) -> list[str]:
        row = self.registry.get(name)
        assert row is not None
        both = [row.ciphertext] + ([row.previous_ciphertext] if row.previous_ciphertext else [])
        vault = Vault(self.kms, self.settings)
        bound = {"endpoint_id": name, "resource_id": "ip", "url": row.url}
        return [vault.decrypt(ciphertext, **bound).secrets[0]["value"] for ciphertext in both]


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with mock_aws():
        yield Deployment()


NAMES = ("paris", "london", "berlin")


def test_every_ciphertext_is_made_anew_the_oldest_first_and_hides_what_it_hid(deployment: Deployment) -> None:
    before = {name: deployment.registry.get(name) for name in NAMES}
    deployment.clock.at = START + 1_000
    assert deployment.rotation.run(lambda: 900.0) == {"endpoints": 3}
    assert [name for name, _ in deployment.calls] == ["berlin", "berlin", "london", "paris"]
    for name in NAMES:
        row, old = deployment.registry.get(name), before[name]
        assert row is not None and old is not None
        assert row.ciphertext != old.ciphertext and row.encrypted_at == START + 1_000
        assert (row.revision, row.url, row.created_at) == (old.revision, old.url, old.created_at)
    assert deployment.opened("paris") == ["paris-secret"]
    assert deployment.opened("berlin") == ["berlin-secret", "berlin-before"]


def test_a_secret_that_signs_no_more_goes(deployment: Deployment) -> None:
    deployment.clock.at = START + 5_000
    deployment.rotation.run(lambda: 900.0)
    row = deployment.registry.get("berlin")
    assert row is not None and (row.previous_ciphertext, row.previous_until) == (None, None)
    assert deployment.opened("berlin") == ["berlin-secret"]
    assert [name for name, _ in deployment.calls].count("berlin") == 1


def test_nothing_is_bound_to_anything_else(deployment: Deployment) -> None:
    deployment.rotation.run(lambda: 900.0)
    for _, call in deployment.calls:
        assert call["SourceEncryptionContext"] == call["DestinationEncryptionContext"]
        assert call["SourceEncryptionContext"]["purpose"] == "webhook-config"
        assert call["SourceKeyId"] == call["DestinationKeyId"] == deployment.settings.secrets_key_arn
    row = deployment.registry.get("paris")
    assert row is not None
    with pytest.raises(ClientError, match="InvalidCiphertext"):
        deployment.vault.decrypt(row.ciphertext, endpoint_id="london", resource_id="ip", url=row.url)


def test_what_changes_meanwhile_stays_changed(deployment: Deployment) -> None:
    def change(name: str) -> None:
        if name == "london":
            deployment.put("london", encrypted_at=START + 5, revision=2)
        elif name == "paris":
            key = {"endpoint_id": {"S": "paris"}}
            deployment.dynamodb.delete_item(TableName=deployment.settings.endpoints_table, Key=key)

    deployment.before = change
    deployment.clock.at = START + 1_000
    deployment.rotation.run(lambda: 900.0)
    london = deployment.registry.get("london")
    assert london is not None and (london.revision, london.encrypted_at) == (2, START + 5)
    assert deployment.registry.get("paris") is None, "a rotation never makes a row"


def test_cut_off_it_says_what_is_left_and_goes_on_there(deployment: Deployment) -> None:
    left = iter((100.0, 15.0, 14.9))
    deployment.clock.at = START + 1_000
    with pytest.raises(Unfinished, match="0 of 3 endpoints failed, 1 were not reached"):
        deployment.rotation.run(lambda: next(left))
    done = [name for name, _ in deployment.calls]
    assert done == ["berlin", "berlin", "london"]
    deployment.rotation.run(lambda: 900.0)
    assert [name for name, _ in deployment.calls][len(done)] == "paris"


def test_one_that_fails_is_named_and_stops_no_other(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(name: str) -> None:
        if name == "london":
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ReEncrypt")

    deployment.before = fail
    deployment.clock.at = START + 1_000
    with pytest.raises(Unfinished, match="1 of 3 endpoints failed, 0 were not reached"):
        deployment.rotation.run(lambda: 900.0)
    (line,) = [record for record in caplog.records if record.message == "key_rotation.failed"]
    assert (line.endpoint_id, line.reason) == ("london", "AccessDeniedException")  # type: ignore[attr-defined]
    ages = {row.endpoint_id: row.encrypted_at for row in deployment.registry.scan()}
    assert ages == {"paris": START + 1_000, "berlin": START + 1_000, "london": START - 10}
    assert "secret" not in json.dumps([record.__dict__ for record in caplog.records], default=str)
