"""What people read: tables that fit the terminal, hosts beside ids, and text that is not markup."""

from __future__ import annotations

import time
from typing import Any

import pytest
from rich.console import Console

from linkctl import show
from linkctl.fitted import Fitted
from linkctl.watched import Watched
from tests.support.ids import LONDON, PARIS, RESOURCE

NOW = round(time.time() * 1000)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW / 1000)


def printed(made: Any, width: int = 80) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(made)
    return captured.get()


def candidate(id: str, host: str, status: str, **more: Any) -> dict[str, Any]:
    words = {"host": {"status": "ACTIVATED", "at": NOW - 40_000}}
    usual = {"ready": True, "words": words, "lease_seconds": 60, "lease_expires_at": NOW + 20_500, "priority": 0}
    return {"id": id, "host": host, "status": status, **usual, **more}


def resource(**more: Any) -> dict[str, Any]:
    return {
        "resource_id": RESOURCE,
        "holder": PARIS,
        "epoch": 7,
        "since": NOW - 3_500,
        "reason": "elected",
        "frozen": False,
        "candidates": [candidate(PARIS, "paris", "ACTIVATED"), candidate(LONDON, "london", "STANDBY")],
        "undelivered": [],
        **more,
    }


FAILED = {
    "status": "ACTIVATED",
    "announced_at": NOW - 40_500,
    "failure": "answered status_500",
    "next_attempt_at": NOW + 13_500,
    "next_step": "Retrying with backoff, at most 10 minutes apart. Check the receiver.",
}


def endpoint(id: str, host: str) -> dict[str, Any]:
    return {"id": id, "host": host, "election_key": f"webhook/{RESOURCE}", "status": "ACTIVATED", "delivery": FAILED}


SUMMARY = {**resource(), "holder_host": "paris", "endpoints": 2, "undelivered": 1}
CHANGES = [
    {"endpoint_id": PARIS, "from": "ACTIVATED", "to": "STANDBY", "reason": "failover"},
    {"endpoint_id": LONDON, "from": "STANDBY", "to": "ACTIVATED", "reason": "failover"},
]
BY = "arn:aws:sts::123456789012:assumed-role/operators/alice"
TRANSITION = {
    "at": 1_795_435_442_000,
    "epoch": 2,
    "holder": LONDON,
    "changes": CHANGES,
    "cause": {"kind": "failover", "id": "4b0c2f5e-0000-4000-8000-000000000000", "by": BY},
}
HOSTS = {PARIS: "paris", LONDON: "london"}
WEBHOOKS = [{"id": PARIS, "status": "STANDBY", "epoch": 7, "sequence": 9}]
EVERYTHING = [
    show.endpoints([endpoint(PARIS, "paris"), endpoint(LONDON, "london")]),
    show.endpoints([endpoint(PARIS, ""), endpoint(LONDON, "london")]),
    show.resources([SUMMARY]),
    show.resource(resource(undelivered=[{"id": PARIS, "deleting": False, **FAILED}])),
    show.transitions([TRANSITION], HOSTS),
    show.outlook({"holder": LONDON, "webhooks": WEBHOOKS}, HOSTS),
]


@pytest.mark.parametrize("made", EVERYTHING)
@pytest.mark.parametrize("width", [80, 100, 132, 1_000])
def test_a_table_fits_and_no_id_and_no_status_is_cut(made: Any, width: int) -> None:
    text = printed(made, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text and text.count("vip-") == text.count(PARIS) + text.count(LONDON)
    assert "ACTIVATED" in text or "paris" in text


def test_a_candidate_has_its_host_and_its_id_at_80_columns() -> None:
    text = printed(show.resource(resource()))
    assert text.startswith(f"{RESOURCE}: paris, epoch 7, elected 3 s ago\n")
    assert [line for line in text.splitlines() if line.startswith("paris ") and line.rstrip().endswith(PARIS)]
    assert "not shown at this width: reported" in text and " in 20 s " in text


def test_a_wide_terminal_shows_every_column() -> None:
    text = printed(show.resource(resource()), 200)
    assert "host ACTIVATED 40 s ago" in text and "not shown" not in text


def test_what_is_undelivered_has_a_line_with_what_to_do() -> None:
    text = " ".join(printed(show.resource(resource(undelivered=[{"id": PARIS, **FAILED}]))).split())
    assert (
        f"paris ({PARIS}): ACTIVATED is undelivered, announced 40 s ago: answered status_500, again in 13 s. "
        "Retrying with backoff, at most 10 minutes apart. Check the receiver."
    ) in text


def test_an_endpoint_without_a_host_keeps_its_id_in_a_narrow_list() -> None:
    assert PARIS in printed(show.endpoints([endpoint(PARIS, "")]), 100)


def test_a_transition_has_a_time_in_utc_hosts_and_who_caused_it() -> None:
    text = printed(show.transitions([TRANSITION], HOSTS), 100)
    assert "2026-11-23T12:04:02Z" in text and "by assumed-role/operators/alice" in text
    assert "paris ACTIVATED → STANDBY (failover)" in text


def test_names_in_brackets_are_not_markup() -> None:
    odd = resource(resource_id="[red]ip[/]", candidates=[candidate(PARIS, "[b]paris", "ACTIVATED")])
    text = printed(show.resource(odd))
    assert "[red]ip[/]: [b]paris, epoch 7" in text and "\n[b]paris " in text


def test_a_cell_that_changed_since_the_last_look_is_highlighted_and_an_age_is_not() -> None:
    def table(status: str, age: str) -> Fitted:
        return Fitted(["host", "status", "reported"], [["paris", status, age]], [])

    console = Console(force_terminal=True, width=80, color_system="standard")

    def marked(now: Fitted, before: Fitted | None) -> list[str]:
        with console.capture() as captured:
            console.print(now.compared_with(before))
        return [part.split("\x1b")[0].strip() for part in captured.get().split("\x1b[7m")[1:]]

    before = table("STANDBY", "1 s ago")
    assert marked(table("ACTIVATED", "3 s ago"), before) == ["ACTIVATED"]
    assert marked(table("STANDBY", "3 s ago"), before) == []
    assert marked(table("STANDBY", "3 s ago"), None) == []


def test_what_is_watched_has_a_clock_and_says_since_when_looks_fail() -> None:
    watched = Watched(show.resource, resource())
    assert time.strftime("%Y-%m-%dT", time.gmtime()) in printed(watched.shown())
    watched.failed("the API cannot be reached: ConnectTimeout\nmore")
    text = printed(watched.shown())
    assert "looks fail since now, trying again: the API cannot be reached: ConnectTimeout\n" in text
    assert f"{RESOURCE}: paris" in text
    watched.saw(resource(holder=LONDON))
    assert "looks fail" not in printed(watched.shown()) and f"{RESOURCE}: london" in printed(watched.shown())
