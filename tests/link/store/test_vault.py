from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from link.errors import Invalid
from link.plugins.webhook.sealed import Sealed
from link.store import vault
from link.store.vault import Vault
from tests.support.deployed import settings

SEALED = Sealed(secrets=({"value": "s3cret-é", "from": 1, "until": None},), headers={"Authorization": "Bearer marker"})
BOUND = {"endpoint_id": "vip-1", "resource_id": "ip", "url": "https://receiver.example.com/hook"}


class Counting:
    def __init__(self, kms: Any) -> None:
        self.kms = kms
        self.decrypts = 0

    def encrypt(self, **arguments: Any) -> Any:
        return self.kms.encrypt(**arguments)

    def decrypt(self, **arguments: Any) -> Any:
        self.decrypts += 1
        return self.kms.decrypt(**arguments)


@pytest.fixture
def kms():
    with mock_aws():
        yield Counting(boto3.client("kms", region_name="eu-west-1"))


@pytest.fixture
def vault(kms):
    key = kms.kms.create_key()["KeyMetadata"]["Arn"]
    return Vault(kms, settings(secrets_key_arn=key))


def test_what_was_encrypted_comes_back(vault: Vault) -> None:
    assert vault.decrypt(vault.encrypt(SEALED, **BOUND), **BOUND) == SEALED


@pytest.mark.parametrize(
    "other",
    [{"endpoint_id": "vip-2"}, {"resource_id": "ip2"}, {"url": "https://attacker.example.com/"}],
    ids=["another row", "another resource", "another url"],
)
def test_a_ciphertext_serves_only_the_registration_it_was_made_for(vault: Vault, other: dict[str, str]) -> None:
    ciphertext = vault.encrypt(SEALED, **BOUND)
    vault.decrypt(ciphertext, **BOUND)
    with pytest.raises(ClientError, match="InvalidCiphertextException"):
        vault.decrypt(ciphertext, **{**BOUND, **other})


def test_the_context_shows_no_url() -> None:
    context = vault.context("vip-1", "ip", "https://receiver.example.com/hook?token=x")
    assert context == {
        "purpose": "webhook-config",
        "endpoint_id": "vip-1",
        "resource_id": "ip",
        # printf %s 'https://receiver.example.com/hook?token=x' | sha256sum
        "url_sha256": "9e809fbe69287e5222e642fe2b0e0e881a8c3036e7dced585326d45d37db1fea",
    }


def test_one_decrypt_in_fifteen_minutes(vault: Vault, kms: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    at = 1_795_435_200.0
    monkeypatch.setattr("link.encryption.time.time", lambda: at)
    ciphertext = vault.encrypt(SEALED, **BOUND)
    for seconds, decrypts in ((0, 1), (899, 1), (901, 2)):
        at = 1_795_435_200.0 + seconds
        vault.decrypt(ciphertext, **BOUND)
        assert kms.decrypts == decrypts


def test_a_clock_set_back_does_not_keep_a_plaintext(
    vault: Vault, kms: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 1_795_435_200.0
    monkeypatch.setattr("link.encryption.time.time", lambda: at)
    ciphertext = vault.encrypt(SEALED, **BOUND)
    vault.decrypt(ciphertext, **BOUND)
    at -= 3600
    vault.decrypt(ciphertext, **BOUND)
    assert kms.decrypts == 2


@pytest.mark.parametrize(("length", "fits"), [(4_096, True), (4_097, False)])
def test_kms_takes_4096_bytes(vault: Vault, length: int, fits: bool) -> None:
    overhead = len('{"v":1,"secrets":[{"value":"","from":1,"until":null}],"headers":{}}')
    sealed = Sealed(secrets=({"value": "x" * (length - overhead), "from": 1, "until": None},), headers={})
    if fits:
        assert vault.encrypt(sealed, **BOUND)
    else:
        with pytest.raises(Invalid, match="4097 bytes together, KMS encrypts at most 4096"):
            vault.encrypt(sealed, **BOUND)


def test_plaintexts_do_not_show_themselves() -> None:
    assert "s3cret" not in repr(SEALED) and "marker" not in repr(SEALED)
