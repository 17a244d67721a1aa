"""The webhook on the wire, against recordings of LinK and the library of Standard Webhooks."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from typing import Any

import pytest
import standardwebhooks

from link import VERSION
from link.plugins.webhook import wire
from link.receiver import WebhookError
from tests.support.ids import PARIS, RESOURCE
from tests.support.webhooks import ANNOUNCED, NOW, RECORDED, captured, received, sent

# What LinK sends


@pytest.mark.parametrize("vector", RECORDED, ids=[f"{v['source']}, {v['name']}, {v['timestamp']}" for v in RECORDED])
def test_body_and_signature_are_those_of_link_to_the_byte(vector: dict[str, Any]) -> None:
    body = wire.payload(vector["endpoint_id"], vector["resource_id"], vector["plugin"], vector["status"])

    assert body == vector["body"].encode()
    assert wire.sign(vector["secret"], vector["timestamp"], body) == vector["signature_hex"]


def test_both_kinds_of_recordings_are_there() -> None:
    assert {v["source"] for v in RECORDED} == {"plugin", "formula"} and len(RECORDED) == 29


@pytest.mark.parametrize("name", ["wire-activated.bin", "wire-standby.bin"])
def test_every_header_of_a_captured_request_is_sent_with_its_value(name: str) -> None:
    pairs, captured_body = captured(name)
    said = json.loads(captured_body)

    announcement = dataclasses.replace(ANNOUNCED, **said)
    body, headers = sent(announcement, ["s3cret"], timestamp=int(dict(pairs)["X-Link-Webhook-Timestamp"]))

    ours = {name.lower(): value for name, value in headers.items()}
    of_the_transport = {"host", "user-agent", "content-length", "accept-encoding"}
    contract = {name.lower(): value for name, value in pairs if name.lower() not in of_the_transport}
    assert body == captured_body
    assert len(contract) == 4 and contract.items() <= ours.items()


@pytest.mark.parametrize("name", ["wire-activated.bin", "wire-standby.bin"])
def test_a_webhook_of_link_itself_is_accepted_without_an_epoch(name: str) -> None:
    headers, body = captured(name)

    seen = received(headers, body, "s3cret", now=1_795_435_471)

    assert (seen.resource_id, seen.status) == ("res-1", json.loads(body)["status"])
    assert (seen.message_id, seen.epoch, seen.sequence) == (None, None, None)


@pytest.mark.parametrize("c", ["\ud800", "\udfff"])
def test_a_lone_surrogate_becomes_the_replacement_character_as_in_go(c: str) -> None:
    body, headers = sent(dataclasses.replace(ANNOUNCED, resource_id=f"a{c}b"))

    assert b'"resource_id":"a\xef\xbf\xbdb"' in body
    assert headers["X-Link-Webhook-Resource-ID"] == "a\ufffdb"


# What we add


def test_the_headers_have_resource_time_order_reason_and_attempt() -> None:
    _, headers = sent(dataclasses.replace(ANNOUNCED, attempt=2))

    del headers["X-Link-Webhook-Signature"], headers["webhook-signature"]
    assert headers == {
        "Content-Type": "application/json",
        "User-Agent": f"link-webhook-serverless/{VERSION}",
        "X-Link-Webhook-Resource-ID": RESOURCE,
        "X-Link-Webhook-Timestamp": str(NOW),
        "X-Link-Webhook-Epoch": "7",
        "X-Link-Webhook-Sequence": "3",
        "X-Link-Webhook-Reason": "elected",
        "X-Link-Webhook-Attempt": "2",
        "webhook-id": f"{PARIS}_7_3",
        "webhook-timestamp": str(NOW),
    }


@pytest.mark.parametrize(
    ("host", "value"),
    [
        ("web-1.example.com", "web-1.example.com"),
        ("2001:db8::1", "2001:db8::1"),
        ("100%", "100%25"),
        ("Zürich ☃\x85", "Z%C3%BCrich%20%E2%98%83%C2%85"),
        ("\ud800", "%EF%BF%BD"),
    ],
)
def test_a_registered_host_is_one_more_header_of_visible_ascii(host: str, value: str) -> None:
    body, headers = sent(dataclasses.replace(ANNOUNCED, host=host))

    assert headers.pop("X-Link-Webhook-Host") == value
    assert (body, headers) == sent()


def test_a_retry_keeps_the_id_and_a_refresh_has_its_own() -> None:
    refresh = {"refreshed_at": 1_795_435_199_950}
    changes: list[dict[str, Any]] = [{}, {"attempt": 2}, refresh, {**refresh, "attempt": 2}]
    ids = [sent(dataclasses.replace(ANNOUNCED, **change))[1]["webhook-id"] for change in changes]

    assert ids == [f"{PARIS}_7_3", f"{PARIS}_7_3", f"{PARIS}_7_3_1795435199950", f"{PARIS}_7_3_1795435199950"]


def test_the_users_headers_are_sent_too_and_never_replace_ours() -> None:
    users = {
        "Authorization": "Bearer é",
        "user-agent": "theirs",
        "content-type": "text/plain",
        "X-LINK-WEBHOOK-SIGNATURE": "0" * 64,
        "X_Link_Webhook_Epoch": "99",
        "Webhook-Id": "theirs",
    }

    _, headers = sent(headers=users)

    assert headers["Authorization"] == "Bearer é"
    assert headers["user-agent"] == "theirs" and "User-Agent" not in headers
    assert {k: v for k, v in headers.items() if k.lower() != "user-agent"} == {
        k: v for k, v in sent(headers={"Authorization": "Bearer é"})[1].items() if k != "User-Agent"
    }


@pytest.mark.parametrize("secrets", [["one"], ["old", "new"], ["schlüssel ☃"]], ids=["one", "rotating", "not ASCII"])
def test_the_standard_webhooks_package_verifies_us_with_each_secret(secrets: list[str]) -> None:
    body, headers = sent(secrets=secrets, timestamp=int(time.time()))

    for secret in secrets:
        library = standardwebhooks.Webhook("whsec_" + base64.b64encode(secret.encode()).decode())
        assert library.verify(body, headers)["endpoint_id"] == PARIS


def test_while_a_secret_changes_links_header_is_signed_with_the_older_one() -> None:
    body, headers = sent(secrets=["old", "new"])

    assert received(headers, body, "old").epoch == 7
    assert received(headers, body, ["new", "old"]).epoch == 7
    with pytest.raises(WebhookError, match="compare secrets"):
        received(headers, body, "new")
