"""Registrations: what is registered for an endpoint, whatever its plugin. Standard library only.

`read_new` and `read_change` take the fields of `POST` and `PATCH /endpoints` that every plugin has; `plugin_config`
belongs to the plugin. Where LinK refuses a value, too, its message comes first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from link.election.state import Endpoint, Observer, ReadyWhen
from link.fields import (
    MAX_SHOWN,
    Problems,
    control_character,
    in_range,
    integer,
    json_object,
    json_type,
    text,
    unknown_field,
)
from link.networks import literal, refusing_block
from link.probing.checks import CheckType
from link.settings import Network
from link.signals import keys

MAX_RESOURCE_ID_CHARACTERS = 256
MAX_HOST_CHARACTERS = 253
MAX_CHECKS = 32
MAX_PROBED_CHECKS = 4
MAX_PATH_CHARACTERS = 1_024
HEALTHCHECK_INTERVAL_SECONDS = (0, 3_600)
PRIORITY = (-1_000, 1_000)
LEASE_SECONDS = (5, 3_600)

_FIELDS = (
    "plugin", "plugin_config", "checks", "healthcheck_interval", "host", "priority", "lease_seconds", "observers",
    "ready_when", "drained", "signals",
)  # fmt: skip
_CHECK_FIELDS = {
    CheckType.TCP: ("type", "host", "port"),
    CheckType.HTTP: ("type", "host", "port", "path", "expect"),
    CheckType.HTTPS: ("type", "host", "port", "path", "expect", "verify"),
}
_PATH = re.compile(r"/[!-~]*")
_EXPECT = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_UNUSED = ("id", "status", "election_key", "delivery", "probe", "signal", "warnings")
"""What the API shows beside the fields: a client may send back what it was shown."""
_CHANGE_FIELDS = ("plugin", "plugin_config", "healthchecks", *_FIELDS[2:])

StorablePluginConfig = Mapping[str, str | int | bytes | tuple[str, ...]]
"""What a plugin stores with a registration, by attribute. Bytes are ciphertext, which a key rotation may replace."""


@dataclass(frozen=True, slots=True)
class Registration:
    """One item of the endpoints table. `config` is its plugin's part; secrets are in it as ciphertext only."""

    endpoint_id: str
    plugin: str
    resource_id: str
    config: StorablePluginConfig = field(repr=False)
    revision: int = 1
    host: str = ""
    priority: int = 0
    lease_seconds: int | None = None
    observers: tuple[Observer, ...] = (Observer.HOST,)
    ready_when: ReadyWhen = ReadyWhen.ALL
    checks: tuple[dict[str, Any], ...] = ()
    healthcheck_interval: int = 0
    signals: tuple[dict[str, Any], ...] = ()
    created_at: int = 0
    """Unix milliseconds."""

    @property
    def probed(self) -> bool:
        """Whether the service itself looks at its checks."""
        return Observer.PROBE in self.observers and bool(self.checks)

    @property
    def signalled(self) -> bool:
        """Whether its signals are heard."""
        return Observer.SIGNAL in self.observers and bool(self.signals)

    def new_entry(self) -> Endpoint:
        """The entry of its endpoint before the first report."""
        return Endpoint(
            joined=self.created_at,
            revision=self.revision,
            host=self.host,
            priority=self.priority,
            lease_seconds=self.lease_seconds,
            observers=self.observers,
            ready_when=self.ready_when,
        )


def read_body(value: object, problems: Problems, *, change: bool = False) -> dict[str, Any]:
    """The members of a request's decoded JSON body."""
    unused: tuple[str, ...] = _UNUSED
    # It is shown here, and set in plugin_config. A time that had no effect here would end an old secret too early.
    if isinstance(value, dict) and value.get("previous_secret_until") is None:
        unused += ("previous_secret_until",)
    return json_object(value, "body", _CHANGE_FIELDS if change else _FIELDS, problems, unused=unused)


def read_new(
    given: Mapping[str, Any],
    problems: Problems,
    probe_networks: Collection[Network] = (),
    signal_types: Collection[str] = (),
) -> dict[str, Any]:
    """The fields of a new registration, as arguments of `Registration`. null means absent.

    `probe_networks`: the private networks in which checks may be. `signal_types`: those that this deployment hears.
    """
    fields: dict[str, Any] = {
        "checks": _checks(given.get("checks"), problems),
        "healthcheck_interval": _healthcheck_interval(given.get("healthcheck_interval"), problems),
        "host": _host(given.get("host"), problems),
        "priority": in_range(given.get("priority"), *PRIORITY, problems["priority"]) or 0,
        "lease_seconds": in_range(given.get("lease_seconds"), *LEASE_SECONDS, problems["lease_seconds"]),
        "observers": _observers(given.get("observers"), problems["observers"]),
        "ready_when": _ready_when(given.get("ready_when"), problems["ready_when"]),
        "signals": _signals(given.get("signals"), problems),
    }
    if given.get("observers") is None and (fields["checks"] or fields["signals"]):
        by_what = {Observer.HOST: "lease_seconds", Observer.PROBE: "checks", Observer.SIGNAL: "signals"}
        fields["observers"] = tuple(observer for observer, name in by_what.items() if fields[name])
    _check_lease(fields["observers"], fields["lease_seconds"], problems)
    _check_probed(fields["observers"], fields["checks"], problems, probe_networks)
    _check_signalled(fields["observers"], fields["signals"], problems, signal_types)
    return fields


def read_change(
    given: Mapping[str, Any],
    stored: Registration,
    problems: Problems,
    probe_networks: Collection[Network] = (),
    signal_types: Collection[str] = (),
) -> dict[str, Any]:
    """The fields that change. What is absent stays; null means absent, too, except "none" for `lease_seconds`."""
    unchanging(problems, "plugin", given.get("plugin"), stored.plugin)
    unchanging(problems, "host", given.get("host"), stored.host)
    fields: dict[str, Any] = {}
    # The request has LinK's name for them, `healthchecks`, or the name that the API shows, `checks`.
    for name in ("healthchecks", "checks"):
        if given.get(name) is not None:
            fields["checks"] = _checks(given[name], problems)
    if given.get("healthcheck_interval") is not None:
        fields["healthcheck_interval"] = _healthcheck_interval(given["healthcheck_interval"], problems)
    if given.get("priority") is not None:
        fields["priority"] = in_range(given["priority"], *PRIORITY, problems["priority"])
    if "lease_seconds" in given:
        fields["lease_seconds"] = in_range(given["lease_seconds"], *LEASE_SECONDS, problems["lease_seconds"])
    if given.get("observers") is not None:
        fields["observers"] = _observers(given["observers"], problems["observers"])
    if given.get("ready_when") is not None:
        fields["ready_when"] = _ready_when(given["ready_when"], problems["ready_when"])
    if given.get("signals") is not None:
        fields["signals"] = _signals(given["signals"], problems)
    observers = fields.get("observers", stored.observers)
    _check_lease(observers, fields.get("lease_seconds", stored.lease_seconds), problems)
    _check_probed(observers, fields.get("checks", stored.checks), problems, probe_networks)
    # What is stored stays valid, also if the deployment does not listen to it any more.
    if "signals" in fields or "observers" in fields:
        _check_signalled(observers, fields.get("signals", stored.signals), problems, signal_types)
    return fields


def read_drained(given: Mapping[str, Any], problems: Problems) -> bool | None:
    """Whether the endpoint shall be drained; None if the body does not say."""
    drained = given.get("drained")
    if drained is None or isinstance(drained, bool):
        return drained
    problems["drained"].append(f"{json_type(drained)} is not true or false")
    return None


def _observers(value: object, found: list[str]) -> tuple[Observer, ...]:
    """In a fixed order, each once."""
    if value is None:
        return (Observer.HOST,)
    if not isinstance(value, list) or not value:
        found.append(f"use a list of one or more of {', '.join(Observer)}")
        return (Observer.HOST,)
    for name in value:
        if name not in tuple(Observer):
            found.append(f"{str(name)[:MAX_SHOWN]!r} is not an observer: use {', '.join(Observer)}")
    return tuple(observer for observer in Observer if observer in value)


def _ready_when(value: object, found: list[str]) -> ReadyWhen:
    if value is None:
        return ReadyWhen.ALL
    if value not in tuple(ReadyWhen):
        found.append(f"{str(value)[:MAX_SHOWN]!r} is neither all nor any")
        return ReadyWhen.ALL
    return ReadyWhen(str(value))


def _check_lease(observers: tuple[Observer, ...], lease_seconds: int | None, problems: Problems) -> None:
    if lease_seconds is not None and Observer.HOST not in observers:
        problems["lease_seconds"].append(
            "a lease ends when the host stops reporting, and host is not an observer: add it to observers, or leave "
            "lease_seconds out"
        )


def _check_probed(
    observers: tuple[Observer, ...],
    checks: tuple[dict[str, Any], ...],
    problems: Problems,
    probe_networks: Collection[Network],
) -> None:
    """Notes what keeps the checks from being run, if a probe is to run them. Without checks, a prober of others may."""
    if Observer.PROBE not in observers:
        return
    if len(checks) > MAX_PROBED_CHECKS:
        problems["checks"].append(
            f"{len(checks)} health checks are too many for a probe: use at most {MAX_PROBED_CHECKS}, or leave probe "
            "out of observers"
        )
    for position, check in enumerate(checks):
        address = literal(str(check.get("host", "")))
        refused = None if address is None else refusing_block(address, probe_networks)
        if refused is not None:
            problems[str(position)].append(
                f"host={address} is in {refused}, which probes may not reach: allow it with ProbeNetworks"
            )


def _check_signalled(
    observers: tuple[Observer, ...],
    signals: tuple[dict[str, Any], ...],
    problems: Problems,
    signal_types: Collection[str],
) -> None:
    if Observer.SIGNAL in observers:
        keys.check_heard(signals, signal_types, problems)


def unchanging(problems: Problems, name: str, value: object, stored: str) -> None:
    """Notes a problem when a field that cannot change is given another value."""
    if value is not None and value != stored:
        problems[name].append("cannot change: register another endpoint and delete this one")


def _checks(value: object, problems: Problems) -> tuple[dict[str, Any], ...]:
    """The health checks. As in LinK, a problem's name is the check's position; its message begins with the field."""
    if value is None:
        return ()
    if not isinstance(value, list):
        problems["checks"].append(f"{json_type(value)} is not a list: use [{{type, host, port}}, …]")
        return ()
    if len(value) > MAX_CHECKS:
        problems["checks"].append(f"{len(value)} health checks are too many: use at most {MAX_CHECKS}")
        return ()
    return tuple(_check(check, problems[str(position)]) for position, check in enumerate(value))


def _check(check: object, found: list[str]) -> dict[str, Any]:
    if not isinstance(check, dict):
        found.append(f"{json_type(check)} is not a health check: use {{type, host, port}}")
        return {}
    kind, host, port = check.get("type"), check.get("host"), check.get("port")
    if kind not in tuple(CheckType):
        found.append("type=Health check type is not supported")
        kind = CheckType.HTTPS
    known = _CHECK_FIELDS[CheckType(kind)]
    found += [unknown_field(key, known) for key in sorted(check.keys() - set(known))]
    if not host:
        found.append("host=Host is required")
    elif not isinstance(host, str) or len(host) > MAX_HOST_CHARACTERS or control_character(text(host, [])):
        found.append(f"host=Host must be a text of 1 to {MAX_HOST_CHARACTERS} characters without control characters")
    if type(port) is not int or not 1 <= port <= 65_535:
        found.append("port=Port must be between 1 and 65535")
    path, expect, verify = check.get("path"), check.get("expect"), check.get("verify")
    if path is not None and not (isinstance(path, str) and _PATH.fullmatch(path) and len(path) <= MAX_PATH_CHARACTERS):
        found.append(f"path=use / and up to {MAX_PATH_CHARACTERS - 1} more visible ASCII characters")
    status = _EXPECT.fullmatch(expect) if isinstance(expect, str) else None
    if expect is not None and (status is None or (status[2] or status[1]) < status[1]):
        found.append("expect=use a status or a range of them as text, like 200 or 200-399")
    if verify is not None and not isinstance(verify, bool):
        found.append(f"verify={json_type(verify)} is not true or false")
    given = {"path": path, "expect": expect, "verify": verify}
    return {"type": kind, "host": text(host, []), "port": port} | {k: v for k, v in given.items() if v is not None}


def _signals(value: object, problems: Problems) -> tuple[dict[str, Any], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        problems["signals"].append(f"{json_type(value)} is not a list: use [{{type, …}}, …]")
        return ()
    if len(value) > keys.MAX_SIGNALS:
        problems["signals"].append(f"{len(value)} signals are too many: use at most {keys.MAX_SIGNALS}")
        return ()
    return tuple(keys.check(signal, f"signals.{position}", problems) for position, signal in enumerate(value))


def _healthcheck_interval(value: object, problems: Problems) -> int:
    found = problems["healthcheck_interval"]
    seconds = integer(value, found) or 0
    # LinK's words; LinK does accept 0.
    if seconds < HEALTHCHECK_INTERVAL_SECONDS[0]:
        found.append("Health check interval must be greater than 0")
    if seconds > HEALTHCHECK_INTERVAL_SECONDS[1]:
        found.append("Health check interval must be less than or equal to 3600 seconds")
    return seconds


def _host(value: object, problems: Problems) -> str:
    if value is None:
        return ""
    found = problems["host"]
    host = text(value, found)
    if not found and not 1 <= len(host) <= MAX_HOST_CHARACTERS:
        found.append(f"{len(host)} characters: use 1 to {MAX_HOST_CHARACTERS}, or leave it out")
    if problem := control_character(host):
        found.append(problem)
    return host
