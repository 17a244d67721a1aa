"""What the agent does and when, by a clock of the test: no threads, no sockets, no waiting."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkctl.agent import health
from linkctl.agent.checks import Result
from linkctl.agent.config import Config
from linkctl.agent.core import STOP_SECONDS
from linkctl.agent.health import Health, Status
from linkctl.agent.outbox import Outcome, details
from linkctl.errors import Failed
from tests.support.agent import Host, config
from tests.support.ids import LONDON, NOW, PARIS

ACTIVATED, STANDBY, FAILING = Status


@pytest.mark.parametrize(
    ("results", "passing"),
    [
        ("", None),
        ("+", True),
        ("-", None),
        ("--", None),
        ("---", False),
        ("+--", True),
        ("+---", False),
        ("+--+--", True),
        ("---+", True),
        ("--+", True),
    ],
)
def test_three_failures_in_a_row_are_a_failure_and_one_success_ends_it(results: str, passing: bool | None) -> None:
    one = Health()
    for result in results:
        one = one.after(result == "+")
    assert one.passing is passing


@pytest.mark.parametrize(
    ("checks", "last", "word"),
    [
        ([], None, ACTIVATED),
        ([True], None, ACTIVATED),
        ([True, True], FAILING, ACTIVATED),
        ([True, False], ACTIVATED, FAILING),
        ([None, False], None, FAILING),
        ([None, True], None, None),
        ([None, True], FAILING, FAILING),
        ([None], ACTIVATED, ACTIVATED),
    ],
)
def test_all_checks_have_to_pass_and_without_a_verdict_the_last_word_stays(
    checks: list[bool | None], last: Status | None, word: Status | None
) -> None:
    assert health.word([Health(one) for one in checks], last) is word


def test_an_event_has_the_host_the_time_and_a_report_per_endpoint() -> None:
    host = Host(config(f"{PARIS}:1", LONDON))
    host.run(1)
    assert host.puts == [
        (
            1_000.0,
            {
                "host": "paris",
                "at": NOW,
                "reports": [
                    {"endpoint_id": PARIS, "resource_id": f"ip of {PARIS}", "status": "ACTIVATED"},
                    {"endpoint_id": LONDON, "resource_id": f"ip of {LONDON}", "status": "ACTIVATED"},
                ],
            },
        )
    ]


def test_the_source_names_the_host_unless_the_host_has_no_identity() -> None:
    assert config(PARIS).source == "link.host.paris"
    assert config(PARIS, top="host_identity = false").source == "link"


def test_a_beat_comes_every_third_of_the_shortest_lease() -> None:
    host = Host(config(PARIS, lease_seconds=30))
    host.run(35)
    assert [at for at, _ in host.puts] == [1_000, 1_010, 1_020, 1_030]


def test_beats_vary_by_a_tenth() -> None:
    host = Host(config(PARIS))
    asked = []
    host.core._outbox.chance = lambda low, high: asked.append((low, high)) or 1.0  # type: ignore[func-returns-value]
    host.run(0)
    assert asked == [(0.9, 1.1)]


def test_a_hundred_endpoints_are_one_event_a_beat() -> None:
    host = Host(config(*[f"vip-{number}:{number + 1}" for number in range(100)], lease_seconds=15))
    host.run(16)
    assert [len(detail["reports"]) for _, detail in host.puts] == [100] * 4


def test_two_hundred_and_fifty_reports_fit_in_an_event_and_more_become_several_each_endpoint_once() -> None:
    for count, events in ((250, [250]), (251, [250, 1])):
        host = Host(config(*[f"vip-{number}" for number in range(count)]))
        host.run(0)
        assert [len(detail["reports"]) for _, detail in host.puts] == events
        assert len({one["endpoint_id"] for _, detail in host.puts for one in detail["reports"]}) == count


def test_no_event_is_longer_than_what_aws_bills_as_one() -> None:
    host = Host(config(*[f"vip-{number}" + "ü" * 120 for number in range(250)]))
    host.run(0)
    assert len(host.puts) > 1
    assert max(len(one.encode()) for one in details("paris", NOW, host.core.words)) <= 64 * 1_024
    assert sum(len(detail["reports"]) for _, detail in host.puts) == 250


def test_a_failure_is_told_after_three_rounds_and_a_recovery_after_one() -> None:
    host = Host(config(f"{PARIS}:5432"))
    host.run(1)
    host.down = {5432}
    host.run(13)
    assert host.told() == {PARIS: "ACTIVATED"}
    host.run(1)
    assert host.told() == {PARIS: "FAILING"} and host.puts[-1][0] == 1_015
    host.down = set()
    host.run(5)
    assert host.told() == {PARIS: "ACTIVATED"} and host.puts[-1][0] == 1_020
    assert len(host.puts) == 3  # Each carries every word, so it is a beat, too.


def test_the_log_has_one_line_per_change_with_the_check_and_the_reason() -> None:
    host = Host(config(f"{PARIS}:5432"))
    host.run(1)
    host.down = {5432}
    host.run(60)
    assert host.log_lines == [
        f"{PARIS} of ip of {PARIS}: ACTIVATED",
        f"{PARIS} of ip of {PARIS}: ACTIVATED → FAILING: TCP localhost:5432: refused",
    ]


def test_nothing_is_said_about_an_endpoint_before_its_checks_have_a_verdict() -> None:
    host = Host(config(f"{PARIS}:1", f"{LONDON}:2"), down={2})
    host.run(9)
    assert host.told() == {PARIS: "ACTIVATED"}
    host.run(1)
    assert host.told() == {PARIS: "ACTIVATED", LONDON: "FAILING"}


def test_a_change_during_a_put_is_told_right_after_it() -> None:
    host = Host(config(f"{PARIS}:1", top="healthcheck_interval = 1"))
    host.run(0.5)
    host.down, host.cloud = {1}, "hang"
    host.run(3)
    assert host.told() == {PARIS: "FAILING"}
    host.down = set()
    host.run(1)
    assert len(host.puts) == 2
    host.core.put_ended(host.numbers[-1], Outcome(""))
    host.run(0)
    assert host.told() == {PARIS: "ACTIVATED"}


def test_at_rises_strictly_also_when_the_clock_stands_still_or_is_set_back() -> None:
    host = Host(config(PARIS, lease_seconds=15))
    host.run(1)
    for set_back_by in (5_000, 30_000):
        host.clock_ms -= set_back_by
        host.run(5)
    ats = [detail["at"] for _, detail in host.puts]
    assert ats == [NOW, NOW + 1, NOW + 2]


def test_a_clock_that_was_minutes_ahead_does_not_hold_the_reports_in_the_future() -> None:
    host = Host(config(PARIS, lease_seconds=15))
    host.clock_ms += 3_600_000
    host.run(1)
    host.clock_ms -= 3_600_000
    host.run(5)
    assert host.puts[-1][1]["at"] == NOW + 5_000


# While AWS is away


def test_while_aws_is_away_the_agent_tries_again_in_growing_pauses_and_catches_up_with_one_event() -> None:
    host = Host(config(f"{PARIS}:1", lease_seconds=60), cloud="refused")
    host.run(600)
    pauses = [after - before for (before, _), (after, _) in zip(host.puts, host.puts[1:], strict=False)]
    assert pauses[:5] == [0.75, 1.5, 3.0, 6.0, 7.5] and set(pauses[5:]) == {7.5}
    host.cloud, tried = "", len(host.puts)
    host.run(8)
    assert len(host.puts) == tried + 1 and host.told() == {PARIS: "ACTIVATED"}
    ats = [detail["at"] for _, detail in host.puts]
    assert ats == sorted(set(ats))


def test_a_pause_is_never_longer_than_a_beat() -> None:
    host = Host(config(PARIS, lease_seconds=6), cloud="refused")
    host.run(60)
    assert max(after - before for (before, _), (after, _) in zip(host.puts, host.puts[1:], strict=False)) <= 2


def test_what_changed_back_while_aws_was_away_is_not_told() -> None:
    host = Host(config(f"{PARIS}:1"))
    host.run(1)
    host.cloud, host.down = "refused", {1}
    host.run(60)
    host.down = set()
    host.run(60)
    host.cloud, tried = "", len(host.puts)
    host.run(10)
    assert [detail["reports"][0]["status"] for _, detail in host.puts[tried:]] == ["ACTIVATED"]


def test_a_put_without_an_answer_counts_as_failed_after_three_seconds_and_its_late_answer_changes_nothing() -> None:
    host = Host(config(PARIS), cloud="hang")
    host.run(3.1)
    assert host.core.puts_failed == 1
    host.core.put_ended(1, Outcome(""))
    assert host.core.last_put_ms is None
    host.run(1)
    assert len(host.puts) == 2


def test_a_single_put_that_failed_is_not_logged() -> None:
    host = Host(config(PARIS), cloud="ConnectionClosedError")
    host.run(0.5)
    host.cloud = ""
    host.run(10)
    assert len(host.puts) == 2 and len(host.log_lines) == 1


def test_each_problem_is_logged_once_and_so_is_its_end() -> None:
    host = Host(config(PARIS), cloud="EndpointConnectionError")
    host.run(100)
    host.cloud = "AccessDeniedException: no"
    host.run(100)
    host.cloud = ""
    host.run(100)
    first, second, last = host.log_lines[1:]
    assert "EndpointConnectionError" in first and "AccessDenied" in second and "can be put again" in last


# Rounds, the watchdog and pauses of the machine


@pytest.mark.parametrize("cloud", ["", "refused", "hang"])
def test_the_watchdog_is_fed_by_rounds_whatever_becomes_of_the_puts(cloud: str) -> None:
    host = Host(config(f"{PARIS}:1", lease_seconds=15), cloud=cloud)
    fed = []
    for _ in range(100):
        host.run(1)
        fed.append(host.notes.count("WATCHDOG=1"))
    assert fed[-1] >= 100 / 5 - 5
    longest = max(fed.count(count) for count in set(fed))
    assert longest <= 15, f"not fed for {longest} s: WatchdogSec=30 wants half of it"


def test_the_watchdog_is_not_fed_while_a_round_is_not_complete() -> None:
    host = Host(config(f"{PARIS}:1"))
    host.run(1)
    fed = host.notes.count("WATCHDOG=1")
    host.hanging_checks = {1}
    host.run(9)
    assert host.notes.count("WATCHDOG=1") == fed


def test_a_check_that_hangs_fails_and_is_not_started_again_until_it_ends() -> None:
    host = Host(config(f"{PARIS}:1"))
    host.run(1)
    host.hanging_checks = {1}
    host.run(60)  # Begun at 1,005, given up at 1,011; then it fails in each round.
    assert next(at for at, detail in host.puts if detail["reports"][0]["status"] == "FAILING") == 1_021
    assert len(host.started_checks) == 2
    host.hanging_checks = set()
    host.core.checked(host.started_checks[-1], Result("", 60.0))
    host.run(5)
    assert host.told() == {PARIS: "ACTIVATED"}


def test_checks_that_take_as_long_as_a_round_hold_neither_the_beats_nor_the_watchdog() -> None:
    host = Host(config(f"{PARIS}:1", lease_seconds=30))
    host.check_seconds = 5.0
    host.run(61)
    assert len(host.puts) == 6 and host.notes.count("WATCHDOG=1") == 12


def test_ready_is_told_once_after_the_first_round_and_the_first_try_to_put() -> None:
    host = Host(config(f"{PARIS}:1"), cloud="hang")
    host.core.turn()
    assert "READY=1" not in host.notes
    host.run(2.9)
    assert "READY=1" not in host.notes
    host.run(30)
    assert host.notes.count("READY=1") == 1


def test_after_a_long_pause_of_the_process_nothing_is_said_before_a_new_round() -> None:
    host = Host(config(f"{PARIS}:1"))
    host.run(1)
    host.hanging_checks = {1}
    host.run(4)  # A check has begun,
    host.now += 60  # and its result is from before the pause.
    host.core.checked(host.started_checks[-1], Result("", 0.0))
    host.core.turn()
    host.core.turn()
    assert len(host.puts) == 1 and len(host.started_checks) == 3
    host.core.checked(host.started_checks[-1], Result("refused", 0.0))
    host.core.turn()
    assert len(host.puts) == 2


# Stopping


def test_stopping_tells_standby_for_all_once_and_finishes() -> None:
    host = Host(config(f"{PARIS}:1", f"{LONDON}:2"), down={2})
    host.run(1)
    host.core.stop("SIGTERM")
    host.run(10)
    assert host.core.finished and host.now == 1_001
    assert host.told() == {PARIS: "STANDBY", LONDON: "STANDBY"}
    assert len(host.puts) == 2 and host.notes[-2:] == ["STOPPING=1", "STATUS=Stopping: STANDBY for all endpoints"]


@pytest.mark.parametrize(("cloud", "tries", "seconds"), [("hang", 2, 3.0), ("refused", 2, 0.5)])
@pytest.mark.parametrize("before", ["", "hang", "refused"])
@pytest.mark.parametrize("age", [0.0, 0.4, 3.5, 19.9, 20.1, 100.0])
def test_stopping_takes_two_tries_and_at_most_three_seconds_when_aws_is_away(
    cloud: str, tries: int, seconds: float, before: str, age: float
) -> None:
    host = Host(config(f"{PARIS}:1"), cloud=before)
    host.run(age)
    host.cloud, earlier, began = cloud, len(host.puts), host.now
    host.pending.clear()
    host.core.stop("SIGTERM")
    host.run(100)
    assert host.core.finished and len(host.puts) - earlier == tries
    assert host.now - began <= seconds <= STOP_SECONDS


def test_a_second_try_follows_when_the_first_failed() -> None:
    host = Host(config(PARIS))
    host.run(1)
    host.cloud = "refused"
    host.core.stop("SIGTERM")
    host.run(0.4)
    host.cloud = ""
    host.run(10)
    assert host.core.finished and len(host.puts) == 3
    assert not any("did not get STANDBY" in line for line in host.log_lines)


def test_a_goodbye_is_newer_than_the_event_that_is_under_way() -> None:
    host = Host(config(PARIS), cloud="hang")
    host.run(1)
    host.core.stop("SIGTERM")
    host.core.turn()
    (_, under_way), (_, goodbye) = host.puts
    assert goodbye["at"] > under_way["at"]
    host.core.put_ended(1, Outcome(""))
    host.core.turn()
    assert not host.core.finished


def test_stopping_again_changes_nothing() -> None:
    host = Host(config(PARIS), cloud="hang")
    host.run(1)
    host.core.stop("SIGTERM")
    host.run(2)
    host.core.stop("SIGTERM")
    host.run(10)
    assert host.now == 1_004


def test_stopping_before_the_first_round_ended_tells_standby() -> None:
    host = Host(config(f"{PARIS}:1"))
    host.hanging_checks = {1}
    host.run(1)
    host.core.stop("SIGINT")
    host.run(10)
    assert host.core.finished and host.told() == {PARIS: "STANDBY"}


def test_keep_on_stop_tells_nothing() -> None:
    host = Host(config(PARIS, top="keep_on_stop = true"))
    host.run(1)
    host.core.stop("SIGTERM")
    host.run(1)
    assert host.core.finished and len(host.puts) == 1
    assert [word.status for word in host.core.words.values()] == [ACTIVATED]


# A Spot interruption


def test_a_spot_notice_is_standby_for_all_and_stays_so() -> None:
    host = Host(config(f"{PARIS}:1", f"{LONDON}:2"), down={2})
    host.run(1)
    host.core.interrupted("terminate")
    host.run(0)
    assert host.puts[-1][0] == 1_001 and host.told() == {PARIS: "STANDBY", LONDON: "STANDBY"}
    host.down = set()
    host.core.interrupted("terminate")
    host.core.reload(lambda: config(f"{PARIS}:3"))
    host.run(60)
    assert host.told() == {PARIS: "STANDBY"}
    assert "STATUS=1 endpoints: 1 STANDBY; Spot interruption notice (terminate)" in host.notes


# Reloading


def test_a_reload_keeps_the_words_and_the_health_of_what_did_not_change() -> None:
    host = Host(config(f"{PARIS}:1"))
    host.run(1)
    host.down = {1}
    host.run(10)  # two failures
    host.core.reload(lambda: config(f"{PARIS}:1", LONDON))
    host.run(0)
    assert host.told() == {PARIS: "FAILING", LONDON: "ACTIVATED"}


def test_a_new_check_does_not_step_an_endpoint_down_before_it_has_failed_three_times() -> None:
    host = Host(config(f"{PARIS}:1"))
    host.run(1)
    host.down = {2}
    host.core.reload(lambda: config(f"{PARIS}:1:2"))
    host.run(9)
    assert host.told() == {PARIS: "ACTIVATED"}
    host.run(1)
    assert host.told() == {PARIS: "FAILING"}


def test_an_endpoint_that_a_reload_removes_gets_standby_until_the_bus_has_it() -> None:
    host = Host(config(PARIS, LONDON))
    host.run(1)
    host.cloud = "refused"
    host.core.reload(lambda: config(PARIS))
    host.run(5)
    assert host.told() == {LONDON: "STANDBY", PARIS: "ACTIVATED"}
    host.cloud = ""
    host.run(10)
    assert host.told() == {LONDON: "STANDBY", PARIS: "ACTIVATED"}
    host.run(30)
    assert host.told() == {PARIS: "ACTIVATED"}


def test_an_endpoint_that_comes_back_is_told_as_it_is() -> None:
    host = Host(config(PARIS, LONDON), cloud="")
    host.run(1)
    host.cloud = "refused"
    host.core.reload(lambda: config(PARIS))
    host.run(5)
    host.core.reload(lambda: config(PARIS, LONDON))
    host.cloud = ""
    host.run(10)
    assert host.told() == {PARIS: "ACTIVATED", LONDON: "ACTIVATED"}


def test_an_endpoint_that_comes_back_without_a_verdict_keeps_the_word_that_the_bus_has() -> None:
    host = Host(config(PARIS, f"{LONDON}:1"))
    host.run(1)
    host.cloud, host.down = "refused", {1, 2}
    host.core.reload(lambda: config(PARIS))
    host.run(0.1)
    assert host.told() == {LONDON: "STANDBY", PARIS: "ACTIVATED"}
    host.core.reload(lambda: config(PARIS, f"{LONDON}:2"))
    host.run(5)
    assert host.told() == {PARIS: "ACTIVATED"}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, "cannot be read"),
        ({"host": "london"}, "host changed: restart the agent for that"),
        ({"event_bus": "other", "region": "eu-west-3"}, "event_bus and region changed"),
        ({"host_identity": False}, "host_identity changed"),
    ],
)
def test_a_reload_that_cannot_be_used_changes_nothing_and_says_why(changed: dict[str, Any], reason: str) -> None:
    def load() -> Config:
        if not changed:
            raise Failed("agent.toml cannot be read")
        return replace(config(PARIS), **changed)

    host = Host(config(PARIS, LONDON))
    host.run(1)
    host.core.reload(load)
    host.run(30)
    assert host.told() == {PARIS: "ACTIVATED", LONDON: "ACTIVATED"}
    assert reason in host.log_lines[-1] and any("configuration is refused" in note for note in host.notes)
    assert (host.core.reloads, host.core.reloads_refused) == (0, 1)


def test_systemd_hears_when_a_reload_begins_and_when_it_has_ended() -> None:
    host = Host(config(PARIS))
    host.run(1)
    host.notes.clear()
    host.core.reload(lambda: config(PARIS))
    assert host.notes == ["RELOADING=1", "MONOTONIC_USEC=1001000000", "READY=1"]


def test_a_reload_before_the_first_round_does_not_say_that_the_agent_is_ready() -> None:
    host = Host(config(PARIS))
    host.core.reload(lambda: config(PARIS))
    assert host.notes == []


# The clock


def test_a_clock_that_is_off_is_logged_once_per_change() -> None:
    host = Host(config(PARIS, lease_seconds=15))
    for host.offset in (0.0, 1.9, 5.0, 6.0, -8.0, 0.0, 0.0):
        host.run(5)
    assert host.log_lines[1:] == [
        "the clock is at least 5 s ahead of AWS's: set it, leases depend on it",
        "the clock agrees with AWS's again",
    ]
    assert host.core.clock_offset == 0.0


# Whatever happens


PORTS = st.sets(st.sampled_from([1, 2, 3]))
STEPS = st.one_of(
    st.tuples(st.just("down"), PORTS),
    st.tuples(st.just("hang"), PORTS),
    st.tuples(st.just("slow"), st.floats(0, 5)),
    st.tuples(st.just("cloud"), st.sampled_from(["", "refused", "hang"])),
    st.tuples(st.just("pause"), st.integers(1, 100)),
    st.tuples(st.just("clock"), st.integers(-100_000, 100_000)),
    st.tuples(st.just("reload"), st.sets(st.sampled_from([PARIS, LONDON]), min_size=1)),
)


@given(steps=st.lists(st.tuples(STEPS, st.floats(0, 40))))
def test_after_any_history_the_bus_has_what_is_true_and_the_last_event_is_standby(steps: list[Any]) -> None:
    ports = {PARIS: "1:2", LONDON: "3"}
    present = {PARIS, LONDON}

    def configured() -> Config:
        return config(*[f"{id}:{ports[id]}" for id in sorted(present)], lease_seconds=30)

    host = Host(configured())
    for (what, value), seconds in steps:
        if what == "down":
            host.down = value
        elif what == "hang":
            host.hanging_checks = value
        elif what == "slow":
            host.check_seconds = value
        elif what == "cloud":
            host.cloud = value
        elif what == "pause":
            host.now += value
        elif what == "clock":
            host.clock_ms += value
        else:
            present = value
            host.core.reload(configured)
        host.run(seconds)
    host.cloud, host.hanging_checks = "", set()
    for key in dict.fromkeys(host.started_checks):
        host.core.checked(key, Result("late", 60.0))
    fed = host.notes.count("WATCHDOG=1")
    host.run(60)
    assert host.notes.count("WATCHDOG=1") >= fed + 8
    failing = {id for id in present if any(int(port) in host.down for port in ports[id].split(":"))}
    assert host.told() == {id: "FAILING" if id in failing else "ACTIVATED" for id in present}
    began = host.now
    host.core.stop("SIGTERM")
    host.run(10)
    assert host.core.finished and host.now - began <= STOP_SECONDS
    assert host.told() == dict.fromkeys(present, "STANDBY")
    apart = [(one["at"], two["at"]) for (_, one), (_, two) in itertools.pairwise(host.puts)]
    assert all(one < two or one - two > 60_000 for one, two in apart)
