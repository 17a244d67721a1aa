"""Secret and headers in one ciphertext, which serves one registration and no other."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from link.clock import Clock
from link.errors import Invalid
from link.plugins.webhook.sealed import Sealed, context, seal, unseal
from link.store.vault import Vault
from tests.support.keys import RecordingKeys, vault

SEALED = Sealed(secret="s3cret-é", headers={"Authorization": "Bearer marker"})
BOUND_TO = context("vip-1", "ip", "https://receiver.example.com/hook")


@pytest.fixture
def opened() -> Vault:
    return vault(RecordingKeys(), Clock())


def test_what_was_sealed_comes_back(opened: Vault) -> None:
    assert unseal(opened, seal(opened, SEALED, BOUND_TO), BOUND_TO) == SEALED


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(context("vip-2", "ip", "https://receiver.example.com/hook"), id="another endpoint"),
        pytest.param(context("vip-1", "ip2", "https://receiver.example.com/hook"), id="another resource"),
        pytest.param(context("vip-1", "ip", "https://attacker.example.com/"), id="another url"),
    ],
)
def test_a_ciphertext_serves_only_the_registration_it_was_made_for(opened: Vault, other: dict[str, str]) -> None:
    ciphertext = seal(opened, SEALED, BOUND_TO)
    unseal(opened, ciphertext, BOUND_TO)
    with pytest.raises(ClientError, match="InvalidCiphertextException"):
        unseal(opened, ciphertext, other)


def test_the_context_shows_no_url() -> None:
    assert context("vip-1", "ip", "https://receiver.example.com/hook?token=x") == {
        "purpose": "webhook-config",
        "endpoint_id": "vip-1",
        "resource_id": "ip",
        # printf %s 'https://receiver.example.com/hook?token=x' | sha256sum
        "url_sha256": "9e809fbe69287e5222e642fe2b0e0e881a8c3036e7dced585326d45d37db1fea",
    }


def test_version_0_1_can_read_the_plaintext(opened: Vault) -> None:
    plaintext = opened.decrypt(seal(opened, SEALED, BOUND_TO), BOUND_TO)
    assert json.loads(plaintext) == {
        "v": 1,
        "secrets": [{"value": "s3cret-é", "from": 0, "until": None}],
        "headers": {"Authorization": "Bearer marker"},
    }


def test_a_plaintext_of_version_0_1_is_read(opened: Vault) -> None:
    # As version 0.1 wrote it: `from` was the moment of the registration.
    plaintext = '{"v":1,"secrets":[{"value":"old","from":1795435200000,"until":null}],"headers":{"X-Site":"paris"}}'
    ciphertext = opened.encrypt(plaintext.encode(), BOUND_TO)
    assert unseal(opened, ciphertext, BOUND_TO) == Sealed("old", {"X-Site": "paris"})


@pytest.mark.parametrize(("length", "fits"), [(4_096, True), (4_097, False)])
def test_kms_takes_4096_bytes(opened: Vault, length: int, fits: bool) -> None:
    overhead = len('{"v":1,"secrets":[{"value":"","from":0,"until":null}],"headers":{}}')
    sealed = Sealed(secret="x" * (length - overhead), headers={})
    if fits:
        assert unseal(opened, seal(opened, sealed, BOUND_TO), BOUND_TO) == sealed
    else:
        with pytest.raises(Invalid, match="4097 bytes together, KMS encrypts at most 4096"):
            seal(opened, sealed, BOUND_TO)


def test_neither_secret_nor_headers_show_in_a_repr() -> None:
    assert "s3cret" not in repr(SEALED) and "marker" not in repr(SEALED)
