"""Secrets and header values, encrypted by KMS and bound to the one registration they belong to.

AWS calls: `encrypt` 1 Encrypt; `decrypt` 1 Decrypt per ciphertext, process and 15 minutes; `reencrypt` 1 ReEncrypt.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from link.errors import Invalid
from link.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

PURPOSE = "webhook-config"
"""Value of the encryption context's `purpose`; the roles' policies allow no other."""
PLAINTEXT_BYTES = 4_096
"""KMS's limit for Encrypt with a symmetric key."""
REMEMBERED_SECONDS = 900
REMEMBERED = 1_000


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a ciphertext hides: secrets as `[{"value", "from", "until"}]` (ms, null: open) and headers."""

    secrets: tuple[dict[str, Any], ...] = field(repr=False)
    headers: dict[str, str] = field(repr=False)


class Vault:
    """Encrypts for one registration and decrypts for no other."""

    def __init__(self, kms: KMSClient, settings: Settings) -> None:
        self._kms = kms
        self._key = settings.secrets_key_arn
        self._opened: dict[bytes, tuple[float, Sealed]] = {}

    def encrypt(self, sealed: Sealed, *, endpoint_id: str, resource_id: str, url: str) -> bytes:
        """One ciphertext for all of it; raises Invalid when it is more than KMS takes."""
        plaintext = json.dumps(
            {"v": 1, "secrets": sealed.secrets, "headers": sealed.headers}, ensure_ascii=False, separators=(",", ":")
        ).encode()
        if len(plaintext) > PLAINTEXT_BYTES:
            raise Invalid(
                {
                    "plugin_config": [
                        f"secret and headers take {len(plaintext)} bytes together, KMS encrypts at most "
                        f"{PLAINTEXT_BYTES}: shorten the secret or the header values"
                    ]
                }
            )
        answer = self._kms.encrypt(
            KeyId=self._key, Plaintext=plaintext, EncryptionContext=context(endpoint_id, resource_id, url)
        )
        return answer["CiphertextBlob"]

    def decrypt(self, ciphertext: bytes, *, endpoint_id: str, resource_id: str, url: str) -> Sealed:
        """What `encrypt` was given; raises ClientError when it was given for anything else."""
        bound_to = context(endpoint_id, resource_id, url)
        key = hashlib.sha256(json.dumps(bound_to, sort_keys=True).encode() + ciphertext).digest()
        opened = self._opened.get(key)
        # Wall time: a frozen process must not keep a plaintext for longer than it says.
        if opened is not None and 0 <= time.time() - opened[0] < REMEMBERED_SECONDS:
            return opened[1]
        answer = self._kms.decrypt(KeyId=self._key, CiphertextBlob=ciphertext, EncryptionContext=bound_to)
        stored = json.loads(answer["Plaintext"])
        sealed = Sealed(secrets=tuple(stored["secrets"]), headers=stored["headers"])
        if len(self._opened) >= REMEMBERED:
            self._opened.clear()
        self._opened[key] = (time.time(), sealed)
        return sealed

    def reencrypt(self, ciphertext: bytes, *, endpoint_id: str, resource_id: str, url: str) -> bytes:
        """The same under the key's newest material, bound to the same registration: it cannot be given to another."""
        bound_to = context(endpoint_id, resource_id, url)
        answer = self._kms.re_encrypt(
            CiphertextBlob=ciphertext,
            SourceKeyId=self._key,
            SourceEncryptionContext=bound_to,
            DestinationKeyId=self._key,
            DestinationEncryptionContext=bound_to,
        )
        return answer["CiphertextBlob"]


def context(endpoint_id: str, resource_id: str, url: str) -> dict[str, str]:
    """The encryption context. It stands in CloudTrail in clear, so the url goes in as its hash."""
    return {
        "purpose": PURPOSE,
        "endpoint_id": endpoint_id,
        "resource_id": resource_id,
        "url_sha256": hashlib.sha256(url.encode()).hexdigest(),
    }
