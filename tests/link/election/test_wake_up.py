"""When a resource has to be looked at next, and what an invocation does until then."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from link.election.deliveries import deliveries
from link.election.state import NEVER, Claim, Resource
from link.election.wake_up import Claiming, Move, Then, keep_due_at, next_due, next_move, settle
from tests.support.entries import (
    ACTIVATED,
    FAILING,
    REFRESH_MS,
    STANDBY,
    endpoint,
    holder,
    resource,
    waiting,
)
from tests.support.ids import NOW

# next_due and keep_due_at


def test_the_end_of_a_candidates_lease_is_due_and_no_other_lease() -> None:
    r = resource(
        paris=holder(lease_expires_at=NOW + 50_000),
        london=waiting(lease_expires_at=NOW + 20_000),
        rome=waiting(status=FAILING, lease_expires_at=NOW + 1_000),
        oslo=waiting(reported=STANDBY, lease_expires_at=NOW + 2_000),
    )
    assert next_due(r, NOW, REFRESH_MS) == NOW + 20_000
    assert next_due(resource(), NOW, REFRESH_MS) == NEVER


@pytest.mark.parametrize(
    ("due_at", "carried", "after", "needs_wake_up"),
    [
        pytest.param(None, None, NOW + 30_000, True, id="absent: set"),
        pytest.param(NOW, None, NOW + 30_000, True, id="past: set"),
        pytest.param(NOW + 40_000, None, NOW + 30_000, True, id="too late: lowered"),
        pytest.param(NOW + 10_000, None, NOW + 10_000, False, id="earlier than needed: left to its message"),
        pytest.param(NOW + 10_000, NOW + 10_000, NOW + 30_000, True, id="raised by the message that carries it"),
        pytest.param(NOW + 10_000, NOW + 9_999, NOW + 10_000, False, id="not by an old message"),
        pytest.param(NOW + 30_000, NOW + 30_000, NOW + 30_000, True, id="woken up early: one more message"),
        pytest.param(NOW + 30_000, None, NOW + 30_000, False, id="right already: its message is put"),
    ],
)
def test_due_at_records_the_wake_up(due_at: int | None, carried: int | None, after: int, needs_wake_up: bool) -> None:
    r = replace(resource(paris=waiting(sequence=2, next_attempt_at=NOW + 30_000)), due_at=due_at)
    kept, needs = keep_due_at(r, NOW, carried=carried, refresh_ms=REFRESH_MS)
    assert (kept.due_at, needs) == (after, needs_wake_up)


def test_a_due_at_that_is_past_is_raised_by_any_commit() -> None:
    r = replace(resource(paris=holder()), due_at=NOW - 1)
    kept, needs_wake_up = keep_due_at(r, NOW, carried=None, refresh_ms=REFRESH_MS)
    assert (kept.due_at, needs_wake_up) == (NOW - 10_000 + REFRESH_MS, False)


def test_what_is_due_in_a_minute_or_later_is_found_by_the_sweep() -> None:
    for ahead, needs_wake_up in ((59_999, True), (60_000, False)):
        r = resource(paris=waiting(sequence=2, next_attempt_at=NOW + ahead))
        assert keep_due_at(r, NOW, carried=None, refresh_ms=REFRESH_MS)[1] is needs_wake_up


def test_an_item_with_nothing_due_leaves_the_index_when_its_message_came() -> None:
    r = replace(resource(paris=endpoint()), due_at=NOW + 5)
    assert keep_due_at(r, NOW, carried=NOW + 5, refresh_ms=REFRESH_MS) == (replace(r, due_at=None), False)


# settle

CLAIMING = Claiming(token="t", jitter=0.5, handover_ms=1_000)


def settled(
    item: Resource, *, carried: int | None = None, claiming: Claiming | None = CLAIMING
) -> tuple[Resource, bool]:
    return settle(item, NOW, refresh_ms=REFRESH_MS, damping=True, carried=carried, claiming=claiming)


READY = endpoint(reported=ACTIVATED)
LEAVING = waiting(deleting=True)
PENDING = waiting(sequence=2, next_attempt_at=NOW)


@pytest.mark.parametrize(
    ("item", "claiming", "claimed", "due_at", "needs_wake_up"),
    [
        pytest.param(
            resource(paris=READY), CLAIMING, ["paris"], NOW + 15_000, True,
            id="elects a holder and claims its ACTIVATED in the same commit",
        ),
        pytest.param(
            resource(paris=READY), None, [], NOW, True,
            id="may not claim: elects, and requires a wake-up for what is due now",
        ),
        pytest.param(
            resource(paris=holder(), london=LEAVING), CLAIMING, [], NOW - 10_000 + REFRESH_MS, False,
            id="drops a deleted entry whose status is delivered",
        ),
        pytest.param(
            resource(paris=holder(), london=replace(PENDING, deleting=True)), CLAIMING, ["london"], NOW + 15_000, True,
            id="keeps a deleted entry whose status is pending, and claims it",
        ),
        pytest.param(
            resource(paris=holder(lease_expires_at=NOW), london=waiting()), CLAIMING, ["paris"], NOW + 9_000, True,
            id="ends a lease, claims the STANDBY, and is due again in case its attempt never begins",
        ),
        pytest.param(
            resource(paris=holder(claim=Claim("theirs", NOW + 9_000, 1), delivered_sequence=0)), CLAIMING, [],
            NOW + 9_000, True,
            id="another sender's claim: nothing to claim before it ends",
        ),
        pytest.param(
            resource(london=endpoint()), CLAIMING, [], None, False,
            id="nothing due: no due_at",
        ),
    ],
)  # fmt: skip
def test_every_step_ends_by_electing_dropping_claiming_and_keeping_due_at(
    item: Resource, claiming: Claiming | None, claimed: list[str], due_at: int | None, needs_wake_up: bool
) -> None:
    after, needs = settled(item, claiming=claiming)
    assert [d.endpoint_id for d in deliveries(after, "t")] == claimed
    assert (after.due_at, needs) == (due_at, needs_wake_up)
    assert after.holder is not None or not any(e.ready(NOW) for e in after.endpoints.values())
    assert not any(e.deleting and not e.pending for e in after.endpoints.values())


@pytest.mark.parametrize(
    ("carried", "due_at"),
    [
        pytest.param(NOW + 10_000, NOW - 10_000 + REFRESH_MS, id="by the message that carries it"),
        pytest.param(None, NOW + 10_000, id="by no other commit"),
    ],
)
def test_a_due_at_that_is_too_early_is_raised(carried: int | None, due_at: int) -> None:
    after, _ = settled(replace(resource(paris=holder()), due_at=NOW + 10_000), carried=carried)
    assert after.due_at == due_at


def test_settling_an_item_again_changes_nothing() -> None:
    for e in (READY, LEAVING, PENDING, holder(), waiting(lease_expires_at=NOW)):
        once, _ = settled(resource(paris=e))
        assert settled(once)[0] == once


# next_move


def move(
    *,
    due: int = NOW + 300_000,
    due_at: int | None = NOW + 300_000,
    needs_wake_up: bool = False,
    woken_for: int | None = None,
    sending: bool = False,
    may_claim: bool = True,
    responsible: bool = False,
    seconds_left: float = 29.5,
) -> Move:
    """The next move after a report's commit that left nothing to do; each argument changes this situation."""
    return next_move(
        due=due,
        due_at=due_at,
        now=NOW,
        needs_wake_up=needs_wake_up,
        woken_for=woken_for,
        sending=sending,
        may_claim=may_claim,
        responsible=responsible,
        seconds_left=seconds_left,
    )


SOON, IN_A_SECOND, LATER = NOW + 400, NOW + 1_000, NOW + 1_001
PUTS, PUTS_NONE = True, False


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            {}, Move(PUTS_NONE, Then.STOP, 0, False),
            id="nothing under way, nothing due soon: stops",
        ),
        pytest.param(
            {"due": SOON, "due_at": SOON, "needs_wake_up": True, "woken_for": SOON, "responsible": True},
            Move(PUTS_NONE, Then.SLEEP, 0.4, True),
            id="woken early for exactly this: sleeps the rest, puts no message",
        ),
        pytest.param(
            {"due": IN_A_SECOND, "due_at": IN_A_SECOND, "needs_wake_up": True, "woken_for": IN_A_SECOND,
             "responsible": True},
            Move(PUTS_NONE, Then.SLEEP, 1.0, True),
            id="woken a second early: sleeps it",
        ),
        pytest.param(
            {"due": LATER, "due_at": LATER, "needs_wake_up": True, "woken_for": LATER, "responsible": True},
            Move(PUTS, Then.STOP, 0, True),
            id="woken more than a second early: puts the message again and stops",
        ),
        pytest.param(
            {"due": SOON, "due_at": SOON, "needs_wake_up": True, "woken_for": SOON, "responsible": True,
             "may_claim": False},
            Move(PUTS, Then.STOP, 0, True),
            id="time nearly up: puts a message and stops",
        ),
        pytest.param(
            {"due": SOON, "due_at": SOON, "needs_wake_up": True, "woken_for": NOW - 5_000, "responsible": True},
            Move(PUTS, Then.SLEEP, 0.4, True),
            id="woken for another due_at: puts a message, in case it dies, and sleeps until it is due",
        ),
        pytest.param(
            {"due": SOON, "due_at": SOON, "needs_wake_up": True},
            Move(PUTS, Then.SLEEP, 0.4, True),
            id="a report made it due soon: puts a message and becomes responsible",
        ),
        pytest.param(
            {"due": SOON, "due_at": SOON},
            Move(PUTS_NONE, Then.STOP, 0, False),
            id="due soon, but another invocation put its message: stops",
        ),
        pytest.param(
            {"due": SOON, "due_at": SOON, "responsible": True},
            Move(PUTS_NONE, Then.SLEEP, 0.4, True),
            id="due soon, and this invocation put or got its message: sleeps",
        ),
        pytest.param(
            {"due": NOW - 30, "due_at": NOW - 30, "responsible": True},
            Move(PUTS_NONE, Then.SLEEP, 0, True),
            id="became due during the commit: goes on at once",
        ),
        pytest.param(
            {"due": NEVER, "due_at": None, "needs_wake_up": True, "responsible": True},
            Move(PUTS_NONE, Then.STOP, 0, True),
            id="an item without due_at: no message to put",
        ),
        pytest.param(
            {"due": NOW + 15_000, "due_at": NOW + 15_000, "needs_wake_up": True, "sending": True},
            Move(PUTS, Then.WAIT, 15.0, True),
            id="sends under way: puts the message for the claim's end and waits for outcomes until then",
        ),
        pytest.param(
            {"due": NEVER, "due_at": None, "sending": True},
            Move(PUTS_NONE, Then.WAIT, 29.5, False),
            id="sends under way, nothing due: waits for what is left",
        ),
        pytest.param(
            {"due": NOW - 10, "due_at": NOW - 10, "sending": True},
            Move(PUTS_NONE, Then.WAIT, -0.01, False),
            id="sends under way, something due already: only collects what has arrived",
        ),
        pytest.param(
            {"due": SOON, "due_at": SOON, "sending": True, "may_claim": False, "seconds_left": 11.0},
            Move(PUTS_NONE, Then.WAIT, 11.0, False),
            id="sends under way, time nearly up: waits for them alone",
        ),
        pytest.param(
            {"due": SOON, "due_at": SOON, "sending": True, "may_claim": False, "seconds_left": -60.0},
            Move(PUTS_NONE, Then.WAIT, 1.0, False),
            id="sends under way, time over: waits a second at a time",
        ),
    ],
)  # fmt: skip
def test_the_next_move(given: dict[str, int], expected: Move) -> None:
    assert move(**given) == expected  # type: ignore[arg-type]


def loop_of_version_0_1(
    due: int,
    due_at: int | None,
    needs_wake_up: bool,
    woken_for: int | None,
    sending: bool,
    may_claim: bool,
    stays: bool,
    seconds_left: float,
) -> Move:
    """What the loop of version 0.1 did after a commit, written as one round: an independent reference."""
    message_put = False
    if needs_wake_up and due_at is not None:
        message_put = not may_claim or woken_for != due_at or due_at - NOW > 1_000
        stays = True
    if sending:
        if not may_claim or due == 2**53 - 1:
            timeout = seconds_left if seconds_left > 1.0 else 1.0
        else:
            timeout = (due - NOW) / 1000
        return Move(message_put, Then.WAIT, timeout, stays)
    if not stays or not may_claim or due - NOW > 1_000:
        return Move(message_put, Then.STOP, 0, stays)
    return Move(message_put, Then.SLEEP, (due - NOW) / 1000 if due > NOW else 0.0, stays)


def test_the_next_move_is_that_of_version_0_1_in_every_situation() -> None:
    moments = [NOW - 60_000, NOW - 1, NOW, NOW + 1, NOW + 999, IN_A_SECOND, LATER, NOW + 15_000]
    either = (False, True)
    tried = 0
    for due, due_at, needs, sending, may_claim, stays in itertools.product(
        [*moments, NEVER], [*moments, None], either, either, either, either
    ):
        # Not woken, woken for this due_at, woken for another one.
        for woken_for in dict.fromkeys((None, due_at, NOW + 7)):
            for seconds_left in (-60.0, 1.0, 11.9, 30.0):
                expected = loop_of_version_0_1(due, due_at, needs, woken_for, sending, may_claim, stays, seconds_left)
                actual = move(
                    due=due,
                    due_at=due_at,
                    needs_wake_up=needs,
                    woken_for=woken_for,
                    sending=sending,
                    may_claim=may_claim,
                    responsible=stays,
                    seconds_left=seconds_left,
                )
                situation = (due - NOW, due_at, needs, woken_for, sending, may_claim, stays, seconds_left)
                assert actual == expected, situation
                tried += 1
    assert tried > 10_000


@pytest.mark.parametrize(("damping", "ago_ms", "losses"), [(True, 1_200_000, 2), (True, 1_200_001, 0), (False, 0, 0)])
def test_a_step_keeps_the_losses_of_twenty_minutes_and_none_without_damping(
    damping: bool, ago_ms: int, losses: int
) -> None:
    item = resource(paris=holder(losses=2, lost_at=NOW - ago_ms))
    after, _ = settle(item, NOW, refresh_ms=REFRESH_MS, damping=damping)
    assert after.endpoints["paris"].losses == losses


@pytest.mark.parametrize(
    ("item", "due_at"),
    [
        pytest.param(resource(paris=waiting(reported=FAILING, status=FAILING)), NOW + 600_000, id="no holder"),
        pytest.param(resource(paris=endpoint(status=STANDBY)), NOW + 600_000, id="its only observer is a new one"),
        pytest.param(resource(paris=endpoint()), NEVER, id="no host has reported yet"),
        pytest.param(resource(paris=waiting(reported=FAILING, deleting=True)), NOW, id="its last one is being deleted"),
    ],
)
def test_a_resource_without_holder_is_looked_at_every_ten_minutes(item: Resource, due_at: int) -> None:
    assert next_due(item, NOW, REFRESH_MS) == due_at


def test_an_endpoint_on_hold_is_elected_at_once_when_damping_is_switched_off() -> None:
    on_hold = resource(paris=waiting(losses=3, lost_at=NOW - 1, ready_since=NOW))
    after, _ = settle(on_hold, NOW, refresh_ms=REFRESH_MS, damping=False)
    assert after.holder == "paris"
