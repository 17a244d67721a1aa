"""Secrets, encrypted by KMS and bound to one encryption context.

AWS calls: `encrypt` 1 Encrypt; `decrypt` 1 Decrypt per ciphertext, process and 15 minutes; `reencrypt` 1 ReEncrypt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from link.clock import Clock
from link.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

MAX_PLAINTEXT_BYTES = 4_096
"""KMS's limit for Encrypt with a symmetric key."""
CACHE_MS = 900_000
MAX_CACHED = 1_000


class Vault:
    """Encrypts for a context, and decrypts only for the same one. CloudTrail shows contexts as plain text."""

    def __init__(self, kms: KMSClient, settings: Settings, clock: Clock) -> None:
        self._kms = kms
        self._key = settings.secrets_key_arn
        self._clock = clock
        self._opened: dict[bytes, tuple[int, bytes]] = {}

    def encrypt(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """The ciphertext of a plaintext of at most `MAX_PLAINTEXT_BYTES`."""
        answer = self._kms.encrypt(KeyId=self._key, Plaintext=plaintext, EncryptionContext=context)
        return answer["CiphertextBlob"]

    def decrypt(self, ciphertext: bytes, context: Mapping[str, str]) -> bytes:
        """The plaintext; raises ClientError if it was encrypted for another context."""
        key = hashlib.sha256(json.dumps(context, sort_keys=True).encode() + ciphertext).digest()
        opened = self._opened.get(key)
        # Wall time goes on while Lambda freezes the process: a plaintext must not be used for longer than documented.
        if opened is not None and 0 <= self._clock.now() - opened[0] < CACHE_MS:
            return opened[1]
        answer = self._kms.decrypt(KeyId=self._key, CiphertextBlob=ciphertext, EncryptionContext=context)
        if len(self._opened) >= MAX_CACHED:
            self._opened.clear()
        self._opened[key] = (self._clock.now(), answer["Plaintext"])
        return answer["Plaintext"]

    def reencrypt(self, ciphertext: bytes, context: Mapping[str, str]) -> bytes:
        """The ciphertext under the key's newest material. The context is the same on both sides and cannot change."""
        answer = self._kms.re_encrypt(
            CiphertextBlob=ciphertext,
            SourceKeyId=self._key,
            SourceEncryptionContext=context,
            DestinationKeyId=self._key,
            DestinationEncryptionContext=context,
        )
        return answer["CiphertextBlob"]
