"""KMS in memory, as a test of the webhook plugin needs it."""

from __future__ import annotations

from link.clock import Clock
from link.store.vault import Vault
from tests.simulation.store import Item, Keys
from tests.support.deployed import settings


class RecordingKeys(Keys):
    """Remembers every context; each call raises `fault` if it is set."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.encrypted: list[dict[str, str]] = []
        self.decrypted: list[dict[str, str]] = []

    def encrypt(self, KeyId: str, Plaintext: bytes, EncryptionContext: dict[str, str]) -> Item:
        self._may_fail()
        self.encrypted.append(EncryptionContext)
        return super().encrypt(KeyId, Plaintext, EncryptionContext)

    def decrypt(self, KeyId: str, CiphertextBlob: bytes, EncryptionContext: dict[str, str]) -> Item:
        self._may_fail()
        self.decrypted.append(EncryptionContext)
        return super().decrypt(KeyId, CiphertextBlob, EncryptionContext)

    def _may_fail(self) -> None:
        if self.fault is not None:
            raise self.fault


def vault(keys: Keys, clock: Clock) -> Vault:
    """A vault in front of these keys."""
    return Vault(keys, settings(), clock)  # type: ignore[arg-type]
