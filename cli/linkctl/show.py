"""What people see: tables on a terminal, JSON where it was asked for."""

from __future__ import annotations

import json
import time
from typing import Any

from rich.console import Console
from rich.table import Table

COLOURS = {"ACTIVATED": "green", "STANDBY": "cyan", "FAILING": "red", "BOOTING": "yellow"}


def as_json(value: Any) -> None:
    """Plain, for programs: no colours, no wrapping."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def ago(at: int | None, now: float | None = None) -> str:
    """How long ago, or in how long, a moment in Unix milliseconds is.

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
    return f"[{COLOURS.get(text, 'white')}]{text}[/]"


def endpoints(found: list[dict[str, Any]]) -> Table:
    table = Table("id", "host", "status", "resource", "delivered")
    for one in found:
        delivery = one.get("delivery") or {}
        told = "-" if not delivery else ago(delivery.get("delivered_at"))
        if delivery.get("failure"):
            told = f"[red]{delivery['failure']}[/], again {ago(delivery.get('next_attempt_at'))}"
        row = (one["id"], one.get("host") or "-", status(one["status"]), one["election_key"].partition("/")[2], told)
        table.add_row(*row)
    return table


def resources(found: list[dict[str, Any]]) -> Table:
    table = Table("resource", "active", "epoch", "since", "why", "endpoints", "undelivered")
    for one in found:
        undelivered = f"[red]{one['undelivered']}[/]" if one["undelivered"] else "0"
        holder = _holder(one)
        numbers = (str(one["endpoints"]), undelivered)
        table.add_row(one["resource_id"], holder, str(one["epoch"]), ago(one["since"]), one["reason"] or "-", *numbers)
    return table


def resource(one: dict[str, Any]) -> Table:
    title = f"{one['resource_id']}: {_holder(one)}, epoch {one['epoch']}, {one['reason'] or '-'} {ago(one['since'])}"
    table = Table("id", "host", "status", "ready", "reported", "lease", "priority", "undelivered", title=title)
    owed = {entry["id"]: entry for entry in one["undelivered"]}
    for candidate in one["candidates"]:
        entry = owed.pop(candidate["id"], None)
        table.add_row(
            candidate["id"],
            candidate["host"] or "-",
            status(candidate["status"]),
            "yes" if candidate["ready"] else "no",
            f"{candidate['reported'] or '-'} {ago(candidate['reported_at'])}",
            ago(candidate["lease_expires_at"]) if candidate["lease_seconds"] else "none",
            str(candidate["priority"]),
            _owed(entry),
        )
    for entry in owed.values():
        table.add_row(entry["id"], "-", "[yellow]being deleted[/]", "no", "-", "-", "-", _owed(entry))
    return table


def _holder(one: dict[str, Any]) -> str:
    return (one["holder"] or "[red]nobody[/]") + (" [yellow](frozen)[/]" if one["frozen"] else "")


def _owed(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    said = f"{entry.get('status', '')} since {ago(entry.get('announced_at'))}"
    failure = entry.get("failure")
    return f"[red]{said}: {failure}, again {ago(entry.get('next_attempt_at'))}[/]" if failure else said


def transitions(found: list[dict[str, Any]]) -> Table:
    table = Table("when", "epoch", "active", "what", "because of")
    for one in found:
        changes = "\n".join(
            f"{change['endpoint_id']} {change['from']} → {status(change['to'])} ({change['reason']})"
            for change in one["changes"]
        )
        cause = f"{one['cause'].get('kind', '')} {one['cause'].get('id', '')}"
        table.add_row(ago(one["at"]), str(one["epoch"]), one["holder"] or "nobody", changes or "-", cause)
    return table


def outlook(one: dict[str, Any]) -> Table:
    table = Table("endpoint", "would be told", "epoch", "sequence", title=f"active would be {one['holder']}")
    for webhook in one["webhooks"]:
        table.add_row(webhook["id"], status(webhook["status"]), str(webhook["epoch"]), str(webhook["sequence"]))
    return table


def console() -> Console:
    """Colours on a terminal only; wide enough for ids where there is none."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=200)
