"""Settings: read once, whole, and checked against each other."""

from __future__ import annotations

import ipaddress

import pytest

from link.settings import Settings, SettingsError, duration_ms, load

ENV = {
    "LOCKS_TABLE": "locks",
    "ENDPOINTS_TABLE": "endpoints",
    "TRANSITIONS_TABLE": "transitions",
    "STATUS_QUEUE_URL": "https://sqs/status",
    "WAKE_UP_QUEUE_URL": "https://sqs/wake-up",
    "REJECTED_EVENTS_QUEUE_URL": "https://sqs/rejected",
    "SECRETS_KEY_ARN": "arn:aws:kms:eu-west-1:1:key/k",
}


def test_the_defaults() -> None:
    settings = load(ENV)
    assert settings == Settings(
        locks_table="locks",
        endpoints_table="endpoints",
        transitions_table="transitions",
        status_queue_url="https://sqs/status",
        wake_up_queue_url="https://sqs/wake-up",
        rejected_events_queue_url="https://sqs/rejected",
        secrets_key_arn="arn:aws:kms:eu-west-1:1:key/k",
    )
    assert (settings.refresh_ms, settings.handover_ms, settings.max_endpoints) == (300_000, 1_000, 1_000)
    assert (settings.allowed_networks, settings.require_https, settings.ca_bundle) == ((), False, "")


API = {
    "KEY_ROTATION_FUNCTION": "rotation",
    "PROBE_FUNCTION": "probe",
    "PROBES_TABLE": "probes",
    "SIGNALS_TABLE": "signals",
}
SIGNALS = {"SIGNALS_TABLE": "signals", "SIGNAL_QUEUE_URL": "https://sqs/signal", "EVENT_BUS_NAME": "events"}
PROBES = {"PROBES_TABLE": "probes", "PROBE_QUEUE_URL": "https://sqs/probe", "EVENT_BUS_NAME": "events"}


@pytest.mark.parametrize(("role", "needs"), [("api", API), ("probes", PROBES), ("signals", SIGNALS)])
def test_only_the_processes_that_need_more_have_to_have_it(role: str, needs: dict[str, str]) -> None:
    assert (load(ENV).probes_table, load(ENV).signals_table) == ("", "")
    settings = load({**ENV, **needs}, **{role: True})
    given = {"PROBES_TABLE": settings.probes_table, "SIGNALS_TABLE": settings.signals_table}
    assert {name: value for name, value in given.items() if value} == {n: v for n, v in needs.items() if n in given}
    for name in needs:
        with pytest.raises(SettingsError, match=f"^{name} is missing"):
            load({**ENV, **needs, name: ""}, **{role: True})


def test_the_types_of_signals_that_are_heard() -> None:
    assert load({**ENV, "SIGNAL_TYPES": "alarm,ec2"}).signal_types == ("alarm", "ec2")
    assert load({**ENV, "SIGNAL_TYPES": ""}).signal_types == load(ENV).signal_types == ()


def test_how_probes_look() -> None:
    given = {"PROBE_NETWORKS": "10.0.0.0/8", "PROBE_SHARDS": "7", "PROBE_WHEN_ALL_FAIL": "release"}
    settings = load({**ENV, **given, "PROBE_REFERENCES": "example.com:443,[2001:db8::1]:80"})
    assert settings.probe_networks == (ipaddress.ip_network("10.0.0.0/8"),)
    assert (settings.probe_shards, settings.probe_keep_last) == (7, False)
    assert settings.probe_references == (("example.com", 443), ("2001:db8::1", 80))
    assert (load(ENV).probe_shards, load(ENV).probe_keep_last, load(ENV).probe_references) == (1, True, ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROBE_SHARDS", "0"), ("PROBE_SHARDS", "1.5"), ("PROBE_WHEN_ALL_FAIL", "drop"), ("PROBE_NETWORKS", "10/33"),
        ("PROBE_REFERENCES", "example.com"), ("PROBE_REFERENCES", ":443"), ("PROBE_REFERENCES", "example.com:65536"),
    ],
)  # fmt: skip
def test_a_wrong_setting_of_the_probes_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load({**ENV, name: value})


def test_bits_of_a_host_in_a_network_are_ignored() -> None:
    networks = load({**ENV, "ALLOWED_NETWORKS": "10.0.0.1/8,fd00::1/8"}).allowed_networks
    assert networks == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


def test_everything_set() -> None:
    settings = load(
        {
            **ENV,
            "WEBHOOK_REFRESH_INTERVAL": "1h30m",
            "HANDOVER_TIMEOUT": "500ms",
            "MAX_ENDPOINTS": "0",
            "ALLOWED_NETWORKS": "10.0.0.0/8, fd00::/8",
            "REQUIRE_HTTPS": "true",
            "CA_BUNDLE": "/opt/certificates/ours.pem",
        }
    )
    assert (settings.refresh_ms, settings.handover_ms, settings.max_endpoints) == (5_400_000, 500, 0)
    assert settings.allowed_networks == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
    assert settings.require_https and settings.ca_bundle == "/opt/certificates/ours.pem"


@pytest.mark.parametrize("name", ENV)
def test_a_missing_variable_is_named_with_the_place_to_set_it(name: str) -> None:
    for missing in ({k: v for k, v in ENV.items() if k != name}, {**ENV, name: ""}):
        with pytest.raises(SettingsError) as error:
            load(missing)
        assert str(error.value) == (f"{name} is missing: set it under Environment in template.yaml")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WEBHOOK_REFRESH_INTERVAL", "5", "'5' is not a duration"),
        ("WEBHOOK_REFRESH_INTERVAL", "0s", "outside"),
        ("HANDOVER_TIMEOUT", "6s", "outside"),
        ("HANDOVER_TIMEOUT", "soon", "'soon' is not a duration"),
        ("MAX_ENDPOINTS", "-1", "whole number"),
        ("ALLOWED_NETWORKS", "10.0.0.0/33", "write CIDRs"),
        ("REQUIRE_HTTPS", "yes", "neither true nor false"),
        ("FLAP_DAMPING", "off", "neither true nor false"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: .*{message}"):
        load({**ENV, name: value})


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(SettingsError, match="HANDOVER_TIMEOUT must be shorter"):
        load({**ENV, "WEBHOOK_REFRESH_INTERVAL": "2s", "HANDOVER_TIMEOUT": "2s"})


def test_every_problem_is_in_one_message() -> None:
    with pytest.raises(SettingsError, match=r"LOCKS_TABLE.*HANDOVER_TIMEOUT.*REQUIRE_HTTPS"):
        load({**ENV, "LOCKS_TABLE": "", "REQUIRE_HTTPS": "1", "HANDOVER_TIMEOUT": "1d"})


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("250ms", 250), ("1.5s", 1500), ("5m", 300_000), ("1h1s", 3_601_000)]
)
def test_a_duration_is_written_as_in_go(text: str, milliseconds: int) -> None:
    assert duration_ms(text) == milliseconds
