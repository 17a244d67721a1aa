"""What a PATCH may say, and the row it leads to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.link.test_delivery import DELIVERY, Post, Vault

from link.election.result import Result, ResultKind
from link.errors import Conflict, Invalid
from link.plugins.webhook.factory import WebhookFactory
from link.plugins.webhook.sealed import Sealed
from tests.link.test_registry import PARIS
from tests.support.deployed import settings
from tests.world import START, VirtualClock

PLAIN = replace(PARIS, header_names=())
DAY = 86_400_000
MARKER = "marker-of-a-secret"
ROTATING = replace(PLAIN, previous_ciphertext=b"before", previous_until=START + DAY)


def changed(body: object, row: StorablePluginConfig = PLAIN) -> StorablePluginConfig:
    vault = Vault(Sealed((), {}))
    return WebhookFactory(vault, settings(), VirtualClock()).change(row, body, START)  # type: ignore[arg-type]


def errors(body: object, row: StorablePluginConfig = PLAIN) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as invalid:
        changed(body, row)
    assert MARKER not in str(invalid.value)
    return invalid.value.errors


@pytest.mark.parametrize(
    "body", [{}, {"plugin_config": {}}, {"priority": None, "checks": None}, {"comment": "ignored, as LinK does"}, None]
)
def test_what_says_nothing_changes_nothing(body: object) -> None:
    assert changed(body) is PLAIN


def test_what_an_endpoint_says_of_itself_changes_nothing_either() -> None:
    as_shown = {
        "plugin": "webhook",
        "host": PLAIN.host,
        "checks": list(PLAIN.checks),
        "healthcheck_interval": PLAIN.healthcheck_interval,
        "priority": PLAIN.priority,
        "lease_seconds": PLAIN.lease_seconds,
        "plugin_config": {"resource_id": PLAIN.resource_id},
    }
    assert changed(as_shown) is PLAIN


CHECK = {"type": "TCP", "host": "203.0.113.9", "port": 80}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"healthchecks": [CHECK]}, {"checks": (CHECK,)}),
        ({"checks": []}, {"checks": ()}),
        ({"healthcheck_interval": 20}, {"healthcheck_interval": 20}),
        ({"priority": 7}, {"priority": 7}),
        ({"lease_seconds": 5}, {"lease_seconds": 5}),
        ({"lease_seconds": None}, {"lease_seconds": None}),
    ],
)
def test_one_thing_changes_and_the_ciphertext_stays(body: dict[str, Any], fields: dict[str, Any]) -> None:
    assert changed(body) == replace(PLAIN, revision=2, **fields)


@pytest.mark.parametrize(
    ("body", "field", "text"),
    [
        ({"plugin": "arp"}, "plugin", "cannot change"),
        ({"host": "london"}, "host", "cannot change"),
        ({"plugin_config": {"resource_id": "other"}}, "plugin_config.resource_id", "cannot change"),
        ({"healthchecks": [{"type": "UDP", "host": "", "port": 0}]}, "0", "type=Health check type is not supported"),
        ({"healthchecks": {}}, "checks", "is not a list"),
        ({"healthcheck_interval": -1}, "healthcheck_interval", "Health check interval must be greater than 0"),
        ({"priority": 1_001}, "priority", "outside -1000 to 1000"),
        ({"lease_seconds": 4}, "lease_seconds", "outside 5 to 3600"),
        ({"Priority": 4}, "body", "write 'priority'"),
        ({"plugin_config": {"url": "https://paris.example/new"}}, "plugin_config.secret", "missing secret"),
        ({"plugin_config": {"url": "ftp://x", "secret": MARKER}}, "plugin_config.url", "invalid URL scheme"),
        ({"plugin_config": {"headers": {"X-A": MARKER}}}, "plugin_config.secret", "missing secret"),
        ({"plugin_config": {"secret": ""}}, "plugin_config.secret", "missing secret"),
        ({"plugin_config": {"secret": [MARKER]}}, "plugin_config.secret", "not a string"),
        (
            {"plugin_config": {"secret": MARKER, "previous_secret_until": START}},
            "plugin_config.previous_secret_until",
            "outside",
        ),
        (
            {"plugin_config": {"secret": MARKER, "previous_secret_until": START + 31 * DAY}},
            "plugin_config.previous_secret_until",
            "outside",
        ),
        (
            {"plugin_config": {"previous_secret_until": START + DAY}},
            "plugin_config.previous_secret_until",
            "give plugin_config.secret, too",
        ),
        (
            {"plugin_config": {"url": "https://new.example", "secret": MARKER, "previous_secret_until": START + DAY}},
            "plugin_config.previous_secret_until",
            "one after the other",
        ),
        ([], "body", "is not an object"),
    ],
)
def test_what_cannot_be_says_why(body: object, field: str, text: str) -> None:
    found = errors(body)
    assert list(found) == [field], found
    assert text in found[field][0]


@pytest.mark.parametrize("config", [{"secret": MARKER}, {"secret": MARKER, "url": "https://new.example/"}])
def test_headers_that_would_be_lost_have_to_be_given_again(config: dict[str, Any]) -> None:
    found = errors({"plugin_config": config}, PARIS)
    assert list(found) == ["plugin_config.headers"]
    assert found["plugin_config.headers"][0].startswith("Authorization, X-Site are encrypted")
    kept = changed({"plugin_config": {**config, "headers": {"X-Site": "paris"}}}, PARIS)
    assert (kept.revision, kept.header_names) == (2, ("X-Site",))
    assert changed({"plugin_config": {**config, "headers": {}}}, PARIS).header_names == ()


def test_a_new_url_comes_with_its_own_secret_and_the_old_ones_end() -> None:
    vault = Vault(Sealed((), {}))
    factory = WebhookFactory(vault, settings(), VirtualClock())  # type: ignore[arg-type]
    config = {"url": "https://new.example/", "secret": "new", "headers": {"X-Site": "london"}}
    row = factory.change(ROTATING, {"plugin_config": config}, START)
    assert row == replace(
        PLAIN, revision=2, url="https://new.example/", ciphertext=b"ciphertext", header_names=("X-Site",),
        encrypted_at=START,
    )  # fmt: skip
    assert vault.sealed == Sealed(({"value": "new", "from": START, "until": None},), {"X-Site": "london"})
    assert vault.bound == {"endpoint_id": "vip-1", "resource_id": "ip ü", "url": "https://new.example/"}


def test_a_new_secret_alone_is_current_at_once() -> None:
    row = changed({"plugin_config": {"secret": "new"}})
    assert row == replace(PLAIN, revision=2, ciphertext=b"ciphertext", encrypted_at=START)


def test_with_a_time_the_old_secret_signs_on_until_then() -> None:
    row = changed({"plugin_config": {"secret": "new", "previous_secret_until": START + DAY}})
    assert (row.ciphertext, row.previous_ciphertext, row.previous_until) == (
        b"ciphertext",
        PLAIN.ciphertext,
        START + DAY,
    )


def test_while_two_secrets_sign_there_is_no_third() -> None:
    another = {"plugin_config": {"secret": "third", "previous_secret_until": START + 2 * DAY}}
    with pytest.raises(Conflict, match=f"signs until {START + DAY}"):
        changed(another, ROTATING)
    # The very same call again, and one that says nothing of the old secret: it keeps its time.
    for config in ({"previous_secret_until": START + DAY}, {}):
        row = changed({"plugin_config": {"secret": "third", **config}}, ROTATING)
        assert (row.ciphertext, row.previous_ciphertext, row.previous_until) == (
            b"ciphertext",
            b"before",
            START + DAY,
        )
    over = replace(ROTATING, previous_until=START)
    assert changed(another, over).previous_ciphertext == PLAIN.ciphertext
    assert changed({"plugin_config": {"secret": "third"}}, over).previous_ciphertext is None, "what signs no more goes"


@pytest.mark.parametrize("config", [{}, {"secret": "third"}])
def test_the_old_secret_can_be_ended_at_once(config: dict[str, Any]) -> None:
    row = changed({"plugin_config": {**config, "previous_secret_until": None}}, ROTATING)
    assert (row.revision, row.previous_ciphertext, row.previous_until) == (2, None, None)


class TwoSecrets(Vault):
    """Opens the row's two ciphertexts."""

    def __init__(self) -> None:
        super().__init__(Sealed((), {}))

    def decrypt(self, ciphertext: bytes, **bound: str) -> Sealed:
        self.opened = [*getattr(self, "opened", []), ciphertext]
        value = "old" if ciphertext == b"before" else "new"
        return Sealed(({"value": value, "from": 1 if value == "old" else 2, "until": None},), {"X-Of": value})


@pytest.mark.parametrize(("now", "signing"), [(START + DAY - 1, 2), (START + DAY, 1)])
def test_both_secrets_sign_until_the_moment_and_the_headers_are_the_new_ones(now: int, signing: int) -> None:
    vault, post, clock = TwoSecrets(), Post(), VirtualClock()
    clock.at = now
    factory = WebhookFactory(vault, settings(), clock, post)  # type: ignore[arg-type]
    assert factory.create(ROTATING).activate(DELIVERY) == Result(ResultKind.DELIVERED, "", 204)
    ((_, _, headers, _),) = post.sent
    assert headers["X-Of"] == "new"
    assert len(headers["webhook-signature"].split(" ")) == signing
    assert len(vault.opened) == signing, "a Decrypt per ciphertext that still signs"
