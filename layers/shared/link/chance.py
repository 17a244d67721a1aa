"""The chance of a process: jitter, nonces and ids."""

from __future__ import annotations

import random
import secrets
import uuid


class Chance:
    """Chance from the operating system: copies of a process do not repeat each other. The simulator replaces it."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def jitter(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()

    def nonce(self) -> str:
        """A token that no other commit has: 12 URL-safe characters."""
        return secrets.token_urlsafe(9)

    def uuid(self) -> str:
        """A random UUID (version 4)."""
        return str(uuid.uuid4())
