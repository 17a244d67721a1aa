"""LinK's verifier for receivers, written in Go, accepts whatever the sender sends. `go_accepts` has its rules.

Source: ParseAndValidateWebhook of Scalingo/link v3.3.0, as we observed it. It needs a secret, a JSON body with strings
in the four fields, both headers, a signature in hex, and the HMAC-SHA256 over `<timestamp>.<body>`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ids import RESOURCE
from tests.support.webhooks import RECORDED, announced, sent

FIELDS = {"endpoint_id", "resource_id", "plugin", "status"}
SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
"""Without lone surrogates: they have no UTF-8 form, and registering replaces them by U+FFFD."""


def go_accepts(secret: str, headers: dict[str, str], body: bytes) -> dict[str, str] | None:
    """The payload, or None where the Go function returns an error."""
    # net/http makes the names canonical and trims the values; Get takes the first.
    canonical = {"-".join(part.capitalize() for part in name.split("-")): value for name, value in headers.items()}
    try:
        payload = json.loads(body.decode())
    except ValueError:
        return None
    timestamp = canonical.get("X-Link-Webhook-Timestamp", "").strip(" \t")
    signature = canonical.get("X-Link-Webhook-Signature", "").strip(" \t")
    if not secret or not timestamp or not re.fullmatch("(?:[0-9a-fA-F]{2})+", signature):
        return None
    if not isinstance(payload, dict) or not all(isinstance(payload.get(name, ""), str) for name in FIELDS):
        return None
    expected = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).digest()
    return payload if bytes.fromhex(signature) == expected else None


def test_it_accepts_what_link_itself_sent() -> None:
    for one in RECORDED:
        headers = {"x-link-webhook-timestamp": one["timestamp"], "X-Link-Webhook-Signature": one["signature_hex"]}
        seen = go_accepts(one["secret"], headers, one["body"].encode())
        assert seen is not None and seen["status"] == one["status"]
    assert len(RECORDED) > 10


@given(resource_id=st.text(min_size=1, max_size=256), secret=SECRETS, status=st.sampled_from(["ACTIVATED", "STANDBY"]))
def test_it_accepts_whatever_the_sender_sends(resource_id: str, secret: str, status: str) -> None:
    announcement = replace(announced("vip-1", status, 7, 3), resource_id=resource_id)
    body, headers = sent(announcement, [secret])
    seen = go_accepts(secret, headers, body)
    assert seen is not None and set(seen) == FIELDS
    clean = re.sub("[\ud800-\udfff]", "\ufffd", resource_id)
    assert (seen["resource_id"], seen["status"]) == (clean, status)


@pytest.mark.parametrize("spoil", ["body", "secret", "signature", "timestamp"])
def test_it_refuses_anything_else(spoil: str) -> None:
    body, headers = sent()
    secret = "paris' secret"
    assert go_accepts(secret, headers, body) is not None
    if spoil == "body":
        body = body.replace(RESOURCE.encode(), b"another")
    elif spoil == "secret":
        secret = "london's secret"
    else:
        headers[f"X-Link-Webhook-{spoil.capitalize()}"] = "0" * 64
    assert go_accepts(secret, headers, body) is None
