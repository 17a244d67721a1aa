"""Status events: which are read, and which are rejected with the field and the rule."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from link.election.state import Status
from link.errors import Rejected
from link.reports import Report, decode, parse
from tests.support.ids import PARIS

EVENT: dict[str, Any] = {
    "id": "7bf73129-1428-4cd3-a780-95db273d1602",
    "source": "link",
    "detail-type": "Endpoint Status Change",
    "time": "2026-11-23T12:00:00Z",
    "detail": {
        "endpoint_id": PARIS,
        "status": "ACTIVATED",
        "resource_id": "resource-123",
        "plugin": "webhook",
        "reported_at": 1795435199950,
    },
}


def event(**detail: Any) -> dict[str, Any]:
    """EVENT with other details; None leaves a field out."""
    changed = copy.deepcopy(EVENT)
    for name, value in detail.items():
        if value is None:
            del changed["detail"][name]
        else:
            changed["detail"][name] = value
    return changed


def test_an_event_with_every_field() -> None:
    assert parse(EVENT) == Report(
        PARIS, Status.ACTIVATED, 1795435199950, "resource-123", "webhook", "7bf73129-1428-4cd3-a780-95db273d1602"
    )


def test_the_time_is_taken_from_the_envelope_when_the_detail_has_none() -> None:
    report = parse(event(resource_id=None, plugin=None, reported_at=None))
    assert (report.at, report.resource_id, report.plugin) == (1795435200000, None, None)


@pytest.mark.parametrize(
    ("time", "at"),
    [
        ("2026-11-23T12:00:00Z", 1795435200000),
        ("2026-11-23T13:00:00+01:00", 1795435200000),
        ("2026-11-23T12:00:00.250Z", 1795435200250),
    ],
)
def test_the_time_of_the_envelope_in_milliseconds(time: str, at: int) -> None:
    assert parse({**event(reported_at=None), "time": time}).at == at


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    assert parse(decode('{"time":"2026-11-23T12:00:00Z","detail":{"endpoint_id":"a\\ud800b","status":"STANDBY"}}')) == (
        Report("a\ufffdb", Status.STANDBY, 1795435200000, None, None, "")
    )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        pytest.param("text", "no detail", id="not an object"),
        pytest.param({}, "no detail", id="no detail"),
        pytest.param({"detail": []}, "no detail", id="detail is a list"),
        pytest.param(event(status=None), "detail.status: None", id="no status"),
        pytest.param(event(status="BOOTING"), "detail.status: 'BOOTING' is not one of", id="no host reports BOOTING"),
        pytest.param(event(status="activated"), "detail.status: 'activated'", id="lower case"),
        pytest.param(event(status=["ACTIVATED"]), "detail.status: ", id="a list"),
        pytest.param(event(endpoint_id=None), "detail.endpoint_id: None", id="no endpoint"),
        pytest.param(event(endpoint_id=""), "detail.endpoint_id: ''", id="empty endpoint"),
        pytest.param(event(endpoint_id=7), "detail.endpoint_id: 7", id="a number"),
        pytest.param(event(resource_id="x" * 257), "detail.resource_id", id="too long"),
        pytest.param(event(plugin=3), "detail.plugin: 3", id="the plugin is a number"),
        pytest.param(event(reported_at="1795435199950"), "detail.reported_at: '1795435199950'", id="a text"),
        pytest.param(event(reported_at=1795435199.95), "detail.reported_at", id="a fraction"),
        pytest.param(event(reported_at=True), "detail.reported_at: True", id="a boolean"),
        pytest.param(event(reported_at=1795435199), "milliseconds", id="seconds"),
        pytest.param(event(reported_at=1795435199950000), "milliseconds", id="microseconds"),
        pytest.param({**event(reported_at=None), "time": "yesterday"}, "time: 'yesterday'", id="no time"),
        pytest.param({**event(reported_at=None), "time": None}, "time: None", id="time missing"),
    ],
)
def test_a_malformed_event_is_rejected_with_the_field_and_the_rule(broken: Any, message: str) -> None:
    with pytest.raises(Rejected, match=message) as rejected:
        parse(broken)
    assert rejected.value.code == "malformed"


@pytest.mark.parametrize("reported_at", [10**12, 10**13])
def test_the_first_and_last_time_in_milliseconds_are_accepted(reported_at: int) -> None:
    assert parse(event(reported_at=reported_at)).at == reported_at


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_what_is_not_json_is_rejected(text: str) -> None:
    with pytest.raises(Rejected, match="not JSON"):
        decode(text)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_an_event_may_have_a_hundred_levels_of_nesting(opening: str, closing: str) -> None:
    assert decode(opening * 99 + "7" + closing * 99)
    with pytest.raises(Rejected, match="more than 100 levels of nesting: send a flat detail") as rejected:
        decode(opening * 100 + "7" + closing * 100)
    assert rejected.value.code == "malformed"
