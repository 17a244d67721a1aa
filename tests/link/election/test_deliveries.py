"""When a delivery is due, who may attempt it, and what its outcome changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from link.election import rules
from link.election.deliveries import (
    CLAIM_MS,
    SEND_MS,
    Begun,
    Delivery,
    backoff,
    begun,
    claim_due,
    deliveries,
    due,
    next_delivery,
    outcome,
)
from link.election.result import ResultKind
from link.election.state import NEVER, Claim, Endpoint, Resource, Status
from tests.support.entries import (
    ACTIVATED,
    FAILING,
    REFRESH_MS,
    STANDBY,
    claim,
    endpoint,
    holder,
    outcome_of,
    report,
    resource,
    waiting,
)
from tests.support.ids import NOW

# due


@pytest.mark.parametrize(
    ("e", "at"),
    [
        pytest.param(waiting(), NEVER, id="a standby is never refreshed"),
        pytest.param(waiting(sequence=2, next_attempt_at=NOW + 5), NOW + 5, id="pending: at its next attempt"),
        pytest.param(holder(), NOW - 10_000 + REFRESH_MS, id="the holder: at its refresh"),
        pytest.param(holder(next_attempt_at=NOW + REFRESH_MS * 2), NOW + REFRESH_MS * 2, id="a failed refresh waits"),
        pytest.param(waiting(sequence=2, claim=Claim("t", NOW + 9, 2)), NOW + 9, id="not before the claim ends"),
        pytest.param(endpoint(status=FAILING), NEVER, id="failing and never announced"),
    ],
)
def test_when_something_is_due(e: Endpoint, at: int) -> None:
    assert due(resource(paris=e), "paris", REFRESH_MS) == at


@pytest.mark.parametrize("until", [NOW + 700, NEVER])
def test_the_new_holder_waits_while_another_may_be_believed_active(until: int) -> None:
    r = resource(paris=holder(status=STANDBY, sequence=2, believed_until=until), london=holder(sequence=2, epoch=2))
    assert due(r, "london", REFRESH_MS) == until


# claim_due


def handed_over() -> Resource:
    """Paris failed, and its STANDBY was claimed now."""
    return claim(report(resource(paris=holder(), london=waiting()), "paris", FAILING))


def test_a_handover_claims_the_standby_first_and_the_activated_when_no_standby_can_leave_any_more() -> None:
    r = handed_over()
    assert r.endpoints["paris"].claim == Claim("t", NOW + 15_000, 2)
    assert r.endpoints["london"].claim is None
    # The claim takes 15 s; nothing leaves in its last 7 s. Then HandoverTimeout, 1 s.
    assert r.endpoints["paris"].believed_until == NOW + 9_000
    assert claim(r, NOW + 8_999).endpoints["london"].claim is None
    assert claim(r, NOW + 9_000).endpoints["london"].claim == Claim("t", NOW + 24_000, 2)


def test_the_activated_is_claimed_handover_timeout_after_the_standby_begins_to_be_sent() -> None:
    r = begun(handed_over(), Begun("paris", "t", NOW + 40), 1_000)
    assert r.endpoints["paris"].believed_until == NOW + 1_040
    assert claim(r, NOW + 1_039).endpoints["london"].claim is None
    assert claim(r, NOW + 1_040).endpoints["london"].claim == Claim("t", NOW + 16_040, 2)


def test_an_attempt_that_begins_twice_begins_the_first_time() -> None:
    r = begun(begun(handed_over(), Begun("paris", "t", NOW + 40), 1_000), Begun("paris", "t", NOW + 5_000), 1_000)
    assert r.endpoints["paris"].believed_until == NOW + 1_040


@pytest.mark.parametrize(
    "r",
    [
        pytest.param(resource(london=waiting()), id="deleted meanwhile"),
        pytest.param(resource(paris=waiting(believed_until=NEVER)), id="its outcome is recorded"),
        pytest.param(resource(paris=waiting(believed_until=NEVER, claim=Claim("u", NOW, 2))), id="claimed by another"),
        pytest.param(resource(paris=waiting(claim=Claim("t", NOW, 2))), id="never believed active"),
        pytest.param(resource(paris=holder(claim=Claim("t", NOW, 2))), id="active again"),
    ],
)
def test_the_begin_of_an_attempt_changes_nothing_else(r: Resource) -> None:
    assert begun(r, Begun("paris", "t", NOW), 1_000) is r


@pytest.mark.parametrize(
    ("attempts", "believed_until"),
    [
        pytest.param(1, NEVER, id="no attempt before: the wait has not begun"),
        pytest.param(2, NOW + 9_000, id="an earlier attempt was made: the wait goes on"),
    ],
)
def test_a_standby_that_was_too_late_does_not_use_up_the_wait(attempts: int, believed_until: int) -> None:
    r = handed_over()
    r = r.having("paris", replace(r.endpoints["paris"], attempt=attempts))
    r = outcome(r, outcome_of("paris", STANDBY, sequence=2, kind=ResultKind.TOO_LATE), NOW, 0.5)
    assert r.endpoints["paris"].believed_until == believed_until


def test_a_replaced_standby_that_was_too_late_does_not_use_up_the_wait() -> None:
    r = report(handed_over(), "paris", ACTIVATED, NOW + 1)
    assert r.endpoints["paris"].sequence == 3, "recovered"
    r = outcome(r, outcome_of("paris", STANDBY, sequence=2, kind=ResultKind.TOO_LATE), NOW, 0.5)
    assert r.endpoints["paris"].believed_until == NEVER


@pytest.mark.parametrize("order", [("paris", "london"), ("london", "paris")])
def test_without_a_handover_timeout_both_sides_are_claimed_together(order: tuple[str, str]) -> None:
    entries = {"paris": holder(), "london": waiting()}
    r = report(resource(**{name: entries[name] for name in order}), "paris", FAILING)
    r = claim(r, handover_ms=0)
    assert [e.claim for e in r.endpoints.values()] == [Claim("t", NOW + 15_000, 2)] * 2


@pytest.mark.parametrize(
    ("handover_ms", "believed_until", "claimed"), [(1_000, NOW + 9_000, {"paris"}), (0, NOW, {"paris", "london"})]
)
@pytest.mark.parametrize("order", [("paris", "london"), ("london", "paris")])
def test_the_old_holder_is_claimed_before_the_new_one_in_any_order_of_the_item(
    order: tuple[str, str], handover_ms: int, believed_until: int, claimed: set[str]
) -> None:
    entries = {
        "paris": holder(status=STANDBY, reported=STANDBY, sequence=2, next_attempt_at=NOW),
        "london": waiting(status=ACTIVATED, epoch=2, sequence=2, next_attempt_at=NOW),
    }
    r = claim(resource(**{name: entries[name] for name in order}), handover_ms=handover_ms)
    assert r.endpoints["paris"].believed_until == believed_until
    assert {d.endpoint_id for d in deliveries(r, "t")} == claimed


def test_a_repeated_standby_does_not_extend_the_wait() -> None:
    paris = holder(status=STANDBY, sequence=2, believed_until=NOW + 300, attempt=1)
    r = claim(resource(paris=paris, london=waiting(status=ACTIVATED, sequence=2)))
    assert r.endpoints["paris"].believed_until == NOW + 300


@pytest.mark.parametrize(("attempt", "wait"), [(0, 750), (1, 1_500), (2, 3_000), (3, 6_000)])
def test_a_claim_counts_the_attempt_and_plans_the_next_in_case_its_process_dies(attempt: int, wait: int) -> None:
    e = claim(resource(paris=waiting(sequence=2, attempt=attempt))).endpoints["paris"]
    assert (e.attempt, e.next_attempt_at) == (attempt + 1, NOW + wait)


def test_a_new_status_starts_counting_attempts_again() -> None:
    failed = holder(attempt=5, failure_kind="not_sent", failure_reason="dns")
    e = report(resource(paris=failed), "paris", STANDBY).endpoints["paris"]
    assert (e.attempt, e.next_attempt_at, e.announced_at) == (0, NOW, NOW)
    assert (e.failure_kind, e.failure_reason) == ("", "")


def test_bytes_leave_seven_seconds_before_the_end_of_a_claim_of_fifteen() -> None:
    assert (CLAIM_MS, SEND_MS) == (15_000, 7_000)


def test_claiming_an_activated_sets_believed_until() -> None:
    r = claim(rules.elect(resource(paris=endpoint(reported=ACTIVATED)), NOW))
    assert r.endpoints["paris"].believed_until == NEVER


def test_a_claim_stops_other_senders_until_it_ends() -> None:
    r = resource(paris=waiting(sequence=2, claim=Claim("theirs", NOW + 1, 2)))
    assert claim(r) == r
    assert claim(r, NOW + 1).endpoints["paris"].claim == Claim("t", NOW + 15_001, 2)


@pytest.mark.parametrize(
    ("attempt", "jitter", "milliseconds"),
    [(1, 0.0, 500), (1, 1.0, 1000), (2, 1.0, 2000), (10, 1.0, 512_000), (11, 1.0, 600_000), (99, 0.0, 300_000)],
)
def test_backoff_doubles_up_to_ten_minutes(attempt: int, jitter: float, milliseconds: int) -> None:
    assert backoff(attempt, jitter) == milliseconds


# deliveries


def test_a_delivery_that_repeats_a_delivered_status_is_a_refresh() -> None:
    r = claim(resource(paris=holder(delivered_at=NOW - REFRESH_MS)))
    (d,) = deliveries(r, "t")
    assert (d.status, d.reason, d.sequence, d.refreshed_at) == (ACTIVATED, "refresh", 1, NOW - REFRESH_MS)
    assert deliveries(r, "another") == []


def test_a_delivery_has_all_that_its_sender_needs() -> None:
    r = claim(resource(paris=waiting(sequence=1_000, epoch=7, revision=3, reason="demoted", attempt=1)))
    assert deliveries(r, "t") == [
        Delivery(
            endpoint_id="paris",
            resource_id="ip",
            revision=3,
            token="t",
            until=NOW + 15_000,
            status=STANDBY,
            epoch=7,
            sequence=1_000,
            reason="demoted",
            attempt=2,
            refreshed_at=None,
        )
    ]


@pytest.mark.parametrize(
    ("e", "expected"),
    [
        pytest.param(waiting(), None, id="a standby that was delivered: none"),
        pytest.param(holder(), (ACTIVATED, "refresh", 1, NOW - 10_000), id="the holder's refresh"),
        pytest.param(waiting(sequence=2, reason="joined", attempt=5), (STANDBY, "joined", 6, None), id="pending"),
    ],
)
def test_the_next_delivery_without_a_claim(e: Endpoint, expected: tuple[Status, str, int, int | None] | None) -> None:
    d = next_delivery(resource(paris=e), "paris")
    assert (None if d is None else (d.status, d.reason, d.attempt, d.refreshed_at)) == expected
    assert d is None or (d.token, d.until) == ("", 0)


# outcome


def after(e: Endpoint, kind: ResultKind, *, status: Status = STANDBY, sequence: int = 2, **more: Any) -> Endpoint:
    """The entry after its attempt ended like this."""
    ended = outcome_of("paris", status, sequence=sequence, kind=kind, reason="why", **more)
    return outcome(resource(paris=e), ended, NOW, 1.0).endpoints["paris"]


CLAIMED = waiting(sequence=2, attempt=3, claim=Claim("t", NOW + 9000, 2), believed_until=NOW + 500)


def test_a_2xx_delivers() -> None:
    e = after(CLAIMED, ResultKind.DELIVERED)
    assert (e.claim, e.pending, e.attempt, e.delivered_at, e.believed_until) == (None, False, 0, NOW, None)


def test_a_2xx_forgets_the_failure_before_it() -> None:
    e = after(replace(CLAIMED, failure_kind="not_sent", failure_reason="dns"), ResultKind.DELIVERED)
    assert (e.failure_kind, e.failure_reason) == ("", "")


def test_a_2xx_for_an_activated_does_not_end_believed_until() -> None:
    e = after(holder(sequence=2, claim=Claim("t", NOW, 2)), ResultKind.DELIVERED, status=ACTIVATED)
    assert (e.pending, e.believed_until) == (False, NEVER)


def test_a_2xx_for_an_older_status_leaves_the_newer_one_pending() -> None:
    e = after(replace(CLAIMED, sequence=3), ResultKind.DELIVERED)
    assert (e.pending, e.delivered_sequence, e.attempt, e.believed_until) == (True, 2, 3, None)


def test_a_failure_waits_for_the_backoff_and_is_kept_in_two_fields() -> None:
    e = after(CLAIMED, ResultKind.NOT_SENT)
    assert (e.claim, e.pending, e.next_attempt_at) == (None, True, NOW + 4000)
    assert (e.failure_kind, e.failure_reason) == ("not_sent", "why")


def test_a_failure_of_an_older_status_does_not_delay_the_newer_one() -> None:
    newer = replace(CLAIMED, sequence=3, next_attempt_at=NOW)
    assert after(newer, ResultKind.NOT_SENT).next_attempt_at == NOW


@pytest.mark.parametrize(
    ("status_code", "retry_after", "wait"),
    [
        pytest.param(429, 30, 30_000, id="429 says when"),
        pytest.param(503, 900, 600_000, id="at most ten minutes"),
        pytest.param(503, 1, 4_000, id="never sooner than the backoff"),
        pytest.param(500, 30, 4_000, id="500 cannot say when"),
        pytest.param(429, None, 4_000, id="429 without Retry-After"),
    ],
)
def test_retry_after(status_code: int, retry_after: int | None, wait: int) -> None:
    e = after(CLAIMED, ResultKind.ANSWERED, status_code=status_code, retry_after_seconds=retry_after)
    assert e.next_attempt_at == NOW + wait


def test_an_attempt_that_was_too_late_to_send_is_taken_back_whatever_its_number() -> None:
    assert [after(replace(CLAIMED, attempt=n), ResultKind.TOO_LATE).attempt for n in (1, 2, 3, 4)] == [0, 1, 2, 3]


def test_an_attempt_that_was_too_late_to_send_does_not_count() -> None:
    e = after(CLAIMED, ResultKind.TOO_LATE)
    assert (e.claim, e.attempt, e.next_attempt_at, e.failure_kind) == (None, 2, NOW + 1000, "")


@pytest.mark.parametrize("token", ["s: less than the claim's", "theirs, and more"])
def test_an_outcome_under_another_token_is_ignored(token: str) -> None:
    r = resource(paris=replace(CLAIMED, claim=Claim("theirs", NOW, 2)))
    ended = outcome_of("paris", STANDBY, sequence=2, token=token)
    assert outcome(r, ended, NOW, 0.0) == r
    assert outcome(resource(), ended, NOW, 0.0) == resource()


def test_jitter_is_a_share_of_half_the_backoff() -> None:
    r = resource(paris=waiting(sequence=2))
    planned = [
        claim_due(r, NOW, token="t", jitter=jitter, refresh_ms=REFRESH_MS, handover_ms=0).endpoints["paris"]
        for jitter in (0.0, 1.0)
    ]
    assert [e.next_attempt_at - NOW for e in planned] == [500, 1_000]
