"""Key rotation: every stored ciphertext made anew by KMS under the key's newest material. Nothing is decrypted here.

AWS calls: 1 Scan a MiB; per endpoint 1 ReEncrypt (2 while its secret is being rotated) and 1 UpdateItem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from link.clock import Clock
from link.delivery import error_code
from link.encryption import Vault
from link.plugin import StorablePluginConfig
from link.registry import Registry
from link.telemetry import logger

SPARE_SECONDS = 15
"""One endpoint takes less; a run that is cut off instead would not say how far it came."""


class Unfinished(Exception):
    """Some endpoints are still to be encrypted anew: the platform tries again, oldest first."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """Encrypts the secrets of all endpoints anew. Safe to repeat, to interrupt and to run twice at once."""

    registry: Registry
    vault: Vault
    clock: Clock

    def run(self, seconds_left: Callable[[], float]) -> dict[str, int]:
        """The oldest ciphertexts first; raises Unfinished when some could not be done."""
        rows = sorted(self.registry.scan(), key=lambda row: (row.encrypted_at, row.endpoint_id))
        done = failed = 0
        for row in rows:
            if seconds_left() < SPARE_SECONDS:
                break
            try:
                # Refused when it was changed or deleted since: then what is there now is new, or nothing.
                self.registry.reencrypt(row, self._renewed(row))
                done += 1
            except (ClientError, BotoCoreError) as error:
                failed += 1
                logger.error("key_rotation.failed", endpoint_id=row.endpoint_id, reason=error_code(error))
        left = len(rows) - done - failed
        logger.info("key_rotation.done", endpoints=len(rows), reencrypted=done, failed=failed, left=left)
        if failed or left:
            raise Unfinished(
                f"{failed} of {len(rows)} endpoints failed, {left} were not reached in time: read key_rotation.failed "
                "in the log, mend the key or its permissions, and start it again; what is done stays done"
            )
        return {"endpoints": len(rows)}

    def _renewed(self, row: StorablePluginConfig) -> StorablePluginConfig:
        bound_to: dict[str, Any] = {"endpoint_id": row.endpoint_id, "resource_id": row.resource_id, "url": row.url}
        now, previous, until = self.clock.now(), row.previous_ciphertext, row.previous_until
        if previous is None or until is None or until <= now:
            # A secret that signs no more goes.
            previous = until = None
        else:
            previous = self.vault.reencrypt(previous, **bound_to)
        return replace(
            row,
            ciphertext=self.vault.reencrypt(row.ciphertext, **bound_to),
            previous_ciphertext=previous,
            previous_until=until,
            encrypted_at=now,
        )
