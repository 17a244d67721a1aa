"""Our own receiver reaches every verdict in the conformance file, and the file is up to date."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from link.receiver import Applied, InMemoryStore, Webhook, WebhookError, apply, parse_and_validate_webhook
from tests import conformance

WRITTEN = json.loads(conformance.FILE.read_text())


def received(request: dict[str, Any], secrets: list[str], now: int) -> Webhook:
    headers = [(name, value) for name, value in request["headers"]]
    return parse_and_validate_webhook(secrets, headers, base64.b64decode(request["body_base64"]), now=now)


def verdict(case: dict[str, Any]) -> str:
    try:
        received(case, case["secrets"], case["now"])
    except WebhookError as error:
        return error.code
    return "accepted"


@pytest.mark.parametrize("case", WRITTEN["cases"], ids=[case["name"] for case in WRITTEN["cases"]])
def test_our_receiver_reaches_the_verdict(case: dict[str, Any]) -> None:
    assert verdict(case) == case["verdict"]


@pytest.mark.parametrize("history", WRITTEN["histories"], ids=[one["name"] for one in WRITTEN["histories"]])
def test_our_receiver_follows_the_history(history: dict[str, Any]) -> None:
    store = InMemoryStore()
    for step in history["steps"]:
        webhook = received(step, history["secrets"], history["now"])
        assert apply(store, webhook) == Applied(step["superseded"], step["active"])


def test_the_file_is_up_to_date_with_the_sender() -> None:
    assert conformance.FILE.read_text() == conformance.document(), "run make conformance"


def test_every_error_code_has_a_case() -> None:
    codes = {case["verdict"] for case in WRITTEN["cases"]}
    named = str(WebhookError.__doc__).partition("one of ")[2].partition(".")[0].replace("\n", " ")
    # No single request leads to these two: one needs a lookup, the other one an earlier webhook.
    assert {code.strip() for code in named.split(",")} == codes - {"accepted"} | {"unknown_resource", "epoch_missing"}
