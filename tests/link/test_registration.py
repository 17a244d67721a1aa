"""The fields that every registration has, whatever its plugin: read with every problem at once."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from link.election.state import Observer
from link.errors import Invalid
from link.fields import Problems
from link.registration import read_body, read_change, read_drained, read_new
from tests.support.registrations import registration

CHECK = {"type": "TCP", "host": "paris.example.com", "port": 80}
EC2 = {"type": "ec2", "instance_id": "i-0123456789abcdef0"}
STORED = replace(registration(), checks=(CHECK,), signals=(EC2,))
TYPES = ("alarm", "ec2")


def new(body: object) -> dict[str, Any]:
    """The fields of a new registration; raises Invalid."""
    problems = Problems()
    fields = read_new(read_body(body, problems), problems, signal_types=TYPES)
    problems.raise_if_any()
    return fields


def changed(body: object) -> dict[str, Any]:
    """The fields that a PATCH changes; raises Invalid."""
    problems = Problems()
    fields = read_change(read_body(body, problems, change=True), STORED, problems, signal_types=TYPES)
    problems.raise_if_any()
    return fields


@pytest.mark.parametrize(
    ("check", "stored"),
    [
        pytest.param(CHECK, CHECK, id="TCP"),
        pytest.param({**CHECK, "type": "HTTP"}, {**CHECK, "type": "HTTP"}, id="HTTP"),
        pytest.param(
            {**CHECK, "type": "HTTPS", "path": "/a?b=c", "expect": "204", "verify": True},
            {**CHECK, "type": "HTTPS", "path": "/a?b=c", "expect": "204", "verify": True},
            id="HTTPS",
        ),
    ],
)
def test_checks_of_each_type(check: dict[str, Any], stored: dict[str, Any]) -> None:
    assert new({"checks": [check]})["checks"] == (stored,)


@pytest.mark.parametrize(
    ("given", "observers"),
    [
        pytest.param({}, ("host",), id="neither checks nor observers"),
        pytest.param({"checks": []}, ("host",), id="no check"),
        pytest.param({"checks": [CHECK]}, ("probe",), id="checks"),
        pytest.param({"checks": [CHECK], "lease_seconds": 20}, ("host", "probe"), id="checks and a lease"),
        pytest.param({"checks": [CHECK], "observers": ["host"]}, ("host",), id="checks for nobody"),
    ],
)
def test_with_checks_a_probe_observes_unless_the_registration_says_who_does(
    given: dict[str, Any], observers: tuple[str, ...]
) -> None:
    assert new(given)["observers"] == observers


@pytest.mark.parametrize("host", ["10.1.2.3", "127.1", "0x7f.1", "169.254.169.254", "::ffff:169.254.169.254", "[::1]"])
def test_a_probe_is_not_registered_for_an_address_that_it_may_not_reach(host: str) -> None:
    literal = host.strip("[]")
    with pytest.raises(Invalid) as invalid:
        new({"checks": [CHECK, {**CHECK, "host": literal}]})
    assert list(invalid.value.errors) == ["1"]
    assert "which probes may not reach: allow it with ProbeNetworks" in invalid.value.errors["1"][0]
    assert new({"checks": [{**CHECK, "host": literal}], "observers": ["host"]})["checks"], "it is only stored"


def test_a_private_address_in_the_networks_of_probes_is_registered() -> None:
    problems = Problems()
    given = {"checks": [{**CHECK, "host": "10.1.2.3"}]}
    assert read_new(given, problems, [ip_network("10.0.0.0/8")])["checks"]
    assert not any(problems.values())


@pytest.mark.parametrize(("observers", "refused"), [([Observer.PROBE], True), ([Observer.HOST], False)])
def test_a_probe_has_at_most_four_checks(observers: list[str], refused: bool) -> None:
    problems = Problems()
    read_change({"checks": [CHECK] * 5, "observers": observers}, STORED, problems)
    assert ("use at most 4" in "".join(problems["checks"])) is refused


@pytest.mark.parametrize(
    ("given", "observers"),
    [
        ({}, ("signal",)),
        ({"lease_seconds": 20}, ("host", "signal")),
        ({"checks": [CHECK]}, ("probe", "signal")),
        ({"checks": [CHECK], "lease_seconds": 20}, ("host", "probe", "signal")),
        ({"observers": ["host"]}, ("host",)),
    ],
)
def test_signals_observe_unless_the_registration_says_who_does(
    given: dict[str, Any], observers: tuple[str, ...]
) -> None:
    assert new({"signals": [EC2], **given})["observers"] == observers


def test_a_signal_that_nobody_hears_is_refused_where_it_would_count() -> None:
    zone = {"type": "zone", "zone_id": "euw1-az1"}
    observed = {"signals": [zone], "observers": ["host", "signal"]}
    for read in (new, changed):
        with pytest.raises(Invalid) as invalid:
            read(observed)
        assert list(invalid.value.errors) == ["signals.0.type"]
        assert "add it to the parameter SignalTypes" in invalid.value.errors["signals.0.type"][0]
    assert new({"signals": [zone], "observers": ["host"]})["signals"], "it is only stored"


def test_a_stored_signal_that_is_not_heard_any_more_refuses_no_other_change() -> None:
    stored = replace(STORED, observers=(Observer.HOST, Observer.SIGNAL))
    problems = Problems()
    assert read_change({"priority": 1}, stored, problems) == {"priority": 1}
    assert not any(problems.values())
    read_change({"observers": ["signal"], "lease_seconds": None}, stored, problems)
    assert problems["signals.0.type"]


def test_the_least_that_a_registration_has() -> None:
    assert new({}) == {
        "checks": (),
        "healthcheck_interval": 0,
        "host": "",
        "priority": 0,
        "lease_seconds": None,
        "observers": ("host",),
        "ready_when": "all",
        "signals": (),
    }


def test_everything_that_a_registration_can_have() -> None:
    given = {"healthcheck_interval": 3_600, "host": "paris", "priority": -1_000, "lease_seconds": 5}
    more = {"checks": [CHECK], "observers": ["probe", "host", "probe"], "ready_when": "any", "signals": [EC2]}
    expected = {**given, "checks": (CHECK,), "observers": ("host", "probe"), "ready_when": "any", "signals": (EC2,)}
    assert new({**given, **more}) == expected


def test_null_means_absent() -> None:
    names = [
        "checks",
        "healthcheck_interval",
        "host",
        "priority",
        "lease_seconds",
        "observers",
        "ready_when",
        "signals",
    ]
    assert new(dict.fromkeys(names)) == new({})


def test_every_problem_is_listed_at_once() -> None:
    body = {
        "checks": [{"type": "TCP", "host": "h", "port": 1}, {}],
        "healthcheck_interval": -1,
        "host": "",
        "priority": 1_001,
        "lease_seconds": 4,
    }
    with pytest.raises(Invalid) as invalid:
        new(body)
    assert invalid.value.errors.keys() == {"1", "healthcheck_interval", "host", "priority", "lease_seconds"}
    assert all(invalid.value.errors.values())


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        pytest.param(
            {"healthcheck_interval": -1},
            "healthcheck_interval",
            "Health check interval must be greater than 0",
            id="negative interval",
        ),
        pytest.param(
            {"healthcheck_interval": 3_601},
            "healthcheck_interval",
            "Health check interval must be less than or equal to 3600 seconds",
            id="long interval",
        ),
        pytest.param(
            {"checks": [{"type": "ICMP", "host": "h", "port": 1}]},
            "0",
            "type=Health check type is not supported",
            id="type of a check",
        ),
        pytest.param({"checks": [{"type": "TCP", "port": 1}]}, "0", "host=Host is required", id="host of a check"),
        pytest.param(
            {"checks": [{"type": "TCP", "host": "h", "port": 65_536}]},
            "0",
            "port=Port must be between 1 and 65535",
            id="port of a check",
        ),
    ],
)
def test_what_link_refuses_is_refused_in_its_words(body: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(Invalid) as invalid:
        new(body)
    assert invalid.value.errors.keys() == {field}
    assert invalid.value.errors[field][0] == message


@pytest.mark.parametrize(
    ("body", "field", "words"),
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
        pytest.param({"hots": "paris"}, "body", "field 'hots' is not known: write 'host'", id="a misspelt field"),
        pytest.param({"colour": 1}, "body", "use plugin, plugin_config, checks", id="a field that resembles none"),
        pytest.param({"checks": [{**CHECK, "prot": 1}]}, "0", "write 'port'", id="a misspelt field of a check"),
        pytest.param({"previous_secret_until": 1}, "body", "is not known", id="a secret's end beside plugin_config"),
        pytest.param({"observers": []}, "observers", "one or more of host, probe, signal", id="no observer"),
        pytest.param({"observers": "host"}, "observers", "one or more of", id="observers of another type"),
        pytest.param({"observers": ["hots"]}, "observers", "'hots' is not an observer", id="unknown observer"),
        pytest.param({"observers": [{}]}, "observers", "'{}' is not an observer", id="observer of another type"),
        pytest.param({"ready_when": "most"}, "ready_when", "'most' is neither all nor any", id="unknown ready_when"),
        pytest.param({"ready_when": {}}, "ready_when", "'{}' is neither all nor any", id="ready_when's type"),
        pytest.param(
            {"observers": ["probe"], "lease_seconds": 30}, "lease_seconds", "host is not an observer", id="lease"
        ),
        pytest.param([], "body", "a list is not an object", id="a list"),
    ],
)
def test_a_problem_that_link_does_not_see_is_explained(body: object, field: str, words: str) -> None:
    with pytest.raises(Invalid) as invalid:
        new(body)
    assert invalid.value.errors.keys() == {field}
    assert words in " ".join(invalid.value.errors[field])


def test_a_lone_surrogate_in_the_host_becomes_the_replacement_character() -> None:
    assert new({"host": "\ud800"})["host"] == "\ufffd"


# What a PATCH changes


@pytest.mark.parametrize(
    "body", [{}, {"priority": None, "checks": None}, {"observers": None, "ready_when": None}, None]
)
def test_an_empty_change_changes_nothing(body: object) -> None:
    assert changed(body) == {}


def test_what_the_api_shows_of_an_endpoint_can_be_sent_back() -> None:
    shown = {
        "checks": list(STORED.checks),
        "healthcheck_interval": STORED.healthcheck_interval,
        "priority": STORED.priority,
        "lease_seconds": STORED.lease_seconds,
        "observers": list(STORED.observers),
        "ready_when": str(STORED.ready_when),
        "signals": list(STORED.signals),
    }
    without_effect: dict[str, Any] = {
        "id": STORED.endpoint_id,
        "status": "BOOTING",
        "election_key": "webhook/x",
        "delivery": None,
    }
    without_effect["previous_secret_until"] = None
    without_effect["signal"] = {"status": None, "at": None, "said": []}
    same = {name: getattr(STORED, name) for name in shown}
    assert changed({**shown, **without_effect, "plugin": "webhook", "host": STORED.host}) == same


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"healthchecks": [CHECK]}, {"checks": (CHECK,)}),
        ({"checks": []}, {"checks": ()}),
        ({"healthcheck_interval": 20}, {"healthcheck_interval": 20}),
        ({"priority": 7}, {"priority": 7}),
        ({"lease_seconds": 5}, {"lease_seconds": 5}),
        ({"lease_seconds": None}, {"lease_seconds": None}),
        ({"observers": ["signal", "host"]}, {"observers": ("host", "signal")}),
        ({"ready_when": "any"}, {"ready_when": "any"}),
        ({"signals": []}, {"signals": ()}),
        ({"signals": [EC2]}, {"signals": (EC2,)}),
    ],
)
def test_one_field_changes_alone(body: dict[str, Any], fields: dict[str, Any]) -> None:
    assert changed(body) == fields


@pytest.mark.parametrize(
    ("body", "field", "text"),
    [
        ({"plugin": "arp"}, "plugin", "cannot change"),
        ({"host": "london"}, "host", "cannot change"),
        ({"healthchecks": [{"type": "UDP", "host": "", "port": 0}]}, "0", "type=Health check type is not supported"),
        ({"healthchecks": {}}, "checks", "is not a list"),
        ({"healthcheck_interval": -1}, "healthcheck_interval", "Health check interval must be greater than 0"),
        ({"priority": 1_001}, "priority", "outside -1000 to 1000"),
        ({"lease_seconds": 4}, "lease_seconds", "outside 5 to 3600"),
        ({"observers": ["probe"]}, "lease_seconds", "host is not an observer"),
        ({"observers": []}, "observers", "one or more of"),
        ({"ready_when": "none"}, "ready_when", "neither all nor any"),
        ({"signals": {}}, "signals", "an object is not a list: use [{type, …}, …]"),
        ({"signals": [EC2] * 9}, "signals", "9 signals are too many: use at most 8"),
        ({"signals": [EC2, {"type": "ec2"}]}, "signals.1.instance_id", "is not the id of an instance"),
        ({"Priority": 4}, "body", "write 'priority'"),
        ({"healthcheck": []}, "body", "write 'healthchecks'"),
        ([], "body", "is not an object"),
    ],
)
def test_a_refused_change_names_field_and_rule(body: object, field: str, text: str) -> None:
    with pytest.raises(Invalid) as invalid:
        changed(body)
    assert list(invalid.value.errors) == [field]
    assert text in invalid.value.errors[field][0]


def test_a_lease_is_refused_if_an_earlier_change_removed_the_host() -> None:
    problems = Problems()
    read_change({"lease_seconds": 30}, replace(STORED, observers=(Observer.PROBE,), lease_seconds=None), problems)
    assert "host is not an observer" in problems["lease_seconds"][0]


@pytest.mark.parametrize(("given", "drained"), [({}, None), ({"drained": None}, None), ({"drained": False}, False)])
def test_drained_is_true_false_or_not_there(given: dict[str, Any], drained: bool | None) -> None:
    problems = Problems()
    assert read_drained(given, problems) is drained
    assert read_drained({"drained": "yes"}, problems) is None
    assert problems["drained"] == ["a string is not true or false"]
