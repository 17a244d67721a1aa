"""Key rotation: every stored ciphertext is renewed by KMS under the key's newest material. Nothing is decrypted here.

AWS calls: 1 Scan a MiB; per endpoint what its plugin's `renew` takes and 1 UpdateItem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from link.clock import Clock
from link.plugins.seam import Encrypted, Plugins
from link.registration import Registration
from link.store.aws import FAULTS, error_code
from link.store.endpoints import Registrations
from link.telemetry import logger

SPARE_SECONDS = 15
"""More than one endpoint takes. A run that is cut off by the platform would not log how far it came."""


class Unfinished(Exception):
    """Some endpoints are not yet renewed: the platform tries again, oldest first."""


class KeyRotation:
    """Renews the ciphertexts of all endpoints. Can be repeated, interrupted and run concurrently."""

    def __init__(self, registrations: Registrations, plugins: Plugins, clock: Clock) -> None:
        self._registrations = registrations
        self._plugins = plugins
        self._clock = clock

    def run(self, seconds_left: Callable[[], float]) -> dict[str, int]:
        """The number of endpoints, oldest ciphertexts first; raises Unfinished when some could not be renewed."""
        found = sorted(encrypted(self._registrations, self._plugins), key=lambda one: (one[1], one[0].endpoint_id))
        done = failed = 0
        for registration, _, factory in found:
            if seconds_left() < SPARE_SECONDS:
                break
            try:
                renewed = replace(registration, config=factory.renew(registration, self._clock.now()))
                # Refused when it was changed or deleted since: then what is there now is newer, or nothing.
                self._registrations.reencrypt(registration, renewed)
                done += 1
            except FAULTS as error:
                failed += 1
                logger.error("key_rotation.failed", endpoint_id=registration.endpoint_id, reason=error_code(error))
        left = len(found) - done - failed
        logger.info("key_rotation.done", endpoints=len(found), reencrypted=done, failed=failed, left=left)
        if failed or left:
            raise Unfinished(
                f"{failed} of {len(found)} endpoints failed, {left} were not reached in time: see key_rotation.failed "
                "in the log, fix the key or its permissions, and run it again; finished endpoints are kept"
            )
        return {"endpoints": len(found)}


def encrypted(registrations: Registrations, plugins: Plugins) -> list[tuple[Registration, int, Encrypted]]:
    """Every registration with ciphertexts, when its oldest one was made (Unix milliseconds), and its factory."""
    found: list[tuple[Registration, int, Encrypted]] = []
    for registration in registrations.scan():
        factory = plugins[registration.plugin]
        if isinstance(factory, Encrypted):
            found.append((registration, factory.encrypted_at(registration), factory))
    return found
