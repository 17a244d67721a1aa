"""The handler runs a key rotation."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from link.key_rotation import Unfinished
from link.settings import SettingsError
from link.store import aws
from link.store.vault import Vault
from tests.support.functions import Context, Deployment, event
from tests.support.ids import LONDON, PARIS
from tests.support.transformed import deployed


def test_a_rotation_renews_every_ciphertext(deployment: Deployment) -> None:
    deployment.register(PARIS, LONDON)
    before = {i: deployment.registration(i) for i in (PARIS, LONDON)}
    assert deployment.invoke("key_rotation", {}) == {"endpoints": 2}
    for i in (PARIS, LONDON):
        after = deployment.registration(i)
        assert after["ciphertext"] != before[i]["ciphertext"]
        assert int(after["encrypted_at"]["N"]) >= int(before[i]["encrypted_at"]["N"])
        assert {**after, "ciphertext": 0, "encrypted_at": 0} == {**before[i], "ciphertext": 0, "encrypted_at": 0}


def test_a_rotation_names_exactly_the_attributes_that_its_role_may_write(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.register(PARIS)
    stored = deployment.registration(PARIS)
    # A secret that no longer signs: the rotation removes it.
    over = {"previous_ciphertext": stored["ciphertext"], "previous_until": {"N": "1"}}
    deployment.dynamodb.put_item(TableName="endpoints", Item=stored | over)
    dynamodb, writes = aws.client("dynamodb"), list[dict[str, Any]]()
    write = dynamodb.update_item
    monkeypatch.setattr(dynamodb, "update_item", lambda **call: (writes.append(call), write(**call))[1])
    assert deployment.invoke("key_rotation", {}) == {"endpoints": 1}
    named = {name for call in writes for name in (*call["Key"], *call["ExpressionAttributeNames"].values())}
    role = deployed()["KeyRotationRole"]["Properties"]
    [statement] = [
        statement
        for policy in role["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Action"] == "dynamodb:UpdateItem"
    ]
    assert set(statement["Condition"]["ForAllValues:StringEquals"]["dynamodb:Attributes"]) == named


def test_webhooks_are_signed_after_a_rotation_as_before(deployment: Deployment) -> None:
    deployment.register(PARIS)
    deployment.invoke("key_rotation", {})
    deployment.report("status_winner")
    assert [request.brief() for request in deployment.receiver.requests] == [(PARIS, "ACTIVATED", 1, 1, "elected")]


@pytest.mark.parametrize("given", [{}, {"url": "https://attacker.example/"}, event("schedule_tick"), None, []])
def test_a_rotation_ignores_its_event(deployment: Deployment, given: Any) -> None:
    assert deployment.invoke("key_rotation", given) == {"endpoints": 0}


def test_a_rotation_with_a_failure_fails_and_keeps_what_is_done(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.register(PARIS, LONDON)
    before = {i: deployment.registration(i)["ciphertext"] for i in (PARIS, LONDON)}
    reencrypt = Vault.reencrypt

    def refused_for_london(vault: Vault, ciphertext: bytes, bound_to: dict[str, str]) -> bytes:
        if bound_to["endpoint_id"] == LONDON:
            raise ClientError({"Error": {"Code": "KMSInvalidStateException", "Message": "disabled"}}, "ReEncrypt")
        return reencrypt(vault, ciphertext, bound_to)

    monkeypatch.setattr(Vault, "reencrypt", refused_for_london)
    with pytest.raises(Unfinished, match="1 of 2 endpoints failed, 0 were not reached"):
        deployment.invoke("key_rotation", {})
    assert deployment.registration(PARIS)["ciphertext"] != before[PARIS]
    assert deployment.registration(LONDON)["ciphertext"] == before[LONDON]


def test_a_rotation_begins_no_endpoint_with_less_than_fifteen_seconds_left(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.register(PARIS)
    monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda _: 14_999)
    with pytest.raises(Unfinished, match="0 of 1 endpoints failed, 1 were not reached in time"):
        deployment.invoke("key_rotation", {})
    monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda _: 15_000)
    assert deployment.invoke("key_rotation", {}) == {"endpoints": 1}


@pytest.mark.parametrize("function", ["endpoints_api", "endpoint_status", "reconcile", "refresh", "key_rotation"])
def test_every_function_fails_at_start_without_its_settings(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.delenv("LOCKS_TABLE")
    with pytest.raises(SettingsError, match="LOCKS_TABLE is missing"):
        deployment.invoke(function, {})
