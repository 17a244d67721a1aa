"""The webhook's plugin_config: every problem at once, in LinK's words where LinK has some, and no secret shown."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from ipaddress import ip_network
from typing import Any

import pytest

from link.errors import Invalid
from link.plugins.webhook.config import Change, StoredWebhook, WebhookConfig, parse, parse_change
from tests.support.ids import NOW
from tests.support.registrations import WEBHOOK, registration

MARKER = "marker-of-a-secret"
DAY_MS = 86_400_000


def config(**given: Any) -> dict[str, Any]:
    """A valid plugin_config with other members."""
    return {"url": "https://paris.example/hook", "resource_id": "floating-ip", "secret": "s3cret", **given}


def errors(given: object, **policy: Any) -> dict[str, list[str]]:
    """What is wrong with a new plugin_config."""
    with pytest.raises(Invalid) as invalid:
        parse(given, **policy)
    assert all(invalid.value.errors.values())
    assert MARKER not in str(invalid.value)
    return invalid.value.errors


def test_the_least_that_a_plugin_config_has() -> None:
    expected = WebhookConfig(url="https://paris.example/hook", resource_id="floating-ip", secret="s3cret", headers={})
    assert parse(config()) == expected


def test_everything_that_a_plugin_config_can_have() -> None:
    headers = {"Authorization": "Bearer x", "Content-Type": "application/json"}
    assert parse(config(headers=headers)).headers == headers


def test_an_unknown_field_is_refused_and_a_header_may_have_any_name() -> None:
    with pytest.raises(Invalid) as invalid:
        parse(config(header={"X-Site": "paris"}))
    assert invalid.value.errors == {"plugin_config": ["field 'header' is not known: write 'headers'"]}
    assert parse(config(headers={"hots": "x"})).headers == {"hots": "x"}


def test_null_means_absent() -> None:
    assert parse(config(headers=None)) == parse(config())


def test_neither_secret_nor_header_values_show_in_a_repr() -> None:
    parsed = parse(config(secret=MARKER, headers={"Authorization": MARKER}))
    assert parsed.secret == parsed.headers["Authorization"] == MARKER
    assert MARKER not in repr(parsed)


def test_every_problem_is_listed_at_once() -> None:
    assert set(errors({"url": "ftp://paris", "headers": {"Host": "x", "X A": "y"}})) == {
        "plugin_config.url",
        "plugin_config.resource_id",
        "plugin_config.secret",
        "plugin_config.headers.Host",
        "plugin_config.headers.X A",
    }


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        pytest.param({"url": None}, "url", "missing URL", id="no url"),
        pytest.param({"url": ""}, "url", "missing URL", id="empty url"),
        pytest.param({"url": "::::"}, "url", "invalid URL", id="not a url"),
        pytest.param({"url": "/just/path"}, "url", "invalid URL scheme", id="a path"),
        pytest.param({"secret": ""}, "secret", "missing secret", id="no secret"),
        pytest.param({"resource_id": ""}, "resource_id", "missing resource ID", id="no resource"),
    ],
)
def test_what_link_refuses_is_refused_in_its_words(given: dict[str, Any], field: str, message: str) -> None:
    found = errors(config(**given))
    assert set(found) == {f"plugin_config.{field}"}
    assert found[f"plugin_config.{field}"][0] == message


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        pytest.param({"url": 7}, "url", "a number is not a string", id="url of another type"),
        pytest.param({"secret": [MARKER]}, "secret", "a list is not a string", id="secret of another type"),
        pytest.param({"secret": MARKER * 1_000}, "secret", "18000 characters", id="long secret"),
        pytest.param({"resource_id": "a\nb"}, "resource_id", "U+000A at position 2", id="line end in the resource"),
        pytest.param({"resource_id": " a"}, "resource_id", "begins or ends with a blank", id="blank before"),
        pytest.param({"resource_id": "a\t"}, "resource_id", "begins or ends with a blank", id="tab after"),
        pytest.param({"resource_id": "a" * 257}, "resource_id", "257 characters", id="long resource"),
        pytest.param({"resource_id": True}, "resource_id", "a boolean is not a string", id="resource of another type"),
        pytest.param({"headers": [MARKER]}, "headers", "a list is not an object", id="headers of another type"),
        pytest.param({"headers": {f"X-{n}": "" for n in range(51)}}, "headers", "51 headers", id="many headers"),
        pytest.param({"headers": {"X-A": 7}}, "headers.X-A", "a number is not a string", id="a number as value"),
        pytest.param({"headers": {"X-A": f"{MARKER}\r\n"}}, "headers.X-A", "U+000D at position 19", id="line end"),
        pytest.param({"headers": {"X-A": f"{MARKER}\x7f"}}, "headers.X-A", "U+007F", id="delete"),
        pytest.param({"headers": {"X-A": "é" * 4_097}}, "headers.X-A", "8194 bytes", id="long value"),
        pytest.param({"headers": {"": ""}}, "headers.", "is not a header name", id="no name"),
        pytest.param({"headers": {"X A": ""}}, "headers.X A", "is not a header name", id="blank in a name"),
        pytest.param({"headers": {"X-É": ""}}, "headers.X-É", "is not a header name", id="other letters in a name"),
        pytest.param({"headers": {"X-A:": ""}}, "headers.X-A:", "is not a header name", id="colon in a name"),
        pytest.param({"headers": {"X-A\n": ""}}, "headers.X-A\n", "is not a header name", id="line end after a name"),
        pytest.param({"headers": {"x-a": "", "X-A": ""}}, "headers.X-A", "'X-A' and 'x-a' are one", id="twice"),
        pytest.param({"Secret": MARKER}, "", "write 'secret'", id="a field in another case"),
    ],
)
def test_a_stricter_rule_names_value_rule_and_way_out(given: dict[str, Any], field: str, words: str) -> None:
    found = errors(config(**given))
    name = f"plugin_config.{field}".removesuffix(".") if not field.startswith("headers") else f"plugin_config.{field}"
    assert set(found) == {name}
    assert words in " ".join(found[name])


LINE_ENDS = {chr(c) for c in range(0x110000) if len(f"a{chr(c)}b".splitlines()) == 2}
"""Where a receiver that splits the head as text ends a header; HTTP itself does at CR LF only."""


@pytest.mark.parametrize("character", sorted(LINE_ENDS | {chr(c) for c in range(0x7F, 0xA0)}), ids=ascii)
def test_no_headers_value_has_a_character_at_which_text_is_split(character: str) -> None:
    value = f"{MARKER}{character}X-Site: london"
    problem = f"U+{ord(character):04X} at position 19: remove it"
    (message,) = errors(config(headers={"X-A": value}))["plugin_config.headers.X-A"]
    assert message.endswith(problem)
    with pytest.raises(Invalid, match=re.escape(problem)) as invalid:
        changed({"secret": MARKER, "headers": {"X-A": value}})
    assert MARKER not in str(invalid.value)


@pytest.mark.parametrize("resource_id", ["a\u0085b", "a\u009bb", "a\u2028b", "voil\u00e0", "\u00a0"])
def test_a_resource_id_may_have_any_character_that_link_can_send(resource_id: str) -> None:
    assert parse(config(resource_id=resource_id)).resource_id == resource_id


@pytest.mark.parametrize("given", [None, [], "x", 7, True])
def test_a_plugin_config_that_is_no_object_is_refused_like_an_empty_one(given: object) -> None:
    assert {"plugin_config.url", "plugin_config.resource_id", "plugin_config.secret"} <= set(errors(given))


def test_a_plugin_config_of_another_type_is_named() -> None:
    assert errors([MARKER])["plugin_config"] == ["invalid JSON: a list is not an object"]


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "host",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "transfer_encoding",
        "Upgrade",
        "HTTP2-Settings",
        "Expect",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Content-Length",
        "Content-Encoding",
        "Content-Type",
        "X-Link-Webhook-Signature",
        "x-link-webhook-epoch",
        "X_Link_Webhook_Signature",
        "X-Link_Webhook-Anything",
        "webhook-id",
        "Webhook_Signature",
    ],
)
def test_a_header_for_framing_routing_or_signing_is_the_senders(name: str) -> None:
    assert "leave it out" in errors(config(headers={name: MARKER}))[f"plugin_config.headers.{name}"][0]


@pytest.mark.parametrize(
    "name", ["Authorization", "User-Agent", "Cookie", "X-Forwarded-For", "Webhook", "x", "!#$%&'*+.^_`|~9"]
)
def test_any_other_header_can_be_sent(name: str) -> None:
    assert parse(config(headers={name: " a\tb é \t"})).headers == {name: "a\tb é"}


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    parsed = parse(config(resource_id="a\ud800", secret="\udfff", headers={"X-A": "\ud800"}))
    assert (parsed.resource_id, parsed.secret, parsed.headers) == ("a\ufffd", "\ufffd", {"X-A": "\ufffd"})


def test_an_address_is_judged_at_once_and_a_name_when_it_is_called() -> None:
    local = config(url="http://0x7f.1/")
    (message,) = errors(local)["plugin_config.url"]
    assert "0x7f.1 (127.0.0.1) may not be called" in message
    assert "AllowedNetworks" in message
    assert parse(local, allowed_networks=[ip_network("127.0.0.0/8")]).url == "http://0x7f.1/"
    assert parse(config(url="http://localhost/")).url == "http://localhost/"


def test_https_can_be_required() -> None:
    (message,) = errors(config(url="http://paris.example/"), require_https=True)["plugin_config.url"]
    assert "use https" in message
    assert parse(config(), require_https=True).url == "https://paris.example/hook"


def test_a_config_can_be_validated_without_the_sender() -> None:
    module = "link.plugins.webhook"
    program = f"import sys, {module}.config; sys.exit(bool({{'{module}.sender', 'certifi', 'ssl'}} & set(sys.modules)))"
    # -B: compiled files would end in the layer.
    command = [sys.executable, "-B", "-c", program]
    subprocess.run(command, check=True, env={"PYTHONPATH": ":".join(sys.path)})


# What a PATCH changes


def changed(given: object, **webhook: Any) -> Change:
    """The change of a registration without headers."""
    return parse_change(given, registration(**{"header_names": (), **webhook}), NOW)


@pytest.mark.parametrize("given", [None, {}, {"resource_id": "ip ü"}])
def test_an_empty_change_changes_nothing(given: object) -> None:
    assert changed(given) == Change(WEBHOOK.url, None, {}, None, ends_previous=False)


@pytest.mark.parametrize(
    ("given", "field", "text"),
    [
        ({"resource_id": "other"}, "resource_id", "cannot change"),
        ({"url": "https://paris.example/new"}, "secret", "missing secret"),
        ({"url": "ftp://x", "secret": MARKER}, "url", "invalid URL scheme"),
        ({"headers": {"X-A": MARKER}}, "secret", "missing secret"),
        ({"secret": ""}, "secret", "missing secret"),
        ({"secret": [MARKER]}, "secret", "not a string"),
        ({"secret": MARKER, "previous_secret_until": NOW}, "previous_secret_until", "outside"),
        ({"secret": MARKER, "previous_secret_until": NOW + 31 * DAY_MS}, "previous_secret_until", "outside"),
        ({"previous_secret_until": NOW + DAY_MS}, "previous_secret_until", "give plugin_config.secret, too"),
        (
            {"url": "https://new.example", "secret": MARKER, "previous_secret_until": NOW + DAY_MS},
            "previous_secret_until",
            "one after the other",
        ),
    ],
)
def test_a_refused_change_names_field_and_rule(given: object, field: str, text: str) -> None:
    with pytest.raises(Invalid) as invalid:
        changed(given)
    assert MARKER not in str(invalid.value)
    assert list(invalid.value.errors) == [f"plugin_config.{field}"]
    assert text in invalid.value.errors[f"plugin_config.{field}"][0]


@pytest.mark.parametrize("given", [{"secret": MARKER}, {"secret": MARKER, "url": "https://new.example/"}])
def test_headers_that_would_be_lost_have_to_be_given_again(given: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as invalid:
        parse_change(given, registration(), NOW)
    assert MARKER not in str(invalid.value)
    assert list(invalid.value.errors) == ["plugin_config.headers"]
    assert invalid.value.errors["plugin_config.headers"][0].startswith("Authorization, X-Site are encrypted")
    for headers in ({"X-Site": "paris"}, {}):
        assert parse_change({**given, "headers": headers}, registration(), NOW).headers == headers


# What is stored


@pytest.mark.parametrize("more", [{}, {"previous_ciphertext": b"before", "previous_until": NOW}, {"header_names": ()}])
def test_the_stored_form_comes_back_as_it_was(more: dict[str, Any]) -> None:
    stored = registration(**more)
    assert StoredWebhook.of(stored).attributes() == stored.config


def test_a_registration_of_version_0_1_counts_as_encrypted_when_it_was_created() -> None:
    stored = registration()
    config = {name: value for name, value in stored.config.items() if name != "encrypted_at"}
    old = dataclasses.replace(stored, config=config, created_at=NOW - 5)
    assert StoredWebhook.of(old).encrypted_at == NOW - 5
