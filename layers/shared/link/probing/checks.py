"""A check: what is looked at, and what passes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class CheckType(StrEnum):
    """How a target is looked at."""

    TCP = "TCP"
    HTTP = "HTTP"
    HTTPS = "HTTPS"


@dataclass(frozen=True, slots=True)
class Check:
    """One target. Equal checks are one look, whichever endpoints have them."""

    type: CheckType
    host: str
    port: int
    path: str = "/"
    expect: tuple[int, int] = (200, 399)
    """The lowest and the highest status that pass."""
    verify: bool = False
    """Whether the certificate is judged."""


def read(stored: Mapping[str, Any]) -> Check:
    """The check of a registration. The API has validated it.

    >>> read({"type": "TCP", "host": "paris.example", "port": 5432}).expect
    (200, 399)
    >>> read({"type": "HTTPS", "host": "paris.example", "port": 443, "expect": "200-204", "verify": True}).expect
    (200, 204)
    >>> read({"type": "HTTP", "host": "paris.example", "port": 80, "expect": "204"}).expect
    (204, 204)
    """
    given = {name: stored[name] for name in ("path", "verify") if name in stored}
    if "expect" in stored:
        lowest, _, highest = stored["expect"].partition("-")
        given["expect"] = int(lowest), int(highest or lowest)
    return Check(CheckType(stored["type"]), stored["host"], int(stored["port"]), **given)
