"""`make conformance`: writes examples/receivers/conformance.json, requests with the verdict a receiver has to come to.

The verdicts are written by hand, here. Requests are what the sender sends, and two that LinK itself has sent.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.webhooks import ANNOUNCED, LONDON, NOW, PARIS, SECRET, captured, sent, told

FILE = Path(__file__).parents[1] / "examples/receivers/conformance.json"
OURS = ("X-Link-Webhook-Epoch", "X-Link-Webhook-Sequence")
STANDARD = ("webhook-id", "webhook-timestamp", "webhook-signature")
Pairs = list[tuple[str, str]]
Change = Callable[[Pairs, bytes], tuple[Pairs, bytes]]


def without(*names: str) -> Change:
    return lambda pairs, body: ([pair for pair in pairs if pair[0] not in names], body)


def with_(name: str, value: str) -> Change:
    return lambda pairs, body: ([(n, value if n == name else v) for n, v in pairs], body)


def twice(name: str) -> Change:
    return lambda pairs, body: ([*pairs, *(pair for pair in pairs if pair[0] == name)], body)


def body_of(text: bytes) -> Change:
    """Another body, signed with the right secret."""

    def change(pairs: Pairs, _: bytes) -> tuple[Pairs, bytes]:
        identity = dict(pairs)["webhook-id"]
        signed = {
            "X-Link-Webhook-Signature": webhook.sign(SECRET, NOW, text),
            "webhook-signature": webhook.sign_standard([SECRET], identity, NOW, text),
        }
        return [(name, signed.get(name, value)) for name, value in pairs], text

    return change


def case(name: str, verdict: str, change: Change | None = None, **more: Any) -> dict[str, Any]:
    """One request; `verdict` is accepted or the code of the refusal."""
    body, headers = sent(more.pop("announcement", ANNOUNCED), **more.pop("sent", {}))
    pairs = list(headers.items())
    if change is not None:
        pairs, body = change(pairs, body)
    return {
        "name": name,
        "verdict": verdict,
        "now": more.get("now", NOW),
        "secrets": more.get("secrets", [SECRET]),
        **request(pairs, body),
    }


def request(pairs: Pairs, body: bytes) -> dict[str, Any]:
    return {"headers": [list(pair) for pair in pairs], "body_base64": base64.b64encode(body).decode()}


def recorded(name: str, verdict: str, file: str, now: int) -> dict[str, Any]:
    pairs, body = captured(file)
    return {"name": name, "verdict": verdict, "now": now, "secrets": ["s3cret"], **request(pairs, body)}


def cases() -> list[dict[str, Any]]:
    resource = {"announcement": replace(ANNOUNCED, resource_id="Zürich <☃> & a\tb")}
    return [
        case("as it is sent", "accepted"),
        case("a STANDBY", "accepted", announcement=told(PARIS, "STANDBY", 7, 4)),
        case("a refresh: its id has a time", "accepted", announcement=replace(ANNOUNCED, refreshed_at=NOW * 1000 - 50)),
        case("any Unicode in the resource's id", "accepted", **resource),
        case("header names in lower case", "accepted", lambda p, b: ([(n.lower(), v) for n, v in p], b)),
        case("300 s old", "accepted", now=NOW + 300),
        case("300 s ahead", "accepted", now=NOW - 300),
        case("signed with the old secret, both are known", "accepted", secrets=["new", SECRET]),
        case("signed with both secrets, the new one is known", "bad_signature", sent={"secrets": [SECRET, "new"]},
             secrets=["new"]),
        case("signed with both secrets, the old one is known", "accepted", sent={"secrets": [SECRET, "new"]}),
        recorded("LinK itself, ACTIVATED", "accepted", "wire-activated.bin", 1_795_435_471),
        recorded("LinK itself, an hour later", "too_old", "wire-activated.bin", 1_795_439_071),
        case("301 s old", "too_old", now=NOW + 301),
        case("301 s ahead", "too_new", now=NOW - 301),
        case("another secret", "bad_signature", secrets=["another"]),
        case("a byte more in the body", "bad_signature", lambda p, b: (p, b + b" ")),
        case("the body serialised anew", "bad_signature", lambda p, b: (p, json.dumps(json.loads(b)).encode())),
        case("no body", "bad_signature", lambda p, b: (p, b"")),
        case("the timestamp freshened", "bad_signature", with_("X-Link-Webhook-Timestamp", str(NOW + 1))),
        case("the timestamp with a dot", "malformed_header", with_("X-Link-Webhook-Timestamp", f"{NOW}.0")),
        case("the timestamp in Arabic digits", "malformed_header", with_("X-Link-Webhook-Timestamp", "١٧٩٥٤٣٥٢٠٠")),
        case("the signature cut off", "malformed_header", with_("X-Link-Webhook-Signature", "0" * 63)),
        case("the signature not ASCII", "malformed_header", with_("X-Link-Webhook-Signature", "é" * 64)),
        case("no signature", "missing_header", without("X-Link-Webhook-Signature")),
        case("no resource", "missing_header", without("X-Link-Webhook-Resource-ID")),
        case("the signature twice", "repeated_header", twice("X-Link-Webhook-Signature")),
        case("webhook-id twice", "repeated_header", twice("webhook-id")),
        case("another resource in the header", "mismatch", with_("X-Link-Webhook-Resource-ID", "another")),
        case("the epoch raised", "mismatch", with_("X-Link-Webhook-Epoch", "8")),
        case("the sequence raised", "mismatch", with_("X-Link-Webhook-Sequence", "4")),
        case("webhook-id forged", "bad_signature", with_("webhook-id", f"{PARIS}_8_3")),
        case("webhook-timestamp of another attempt", "mismatch", with_("webhook-timestamp", str(NOW - 1))),
        case("epoch and sequence without the id that signs them", "missing_header", without(*STANDARD)),
        case("the id without epoch and sequence beside it", "accepted", without(*OURS)),
        case("every header of ours cut off", "accepted", without(*OURS, *STANDARD)),
        case("signed, not an object", "malformed_body", body_of(b"null")),
        case("signed, not JSON", "malformed_body", body_of(b"{")),
        case("signed, FAILING", "malformed_body",
             body_of(webhook.payload(PARIS, ANNOUNCED.resource_id, "webhook", "FAILING"))),
        case("signed, for another endpoint than its id", "mismatch",
             body_of(webhook.payload(LONDON, ANNOUNCED.resource_id, "webhook", "ACTIVATED"))),
    ]  # fmt: skip


def histories() -> list[dict[str, Any]]:
    """What arrives in this order; after each, whether it was superseded and who is active."""
    p1, l1 = (PARIS, "ACTIVATED", 1, 1), (LONDON, "STANDBY", 1, 1)
    p_out, l2 = (PARIS, "STANDBY", 1, 2), (LONDON, "ACTIVATED", 2, 2)

    def history(name: str, *steps: tuple[tuple[str, str, int, int], bool, str | None]) -> dict[str, Any]:
        made = []
        for announcement, superseded, active in steps:
            body, headers = sent(told(*announcement))
            made.append({**request(list(headers.items()), body), "superseded": superseded, "active": active})
        return {"name": name, "now": NOW, "secrets": [SECRET], "steps": made}

    return [
        history("a handover", (p1, False, PARIS), (l1, False, PARIS), (p_out, False, None), (l2, False, LONDON)),
        history("the old holder's STANDBY comes last", (p1, False, PARIS), (l2, False, LONDON), (p_out, False, LONDON)),
        history("an ACTIVATED after its own STANDBY", (p1, False, PARIS), (p_out, False, None), (p1, True, None)),
        history("an ACTIVATED after its successor's", (l2, False, LONDON), (p1, True, LONDON)),
        history("the same again and again", (p1, False, PARIS), (p1, False, PARIS), (p1, False, PARIS)),
        history("a joiner's STANDBY after it won", (l2, False, LONDON), (l1, True, LONDON)),
    ]  # fmt: skip


def document() -> str:
    """The file."""
    about = "Requests and what a receiver has to make of them: see docs/receiving.md."
    return json.dumps({"about": about, "cases": cases(), "histories": histories()}, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(FILE.write_text(document()) == 0)
