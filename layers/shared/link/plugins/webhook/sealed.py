"""Secret and header values of a webhook: one ciphertext, bound to the one registration that they belong to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from link.errors import Invalid
from link.store.vault import MAX_PLAINTEXT_BYTES, Vault

PURPOSE = "webhook-config"
"""Value of the encryption context's `purpose`; the roles' policies allow no other."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a ciphertext hides."""

    secret: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)


def context(endpoint_id: str, resource_id: str, url: str) -> dict[str, str]:
    """The encryption context. CloudTrail shows it in clear, so the url goes in as its hash."""
    return {
        "purpose": PURPOSE,
        "endpoint_id": endpoint_id,
        "resource_id": resource_id,
        "url_sha256": hashlib.sha256(url.encode()).hexdigest(),
    }


def seal(vault: Vault, sealed: Sealed, bound_to: dict[str, str]) -> bytes:
    """One ciphertext for all of it; raises Invalid when it is more than KMS takes. 1 kms:Encrypt."""
    # The list, "from" and "until" are what version 0.1 reads: a rollback must be able to sign.
    secrets = [{"value": sealed.secret, "from": 0, "until": None}]
    plaintext = json.dumps(
        {"v": 1, "secrets": secrets, "headers": sealed.headers}, ensure_ascii=False, separators=(",", ":")
    ).encode()
    if len(plaintext) > MAX_PLAINTEXT_BYTES:
        raise Invalid(
            {
                "plugin_config": [
                    f"secret and headers take {len(plaintext)} bytes together, KMS encrypts at most "
                    f"{MAX_PLAINTEXT_BYTES}: shorten the secret or the header values"
                ]
            }
        )
    return vault.encrypt(plaintext, bound_to)


def unseal(vault: Vault, ciphertext: bytes, bound_to: dict[str, str]) -> Sealed:
    """What `seal` was given; raises ClientError when it was bound to anything else. At most 1 kms:Decrypt."""
    stored = json.loads(vault.decrypt(ciphertext, bound_to))
    return Sealed(secret=stored["secrets"][0]["value"], headers=stored["headers"])
