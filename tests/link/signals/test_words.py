"""What was said of signals, and what that comes to for an endpoint."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

from link.election.state import Status
from link.signals.keys import Signal, SignalType
from link.signals.words import Kind, Observed, Said, heard, news

ALARM, INSTANCE = "alarm:web-down", "ec2:i-0a"
UP, STANDBY, DOWN = Status.ACTIVATED, Status.STANDBY, Status.FAILING


def paris(*signals: Signal) -> Observed:
    return Observed("vip-paris", "10.0.0.1", signals or (Signal(SignalType.EC2, INSTANCE),))


def state(status: Status, at: int, key: str = INSTANCE, version: int = 0) -> Said:
    return Said(key, Kind.STATE, at, "running", status, version)


def warning(at: int, until: int, kind: Kind = Kind.WARNING) -> Said:
    return Said(INSTANCE, kind, at, "spot_interruption", until=until)


def end(at: int) -> Said:
    return Said(INSTANCE, Kind.END, at, "terminated")


def test_the_latest_state_counts_in_whatever_order_it_comes() -> None:
    said = [state(UP, 10), state(DOWN, 20), state(UP, 30)]
    assert {heard(paris(), order, 99).status for order in permutations(said)} == {UP}


def test_of_two_states_at_the_same_time_the_later_version_counts_and_then_the_more_severe_one() -> None:
    assert heard(paris(), [state(UP, 10, version=2), state(DOWN, 10, version=1)], 99).status is UP
    assert {heard(paris(), order, 99).status for order in permutations([state(DOWN, 10), state(STANDBY, 10)])} == {DOWN}


def test_what_is_heard_twice_changes_nothing() -> None:
    once = heard(paris(), [state(UP, 10), warning(20, 90)], 30)
    assert heard(once, [state(UP, 10), warning(20, 90)], 30) is once


def test_a_warning_is_standby_although_the_instance_is_still_seen_running() -> None:
    warned = heard(paris(), [state(UP, 10), warning(20, 90)], 20)
    assert warned.status is STANDBY and heard(warned, [state(UP, 60)], 60).status is STANDBY


def test_a_warning_of_which_nothing_follows_runs_out() -> None:
    warned = heard(paris(), [state(UP, 10), warning(20, 90)], 20)
    after = heard(warned, [], 90)
    assert (after.status, after.at) == (UP, 90)


def test_a_warning_that_ended_is_taken_back_in_whatever_order_it_comes() -> None:
    said = [state(UP, 10), warning(20, 90), end(30)]
    assert {heard(paris(), order, 50).status for order in permutations(said)} == {UP}


def test_a_warning_that_comes_at_the_moment_of_its_end_does_not_count() -> None:
    assert heard(paris(), [state(UP, 10), warning(20, 90), end(20)], 50).status is UP


def test_of_several_warnings_and_ends_the_latest_count_in_whatever_order_they_come() -> None:
    said = [state(UP, 10), warning(20, 900), warning(20, 100), end(30), warning(40, 90), end(35)]
    assert {heard(paris(), order, 50).status for order in permutations(said)} == {STANDBY}
    assert {heard(paris(), order, 95).status for order in permutations(said)} == {UP}
    twice = [state(UP, 10), warning(20, 900), warning(20, 100)]
    assert {heard(paris(), order, 500).status for order in permutations(twice)} == {STANDBY}


def test_a_warning_does_not_hide_that_it_is_down() -> None:
    down = heard(paris(), [state(DOWN, 10), warning(20, 90)], 30)
    word = down.words[INSTANCE]
    assert (down.status, word.why(30), word.since(30), down.reason(30)) == (DOWN, "running", 10, "running")


def test_a_word_says_since_when_it_is_so_and_why() -> None:
    both = paris(Signal(SignalType.EC2, INSTANCE), Signal(SignalType.ALARM, ALARM))
    warned = heard(both, [state(UP, 10), state(UP, 15, ALARM), warning(20, 90)], 30)
    word = warned.words[INSTANCE]
    assert (word.why(30), word.since(30), word.why(90), word.since(90)) == ("spot_interruption", 20, "running", 10)
    assert (warned.reason(30), both.reason(30)) == ("spot_interruption", "")


def test_an_instance_that_starts_again_is_not_held_by_the_warning_before_its_end() -> None:
    said = [warning(20, 900), state(DOWN, 30), end(30), state(UP, 60)]
    assert {heard(paris(), order, 70).status for order in permutations(said)} == {UP}


def test_a_risk_counts_only_where_it_is_registered() -> None:
    risk = [state(UP, 10), warning(20, 90, Kind.RISK)]
    assert heard(paris(), risk, 30).status is UP
    assert heard(paris(Signal(SignalType.EC2, INSTANCE, heeds_risk=True)), risk, 30).status is STANDBY


def test_an_alarm_without_data_says_what_is_registered_for_it() -> None:
    no_data = [state(UP, 10, ALARM), Said(ALARM, Kind.NO_DATA, 20, "insufficient_data")]
    for registered, said in {None: UP, UP: UP, DOWN: DOWN}.items():
        assert heard(paris(Signal(SignalType.ALARM, ALARM, without_data=registered)), no_data, 30).status is said


def test_the_gravest_of_the_signals_counts_and_one_that_said_nothing_leaves_it_undecided() -> None:
    both = paris(Signal(SignalType.EC2, INSTANCE), Signal(SignalType.ALARM, ALARM))
    assert heard(both, [state(UP, 10)], 30).status is None
    assert heard(both, [state(STANDBY, 10)], 30).status is STANDBY
    assert heard(both, [state(UP, 10), state(DOWN, 20, ALARM)], 30).status is DOWN
    assert heard(both, [state(UP, 10), state(UP, 20, ALARM)], 30).status is UP


def test_a_signal_that_is_not_registered_any_more_does_not_count() -> None:
    both = heard(paris(Signal(SignalType.ALARM, ALARM)), [state(DOWN, 10, ALARM)], 30)
    assert heard(both, [state(DOWN, 10)], 30) is both
    changed = heard(replace(both, signals=paris().signals), [state(UP, 20)], 30)
    assert (changed.status, [*changed.words]) == (UP, [INSTANCE])


def test_a_signal_that_is_added_leaves_it_as_it_is_until_it_says_something() -> None:
    up = heard(paris(), [state(UP, 10)], 30)
    more = replace(up, signals=(*up.signals, Signal(SignalType.ALARM, ALARM)))
    assert heard(more, [], 40) is more
    assert heard(more, [state(DOWN, 35, ALARM)], 40).status is DOWN


def test_what_arrives_late_is_told_later_than_what_was_told() -> None:
    both = paris(Signal(SignalType.EC2, INSTANCE), Signal(SignalType.ALARM, ALARM))
    up = heard(both, [state(UP, 50), state(UP, 40, ALARM)], 60)
    down = heard(up, [state(DOWN, 45, ALARM)], 60)
    assert [(each.status, each.at) for each in (up, down)] == [(UP, 50), (DOWN, 51)]


def test_only_a_look_that_finds_something_else_is_news() -> None:
    known = heard(paris(), [state(UP, 10), warning(20, 90)], 30)
    assert news(known, [state(UP, 60), warning(60, 95), Said(ALARM, Kind.STATE, 60, "ok", UP)]) == []
    assert news(known, [state(DOWN, 60), end(60)]) == [state(DOWN, 60), end(60)]


def test_a_look_that_began_before_an_event_changes_nothing() -> None:
    known = heard(paris(), [state(DOWN, 70)], 80)
    assert news(known, [state(UP, 60)]) == []
