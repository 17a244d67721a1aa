"""Encryption for a context, on moto's KMS, which enforces the context."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from link.store.vault import MAX_CACHED, Vault
from tests.support.deployed import settings
from tests.support.hands import HeldClock
from tests.support.ids import NOW

PLAINTEXT = "s3cret-é".encode()
CONTEXT = {"purpose": "a purpose", "endpoint_id": "vip-1", "resource_id": "ip"}


class CountingKms:
    """KMS; it counts its decrypts."""

    def __init__(self, kms: Any) -> None:
        self.kms = kms
        self.decrypts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kms, name)

    def decrypt(self, **arguments: Any) -> Any:
        self.decrypts += 1
        return self.kms.decrypt(**arguments)


@pytest.fixture
def kms() -> Iterator[CountingKms]:
    with mock_aws():
        yield CountingKms(boto3.client("kms", region_name="eu-west-1"))


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def key(kms: CountingKms) -> str:
    return str(kms.create_key()["KeyMetadata"]["Arn"])


@pytest.fixture
def vault(kms: CountingKms, clock: HeldClock, key: str) -> Vault:
    return Vault(kms, settings(secrets_key_arn=key), clock)  # type: ignore[arg-type]


def test_what_was_encrypted_comes_back(vault: Vault) -> None:
    assert vault.decrypt(vault.encrypt(PLAINTEXT, CONTEXT), CONTEXT) == PLAINTEXT


@pytest.mark.parametrize("name", CONTEXT)
def test_a_ciphertext_serves_only_the_context_that_it_was_made_for(vault: Vault, name: str) -> None:
    ciphertext = vault.encrypt(PLAINTEXT, CONTEXT)
    vault.decrypt(ciphertext, CONTEXT)
    with pytest.raises(ClientError, match="InvalidCiphertextException"):
        vault.decrypt(ciphertext, {**CONTEXT, name: "another"})


def test_the_context_is_the_same_in_any_order(vault: Vault, kms: CountingKms) -> None:
    ciphertext = vault.encrypt(PLAINTEXT, CONTEXT)
    for context in (CONTEXT, dict(reversed(CONTEXT.items()))):
        assert vault.decrypt(ciphertext, context) == PLAINTEXT
    assert kms.decrypts == 1


def test_a_ciphertext_is_decrypted_once_in_fifteen_minutes(vault: Vault, kms: CountingKms, clock: HeldClock) -> None:
    ciphertext = vault.encrypt(PLAINTEXT, CONTEXT)
    for seconds, decrypts in ((0, 1), (899, 1), (900, 2), (1_799, 2), (1_801, 3)):
        clock.at = NOW + seconds * 1_000
        vault.decrypt(ciphertext, CONTEXT)
        assert kms.decrypts == decrypts


def test_a_clock_that_was_set_back_does_not_keep_a_plaintext(vault: Vault, kms: CountingKms, clock: HeldClock) -> None:
    ciphertext = vault.encrypt(PLAINTEXT, CONTEXT)
    vault.decrypt(ciphertext, CONTEXT)
    clock.at -= 3_600_000
    vault.decrypt(ciphertext, CONTEXT)
    assert kms.decrypts == 2


def test_a_bounded_number_of_plaintexts_is_kept() -> None:
    class Kms:
        decrypts = 0

        def decrypt(self, **_: object) -> dict[str, bytes]:
            self.decrypts += 1
            return {"Plaintext": PLAINTEXT}

    kms = Kms()
    vault = Vault(kms, settings(), HeldClock())  # type: ignore[arg-type]
    for number in range(MAX_CACHED):
        vault.decrypt(b"%d" % number, CONTEXT)
    vault.decrypt(b"0", CONTEXT)
    assert kms.decrypts == MAX_CACHED == 1_000
    vault.decrypt(b"one more", CONTEXT)
    vault.decrypt(b"0", CONTEXT)
    assert kms.decrypts == MAX_CACHED + 2


def test_a_renewed_ciphertext_is_another_in_the_same_context(vault: Vault) -> None:
    ciphertext = vault.encrypt(PLAINTEXT, CONTEXT)
    renewed = vault.reencrypt(ciphertext, CONTEXT)
    assert renewed != ciphertext
    assert vault.decrypt(renewed, CONTEXT) == PLAINTEXT
    with pytest.raises(ClientError, match="InvalidCiphertextException"):
        vault.reencrypt(ciphertext, {**CONTEXT, "endpoint_id": "vip-2"})


def test_a_ciphertext_cannot_be_renewed_for_another_context(key: str) -> None:
    calls: list[dict[str, Any]] = []

    class Kms:
        def re_encrypt(self, **arguments: Any) -> dict[str, bytes]:
            calls.append(arguments)
            return {"CiphertextBlob": b"renewed"}

    assert Vault(Kms(), settings(secrets_key_arn=key), HeldClock()).reencrypt(b"old", CONTEXT) == b"renewed"  # type: ignore[arg-type]
    assert calls == [
        {
            "CiphertextBlob": b"old",
            "SourceKeyId": key,
            "SourceEncryptionContext": CONTEXT,
            "DestinationKeyId": key,
            "DestinationEncryptionContext": CONTEXT,
        }
    ]
