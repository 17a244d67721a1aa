"""The stored form of a check."""

from __future__ import annotations

from link.probing.checks import Check, CheckType, read


def test_a_stored_check_has_every_field_or_what_stands_for_it() -> None:
    least = {"type": "HTTP", "host": "paris.example", "port": 80}
    assert read(least) == Check(CheckType.HTTP, "paris.example", 80, "/", (200, 399), False)
    most = {**least, "type": "HTTPS", "path": "/health", "expect": "200-204", "verify": True}
    assert read(most) == Check(CheckType.HTTPS, "paris.example", 80, "/health", (200, 204), True)
