"""`make conformance`: write examples/receivers/conformance.json, requests with the verdict that a receiver must reach.

The verdicts are written by hand in this file. The requests are made by this sender; two were recorded from LinK.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from link.plugins.webhook import wire
from tests.support.ids import LONDON, PARIS
from tests.support.webhooks import ANNOUNCED, NOW, SECRET, announced, captured, sent

FILE = Path(__file__).parents[1] / "examples/receivers/conformance.json"
OURS = ("X-Link-Webhook-Epoch", "X-Link-Webhook-Sequence")
STANDARD = ("webhook-id", "webhook-timestamp", "webhook-signature")
RESTORED = NOW * 1000
"""Epochs and sequences after a restore: the time in milliseconds."""
Pairs = list[tuple[str, str]]
Change = Callable[[Pairs, bytes], tuple[Pairs, bytes]]


def without(*names: str) -> Change:
    return lambda pairs, body: ([pair for pair in pairs if pair[0] not in names], body)


def with_(name: str, value: str) -> Change:
    return lambda pairs, body: ([(n, value if n == name else v) for n, v in pairs], body)


def twice(name: str) -> Change:
    return lambda pairs, body: ([*pairs, *(pair for pair in pairs if pair[0] == name)], body)


def body_of(text: bytes) -> Change:
    """Replace the body and sign it with the right secret."""

    def change(pairs: Pairs, _: bytes) -> tuple[Pairs, bytes]:
        identity = dict(pairs)["webhook-id"]
        signed = {
            "X-Link-Webhook-Signature": wire.sign(SECRET, NOW, text),
            "webhook-signature": wire.sign_standard([SECRET], identity, NOW, text),
        }
        return [(name, signed.get(name, value)) for name, value in pairs], text

    return change


def case(name: str, verdict: str, change: Change | None = None, **more: Any) -> dict[str, Any]:
    """Return one request; `verdict` is "accepted" or the code of the refusal."""
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
    unicode = replace(ANNOUNCED, resource_id="Zürich <☃> & a\tb")
    return [
        case("as it is sent", "accepted"),
        case("a STANDBY", "accepted", announcement=announced(PARIS, "STANDBY", 7, 4)),
        case(
            "a refresh, whose webhook-id has a time",
            "accepted",
            announcement=replace(ANNOUNCED, refreshed_at=NOW * 1000 - 50),
        ),
        case("a resource id with characters outside of ASCII", "accepted", announcement=unicode),
        case("with the host of the endpoint", "accepted", announcement=replace(ANNOUNCED, host="Zürich 1")),
        case("header names in lower case", "accepted", lambda p, b: ([(n.lower(), v) for n, v in p], b)),
        case("300 s old", "accepted", now=NOW + 300),
        case("300 s in the future", "accepted", now=NOW - 300),
        case("signed with the old secret, the receiver knows both", "accepted", secrets=["new", SECRET]),
        case(
            "signed with both secrets, the receiver knows the new one",
            "bad_signature",
            sent={"secrets": [SECRET, "new"]},
            secrets=["new"],
        ),
        case("signed with both secrets, the receiver knows the old one", "accepted", sent={"secrets": [SECRET, "new"]}),
        recorded("recorded from LinK, ACTIVATED", "accepted", "wire-activated.bin", 1_795_435_471),
        recorded("recorded from LinK, received an hour later", "too_old", "wire-activated.bin", 1_795_439_071),
        case("301 s old", "too_old", now=NOW + 301),
        case("301 s in the future", "too_new", now=NOW - 301),
        case("signed with another secret", "bad_signature", secrets=["another"]),
        case("one more byte in the body", "bad_signature", lambda p, b: (p, b + b" ")),
        case(
            "the body parsed and serialised again",
            "bad_signature",
            lambda p, b: (p, json.dumps(json.loads(b)).encode()),
        ),
        case("an empty body", "bad_signature", lambda p, b: (p, b"")),
        case("a later timestamp than the signed one", "bad_signature", with_("X-Link-Webhook-Timestamp", str(NOW + 1))),
        case("a timestamp with a decimal point", "malformed_header", with_("X-Link-Webhook-Timestamp", f"{NOW}.0")),
        case("a timestamp in Arabic digits", "malformed_header", with_("X-Link-Webhook-Timestamp", "١٧٩٥٤٣٥٢٠٠")),
        case("a truncated signature", "malformed_header", with_("X-Link-Webhook-Signature", "0" * 63)),
        case("a signature that is not ASCII", "malformed_header", with_("X-Link-Webhook-Signature", "é" * 64)),
        case("no signature header", "missing_header", without("X-Link-Webhook-Signature")),
        case("no resource header", "missing_header", without("X-Link-Webhook-Resource-ID")),
        case("two signature headers", "repeated_header", twice("X-Link-Webhook-Signature")),
        case("two webhook-id headers", "repeated_header", twice("webhook-id")),
        case("another resource in the header", "mismatch", with_("X-Link-Webhook-Resource-ID", "another")),
        case("a raised epoch", "mismatch", with_("X-Link-Webhook-Epoch", "8")),
        case("a raised sequence", "mismatch", with_("X-Link-Webhook-Sequence", "4")),
        case("a forged webhook-id", "bad_signature", with_("webhook-id", f"{PARIS}_8_3")),
        case("a webhook-timestamp of another attempt", "mismatch", with_("webhook-timestamp", str(NOW - 1))),
        case("epoch and sequence without the webhook-id that signs them", "missing_header", without(*STANDARD)),
        case("the webhook-id without the epoch and sequence headers", "accepted", without(*OURS)),
        case("no header beyond those of LinK", "accepted", without(*OURS, *STANDARD)),
        case("a signed body that is not an object", "malformed_body", body_of(b"null")),
        case("a signed body that is not JSON", "malformed_body", body_of(b"{")),
        case(
            "a signed body with status FAILING",
            "malformed_body",
            body_of(wire.payload(PARIS, ANNOUNCED.resource_id, "webhook", "FAILING")),
        ),
        case(
            "a signed body for another endpoint than its webhook-id",
            "mismatch",
            body_of(wire.payload(LONDON, ANNOUNCED.resource_id, "webhook", "ACTIVATED")),
        ),
    ]


def histories() -> list[dict[str, Any]]:
    """Return requests in their order of arrival; each says whether it is superseded and who is active after it."""
    p1, l1 = (PARIS, "ACTIVATED", 1, 1), (LONDON, "STANDBY", 1, 1)
    p_out, l2 = (PARIS, "STANDBY", 1, 2), (LONDON, "ACTIVATED", 2, 2)

    def request_of(announcement: tuple[str, str, int, int]) -> dict[str, Any]:
        body, headers = sent(announced(*announcement))
        return request(list(headers.items()), body)

    def history(name: str, *steps: tuple[tuple[str, str, int, int], bool, str | None]) -> dict[str, Any]:
        made = [
            {**request_of(announcement), "superseded": superseded, "active": active}
            for announcement, superseded, active in steps
        ]
        return {"name": name, "now": NOW, "secrets": [SECRET], "steps": made}

    def race(name: str, first: tuple[str, str, int, int], meanwhile: tuple[str, str, int, int]) -> dict[str, Any]:
        """`meanwhile` arrives while the switch to `first` is under way: it gets 503, and comes again later."""
        made = history(name, (first, False, LONDON), (meanwhile, False, LONDON))
        made["steps"][0]["busy_meanwhile"] = request_of(meanwhile)
        return made

    return [
        history("a handover", (p1, False, PARIS), (l1, False, PARIS), (p_out, False, None), (l2, False, LONDON)),
        history(
            "the STANDBY of the old holder arrives last",
            (p1, False, PARIS),
            (l2, False, LONDON),
            (p_out, False, LONDON),
        ),
        history(
            "an ACTIVATED arrives after the later STANDBY of the same endpoint",
            (p1, False, PARIS),
            (p_out, False, None),
            (p1, True, None),
        ),
        history("an ACTIVATED arrives after the ACTIVATED of the successor", (l2, False, LONDON), (p1, True, LONDON)),
        history(
            "numbers of 13 digits, after a restore",
            (p1, False, PARIS),
            ((PARIS, "STANDBY", RESTORED, RESTORED + 1), False, None),
            ((LONDON, "ACTIVATED", RESTORED + 1, RESTORED + 1), False, LONDON),
            (p1, True, LONDON),
            ((PARIS, "ACTIVATED", RESTORED, RESTORED + 2), True, LONDON),
        ),
        history("the same webhook three times", (p1, False, PARIS), (p1, False, PARIS), (p1, False, PARIS)),
        race("a slow switch ends after the successor's ACTIVATED has arrived", p1, l2),
        history(
            "the first STANDBY of an endpoint arrives after its ACTIVATED", (l2, False, LONDON), (l1, True, LONDON)
        ),
    ]


def document() -> str:
    """Return the content of the file."""
    about = (
        "Requests, and the verdict that a receiver must reach for each. In a history, `active` is what the receiver "
        "has switched to after a step, and `busy_meanwhile` is a request that arrives during its switch and gets 503: "
        "see docs/receiving.md."
    )
    return json.dumps({"about": about, "cases": cases(), "histories": histories()}, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(FILE.write_text(document()) == 0)
