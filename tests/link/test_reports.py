"""Status events: which are read, and which are rejected with the field and the rule."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from link.election.state import Observer, Status
from link.errors import Rejected
from link.reports import Report, decode, parse, split
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
    text = '{"source":"link","time":"2026-11-23T12:00:00Z","detail":{"endpoint_id":"a\\ud800b","status":"STANDBY"}}'
    assert parse(decode(text)) == (Report("a\ufffdb", Status.STANDBY, 1795435200000, None, None, ""))


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
        parse({"source": "link", **broken} if isinstance(broken, dict) else broken)
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


@pytest.mark.parametrize(
    ("source", "observer", "host"),
    [
        ("link", Observer.HOST, None),
        ("link.host.paris", Observer.HOST, "paris"),
        ("link.host.paris.example.com", Observer.HOST, "paris.example.com"),
        ("link.probe", Observer.PROBE, None),
        ("link.signal", Observer.SIGNAL, None),
    ],
)
def test_the_source_says_who_reports(source: str, observer: Observer, host: str | None) -> None:
    report = parse({**EVENT, "source": source})
    assert (report.observer, report.host) == (observer, host)


@pytest.mark.parametrize(
    "source", [None, "", "LINK", "link.", "link.host", "link.host.", "link.probes", "aws.ec2", 7, []]
)
def test_an_event_of_an_unknown_source_is_rejected(source: object) -> None:
    with pytest.raises(
        Rejected, match=r"^source: .* is not one of link, link\.host\.<host>, link\.probe, link\.signal$"
    ):
        parse({**EVENT, "source": source})


@pytest.mark.parametrize("source", ["link.host.paris", "link.probe", "link.signal"])
def test_with_required_identity_only_the_plain_source_is_rejected(source: str) -> None:
    assert parse({**EVENT, "source": source}, require_host_identity=True) == parse({**EVENT, "source": source})
    with pytest.raises(Rejected, match="send events with the source") as rejected:
        parse(EVENT, require_host_identity=True)
    assert rejected.value.code == "host_identity_required"


REPORTS = [{"endpoint_id": f"vip-{n}", "resource_id": f"ip-{n}", "status": "ACTIVATED"} for n in range(3)]


def host_report(source: object = "link.host.paris", **detail: Any) -> dict[str, Any]:
    """An event with the reports of paris; None leaves a field out."""
    whole = {"host": "paris", "at": 1795435199950, "reports": REPORTS, **detail}
    known = {name: value for name, value in whole.items() if value is not None}
    return {"id": "e", "source": source, "detail-type": "Host Report", "time": "2026-11-23T12:00:00Z", "detail": known}


def test_a_host_report_is_read_as_one_report_for_each_endpoint_all_made_at_the_same_time() -> None:
    events = split(host_report())
    assert [parse(one) for one in events] == [
        Report(f"vip-{n}", Status.ACTIVATED, 1795435199950, f"ip-{n}", None, "e", Observer.HOST, "paris")
        for n in range(3)
    ]
    assert [split(one) for one in events] == [[one] for one in events], "what is put back is read the same way"


def test_a_status_event_is_not_split() -> None:
    assert split(EVENT) == [EVENT]


def test_a_bad_report_in_a_host_report_is_rejected_alone() -> None:
    bad = ["text", {"endpoint_id": "vip-1"}, {"endpoint_id": "vip-1", "status": "UP"}]
    events = split(host_report(reports=[REPORTS[0], *bad]))
    assert parse(events[0]).endpoint_id == "vip-0"
    for event in events[1:]:
        with pytest.raises(Rejected) as rejected:
            parse(event)
        assert rejected.value.code == "malformed"


@pytest.mark.parametrize(
    ("event", "code", "message"),
    [
        pytest.param(host_report(host=None), "malformed", "detail.host: None", id="no host"),
        pytest.param(host_report(at=None), "malformed", "detail.at: None", id="no time"),
        pytest.param(host_report(at="now"), "malformed", "detail.at: 'now'", id="the time is a text"),
        pytest.param(host_report(reports=None), "malformed", "a list of 1 to 250 reports", id="no reports"),
        pytest.param(host_report(reports=[]), "malformed", "a list of 1 to 250 reports", id="an empty list"),
        pytest.param(host_report(reports={}), "malformed", "a list of 1 to 250 reports", id="an object"),
        pytest.param(host_report(reports=REPORTS * 84), "malformed", "a list of 1 to 250 reports", id="252"),
        pytest.param(host_report("link.host.london"), "host_mismatch", "the source is 'link.host.london'", id="host"),
        pytest.param(host_report("link.probe"), "host_mismatch", "the source is 'link.probe'", id="a probe"),
        pytest.param(host_report("link.hosts"), "malformed", "is not one of link, ", id="unknown source"),
        pytest.param({**host_report(), "detail": None}, "malformed", "has no detail", id="no detail"),
    ],
)
def test_a_host_report_of_which_nothing_can_count_is_rejected_whole(event: Any, code: str, message: str) -> None:
    with pytest.raises(Rejected, match=message) as rejected:
        split(event)
    assert rejected.value.code == code


def test_a_host_report_may_have_250_reports_and_the_plain_source() -> None:
    assert len(split(host_report("link", reports=[*REPORTS * 83, REPORTS[0]]))) == 250
    with pytest.raises(Rejected) as rejected:
        split(host_report("link"), require_host_identity=True)
    assert rejected.value.code == "host_identity_required"
