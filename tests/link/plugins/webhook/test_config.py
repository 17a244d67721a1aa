"""Registrations: all that is wrong is told at once, in LinK's words where LinK has some, and shows no secret."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_network
from typing import Any

import pytest

from link.errors import Invalid
from link.plugins.webhook.config import Registration, parse

MARKER = "marker-of-a-secret"


def body(config: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    valid = {"url": "https://paris.example/hook", "resource_id": "floating-ip", "secret": "s3cret"}
    return {"plugin": "webhook", "plugin_config": {**valid, **(config or {})}, **fields}


def errors(given: object, **policy: Any) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as invalid:
        parse(given, **policy)
    found = invalid.value.errors
    assert all(found.values())
    assert MARKER not in str(found)
    return found


def test_the_least_a_registration_says() -> None:
    assert parse(body()) == Registration(
        plugin="webhook",
        url="https://paris.example/hook",
        resource_id="floating-ip",
        secret="s3cret",
        headers={},
        checks=[],
        healthcheck_interval=0,
        host="",
        priority=0,
        lease_seconds=None,
    )


def test_everything_it_can_say() -> None:
    check = {"type": "TCP", "host": "10.0.0.1", "port": 443}
    registration = parse(
        body(
            {"headers": {"Authorization": "Bearer x", "Content-Type": "application/json"}},
            checks=[{**check, "comment": "dropped, as LinK does"}],
            healthcheck_interval=3_600,
            host="paris",
            priority=-1_000,
            lease_seconds=5,
            comment="ignored, as LinK does",
        )
    )
    assert registration.headers == {"Authorization": "Bearer x", "Content-Type": "application/json"}
    assert registration.checks == [check]
    assert (registration.healthcheck_interval, registration.host) == (3_600, "paris")
    assert (registration.priority, registration.lease_seconds) == (-1_000, 5)


def test_null_means_absent() -> None:
    nothing = dict.fromkeys(["checks", "healthcheck_interval", "host", "priority", "lease_seconds"])
    assert parse(body({"headers": None}, **nothing)) == parse(body())


def test_neither_secret_nor_header_values_show_in_its_repr() -> None:
    registration = parse(body({"secret": MARKER, "headers": {"Authorization": MARKER}}))
    assert registration.secret == registration.headers["Authorization"] == MARKER
    assert MARKER not in repr(registration)


def test_all_problems_are_told_at_once() -> None:
    found = errors(
        {
            "plugin": "arp",
            "plugin_config": {"url": "ftp://paris", "headers": {"Host": "x", "X A": "y"}},
            "checks": [{"type": "TCP", "host": "h", "port": 1}, {}],
            "healthcheck_interval": -1,
            "host": "",
            "priority": 1_001,
            "lease_seconds": 4,
        }
    )
    assert set(found) == {
        "plugin",
        "plugin_config.url",
        "plugin_config.resource_id",
        "plugin_config.secret",
        "plugin_config.headers.Host",
        "plugin_config.headers.X A",
        "1",
        "healthcheck_interval",
        "host",
        "priority",
        "lease_seconds",
    }


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        pytest.param(body({"url": None}), "plugin_config.url", "missing URL", id="no url"),
        pytest.param(body({"url": ""}), "plugin_config.url", "missing URL", id="empty url"),
        pytest.param(body({"url": "::::"}), "plugin_config.url", "invalid URL", id="no url at all"),
        pytest.param(body({"url": "/just/path"}), "plugin_config.url", "invalid URL scheme", id="a path"),
        pytest.param(body({"secret": ""}), "plugin_config.secret", "missing secret", id="no secret"),
        pytest.param(body({"resource_id": ""}), "plugin_config.resource_id", "missing resource ID", id="no resource"),
        pytest.param(body(plugin="arp"), "plugin", "plugin not found", id="unknown plugin"),
        pytest.param({"plugin_config": body()["plugin_config"]}, "plugin", "plugin not found", id="no plugin"),
        pytest.param(body(plugin=["webhook"]), "plugin", "plugin not found", id="a list of plugins"),
        pytest.param(
            body(healthcheck_interval=-1),
            "healthcheck_interval",
            "Health check interval must be greater than 0",
            id="negative interval",
        ),
        pytest.param(
            body(healthcheck_interval=3_601),
            "healthcheck_interval",
            "Health check interval must be less than or equal to 3600 seconds",
            id="long interval",
        ),
        pytest.param(
            body(checks=[{"type": "ICMP", "host": "h", "port": 1}]),
            "0",
            "type=Health check type is not supported",
            id="type of a check",
        ),
        pytest.param(body(checks=[{"type": "TCP", "port": 1}]), "0", "host=Host is required", id="host of a check"),
        pytest.param(
            body(checks=[{"type": "TCP", "host": "h", "port": 65_536}]),
            "0",
            "port=Port must be between 1 and 65535",
            id="port of a check",
        ),
    ],
)
def test_what_link_refuses_is_refused_in_its_words(given: dict[str, Any], field: str, message: str) -> None:
    found = errors(given)
    assert set(found) == {field}
    assert found[field][0] == message


@pytest.mark.parametrize(
    ("config", "field", "words"),
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
def test_a_stricter_rule_names_value_rule_and_way_out(config: dict[str, Any], field: str, words: str) -> None:
    found = errors(body(config))
    name = f"plugin_config.{field}".removesuffix(".") if not field.startswith("headers") else f"plugin_config.{field}"
    assert set(found) == {name}
    assert words in " ".join(found[name])


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        pytest.param({"priority": 1_001}, "priority", "1001 is outside -1000 to 1000", id="priority too high"),
        pytest.param({"priority": True}, "priority", "a boolean is not a whole number", id="a boolean is no number"),
        pytest.param({"priority": 1.0}, "priority", "1.0 is not a whole number", id="a fraction"),
        pytest.param({"priority": "1"}, "priority", "a string is not a whole number", id="a number in quotes"),
        pytest.param({"lease_seconds": 4}, "lease_seconds", "4 is outside 5 to 3600", id="lease too short"),
        pytest.param({"lease_seconds": 10**300}, "lease_seconds", "is outside 5 to 3600", id="lease too long"),
        pytest.param({"healthcheck_interval": "5"}, "healthcheck_interval", "not a whole number", id="interval"),
        pytest.param({"host": "a" * 254}, "host", "254 characters", id="long host"),
        pytest.param({"host": "a\0"}, "host", "U+0000", id="control character in the host"),
        pytest.param({"host": 1}, "host", "a number is not a string", id="host of another type"),
        pytest.param({"checks": {}}, "checks", "an object is not a list", id="checks of another type"),
        pytest.param({"checks": [{}] * 33}, "checks", "33 health checks", id="many checks"),
        pytest.param({"checks": ["x"]}, "0", "a string is not a health check", id="a check of another type"),
        pytest.param({"Lease_Seconds": 60}, "body", "write 'lease_seconds'", id="a field in another case"),
    ],
)
def test_fields_that_link_does_not_have_have_bounds_too(fields: dict[str, Any], field: str, words: str) -> None:
    found = errors(body(**fields))
    assert set(found) == {field}
    assert words in " ".join(found[field])


@pytest.mark.parametrize("given", [None, [], "x", 7, True])
def test_a_body_that_is_no_object_is_refused_like_an_empty_one(given: object) -> None:
    assert {"plugin", "plugin_config.url", "plugin_config.secret"} <= set(errors(given))


def test_a_plugin_config_that_is_no_object() -> None:
    assert errors(body() | {"plugin_config": [MARKER]})["plugin_config"] == ["invalid JSON: a list is not an object"]


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
def test_a_header_that_frames_routes_or_signs_is_ours(name: str) -> None:
    assert "leave it out" in errors(body({"headers": {name: MARKER}}))[f"plugin_config.headers.{name}"][0]


@pytest.mark.parametrize(
    "name", ["Authorization", "User-Agent", "Cookie", "X-Forwarded-For", "Webhook", "x", "!#$%&'*+.^_`|~9"]
)
def test_any_other_header_may_be_sent(name: str) -> None:
    assert parse(body({"headers": {name: " a\tb é \t"}})).headers == {name: "a\tb é"}


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    registration = parse(
        body({"resource_id": "a\ud800", "secret": "\udfff", "headers": {"X-A": "\ud800"}}, host="\ud800")
    )
    assert (registration.resource_id, registration.secret) == ("a\ufffd", "\ufffd")
    assert (registration.headers, registration.host) == ({"X-A": "\ufffd"}, "\ufffd")


def test_a_literal_is_judged_at_once_and_a_name_when_it_is_called() -> None:
    local = body({"url": "http://0x7f.1/"})
    (message,) = errors(local)["plugin_config.url"]
    assert "0x7f.1 (127.0.0.1) may not be called" in message
    assert "AllowedNetworks" in message
    assert parse(local, allowed_networks=[ip_network("127.0.0.0/8")]).url == "http://0x7f.1/"
    assert parse(body({"url": "http://localhost/"})).url == "http://localhost/"


def test_https_can_be_required() -> None:
    (message,) = errors(body({"url": "http://paris.example/"}), require_https=True)["plugin_config.url"]
    assert "use https" in message
    assert parse(body(), require_https=True).url == "https://paris.example/hook"


def test_the_api_can_validate_without_the_sender() -> None:
    program = "import sys, link.registration; sys.exit(bool({'link.sender', 'certifi', 'ssl'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)})
