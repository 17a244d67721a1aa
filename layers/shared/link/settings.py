"""Settings of the functions: read once, whole, and checked against each other."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+")


class SettingsError(Exception):
    """A variable is missing or contradicts another; the message says where it is set."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One deployment's settings. Durations are milliseconds."""

    locks_table: str
    endpoints_table: str
    transitions_table: str
    status_queue_url: str
    wake_up_queue_url: str
    rejected_events_queue_url: str
    secrets_key_arn: str
    refresh_ms: int = 300_000
    handover_ms: int = 1_000
    max_endpoints: int = 1_000
    allowed_networks: tuple[Network, ...] = ()
    require_https: bool = False
    ca_bundle: str = ""
    key_rotation_function: str = ""
    probe_function: str = ""
    flap_damping: bool = True
    require_host_identity: bool = False
    probes_table: str = ""
    probe_queue_url: str = ""
    event_bus_name: str = ""
    probe_networks: tuple[Network, ...] = ()
    probe_references: tuple[tuple[str, int], ...] = ()
    """Host and port of each."""
    probe_keep_last: bool = True
    probe_shards: int = 1
    signals_table: str = ""
    signal_queue_url: str = ""
    signal_types: tuple[str, ...] = ()
    """The types of signals that this deployment listens to."""


def duration_ms(text: str) -> int:
    """Milliseconds of a Go duration such as `5m`, `1.5s` or `1h30m`.

    >>> duration_ms("1m30s")
    90000
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration like 5m, 90s or 1h30m")
    parts = re.findall(r"([0-9.]+)(ms|s|m|h)", text)
    return round(sum(float(number) * _UNIT_MS[unit] for number, unit in parts))


def load(env: Mapping[str, str], *, api: bool = False, probes: bool = False, signals: bool = False) -> Settings:
    """The settings in `env`; raises SettingsError naming every variable that is wrong.

    Only the API has to know the functions that it calls, and only a process of the probes or signals their resources.
    """
    problems: list[str] = []

    def text(name: str) -> str:
        if not env.get(name):
            problems.append(f"{name} is missing: set it under Environment in template.yaml")
        return env.get(name, "")

    def duration(name: str, default: str, lowest: int, highest: int) -> int:
        try:
            value = duration_ms(env.get(name) or default)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            return lowest
        if not lowest <= value <= highest:
            problems.append(f"{name}: {env[name]} is outside {lowest} ms to {highest} ms")
        return value

    def switch(name: str, default: str) -> bool:
        value = env.get(name) or default
        if value not in ("true", "false"):
            problems.append(f"{name}: {value!r} is neither true nor false")
        return value == "true"

    def networks(name: str) -> tuple[Network, ...]:
        found = []
        for part in filter(None, (part.strip() for part in env.get(name, "").split(","))):
            try:
                found.append(ipaddress.ip_network(part, strict=False))
            except ValueError as error:
                problems.append(f"{name}: {error}, write CIDRs like 10.0.0.0/8,fd00::/8")
        return tuple(found)

    def references(name: str) -> tuple[tuple[str, int], ...]:
        found = []
        for part in filter(None, (part.strip() for part in env.get(name, "").split(","))):
            host, colon, port = part.rpartition(":")
            if colon and host and re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65_535:
                found.append((host.strip("[]"), int(port)))
            else:
                problems.append(f"{name}: {part!r} is not a host and a port like example.com:443")
        return tuple(found)

    maximum = env.get("MAX_ENDPOINTS") or "1000"
    if not re.fullmatch(r"[0-9]{1,9}", maximum):
        problems.append(f"MAX_ENDPOINTS: {maximum!r} is not a whole number, use 0 for no limit")
        maximum = "0"
    shards, when_all_fail = env.get("PROBE_SHARDS") or "1", env.get("PROBE_WHEN_ALL_FAIL") or "keep"
    if not re.fullmatch(r"[1-9][0-9]{0,2}", shards):
        problems.append(f"PROBE_SHARDS: {shards!r} is not a whole number from 1 to 999")
        shards = "1"
    if when_all_fail not in ("keep", "release"):
        problems.append(f"PROBE_WHEN_ALL_FAIL: {when_all_fail!r} is neither keep nor release")
    settings = Settings(
        locks_table=text("LOCKS_TABLE"),
        endpoints_table=text("ENDPOINTS_TABLE"),
        transitions_table=text("TRANSITIONS_TABLE"),
        status_queue_url=text("STATUS_QUEUE_URL"),
        wake_up_queue_url=text("WAKE_UP_QUEUE_URL"),
        rejected_events_queue_url=text("REJECTED_EVENTS_QUEUE_URL"),
        secrets_key_arn=text("SECRETS_KEY_ARN"),
        refresh_ms=duration("WEBHOOK_REFRESH_INTERVAL", "5m", 1_000, 86_400_000),
        handover_ms=duration("HANDOVER_TIMEOUT", "1s", 0, 5_000),
        max_endpoints=int(maximum),
        allowed_networks=networks("ALLOWED_NETWORKS"),
        require_https=switch("REQUIRE_HTTPS", "false"),
        ca_bundle=env.get("CA_BUNDLE", ""),
        key_rotation_function=text("KEY_ROTATION_FUNCTION") if api else "",
        probe_function=text("PROBE_FUNCTION") if api else "",
        flap_damping=switch("FLAP_DAMPING", "true"),
        require_host_identity=switch("REQUIRE_HOST_IDENTITY", "false"),
        probes_table=text("PROBES_TABLE") if probes or api else "",
        probe_queue_url=text("PROBE_QUEUE_URL") if probes else "",
        event_bus_name=text("EVENT_BUS_NAME") if probes or signals else "",
        probe_networks=networks("PROBE_NETWORKS"),
        probe_references=references("PROBE_REFERENCES"),
        probe_keep_last=when_all_fail == "keep",
        probe_shards=int(shards),
        signals_table=text("SIGNALS_TABLE") if signals or api else "",
        signal_queue_url=text("SIGNAL_QUEUE_URL") if signals else "",
        signal_types=tuple(filter(None, env.get("SIGNAL_TYPES", "").split(","))),
    )
    if settings.handover_ms >= settings.refresh_ms:
        problems.append("HANDOVER_TIMEOUT must be shorter than WEBHOOK_REFRESH_INTERVAL")
    if problems:
        raise SettingsError("; ".join(problems))
    return settings
