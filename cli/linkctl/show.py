"""Output: tables for people, JSON for programs."""

from __future__ import annotations

import json
import time
from typing import Any

from rich.console import Console
from rich.table import Table

COLOURS = {"ACTIVATED": "green", "STANDBY": "cyan", "FAILING": "red", "BOOTING": "yellow"}


def as_json(value: Any) -> None:
    """Print JSON without colours and without wrapping."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def ago(at: int | None, now: float | None = None) -> str:
    """Return how long ago `at` (Unix milliseconds) was, or in how long it will be; `now` is in Unix seconds.

    >>> ago(None), ago(1_000_000, 1_000), ago(1_000_000, 1_090), ago(1_000_000, 999 - 7_300), ago(0, 90_000)
    ('-', 'now', '1 min ago', 'in 2 h', '25 h ago')
    """
    if at is None:
        return "-"
    seconds = (time.time() if now is None else now) - at / 1000
    size = abs(seconds)
    if size < 1:
        return "now"
    unit, divisor = ("s", 1) if size < 60 else ("min", 60) if size < 3_600 else ("h", 3_600)
    text = f"{int(size // divisor)} {unit}"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def status(text: str) -> str:
    """Return a status in its colour."""
    return f"[{COLOURS.get(text, 'white')}]{text}[/]"


def endpoints(found: list[dict[str, Any]]) -> Table:
    """Return one row per endpoint, with its last delivery or its failure."""
    table = Table("id", "host", "status", "resource", "delivered")
    for one in found:
        delivery = one.get("delivery") or {}
        delivered = "-" if not delivery else ago(delivery.get("delivered_at"))
        if delivery.get("failure"):
            delivered = f"[red]{delivery['failure']}[/], again {ago(delivery.get('next_attempt_at'))}"
        resource_id = one["election_key"].partition("/")[2]
        table.add_row(one["id"], one.get("host") or "-", status(one["status"]), resource_id, delivered)
    return table


def resources(found: list[dict[str, Any]]) -> Table:
    """Return one row per resource."""
    table = Table("resource", "active", "epoch", "since", "why", "endpoints", "undelivered")
    for one in found:
        undelivered = f"[red]{one['undelivered']}[/]" if one["undelivered"] else "0"
        holder = _holder(one)
        numbers = (str(one["endpoints"]), undelivered)
        table.add_row(one["resource_id"], holder, str(one["epoch"]), ago(one["since"]), one["reason"] or "-", *numbers)
    return table


def resource(one: dict[str, Any]) -> Table:
    """Return one row per candidate, and one per endpoint that is being deleted."""
    title = f"{one['resource_id']}: {_holder(one)}, epoch {one['epoch']}, {one['reason'] or '-'} {ago(one['since'])}"
    table = Table("id", "host", "status", "ready", "reported", "lease", "priority", "undelivered", title=title)
    pending = {entry["id"]: entry for entry in one["undelivered"]}
    for candidate in one["candidates"]:
        entry = pending.pop(candidate["id"], None)
        table.add_row(
            candidate["id"],
            candidate["host"] or "-",
            status(candidate["status"]),
            _ready(candidate),
            _reported(candidate),
            ago(candidate["lease_expires_at"]) if candidate["lease_seconds"] else "none",
            str(candidate["priority"]),
            _undelivered(entry),
        )
    for entry in pending.values():
        table.add_row(entry["id"], "-", "[yellow]being deleted[/]", "no", "-", "-", "-", _undelivered(entry))
    return table


def _ready(candidate: dict[str, Any]) -> str:
    """Return whether a candidate can be elected, until when it is on hold, and what else keeps it from that.

    >>> _ready({"ready": True}), _ready({"ready": False, "held_until": 2**53})
    ('yes', 'no')
    >>> _ready({"ready": True, "held_until": (time.time() + 90) * 1000})
    '[yellow]on hold, ends in 1 min[/]'
    >>> _ready({"ready": False, "waits_for": ["probe"]})
    'no, waits for probe'
    >>> _ready({"ready": False, "waits_for": [], "drained_at": (time.time() - 301) * 1000})
    '[yellow]drained 5 min ago[/]'
    """
    # A deployment of version 0.1 sends neither held_until nor what follows.
    if candidate.get("drained_at"):
        return f"[yellow]drained {ago(candidate['drained_at'])}[/]"
    if candidate.get("waits_for"):
        return f"no, waits for {', '.join(candidate['waits_for'])}"
    if candidate["ready"] and candidate.get("held_until"):
        return f"[yellow]on hold, ends {ago(candidate['held_until'])}[/]"
    return "yes" if candidate["ready"] else "no"


def _reported(candidate: dict[str, Any]) -> str:
    """Return the word of each observer, with its age.

    >>> at = (time.time() - 12.5) * 1000
    >>> _reported({"reported": "ACTIVATED", "reported_at": at})
    'ACTIVATED 12 s ago'
    >>> words = {"host": {"status": "ACTIVATED", "at": at}, "probe": {"status": "FAILING", "at": at}}
    >>> _reported({"words": words}).splitlines()
    ['host ACTIVATED 12 s ago', 'probe FAILING 12 s ago']
    >>> _reported({"words": {}})
    '-'
    """
    # A deployment of version 0.1 has one report for all.
    if "words" not in candidate:
        return f"{candidate['reported'] or '-'} {ago(candidate['reported_at'])}"
    words = candidate["words"].items()
    return "\n".join(f"{observer} {word['status']} {ago(word['at'])}" for observer, word in words) or "-"


def _holder(one: dict[str, Any]) -> str:
    return (one["holder"] or "[red]none[/]") + (" [yellow](frozen)[/]" if one["frozen"] else "")


def _undelivered(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    text = f"{entry.get('status', '')} since {ago(entry.get('announced_at'))}"
    failure = entry.get("failure")
    return f"[red]{text}: {failure}, again {ago(entry.get('next_attempt_at'))}[/]" if failure else text


def transitions(found: list[dict[str, Any]]) -> Table:
    """Return one row per transition."""
    table = Table("when", "epoch", "active", "changes", "cause")
    for one in found:
        changes = "\n".join(
            f"{change['endpoint_id']} {change['from']} → {status(change['to'])} ({change['reason']})"
            for change in one["changes"]
        )
        by = one["cause"].get("by", "").rpartition(":")[2]
        cause = f"{one['cause'].get('kind', '')} {one['cause'].get('id', '')}" + (f"\nby {by}" if by else "")
        table.add_row(ago(one["at"]), str(one["epoch"]), one["holder"] or "none", changes or "-", cause)
    return table


def outlook(one: dict[str, Any]) -> Table:
    """Return the webhooks that a failover or a change would send."""
    active = one["holder"] or "[red]none[/]"
    table = Table("endpoint", "would receive", "epoch", "sequence", title=f"active would be {active}")
    for webhook in one["webhooks"]:
        table.add_row(webhook["id"], status(webhook["status"]), str(webhook["epoch"]), str(webhook["sequence"]))
    return table


def look(one: dict[str, Any]) -> Table:
    """Return one row per check of a look."""
    table = Table("check", "result", title="up" if one["up"] else "[red]down[/]")
    for check in one["checks"]:
        table.add_row(_check(check), f"[red]{check['reason']}[/]" if check["reason"] else "passed")
    return table


def probed(one: dict[str, Any]) -> str:
    """Return what the probe knows about an endpoint.

    >>> soon = (time.time() + 5.5) * 1000
    >>> probed({"up": True, "since": 0, "failed_check": None, "reason": None, "held_until": None, "next_look_at": soon})
    'probe: up since 1970-01-01T00:00:00Z, next look in 5 s'
    >>> check = {"type": "TCP", "host": "paris", "port": 80}
    >>> probed({"up": False, "since": 0, "failed_check": check, "reason": "refused", "held_until": None,
    ...         "next_look_at": soon})
    'probe: [red]down[/] since 1970-01-01T00:00:00Z, next look in 5 s; TCP paris:80 refused'
    """
    if one["up"] is None:
        state = "has not looked yet"
    else:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one["since"] / 1000))
        state = f"{'up' if one['up'] else '[red]down[/]'} since {since}"
    text = f"probe: {state}, next look {ago(one['next_look_at'])}"
    if one["reason"]:
        text += f"; {_check(one['failed_check']) if one['failed_check'] else 'a check'} {one['reason']}"
    if one["held_until"]:
        text += f"; held down, ends {ago(one['held_until'])}"
    return text


def signalled(one: dict[str, Any]) -> str:
    """Return what an endpoint's signals said last.

    >>> print(signalled({"status": "STANDBY", "since": 0, "said": [
    ...     {"signal": "ec2:i-0a", "status": "STANDBY", "since": 0, "reason": "spot_interruption", "warned_until": 9},
    ...     {"signal": "zone:euw1-az1", "status": None, "since": None, "reason": None, "warned_until": None}]}))
    signals: STANDBY
      ec2:i-0a: STANDBY since 1970-01-01T00:00:00Z, spot_interruption
      zone:euw1-az1: has said nothing yet
    """
    lines = [f"signals: {one['status'] or 'undecided'}"]
    for said in one["said"]:
        if said["status"] is None:
            lines.append(f"  {said['signal']}: has said nothing yet")
        else:
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(said["since"] / 1000))
            lines.append(f"  {said['signal']}: {said['status']} since {since}, {said['reason']}")
    return "\n".join(lines)


def _check(check: dict[str, Any]) -> str:
    return f"{check['type']} {check['host']}:{check['port']}{check.get('path', '')}"


def console(*, stderr: bool = False) -> Console:
    """Return a console with colours on a terminal only, and wide enough for ids without one."""
    made = Console(highlight=False, stderr=stderr)
    return made if made.is_terminal else Console(highlight=False, stderr=stderr, width=200)
