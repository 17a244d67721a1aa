"""Output: tables for people, JSON for programs."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from linkctl.fitted import Fitted

if TYPE_CHECKING:
    from linkctl.doctor import Finding

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


def utc(at: int | None) -> str:
    """Return Unix milliseconds as a time in UTC.

    >>> utc(0), utc(None)
    ('1970-01-01T00:00:00Z', '-')
    """
    return "-" if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at / 1000))


def status(text: str) -> str:
    """Return a status in its colour."""
    return f"[{COLOURS.get(text, 'white')}]{text}[/]"


def resource_id(one: dict[str, Any]) -> str:
    """Return the resource of an endpoint."""
    return str(one["election_key"]).partition("/")[2]


def place(one: dict[str, Any]) -> str:
    """Return HOST@RESOURCE of an endpoint, which commands accept; without a host only the resource.

    >>> place({"host": "paris", "election_key": "webhook/web"}), place({"host": "", "election_key": "webhook/web"})
    ('paris@web', 'web')
    """
    return f"{one['host']}@{resource_id(one)}" if one.get("host") else resource_id(one)


def hosts(resource: dict[str, Any]) -> dict[str, str]:
    """Return the hosts of a resource's candidates by endpoint id."""
    return {one["id"]: one["host"] for one in resource["candidates"] if one["host"]}


def name(endpoint_id: str | None, known: dict[str, str]) -> str:
    """Return an endpoint's host with its id, or the id alone.

    >>> name("vip-1", {"vip-1": "paris"}), name("vip-2", {"vip-1": "paris"}), name(None, {})
    ('paris (vip-1)', 'vip-2', '[red]none[/]')
    """
    if endpoint_id is None:
        return "[red]none[/]"
    return f"{escape(known[endpoint_id])} ({endpoint_id})" if endpoint_id in known else endpoint_id


def endpoints(found: list[dict[str, Any]]) -> Fitted:
    """Return one row per endpoint, with its last delivery or its failure."""
    rows = []
    for one in found:
        delivery = one.get("delivery") or {}
        delivered = "-" if not delivery else ago(delivery.get("delivered_at"))
        if delivery.get("failure"):
            delivered = f"[red]{delivery['failure']}[/], again {ago(delivery.get('next_attempt_at'))}"
        rows.append([escape(place(one)), status(one["status"]), delivered, one["id"]])
    # Without a host only the id says which one it is.
    drop = ["id", "delivered"] if all(one.get("host") for one in found) else ["delivered"]
    return Fitted(["endpoint", "status", "delivered", "id"], rows, drop)


def endpoint(one: dict[str, Any], receiver: str | None = None) -> Table:
    """Return everything about one endpoint, a line for each setting; `receiver` is the URL of its webhooks."""
    delivery = one.get("delivery") or {}
    # A deployment of version 0.1 sends no observers.
    observers = ", ".join(one.get("observers", []))
    observers = f"{one['ready_when']} of {observers}" if "," in observers else observers or "-"
    until = one.get("previous_secret_until")
    lines = {
        "id": one["id"],
        "host": escape(one.get("host") or "-"),
        "resource": escape(resource_id(one)),
        "status": status(one["status"]) + (" [yellow](drained)[/]" if one.get("drained") else ""),
        "receiver": escape(receiver) if receiver else None,
        "priority": str(one["priority"]),
        "lease": f"{one['lease_seconds']} s" if one["lease_seconds"] else "none",
        "observers": observers,
        "checks": "\n".join(escape(_check(check)) for check in one.get("checks", [])) or None,
        "interval": f"{one['healthcheck_interval']} s" if one.get("healthcheck_interval") else None,
        "old secret": f"also signs until {utc(until)}; `linkctl endpoints end-overlap` ends that" if until else None,
        "probe": probed(one["probe"]) if one.get("probe") else None,
        "signals": signalled(one["signal"]) if one.get("signal") else None,
        "delivery": _delivery(delivery) if delivery else "nothing was sent yet",
        "next step": delivery.get("next_step"),
    }
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in lines.items():
        if text is not None:
            table.add_row(title, text)
    return table


def _delivery(delivery: dict[str, Any]) -> str:
    numbers = f"epoch {delivery['epoch']}, sequence {delivery['sequence']}"
    told = f"{status(delivery['status'])} ({delivery['reason']}), {numbers}"
    if delivery.get("failure"):
        return f"{told}: [red]{delivery['failure']}[/], again {ago(delivery.get('next_attempt_at'))}"
    return f"{told}, delivered {ago(delivery['delivered_at'])}" if delivery["delivered_at"] else f"{told}, pending"


def resources(found: list[dict[str, Any]]) -> Fitted:
    """Return one row per resource."""
    rows = []
    for one in found:
        undelivered = f"[red]{one['undelivered']}[/]" if one["undelivered"] else "0"
        # A deployment of version 0.1 does not send the host.
        active = escape(one.get("holder_host") or "") or one["holder"] or "[red]none[/]"
        active += " [yellow](frozen)[/]" if one["frozen"] else ""
        numbers = [str(one["epoch"]), ago(one["since"]), one["reason"] or "-", str(one["endpoints"]), undelivered]
        rows.append([escape(one["resource_id"]), active, *numbers, one["holder"] or "-"])
    columns = ["resource", "active", "epoch", "since", "why", "endpoints", "undelivered", "id"]
    return Fitted(columns, rows, ["id", "why", "endpoints", "epoch"])


def resource(one: dict[str, Any]) -> Group:
    """Return one row per candidate, and a line for each webhook that is undelivered."""
    known = hosts(one)
    frozen = " [yellow](frozen)[/]" if one["frozen"] else ""
    active = escape(known.get(one["holder"], one["holder"] or "")) or "[red]none[/]"
    title = f"[bold]{escape(one['resource_id'])}[/]: {active}{frozen}, epoch {one['epoch']}"
    if one["holder"]:
        title += f", {one['reason'] or '-'} {ago(one['since'])}"
    rows = [
        [
            escape(candidate["host"] or "-"),
            status(candidate["status"]),
            _ready(candidate),
            _reported(candidate),
            ago(candidate["lease_expires_at"]) if candidate["lease_seconds"] else "none",
            str(candidate["priority"]),
            candidate["id"],
        ]
        for candidate in one["candidates"]
    ]
    columns = ["host", "status", "ready", "reported", "lease", "priority", "id"]
    table = Fitted(columns, rows, ["priority", "lease", "reported"])
    notes = [Text.from_markup(_undelivered(entry, known)) for entry in one["undelivered"]]
    return Group(Text.from_markup(title), table, *notes)


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


def _undelivered(entry: dict[str, Any], known: dict[str, str]) -> str:
    """Return a line about a webhook that its receiver has not taken.

    >>> entry = {"id": "vip-1", "status": "STANDBY", "announced_at": 0, "deleting": True}
    >>> _undelivered(entry | {"announced_at": (time.time() - 40.5) * 1000}, {})
    '[yellow]vip-1 is being deleted[/]: STANDBY is undelivered, announced 40 s ago'
    """
    deleting = f"[yellow]{entry['id']} is being deleted[/]" if entry.get("deleting") else name(entry["id"], known)
    if "status" not in entry:
        return deleting
    text = f"{deleting}: {entry['status']} is undelivered, announced {ago(entry.get('announced_at'))}"
    if entry.get("failure"):
        text += f": [red]{entry['failure']}[/], again {ago(entry.get('next_attempt_at'))}. {entry.get('next_step', '')}"
    return text.rstrip()


def transitions(found: list[dict[str, Any]], known: dict[str, str]) -> Fitted:
    """Return one row per transition."""
    rows = []
    for one in found:
        changes = [
            f"{escape(known.get(change['endpoint_id'], change['endpoint_id']))} {change['from']} → "
            f"{status(change['to'])} ({change['reason']})"
            for change in one["changes"]
        ]
        by = one["cause"].get("by", "").rpartition(":")[2]
        cause = one["cause"].get("kind", "") + (f"\nby {escape(by)}" if by else "")
        active = escape(known.get(one["holder"], one["holder"] or "none"))
        ids = "\n".join(change["endpoint_id"] for change in one["changes"])
        rows.append(
            [
                utc(one["at"]),
                str(one["epoch"]),
                active,
                "\n".join(changes) or "-",
                cause,
                ids,
                one["cause"].get("id", ""),
            ]
        )
    columns = ["time", "epoch", "active", "changes", "cause", "id", "cause id"]
    return Fitted(columns, rows, ["cause id", "id", "active", "epoch"])


def outlook(one: dict[str, Any], known: dict[str, str]) -> Group:
    """Return the webhooks that a failover or a change would send."""
    rows = [
        [
            escape(known.get(sent["id"], "-")),
            status(sent["status"]),
            str(sent["epoch"]),
            str(sent["sequence"]),
            sent["id"],
        ]
        for sent in one["webhooks"]
    ]
    columns = ["host", "would receive", "epoch", "sequence", "id"]
    title = Text.from_markup(f"active would be {name(one['holder'], known)}")
    return Group(title, Fitted(columns, rows, ["sequence", "epoch"]))


def look(one: dict[str, Any]) -> Group:
    """Return one row per check of a look."""
    rows = [
        [escape(_check(check)), f"[red]{check['reason']}[/]" if check["reason"] else "passed"]
        for check in one["checks"]
    ]
    return Group(Text.from_markup("up" if one["up"] else "[red]down[/]"), Fitted(["check", "result"], rows, []))


def probed(one: dict[str, Any]) -> str:
    """Return what the probe knows about an endpoint.

    >>> soon = (time.time() + 5.5) * 1000
    >>> probed({"up": True, "since": 0, "failed_check": None, "reason": None, "held_until": None, "next_look_at": soon})
    'up since 1970-01-01T00:00:00Z, next look in 5 s'
    >>> check = {"type": "TCP", "host": "paris", "port": 80}
    >>> probed({"up": False, "since": 0, "failed_check": check, "reason": "refused", "held_until": None,
    ...         "next_look_at": soon})
    '[red]down[/] since 1970-01-01T00:00:00Z, next look in 5 s; TCP paris:80 refused'
    """
    if one["up"] is None:
        state = "has not looked yet"
    else:
        state = f"{'up' if one['up'] else '[red]down[/]'} since {utc(one['since'])}"
    text = f"{state}, next look {ago(one['next_look_at'])}"
    if one["reason"]:
        text += f"; {_check(one['failed_check']) if one['failed_check'] else 'a check'} {one['reason']}"
    if one["held_until"]:
        text += f"; held down, ends {ago(one['held_until'])}"
    return text


def signalled(one: dict[str, Any]) -> str:
    """Return what an endpoint's signals said last, a line for each.

    >>> print(signalled({"status": "STANDBY", "since": 0, "said": [
    ...     {"signal": "ec2:i-0a", "status": "STANDBY", "since": 0, "reason": "spot_interruption", "warned_until": 9},
    ...     {"signal": "zone:euw1-az1", "status": None, "since": None, "reason": None, "warned_until": None}]}))
    ec2:i-0a STANDBY since 1970-01-01T00:00:00Z: spot_interruption
    zone:euw1-az1 has said nothing yet
    """
    lines = []
    for said in one["said"]:
        name = escape(said["signal"])
        if said["status"] is None:
            lines.append(f"{name} has said nothing yet")
        else:
            lines.append(f"{name} {said['status']} since {utc(said['since'])}: {said['reason']}")
    return "\n".join(lines)


def _check(check: dict[str, Any]) -> str:
    return f"{check['type']} {check['host']}:{check['port']}{check.get('path', '')}"


def finding(one: Finding) -> Group:
    """Return a line for a check of `linkctl doctor`, and one with what to do."""
    colour = {"passed": "green", "failed": "red"}.get(one.result, "yellow")
    lines = [f"[{colour}]{one.result:11}[/] {one.check}: {escape(one.found)}"]
    if one.todo:
        lines.append(f"{'':11} what to do: {escape(one.todo)}")
    return Group(*(Text.from_markup(line) for line in lines))


def console(*, stderr: bool = False) -> Console:
    """Return a console with colours on a terminal only, and wide enough for every column without one."""
    made = Console(highlight=False, stderr=stderr)
    return made if made.is_terminal else Console(highlight=False, stderr=stderr, width=1_000)
