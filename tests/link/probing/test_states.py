"""What looks come to: a table of sentences. There is no network, no store and no clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from link.probing import states
from link.probing.states import Probed, Shard
from tests.support.ids import NOW

SLOT = states.SLOT_MS
UP, DOWN = Probed(up=True, since=NOW - 3_600_000), Probed(up=False, since=NOW - 60_000, reason="0:refused", downs=1)


def shard(**endpoints: Probed) -> Shard:
    return Shard(version=1, endpoints=endpoints)


def after(before: Shard, now: int = NOW, *, lagging: bool = False, **reasons: str) -> Shard:
    """The shard after a slot with these looks, in which nobody is the last of its resource."""
    judged, failed = states.judge(before, reasons, now, lagging=lagging)
    again = [i for i, one in before.endpoints.items() if one.reason]
    return states.fall(judged, failed, again, reasons, now)[0]


def test_the_first_look_decides() -> None:
    r = after(shard(), paris="", london="0:refused")
    assert {i: (e.up, e.since) for i, e in r.endpoints.items()} == {"paris": (True, NOW), "london": (False, NOW)}


def test_one_failed_look_takes_an_endpoint_down_because_it_had_three_tries() -> None:
    r = after(shard(paris=UP), paris="1:status_503")
    assert r.endpoints["paris"] == Probed(up=False, since=NOW, reason="1:status_503", downs=1)
    assert [states.tries(one) for one in (Probed(), UP, DOWN)] == [3, 3, 1]


def test_it_takes_two_looks_in_a_row_to_come_up_again() -> None:
    once = after(shard(paris=DOWN), paris="")
    assert not once.endpoints["paris"].up
    assert after(once, NOW + SLOT, paris="").endpoints["paris"] == replace(
        DOWN, up=True, since=NOW + SLOT, reason="", passes=0
    )
    between = after(once, NOW + SLOT, paris="0:timeout")
    assert not after(between, NOW + 2 * SLOT, paris="").endpoints["paris"].up


@pytest.mark.parametrize(
    ("probed", "interval", "looks"),
    [
        pytest.param(UP, 0, 30, id="every slot"),
        pytest.param(UP, 10, 30, id="10 s"),
        pytest.param(UP, 11, 15, id="11 s are 20 s"),
        pytest.param(UP, 60, 5, id="60 s"),
        pytest.param(DOWN, 10, 10, id="down: every third slot"),
        pytest.param(DOWN, 60, 5, id="down, but 60 s"),
        pytest.param(replace(DOWN, passes=1), 3_600, 30, id="down, and a look passed"),
        pytest.param(Probed(up=False), 3_600, 10, id="never up"),
    ],
)
def test_how_often_an_endpoint_is_looked_at_in_five_minutes(probed: Probed, interval: int, looks: int) -> None:
    assert sum(states.is_due("vip-1", probed, interval, slot) for slot in range(1_000, 1_030)) == looks


def test_a_new_endpoint_is_looked_at_in_each_slot_whatever_its_interval() -> None:
    assert all(states.is_due("vip-1", Probed(), 3_600, slot) for slot in range(1_000, 1_030))


def test_the_endpoints_of_an_interval_are_spread_over_its_slots() -> None:
    due = [sum(states.is_due(f"vip-{n}", UP, 60, slot) for n in range(600)) for slot in range(6)]
    assert all(60 <= number <= 140 for number in due), due


# hold


@pytest.mark.parametrize(("downs", "seconds"), [(1, 0), (2, 0), (3, 60), (4, 120), (6, 480), (7, 600), (40, 600)])
def test_from_the_third_down_on_the_next_up_waits(downs: int, seconds: int) -> None:
    down = Probed(up=False, since=NOW, passes=1, downs=downs)
    assert down.held_until == (NOW + seconds * 1_000 if seconds else 0)
    if seconds:
        assert not after(shard(paris=down), NOW + seconds * 1_000 - 1, paris="").endpoints["paris"].up
    assert after(shard(paris=down), NOW + seconds * 1_000, paris="").endpoints["paris"].up


@pytest.mark.parametrize(("up_for_ms", "downs"), [(600_000, 3), (600_001, 1)])
def test_a_down_long_after_the_last_up_is_the_first_one_again(up_for_ms: int, downs: int) -> None:
    flapping = Probed(up=True, since=NOW - up_for_ms, downs=2)
    assert after(shard(paris=flapping), paris="0:refused").endpoints["paris"].downs == downs


def test_a_target_that_flaps_for_twenty_minutes_changes_at_most_six_times() -> None:
    known, changes, now = shard(paris=UP), 0, NOW
    for slot in range(120):
        now += SLOT
        if not states.is_due("paris", known.endpoints["paris"], 10, slot):
            continue
        before = known.endpoints["paris"].up
        known = after(known, now, paris="" if slot % 2 else "0:refused")
        changes += known.endpoints["paris"].up is not before
    assert changes <= 6


# What says nothing


def test_a_slot_in_which_our_own_process_was_late_says_nothing_bad() -> None:
    r = after(shard(paris=UP, london=DOWN), lagging=True, paris="0:timeout", london="")
    assert r.endpoints["paris"] == UP
    assert r.endpoints["london"].passes == 1


def many(number: int, *, failed: int) -> tuple[Shard, dict[str, str]]:
    names = [f"vip-{n:03}" for n in range(number)]
    return shard(**dict.fromkeys(names, UP)), {i: "0:refused" if n < failed else "" for n, i in enumerate(names)}


def down(r: Shard) -> int:
    return sum(one.up is False for one in r.endpoints.values())


@pytest.mark.parametrize(
    ("number", "failed", "falling"),
    [
        pytest.param(500, 249, 249, id="less than half"),
        pytest.param(500, 250, 0, id="half"),
        pytest.param(8, 4, 4, id="half, but only four"),
        pytest.param(10, 5, 0, id="five of ten"),
        pytest.param(2, 1, 1, id="one of two"),
    ],
)
def test_if_many_fail_in_a_slot_none_goes_down_in_it(number: int, failed: int, falling: int) -> None:
    known, reasons = many(number, failed=failed)
    judged, candidates = states.judge(known, reasons, NOW)
    fallen, held_back = states.fall(judged, candidates, [], reasons, NOW)
    assert (down(fallen), held_back) == (falling, failed - falling)


def test_then_at_most_a_fifth_goes_down_in_each_slot() -> None:
    known, reasons = many(500, failed=300)
    course = []
    for number in range(6):
        looked_at = {i: reason for i, reason in reasons.items() if known.endpoints[i].up}
        known = after(known, NOW + number * SLOT, **looked_at)
        course.append(down(known))
    assert course == [0, 100, 200, 300, 300, 300]
    assert known.mass == 0


def test_if_they_are_well_again_in_the_next_slot_nothing_happened() -> None:
    known, reasons = many(500, failed=500)
    waiting = after(known, **reasons)
    well = after(waiting, NOW + SLOT, **dict.fromkeys(reasons, ""))
    assert (down(well), well.mass) == (0, 0)
    assert states.untold(well) == states.untold(known)


# tell


def test_a_state_is_told_until_the_bus_has_taken_it() -> None:
    r = after(shard(paris=replace(UP, told=True)), paris="0:refused", london="")
    assert states.untold(r) == ["london", "paris"]
    told = states.with_told(r, ["paris"])
    assert states.untold(told) == ["london"]
    assert states.untold(states.with_told(told, ["london"])) == []


def test_an_endpoint_that_was_never_judged_is_not_told() -> None:
    assert states.untold(after(shard(), lagging=True, paris="0:timeout")) == []


@pytest.mark.parametrize(
    ("word", "again"),
    [
        pytest.param(True, [], id="the same"),
        pytest.param(False, ["paris"], id="another"),
        pytest.param(None, ["paris"], id="none: the event was lost, or its word removed"),
    ],
)
def test_a_state_is_told_again_where_the_word_in_the_lock_item_differs(word: bool | None, again: list[str]) -> None:
    known = shard(paris=replace(UP, told=True))
    assert states.untold(states.compared(known, {"paris": word})) == again


def test_an_endpoint_that_is_no_longer_probed_is_forgotten() -> None:
    known = shard(paris=UP, london=DOWN)
    assert states.only(known, ["paris"]).endpoints == {"paris": UP}
    assert states.only(known, ["paris", "london", "berlin"]) is known
