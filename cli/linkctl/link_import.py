"""What LinK's API answers, as registrations for this API.

Source: LinK v3.3.0, `GET /endpoints` and `GET /endpoints/{id}`: id, status, checks (type TCP, host, port),
healthcheck_interval, plugin and election_key, which is `webhook/<resource_id>` for its webhook plugin. Its v2,
`GET /ips`, has ip instead of the last two.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from linkctl.errors import Failed

NEVER = (
    "Secrets, URLs and headers: LinK's API does not show them. Give --url, --secret-file and --header-file.",
    "Ids: every endpoint gets a new one. A receiver that knows ids has to learn them.",
    "Statuses and the active endpoint: each endpoint is BOOTING until its observer reports, and the first one that is "
    "ready becomes active. LinK and this must not both drive a receiver: stop LinK first.",
)
"""What comes along for no endpoint."""


@dataclass
class Imported:
    """The registrations, without secrets, and what of the answer cannot come along."""

    registrations: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def convert(answer: Any, *, host: str, url: str) -> Imported:
    """Return the registrations for an answer of the LinK that runs on `host`. Raises Failed if it is none of LinK's."""
    found = Imported()
    for one in _endpoints(answer):
        id, plugin = one["id"], one.get("plugin") or "arp"
        _, slash, resource_id = str(one.get("election_key", "")).partition("/")
        if plugin != "webhook":
            found.notes.append(
                f"{id}: the plugin {plugin} {_PLUGINS.get(plugin, 'is not there')}. Give its address a receiver that "
                "moves it, and register that."
            )
        elif not (slash and resource_id):
            found.notes.append(f"{id}: it has no election_key webhook/RESOURCE, so its resource is not known.")
        else:
            found.registrations.append(
                {
                    "plugin": "webhook",
                    "host": host,
                    "plugin_config": {"url": url, "resource_id": resource_id, "secret": None},
                    **_checks(one, found.notes),
                }
            )
    return found


_PLUGINS = {
    "arp": "adds an address to an interface of LinK's own host, and nothing runs there",
    "outscale_public_ip": "calls Outscale's API, which only LinK does",
}


def _endpoints(answer: Any) -> list[dict[str, Any]]:
    if isinstance(answer, dict):
        for name in ("endpoints", "ips"):
            if isinstance(answer.get(name), list):
                answer = answer[name]
                break
        else:
            answer = [answer.get("endpoint") or answer.get("ip") or answer]
    if not isinstance(answer, list) or not all(isinstance(one, dict) and "id" in one for one in answer):
        raise Failed("the file is not an answer of LinK's API: save GET /endpoints of LinK v3, or GET /ips of v2")
    return answer


def _checks(one: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return the checks as fields of a registration, with who observes the endpoint."""
    checks = one.get("checks") or []
    local = [check for check in checks if _only_on_its_host(str(check.get("host", "")))]
    if not checks:
        notes.append(f"{one['id']}: it has no checks, so its host has to report: linkctl agent init, or an own script.")
        return {"observers": ["host"]}
    if local:
        addresses = ", ".join(f"{check['host']}:{check['port']}" for check in local)
        notes.append(
            f"{one['id']}: only its own host can reach {addresses}, so its checks stay there: put them into the "
            "configuration of linkctl agent."
        )
        return {"observers": ["host"]}
    fields = {"checks": checks, "observers": ["probe"]}
    if one.get("healthcheck_interval"):
        fields["healthcheck_interval"] = one["healthcheck_interval"]
    notes.append(
        f"{one['id']}: the service looks at its checks from AWS every {_interval(one)} s; LinK looked from the "
        "host itself."
    )
    return fields


def _interval(one: dict[str, Any]) -> int:
    """Return the seconds between two looks of a probe: whole tens.

    >>> _interval({}), _interval({"healthcheck_interval": 5}), _interval({"healthcheck_interval": 21})
    (10, 10, 30)
    """
    return max(10, -(-int(one.get("healthcheck_interval") or 0) // 10) * 10)


def _only_on_its_host(host: str) -> bool:
    """Return whether an address means the host itself.

    >>> [_only_on_its_host(one) for one in ("127.0.0.1", "::1", "localhost", "10.0.0.5", "paris.example.com")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
