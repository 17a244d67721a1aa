"""Status events: what an observer reported, out of an EventBridge event. Standard library only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from link.election.state import Observer, Status
from link.errors import Rejected

MILLISECONDS = range(10**12, 10**13 + 1)
"""What a Unix time in milliseconds looks like in the years 2001 to 2286; seconds or microseconds do not."""
HOST_REPORT = "Host Report"
"""The detail-type of an event with the reports of one host for all of its endpoints."""
MAX_REPORTS = 250
HOST_SOURCE = "link"
HOST_PREFIX = "link.host."
"""Before the name of the host in an event's source."""
_SOURCES = {"link.probe": Observer.PROBE, "link.signal": Observer.SIGNAL}
MAX_DEPTH = 100
"""Levels of nesting in an event. Near the interpreter's limit, json.loads reads what json.dumps cannot write."""
_ENVELOPE = {"version", "id", "detail-type", "source", "account", "time", "region"}
"""What EventBridge puts into an event. `resources` is the sender's."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPORTED = {Status.ACTIVATED, Status.STANDBY, Status.FAILING}


@dataclass(frozen=True, slots=True)
class Report:
    """What an observer reports about one endpoint. `at` is when it made the report, Unix milliseconds."""

    endpoint_id: str
    status: Status
    at: int
    resource_id: str | None
    plugin: str | None
    event_id: str
    observer: Observer = Observer.HOST
    host: str | None = None
    """The host that the event's source names; None if it names none."""


def decode(text: str) -> Any:
    """The JSON in a message body; raises Rejected when it is not JSON or nested too deep."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Rejected("malformed", f"the message body is not JSON: {error}") from None
    level = [event]
    for _ in range(MAX_DEPTH):
        level = [member for value in level for member in _members(value)]
        if not level:
            return event
    raise Rejected("malformed", f"the event has more than {MAX_DEPTH} levels of nesting: send a flat detail")


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def split(event: Any, *, require_host_identity: bool = False) -> list[Any]:
    """The events, each with one report, that an event stands for: those of a `Host Report`, or the event itself.

    The events of a `Host Report` have only those of its fields that count: it can be large, and has up to 250 reports.
    Raises Rejected when none of the reports can count; a bad one is found by `parse`, which rejects it alone.
    """
    if not isinstance(event, dict) or event.get("detail-type") != HOST_REPORT:
        return [event]
    detail = _detail(event)
    _source(event.get("source"), require_host_identity)
    host, reports = _text(detail, "host"), detail.get("reports")
    if not isinstance(reports, list) or not 1 <= len(reports) <= MAX_REPORTS:
        raise Rejected("malformed", f"detail.reports: send a list of 1 to {MAX_REPORTS} reports")
    at = _milliseconds(detail, "at")
    if event.get("source") not in (HOST_SOURCE, HOST_PREFIX + host):
        raise Rejected(
            "host_mismatch",
            f"detail.host is {_shown(host)}, but the source is {_shown(event.get('source'))}: send the source "
            f"{HOST_PREFIX}<host> with the same host, or {HOST_SOURCE}",
        )
    envelope = {name: value for name, value in event.items() if name in _ENVELOPE}
    return [{**envelope, "detail": {"host": host, "at": at, "reports": [report]}} for report in reports]


def parse(event: Any, *, require_host_identity: bool = False) -> Report:
    """The report in an event that has one; raises Rejected with the field and the rule that it breaks."""
    detail = _detail(event)
    observer, host = _source(event.get("source"), require_host_identity)
    if event.get("detail-type") == HOST_REPORT:
        (detail,) = ({"reported_at": detail["at"], **_object(report)} for report in detail["reports"])
    status = _text(detail, "status")
    if status not in _REPORTED:
        raise Rejected("malformed", f"detail.status: {status!r} is not one of ACTIVATED, STANDBY, FAILING")
    return Report(
        endpoint_id=_text(detail, "endpoint_id"),
        status=Status(status),
        at=_milliseconds(detail, "reported_at") if "reported_at" in detail else _envelope_time(event),
        resource_id=_text(detail, "resource_id") if "resource_id" in detail else None,
        plugin=_text(detail, "plugin") if "plugin" in detail else None,
        event_id=str(event.get("id", "")),
        observer=observer,
        host=host,
    )


def _detail(event: Any) -> dict[str, Any]:
    detail = event.get("detail") if isinstance(event, dict) else None
    if not isinstance(detail, dict):
        raise Rejected("malformed", "the event has no detail: send an EventBridge event with a JSON object in detail")
    return detail


def _object(report: Any) -> dict[str, Any]:
    if not isinstance(report, dict):
        raise Rejected("malformed", f"detail.reports: {_shown(report)} is not an object with endpoint_id and status")
    return report


def _source(source: Any, require_host_identity: bool) -> tuple[Observer, str | None]:
    """The observer that an event's source stands for, and the host that it names. IAM says who may use a source."""
    if isinstance(source, str) and source in _SOURCES:
        return _SOURCES[source], None
    if source == HOST_SOURCE:
        if require_host_identity:
            raise Rejected(
                "host_identity_required",
                "the source is link, but this deployment requires the name of the host (RequireHostIdentity): send "
                "events with the source link.host.<host>, the host as registered",
            )
        return Observer.HOST, None
    if isinstance(source, str) and source.startswith(HOST_PREFIX) and len(source) > len(HOST_PREFIX):
        return Observer.HOST, source.removeprefix(HOST_PREFIX)
    raise Rejected(
        "malformed", f"source: {_shown(source)} is not one of link, link.host.<host>, link.probe, link.signal"
    )


def _text(detail: dict[str, Any], name: str) -> str:
    value = detail.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= 256:
        raise Rejected("malformed", f"detail.{name}: {_shown(value)} is not a text of 1 to 256 characters")
    return _SURROGATE.sub("\ufffd", value)


def _milliseconds(detail: dict[str, Any], name: str) -> int:
    value = detail.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value not in MILLISECONDS:
        raise Rejected(
            "malformed", f"detail.{name}: {_shown(value)} is not a whole number of Unix milliseconds (13 digits)"
        )
    return value


def _envelope_time(event: dict[str, Any]) -> int:
    value = event.get("time")
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type]
        at = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        at = -1
    if at not in MILLISECONDS:
        raise Rejected("malformed", f"time: {_shown(value)} is not a time such as 2026-11-23T12:00:00Z")
    return at


def _shown(value: Any) -> str:
    return repr(value)[:80]
