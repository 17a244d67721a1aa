"""What `linkctl agent init` writes: a configuration with comments, and a systemd unit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/linkctl/agent.toml")
UNIT = Path("/etc/systemd/system/linkctl-agent.service")
_CHECK_TYPES = ("TCP", "HTTP", "HTTPS")
_CHECK_KEYS = ("type", "host", "port", "path", "expect")


@dataclass(frozen=True, slots=True)
class Registered:
    """An endpoint as the API shows it, as far as the agent needs it."""

    endpoint_id: str
    resource_id: str
    lease_seconds: int | None
    checks: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, shown: dict[str, Any]) -> Registered:
        """Return it from the API's JSON."""
        checks = tuple(check for check in shown.get("checks", []) if check["type"] in _CHECK_TYPES)
        resource_id = shown["election_key"].partition("/")[2]
        return cls(shown["id"], resource_id, shown.get("lease_seconds"), checks)


EXAMPLE = Registered(
    "vip-00000000-0000-4000-8000-000000000000",
    "floating-ip-203.0.113.7",
    60,
    ({"type": "TCP", "host": "127.0.0.1", "port": 5432},),
)


def config(host: str, event_bus: str, region: str, endpoints: Iterable[Registered]) -> str:
    """Return the configuration of a host."""
    return _CONFIG.format(host=_text(host), event_bus=_text(event_bus), region=_text(region)) + "".join(
        _endpoint(endpoint) for endpoint in endpoints
    )


def _endpoint(one: Registered) -> str:
    lease = "" if one.lease_seconds is None else f"lease_seconds = {one.lease_seconds}\n"
    head = f"\n[[endpoints]]\nendpoint_id = {_text(one.endpoint_id)}\nresource_id = {_text(one.resource_id)}\n{lease}"
    return head + "".join(_check(check) for check in one.checks)


def _check(check: dict[str, Any]) -> str:
    keys = [key for key in _CHECK_KEYS if key in check]
    return "\n[[endpoints.checks]]\n" + "".join(f"{key} = {_text(check[key])}\n" for key in keys)


def _text(value: str | int) -> str:
    return json.dumps(value, ensure_ascii=False)


def unit(program: str, config: Path) -> str:
    """Return the unit that runs the agent."""
    return _UNIT.format(program=program, config=config)


_CONFIG = """\
# The agent of this host. `linkctl agent check` runs every check once; `systemctl reload linkctl-agent` makes the agent
# read this file again. docs/agent.md explains every key.

# The host of the endpoints, as registered. The events have the source link.host.<host>, which IAM can bind.
host = {host}
event_bus = {event_bus}
region = {region}

# host_identity = false      # the events have the source "link" instead
# keep_on_stop = true        # no STANDBY when the agent stops: for an upgrade of the agent itself
# spot = true                # STANDBY when EC2 announces that it takes this Spot instance
# healthcheck_interval = 5   # seconds between two rounds of checks, 1 to 10

# Repeat [[endpoints]] for each endpoint of this host, and [[endpoints.checks]] below it for each of its checks. All
# have to pass: three failures in a row are FAILING, one success is ACTIVATED. An endpoint without checks is ACTIVATED
# as long as the agent runs. The agent reports every third of the shortest lease_seconds, and every change at once.
#
# [[endpoints.checks]]
# type = "HTTP"              # or HTTPS, whose certificate is not judged; redirects are not followed
# host = "127.0.0.1"
# port = 8080
# path = "/health"
# expect = "200-399"
# timeout = 2
#
# [[endpoints.checks]]
# type = "command"           # no shell; exit status 0 passes; killed with its children at its timeout
# command = ["/usr/bin/pg_isready", "-q"]
"""

_UNIT = """\
[Unit]
Description=Reports the health of this host's endpoints to link-webhook
# Stopped before the network and the look-up of names are, so that STANDBY gets out.
Wants=network-online.target
After=network-online.target nss-lookup.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={program} agent run --config {config}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=2
# The agent feeds it after each completed round, whether or not AWS can be reached.
WatchdogSec=30
# The agent itself leaves after 3 s.
TimeoutStopSec=5
# It kills its commands itself; systemd kills what is left of them.
KillMode=mixed

# For metrics: add --textfile /run/linkctl-agent/agent.prom to ExecStart.
RuntimeDirectory=linkctl-agent
UMask=0077

# A command check runs under all of this, too. Loosen it with `systemctl edit linkctl-agent` where a check needs more.
DynamicUser=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProcSubset=pid
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
