"""Our own receiver reaches every verdict in the conformance file, and the file is up to date."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from link.receiver import Busy, InMemoryStore, Target, Webhook, WebhookError, apply, parse_and_validate_webhook
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
    switched: list[Target] = []

    def take(request: dict[str, Any], switch: Callable[[Target], None]) -> bool:
        return apply(store, received(request, history["secrets"], history["now"]), switch)

    for step in history["steps"]:
        meanwhile = [step["busy_meanwhile"]] if "busy_meanwhile" in step else []

        def switch(target: Target, meanwhile: list[dict[str, Any]] = meanwhile) -> None:
            if meanwhile:
                with pytest.raises(Busy):
                    take(meanwhile.pop(), pytest.fail)
            switched.append(target)

        assert take(step, switch) is not step["superseded"]
        assert switched[-1].endpoint_id == step["active"]


def test_the_file_is_up_to_date_with_the_sender() -> None:
    assert conformance.FILE.read_text() == conformance.document(), "run make conformance"


def test_every_error_code_has_a_case() -> None:
    codes = {case["verdict"] for case in WRITTEN["cases"]}
    named = str(WebhookError.__doc__).partition("one of ")[2].partition(".")[0].replace("\n", " ")
    # No single request leads to these: they need a look-up, an earlier webhook or another one at the same time.
    others = {"unknown_endpoint", "epoch_missing", "busy"}
    assert {code.strip() for code in named.split(",")} == codes - {"accepted"} | others
