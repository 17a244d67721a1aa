"""The rules, as arithmetic: no store, no clock."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from link.election.deliveries import Outcome
from link.election.result import Result, ResultKind
from link.election.state import NEVER, Claim, Endpoint, Resource, Status
from link.errors import Conflict, Rejected

ACTIVATED, STANDBY, FAILING, BOOTING = Status.ACTIVATED, Status.STANDBY, Status.FAILING, Status.BOOTING
NOW = 1_795_435_200_000
REFRESH = 300_000


def resource(**endpoints: Endpoint) -> Resource:
    holders = [name for name, e in endpoints.items() if e.status is ACTIVATED]
    epoch = max((e.epoch for e in endpoints.values()), default=0)
    return Resource("ip", version=1, holder=holders[0] if holders else None, epoch=epoch, endpoints=endpoints)


def endpoint(**values: object) -> Endpoint:
    return Endpoint(**{"joined": NOW - 1000, **values})  # type: ignore[arg-type]


def holder(**values: object) -> Endpoint:
    """Active and told so ten seconds ago."""
    told = {"status": ACTIVATED, "reported": ACTIVATED, "reported_at": NOW - 9000, "epoch": 1, "sequence": 1}
    sent = {"delivered_sequence": 1, "delivered_at": NOW - 10_000, "believed_until": NEVER, "reason": "elected"}
    return endpoint(**{**told, **sent, **values})


def waiting(**values: object) -> Endpoint:
    """Ready, standing by, told so."""
    told = {"status": STANDBY, "reported": ACTIVATED, "reported_at": NOW - 9000, "epoch": 1, "sequence": 1}
    return endpoint(**{**told, "delivered_sequence": 1, "delivered_at": NOW - 9000, **values})


def state(r: Resource) -> dict[str, tuple[str, int, int, str]]:
    """status, sequence, epoch, reason of every endpoint."""
    return {name: (e.status, e.sequence, e.epoch, e.reason) for name, e in r.endpoints.items()}


def report(r: Resource, name: str, status: Status, at: int = NOW) -> Resource:
    return election.report(r, name, status, at, NOW)


# report


def test_the_first_ready_endpoint_is_elected_with_epoch_1() -> None:
    r = report(resource(paris=endpoint()), "paris", ACTIVATED)
    assert (r.holder, r.epoch, state(r)["paris"]) == ("paris", 1, (ACTIVATED, 1, 1, "elected"))


def test_the_second_joins_as_standby_with_the_current_epoch() -> None:
    r = report(resource(paris=holder(), london=endpoint()), "london", ACTIVATED)
    assert (r.holder, state(r)["london"]) == ("paris", (STANDBY, 1, 1, "joined"))


@pytest.mark.parametrize(("status", "became", "reason"), [(STANDBY, STANDBY, "demoted"), (FAILING, FAILING, "failing")])
def test_a_holder_that_gives_up_is_followed_at_once(status: Status, became: Status, reason: str) -> None:
    r = report(resource(paris=holder(), london=waiting()), "paris", status)
    assert (r.holder, r.epoch) == ("london", 2)
    assert state(r) == {"paris": (became, 2, 1, reason), "london": (ACTIVATED, 2, 2, "elected")}


@pytest.mark.parametrize(
    ("before", "reported", "after"),
    [
        pytest.param(BOOTING, STANDBY, (STANDBY, 1, "joined"), id="booting, stands by: announced"),
        pytest.param(BOOTING, FAILING, (FAILING, 0, ""), id="booting, fails: not announced"),
        pytest.param(STANDBY, FAILING, (FAILING, 0, ""), id="a standby fails: not announced"),
        pytest.param(FAILING, STANDBY, (STANDBY, 0, ""), id="failing steps down: not announced"),
    ],
)
def test_what_a_report_other_than_activated_does_to_one_who_does_not_hold(
    before: Status, reported: Status, after: tuple[Status, int, str]
) -> None:
    r = report(resource(paris=holder(), london=endpoint(status=before)), "london", reported)
    e = r.endpoints["london"]
    assert (e.status, e.sequence, e.reason) == after
    assert r.holder == "paris"


def test_who_recovers_beside_a_holder_says_standby_again() -> None:
    london = waiting(status=FAILING, reported=FAILING)
    r = report(resource(paris=holder(), london=london), "london", ACTIVATED)
    assert state(r)["london"] == (STANDBY, 2, 1, "recovered")


def test_who_recovers_alone_becomes_the_holder_without_a_standby_before() -> None:
    r = report(resource(paris=endpoint(status=FAILING, reported=FAILING, sequence=3)), "paris", ACTIVATED)
    assert state(r)["paris"] == (ACTIVATED, 4, 1, "elected")


def test_a_heartbeat_changes_only_what_was_reported_and_the_lease() -> None:
    before = resource(paris=holder(lease_seconds=30, lease_expires_at=NOW + 5_000))
    after = report(before, "paris", ACTIVATED)
    expected = replace(before.endpoints["paris"], reported_at=NOW, lease_expires_at=NOW + 30_000)
    assert after.endpoints == {"paris": expected}


@pytest.mark.parametrize(
    ("status", "at", "accepted"),
    [
        pytest.param(ACTIVATED, NOW + 1, True, id="newer"),
        pytest.param(STANDBY, NOW - 1, False, id="older"),
        pytest.param(STANDBY, NOW, False, id="the same again"),
        pytest.param(FAILING, NOW, True, id="same moment, graver"),
        pytest.param(ACTIVATED, NOW, False, id="same moment, milder"),
    ],
)
def test_only_a_newer_or_graver_report_is_accepted(status: Status, at: int, accepted: bool) -> None:
    before = resource(paris=endpoint(status=STANDBY, reported=STANDBY, reported_at=NOW))
    after = election.report(before, "paris", status, at, NOW + 1)
    assert (after != before) is accepted


def test_a_late_duplicate_does_not_revive_a_lease() -> None:
    before = resource(paris=endpoint(lease_seconds=10, reported=STANDBY, reported_at=NOW - 60_000))
    after = report(before, "paris", ACTIVATED, at=NOW - 20_000)
    assert after.endpoints["paris"].lease_expires_at == NOW - 10_000
    assert after.holder is None


@pytest.mark.parametrize("status", [STANDBY, FAILING])
def test_only_activated_renews_a_lease(status: Status) -> None:
    after = report(resource(it=waiting(lease_seconds=10, lease_expires_at=NOW + 5)), "it", status)
    assert after.endpoints["it"].lease_expires_at == NOW + 5


def test_a_duplicate_from_a_host_whose_clock_is_ahead_gains_no_lease_later() -> None:
    before = report(resource(it=endpoint(lease_seconds=10)), "it", ACTIVATED, at=NOW + 30_000)
    assert election.report(before, "it", ACTIVATED, NOW + 30_000, NOW + 9_000) == before


def test_a_host_whose_clock_is_ahead_gains_no_lease() -> None:
    after = report(resource(paris=endpoint(lease_seconds=10)), "paris", ACTIVATED, at=NOW + 30_000)
    assert after.endpoints["paris"].lease_expires_at == NOW + 10_000


@pytest.mark.parametrize(
    ("name", "at", "code"),
    [
        pytest.param("nobody", NOW, "unknown_endpoint", id="no entry: an event never creates one"),
        pytest.param("leaving", NOW, "unknown_endpoint", id="being deleted"),
        pytest.param("paris", NOW + 60_001, "reported_in_future", id="more than a minute ahead"),
    ],
)
def test_a_report_that_can_never_be_applied_is_rejected(name: str, at: int, code: str) -> None:
    before = resource(paris=endpoint(), leaving=endpoint(deleting=True))
    with pytest.raises(Rejected) as rejected:
        report(before, name, ACTIVATED, at=at)
    assert rejected.value.code == code


def test_a_report_from_the_future_is_told_how_far_it_is_ahead() -> None:
    with pytest.raises(Rejected) as rejected:
        report(resource(it=waiting()), "it", STANDBY, NOW + 60_001)
    said = f"reported_at {NOW + 60_001} is 60001 ms ahead of us, at most 60000 are accepted: set the host's clock"
    assert str(rejected.value) == said


def test_a_report_a_minute_ahead_is_accepted() -> None:
    assert report(resource(paris=endpoint()), "paris", ACTIVATED, at=NOW + 60_000).holder == "paris"


# elect


def test_the_best_ready_endpoint_wins_by_priority_then_age_then_id() -> None:
    r = resource(
        young=endpoint(reported=ACTIVATED, joined=3),
        b_old=endpoint(reported=ACTIVATED, joined=2),
        a_old=endpoint(reported=ACTIVATED, joined=2),
        failing=endpoint(reported=FAILING, priority=9),
        leaving=endpoint(reported=ACTIVATED, priority=9, deleting=True),
    )
    assert election.elect(r, NOW).holder == "a_old"
    r.endpoints["young"] = replace(r.endpoints["young"], priority=1)
    assert election.elect(r, NOW).holder == "young"


def test_a_ready_holder_stays_though_a_better_one_came() -> None:
    r = resource(paris=holder(), london=waiting(priority=5))
    assert election.elect(r, NOW) == r


def test_a_lease_ends_at_its_moment_not_before() -> None:
    r = resource(paris=holder(lease_expires_at=NOW), london=waiting())
    assert election.elect(r, NOW - 1) == r
    ended = election.elect(r, NOW)
    assert state(ended) == {"paris": (FAILING, 2, 1, "lease_expired"), "london": (ACTIVATED, 2, 2, "elected")}


def test_a_standby_whose_lease_ends_fails_in_silence() -> None:
    r = election.elect(resource(paris=holder(), london=waiting(lease_expires_at=NOW)), NOW)
    assert state(r)["london"] == (FAILING, 1, 1, "")


def test_nobody_ready_nobody_elected_and_the_epoch_stays() -> None:
    r = report(resource(paris=holder(epoch=7)), "paris", FAILING)
    assert (r.holder, r.epoch) == (None, 7)


# failover


def test_failover_hands_over_and_both_sides_say_so() -> None:
    r = election.failover(resource(paris=holder(), london=waiting()), "paris", None, "cmd", NOW)
    assert state(r) == {"paris": (STANDBY, 2, 1, "failover"), "london": (ACTIVATED, 2, 2, "failover")}
    assert (r.holder, r.epoch, r.commands) == ("london", 2, ("cmd",))


def test_a_repeated_failover_is_done_already() -> None:
    once = election.failover(resource(paris=holder(), london=waiting()), "paris", None, "cmd", NOW)
    assert election.failover(once, "paris", None, "cmd", NOW) == once


def test_failover_to_the_named_one_even_if_another_is_better() -> None:
    r = resource(paris=holder(), london=waiting(), rome=waiting(priority=9))
    assert election.failover(r, "paris", "london", "cmd", NOW).holder == "london"


@pytest.mark.parametrize(
    ("name", "to", "message"),
    [
        pytest.param("london", None, "this node is not master of this endpoint", id="a standby"),
        pytest.param("paris", "rome", "rome is not another endpoint", id="to one that fails"),
        pytest.param("paris", "paris", "paris is not another endpoint", id="to itself"),
    ],
)
def test_failover_refused(name: str, to: str | None, message: str) -> None:
    r = resource(paris=holder(), london=waiting(), rome=endpoint(reported=FAILING))
    with pytest.raises(Conflict, match=message):
        election.failover(r, name, to, "cmd", NOW)


def test_failover_of_one_alone_is_refused() -> None:
    with pytest.raises(Conflict, match="no other nodes are listening"):
        election.failover(resource(paris=holder(), london=endpoint()), "paris", None, "cmd", NOW)


# register, delete


def test_registering_elects_nobody() -> None:
    r = election.register(resource(), "paris", endpoint())
    assert (r.holder, state(r)) == (None, {"paris": (BOOTING, 0, 0, "")})


def test_the_same_host_twice_is_refused_unless_the_first_is_leaving() -> None:
    with pytest.raises(Conflict, match="already exists on that host"):
        election.register(resource(paris=endpoint(host="a")), "other", endpoint(host="a"))
    r = election.register(resource(paris=endpoint(host="a", deleting=True)), "other", endpoint(host="a"))
    assert "other" in r.endpoints


def test_hosts_without_a_name_are_not_the_same_host() -> None:
    assert "other" in election.register(resource(paris=endpoint()), "other", endpoint()).endpoints


def test_the_65th_endpoint_of_a_resource_is_refused() -> None:
    r = resource(**{f"e{i}": endpoint() for i in range(63)})
    r = election.register(r, "e63", endpoint())
    with pytest.raises(Conflict, match="64"):
        election.register(r, "e64", endpoint())


def test_deleting_the_holder_tells_its_receiver_first() -> None:
    r = election.delete(resource(paris=holder(), london=waiting()), "paris", NOW)
    assert state(r) == {"paris": (STANDBY, 2, 1, "deleted"), "london": (ACTIVATED, 2, 2, "elected")}
    assert election.drop_delivered(r) == r
    told = replace(r.endpoints["paris"], delivered_sequence=2)
    assert election.drop_delivered(replace(r, endpoints={**r.endpoints, "paris": told})).endpoints.keys() == {"london"}


def test_deleting_one_that_is_still_believed_active_keeps_it_until_told() -> None:
    demoted = holder(status=STANDBY, sequence=2)
    r = election.delete(resource(paris=demoted, london=waiting()), "paris", NOW)
    assert r.endpoints["paris"].deleting and r.endpoints["paris"].sequence == 2


@pytest.mark.parametrize("e", [endpoint(), waiting(), waiting(status=FAILING, sequence=2)])
def test_deleting_one_nobody_believes_active_sends_nothing(e: Endpoint) -> None:
    assert election.delete(resource(paris=e), "paris", NOW).endpoints == {}


def test_deleting_by_force_drops_it_and_elects() -> None:
    r = election.delete(resource(paris=holder(), london=waiting()), "paris", NOW, force=True)
    assert state(r) == {"london": (ACTIVATED, 2, 2, "elected")}


def test_deleting_the_last_keeps_the_epoch() -> None:
    r = election.delete(resource(paris=holder(epoch=7)), "paris", NOW, force=True)
    assert (r.endpoints, r.epoch) == ({}, 7)


# due and claim


@pytest.mark.parametrize(
    ("e", "at"),
    [
        pytest.param(waiting(), NEVER, id="a standby is never refreshed"),
        pytest.param(waiting(sequence=2, next_attempt_at=NOW + 5), NOW + 5, id="owed"),
        pytest.param(holder(), NOW - 10_000 + REFRESH, id="the holder's refresh"),
        pytest.param(holder(next_attempt_at=NOW + REFRESH * 2), NOW + REFRESH * 2, id="a failed refresh waits"),
        pytest.param(waiting(sequence=2, claim=Claim("t", NOW + 9, 2)), NOW + 9, id="not before the claim ends"),
        pytest.param(endpoint(status=FAILING), NEVER, id="failing and never announced"),
    ],
)
def test_when_something_is_due(e: Endpoint, at: int) -> None:
    assert election.due(resource(it=e), "it", REFRESH) == at


@pytest.mark.parametrize("until", [NOW + 700, NEVER])
def test_the_new_holder_waits_while_another_is_believed_active(until: int) -> None:
    r = resource(paris=holder(status=STANDBY, sequence=2, believed_until=until), london=holder(sequence=2, epoch=2))
    assert election.due(r, "london", REFRESH) == until


def claim(r: Resource, now: int = NOW) -> Resource:
    return election.claim_due(r, now, token="t", jitter=0.5, refresh_ms=REFRESH, handover_ms=1000)


def test_a_handover_claims_the_standby_first_and_the_activated_a_second_later() -> None:
    r = report(resource(paris=holder(), london=waiting()), "paris", FAILING)
    r = claim(r)
    assert r.endpoints["paris"].claim == Claim("t", NOW + 15_000, 2)
    assert r.endpoints["paris"].believed_until == NOW + 1000
    assert r.endpoints["london"].claim is None
    assert claim(r, NOW + 999).endpoints["london"].claim is None
    assert claim(r, NOW + 1000).endpoints["london"].claim == Claim("t", NOW + 16_000, 2)


@pytest.mark.parametrize("order", [("paris", "london"), ("london", "paris")])
def test_without_a_handover_timeout_both_sides_are_claimed_together(order: tuple[str, str]) -> None:
    entries = {"paris": holder(), "london": waiting()}
    r = report(resource(**{name: entries[name] for name in order}), "paris", FAILING)
    r = election.claim_due(r, NOW, token="t", jitter=0.5, refresh_ms=REFRESH, handover_ms=0)
    assert [e.claim for e in r.endpoints.values()] == [Claim("t", NOW + 15_000, 2)] * 2


def test_a_repeated_standby_does_not_extend_the_wait() -> None:
    paris = holder(status=STANDBY, sequence=2, believed_until=NOW + 300, attempt=1)
    r = claim(resource(paris=paris, london=waiting(status=ACTIVATED, sequence=2)))
    assert r.endpoints["paris"].believed_until == NOW + 300


@pytest.mark.parametrize(("attempt", "wait"), [(0, 750), (1, 1_500), (2, 3_000), (3, 6_000)])
def test_a_claim_counts_the_attempt_and_plans_the_next_in_case_nobody_comes_back(attempt: int, wait: int) -> None:
    e = claim(resource(it=waiting(sequence=2, attempt=attempt))).endpoints["it"]
    assert (e.attempt, e.next_attempt_at) == (attempt + 1, NOW + wait)


def test_a_new_status_starts_counting_attempts_anew() -> None:
    e = report(resource(it=holder(attempt=5)), "it", STANDBY).endpoints["it"]
    assert (e.attempt, e.next_attempt_at, e.announced_at, e.failure) == (0, NOW, NOW, "")


def test_bytes_leave_seven_seconds_before_the_end_of_a_claim_of_fifteen() -> None:
    assert (election.CLAIM_MS, election.SEND_MS) == (15_000, 7_000)


def test_an_activated_is_believed_from_its_claim_on() -> None:
    r = claim(election.elect(resource(it=endpoint(reported=ACTIVATED)), NOW))
    assert r.endpoints["it"].believed_until == NEVER


def test_a_live_claim_is_left_to_its_owner() -> None:
    r = resource(it=waiting(sequence=2, claim=Claim("theirs", NOW + 1, 2)))
    assert claim(r) == r
    assert claim(r, NOW + 1).endpoints["it"].claim == Claim("t", NOW + 15_001, 2)


@pytest.mark.parametrize(
    ("attempt", "jitter", "milliseconds"),
    [(1, 0.0, 500), (1, 1.0, 1000), (2, 1.0, 2000), (10, 1.0, 512_000), (11, 1.0, 600_000), (99, 0.0, 300_000)],
)
def test_backoff_doubles_up_to_ten_minutes(attempt: int, jitter: float, milliseconds: int) -> None:
    assert election.backoff(attempt, jitter) == milliseconds


# outcome


def outcome(e: Endpoint, kind: Kind, *, status: Status = STANDBY, sequence: int = 2, **more: object) -> Endpoint:
    o = Outcome("it", "t", sequence, status, Result(kind, "why", **more))  # type: ignore[arg-type]
    return election.outcome(resource(it=e), o, NOW, 1.0).endpoints["it"]


CLAIMED = waiting(sequence=2, attempt=3, claim=Claim("t", NOW + 9000, 2), believed_until=NOW + 500)


def test_a_2xx_delivers() -> None:
    e = outcome(CLAIMED, ResultKind.DELIVERED)
    assert (e.claim, e.pending, e.attempt, e.delivered_at, e.believed_until) == (None, False, 0, NOW, None)


def test_a_2xx_for_an_activated_leaves_it_believed() -> None:
    e = outcome(holder(sequence=2, claim=Claim("t", NOW, 2)), ResultKind.DELIVERED, status=ACTIVATED)
    assert (e.pending, e.believed_until) == (False, NEVER)


def test_a_2xx_for_an_older_status_leaves_the_newer_one_owed() -> None:
    e = outcome(replace(CLAIMED, sequence=3), ResultKind.DELIVERED)
    assert (e.pending, e.delivered_sequence, e.attempt, e.believed_until) == (True, 2, 3, None)


def test_a_failure_waits_for_the_backoff() -> None:
    e = outcome(CLAIMED, ResultKind.NOT_SENT)
    assert (e.claim, e.pending, e.next_attempt_at, e.failure) == (None, True, NOW + 4000, "not_sent why")


def test_a_failure_of_an_older_status_does_not_delay_the_newer_one() -> None:
    newer = replace(CLAIMED, sequence=3, next_attempt_at=NOW)
    assert outcome(newer, ResultKind.NOT_SENT).next_attempt_at == NOW


@pytest.mark.parametrize(
    ("status_code", "retry_after", "wait"),
    [
        pytest.param(429, 30, 30_000, id="429 says when"),
        pytest.param(503, 900, 600_000, id="at most ten minutes"),
        pytest.param(503, 1, 4_000, id="never sooner than the backoff"),
        pytest.param(500, 30, 4_000, id="500 has no say"),
        pytest.param(429, None, 4_000, id="429 without a word"),
    ],
)
def test_retry_after(status_code: int, retry_after: int | None, wait: int) -> None:
    e = outcome(CLAIMED, ResultKind.ANSWERED, status_code=status_code, retry_after_seconds=retry_after)
    assert e.next_attempt_at == NOW + wait


def test_too_late_to_send_takes_the_attempt_back_whatever_its_number() -> None:
    assert [outcome(replace(CLAIMED, attempt=n), ResultKind.TOO_LATE).attempt for n in (1, 2, 3, 4)] == [0, 1, 2, 3]


def test_too_late_to_send_is_no_attempt() -> None:
    e = outcome(CLAIMED, ResultKind.TOO_LATE)
    assert (e.claim, e.attempt, e.next_attempt_at, e.failure) == (None, 2, NOW + 1000, "")


def test_an_outcome_under_another_token_is_nobodys() -> None:
    r = resource(it=replace(CLAIMED, claim=Claim("theirs", NOW, 2)))
    o = Outcome("it", "t", 2, STANDBY, Result(ResultKind.DELIVERED))
    assert election.outcome(r, o, NOW, 0.0) == r
    assert election.outcome(resource(), o, NOW, 0.0) == resource()


def test_a_delivery_that_repeats_a_delivered_status_is_a_refresh() -> None:
    r = claim(resource(it=holder(delivered_at=NOW - REFRESH)))
    (d,) = election.deliveries(r, "t")
    assert (d.status, d.reason, d.sequence, d.refreshed_at) == (ACTIVATED, "refresh", 1, NOW - REFRESH)
    assert election.deliveries(r, "another") == []


# When to wake up


def test_the_end_of_a_candidates_lease_is_due_and_of_no_one_elses() -> None:
    r = resource(
        paris=holder(lease_expires_at=NOW + 50_000),
        london=waiting(lease_expires_at=NOW + 20_000),
        rome=waiting(status=FAILING, lease_expires_at=NOW + 1_000),
        oslo=waiting(reported=STANDBY, lease_expires_at=NOW + 2_000),
    )
    assert election.next_due(r, REFRESH) == NOW + 20_000
    assert election.next_due(resource(), REFRESH) == NEVER


@pytest.mark.parametrize(
    ("due_at", "carried", "after", "owes"),
    [
        pytest.param(None, None, NOW + 30_000, True, id="absent: set"),
        pytest.param(NOW, None, NOW + 30_000, True, id="past: set"),
        pytest.param(NOW + 40_000, None, NOW + 30_000, True, id="too late: lowered"),
        pytest.param(NOW + 10_000, None, NOW + 10_000, False, id="earlier than needed: left to its message"),
        pytest.param(NOW + 10_000, NOW + 10_000, NOW + 30_000, True, id="raised by the message that carries it"),
        pytest.param(NOW + 10_000, NOW + 9_999, NOW + 10_000, False, id="not by an old message"),
        pytest.param(NOW + 30_000, NOW + 30_000, NOW + 30_000, True, id="woken early: once more"),
        pytest.param(NOW + 30_000, None, NOW + 30_000, False, id="right already: whoever set it has put the message"),
    ],
)
def test_due_at_is_the_bookkeeping(due_at: int | None, carried: int | None, after: int, owes: bool) -> None:
    r = replace(resource(it=waiting(sequence=2, next_attempt_at=NOW + 30_000)), due_at=due_at)
    kept, owed = election.keep_due_at(r, NOW, carried=carried, refresh_ms=REFRESH)
    assert (kept.due_at, owed) == (after, owes)


def test_what_is_due_in_a_minute_or_later_is_the_sweeps() -> None:
    for ahead, owes in ((59_999, True), (60_000, False)):
        r = resource(it=waiting(sequence=2, next_attempt_at=NOW + ahead))
        assert election.keep_due_at(r, NOW, carried=None, refresh_ms=REFRESH)[1] is owes


def test_nothing_due_takes_the_item_out_of_the_index_when_its_message_came() -> None:
    r = replace(resource(it=waiting()), due_at=NOW + 5)
    assert election.keep_due_at(r, NOW, carried=NOW + 5, refresh_ms=REFRESH) == (replace(r, due_at=None), False)


# The audit


def test_every_change_of_status_is_told_with_its_reason() -> None:
    down = waiting(status=FAILING, reported=FAILING)
    before = resource(paris=holder(), london=waiting(), rome=waiting(lease_expires_at=NOW), oslo=waiting(), bern=down)
    after = report(before, "paris", FAILING)
    after = report(after, "oslo", FAILING)
    after = report(after, "bern", STANDBY)
    assert {(c.endpoint_id, c.before, c.after, c.reason, c.sequence) for c in election.changes(before, after)} == {
        ("paris", ACTIVATED, FAILING, "failing", 2),
        ("london", STANDBY, ACTIVATED, "elected", 2),
        ("rome", STANDBY, FAILING, "lease_expired", 1),
        ("oslo", STANDBY, FAILING, "failing", 1),
        ("bern", FAILING, STANDBY, "demoted", 1),
    }


def test_a_change_without_an_announcement_is_known_by_its_number_not_by_its_object() -> None:
    before, after = (resource(it=waiting(sequence=int("1000"), status=s, reason="joined")) for s in (STANDBY, FAILING))
    assert [c.reason for c in election.changes(before, after)] == ["lease_expired"]


# What is read from the table is equal to what was written, and none of it is the same object


def stored(r: Resource) -> Resource:
    return lock.from_item(json.loads(json.dumps(lock.to_item(r))))


def test_a_stored_holder_is_still_the_holder() -> None:
    r = stored(resource(paris=holder(), london=waiting()))
    after = election.failover(r, "paris", None, "request-1", NOW)
    assert (after.holder, after.endpoints["paris"].status) == ("london", STANDBY)
    assert election.failover(stored(after), "paris", None, "request-1", NOW).version == after.version
    assert election.due(r, "paris", REFRESH) == NOW - 10_000 + REFRESH


def test_a_stored_holder_that_is_forced_out_leaves_the_lock_to_the_next() -> None:
    after = election.delete(stored(resource(paris=holder(), london=waiting())), "paris", NOW, force=True)
    assert (after.holder, list(after.endpoints)) == ("london", ["london"])


def test_a_stored_host_is_still_the_same_host() -> None:
    r = stored(resource(paris=endpoint(host="a.example")))
    with pytest.raises(Conflict, match="already exists on that host"):
        election.register(r, "london", endpoint(host="".join(["a.", "example"])))


def test_a_stored_claim_is_still_its_claimers() -> None:
    r = resource(paris=holder(sequence=1_000, claim=Claim("token-1", NOW + 15_000, 1_000)))
    (delivery,) = election.deliveries(stored(r), "token-1")
    assert delivery.sequence == 1_000
    told = Outcome("paris", "token-1", int("1000"), ACTIVATED, Result(ResultKind.DELIVERED, status_code=204))
    assert election.outcome(stored(r), told, NOW, 0.5).endpoints["paris"].delivered_at == NOW


@pytest.mark.parametrize("token", ["a token less than the claim's", "z: one that is greater"])
def test_an_outcome_of_another_claim_is_nobodys(token: str) -> None:
    r = resource(paris=holder(claim=Claim("m", NOW + 15_000, 1)))
    told = Outcome("paris", token, 1, ACTIVATED, Result(ResultKind.DELIVERED, status_code=204))
    assert election.outcome(r, told, NOW, 0.5) == r


@pytest.mark.parametrize(
    ("handover_ms", "believed_until", "claimed"), [(1_000, NOW + 1_000, {"paris"}), (0, NOW, None)]
)
def test_the_old_holder_is_claimed_before_the_new_one(
    handover_ms: int, believed_until: int, claimed: set[str] | None
) -> None:
    old = holder(status=STANDBY, reported=STANDBY, sequence=2, next_attempt_at=NOW)
    new = waiting(status=ACTIVATED, epoch=2, sequence=2, next_attempt_at=NOW)
    # The new one comes first in the item.
    r = stored(replace(resource(london=new, paris=old), holder="london"))
    r = election.claim_due(r, NOW, token="token", jitter=0.5, refresh_ms=REFRESH, handover_ms=handover_ms)
    assert r.endpoints["paris"].believed_until == believed_until
    assert {d.endpoint_id for d in election.deliveries(r, "token")} == (claimed or {"paris", "london"})


@pytest.mark.parametrize(("first", "second"), [("request-b", "request-a"), ("request-a", "request-b")])
def test_only_the_very_same_command_is_done_already(first: str, second: str) -> None:
    r = election.failover(resource(paris=holder(), london=waiting()), "paris", None, first, NOW)
    assert election.failover(r, "london", None, second, NOW).holder == "paris"


def test_a_command_is_known_though_two_others_came_after_it() -> None:
    r = resource(paris=holder(), london=waiting())
    for command, of in (("first", "paris"), ("second", "london"), ("third", "paris")):
        r = election.failover(r, of, None, command, NOW)
    assert r.commands == ("third", "second", "first")
    for command in r.commands:
        assert election.failover(stored(r), "london", None, command, NOW).epoch == r.epoch
    assert election.failover(r, "london", None, "fourth", NOW).commands == ("fourth", "third", "second")


@pytest.mark.parametrize(("low", "high"), [(1, 5), (-5, -1), (-1, 0), (0, 1)])
def test_the_higher_priority_wins_though_it_joined_later(low: int, high: int) -> None:
    r = resource(paris=waiting(priority=low, joined=NOW - 2000), london=waiting(priority=high, joined=NOW - 1000))
    assert election.elect(r, NOW).holder == "london"


def test_a_due_at_that_is_past_is_raised_by_whoever_comes() -> None:
    r = replace(resource(paris=holder()), due_at=NOW - 1)
    kept, owes = election.keep_due_at(r, NOW, carried=None, refresh_ms=REFRESH)
    assert (kept.due_at, owes) == (NOW - 10_000 + REFRESH, False)


def test_a_report_from_far_ahead_is_told_how_far() -> None:
    with pytest.raises(Rejected, match=f"is {10**13 - NOW} ms ahead of us"):
        report(resource(paris=endpoint()), "paris", ACTIVATED, at=10**13)


# freeze, change, redeliver


def frozen(**endpoints: Endpoint) -> Resource:
    return election.freeze(resource(**endpoints))


@pytest.mark.parametrize("status", [STANDBY, FAILING])
def test_a_frozen_holder_stays_whatever_it_reports(status: Status) -> None:
    r = report(frozen(paris=holder(), london=waiting()), "paris", status)
    assert (r.holder, r.epoch, r.endpoints["paris"].status) == ("paris", 1, ACTIVATED)
    assert r.endpoints["paris"].reported is status
    assert not r.endpoints["paris"].pending, "nobody is told anything"


def test_a_frozen_holders_lease_does_not_end_and_wakes_nobody() -> None:
    r = frozen(paris=holder(lease_expires_at=NOW - 1), london=waiting(lease_expires_at=NOW - 1))
    r = election.elect(r, NOW)
    assert (r.holder, r.endpoints["paris"].status) == ("paris", ACTIVATED)
    assert r.endpoints["london"].status is FAILING, "the others' leases end as always"
    assert election.next_due(r, REFRESH) == NOW - 10_000 + REFRESH


def test_nobody_can_be_frozen_in_and_nobody_be_frozen_twice() -> None:
    with pytest.raises(Conflict, match="nothing to keep"):
        election.freeze(resource(paris=waiting()))
    r = frozen(paris=holder())
    assert r.frozen and election.freeze(r) == r


@pytest.mark.parametrize(
    ("said", "became", "reason"),
    [
        pytest.param({"reported": STANDBY}, STANDBY, "demoted", id="stood by"),
        pytest.param({"reported": FAILING}, FAILING, "failing", id="failed"),
        pytest.param({"lease_expires_at": NOW}, FAILING, "lease_expired", id="fell silent"),
    ],
)
def test_unfreezing_makes_up_for_what_the_holder_said(said: dict[str, object], became: Status, reason: str) -> None:
    r = election.unfreeze(frozen(paris=holder(**said), london=waiting()), NOW)
    assert (r.frozen, r.holder, r.epoch) == (False, "london", 2)
    assert state(r) == {"paris": (became, 2, 1, reason), "london": (ACTIVATED, 2, 2, "elected")}


def test_unfreezing_a_holder_that_is_well_or_nobody_changes_nothing_else() -> None:
    well = resource(paris=holder(lease_expires_at=NOW + 1), london=waiting())
    assert election.unfreeze(election.freeze(well), NOW) == well == election.unfreeze(well, NOW)
    nobody = resource(paris=waiting(reported=STANDBY))
    assert election.unfreeze(nobody, NOW) == nobody


@pytest.mark.parametrize(("said", "became"), [(ACTIVATED, STANDBY), (STANDBY, STANDBY), (FAILING, FAILING)])
def test_a_failover_by_hand_moves_a_frozen_lock_which_stays_frozen(said: Status, became: Status) -> None:
    r = election.failover(frozen(paris=holder(reported=said), london=waiting()), "paris", None, "c", NOW)
    assert (r.holder, r.frozen) == ("london", True)
    assert state(r)["paris"] == (became, 2, 1, "failover")


@pytest.mark.parametrize("force", [False, True])
def test_the_frozen_holder_cannot_be_deleted_and_the_others_can(force: bool) -> None:
    r = frozen(paris=holder(), london=waiting())
    with pytest.raises(Conflict, match="frozen"):
        election.delete(r, "paris", NOW, force=force)
    assert set(election.delete(r, "london", NOW, force=force).endpoints) == {"paris"}


def change(r: Resource, name: str = "paris", **changes: object) -> Endpoint:
    e = r.endpoints[name]
    as_it_is = {"revision": e.revision, "priority": e.priority, "lease_seconds": e.lease_seconds}
    return election.change(r, name, NOW, **{**as_it_is, **changes}).endpoints[name]  # type: ignore[arg-type]


def test_a_change_goes_on_to_the_next_revision_and_no_other() -> None:
    r = resource(paris=holder(revision=3))
    assert change(r, priority=7) == replace(r.endpoints["paris"], revision=4, priority=7)
    for other in (2, 4):
        with pytest.raises(Conflict, match="at the same moment"):
            change(r, revision=other)


def test_a_priority_counts_at_the_next_election_only() -> None:
    r = resource(paris=holder(), london=waiting())
    r = election.change(r, "london", NOW, revision=1, priority=9, lease_seconds=None)
    assert election.elect(r, NOW).holder == "paris"


@pytest.mark.parametrize(
    ("before", "lease_seconds", "after"),
    [
        pytest.param({}, 20, NOW + 20_000, id="a first lease runs from now"),
        pytest.param({"lease_seconds": 60, "lease_expires_at": NOW + 1}, 20, NOW + 20_000, id="a shorter one, too"),
        pytest.param({"lease_seconds": 20, "lease_expires_at": NOW + 1}, None, None, id="no lease any more"),
        pytest.param({"lease_seconds": 20, "lease_expires_at": NOW + 1}, 20, NOW + 1, id="the same one runs on"),
        pytest.param({"lease_seconds": 20, "lease_expires_at": NOW}, 60, NOW, id="an ended one stays ended"),
        pytest.param({"lease_seconds": 20, "lease_expires_at": NOW}, None, NOW, id="even without a lease"),
        pytest.param({"reported": FAILING}, 20, None, id="who is not ready gets none"),
    ],
)
def test_a_changed_lease(before: dict[str, object], lease_seconds: int | None, after: int | None) -> None:
    changed = change(resource(paris=waiting(**before)), lease_seconds=lease_seconds)
    assert (changed.lease_seconds, changed.lease_expires_at) == (lease_seconds, after)


def test_a_report_takes_away_the_end_of_a_lease_that_is_no_more() -> None:
    r = report(resource(paris=waiting(status=FAILING, lease_expires_at=NOW - 1)), "paris", ACTIVATED)
    assert (r.holder, r.endpoints["paris"].lease_expires_at) == ("paris", None)


@pytest.mark.parametrize(
    "e",
    [
        pytest.param(holder(), id="the holder"),
        pytest.param(waiting(sequence=2), id="owed"),
        pytest.param(waiting(requested_at=NOW), id="asked for once more"),
        pytest.param(waiting(believed_until=NOW - 1), id="believed active"),
    ],
)
def test_a_url_changes_only_when_the_old_receiver_has_heard_the_last_word(e: Endpoint) -> None:
    r = resource(paris=e)
    with pytest.raises(Conflict, match="fail over first"):
        change(r, moves=True)
    assert change(r).revision == 2, "anything else may change"
    for quiet in (waiting(), endpoint()):
        assert change(resource(paris=quiet), moves=True).revision == 2


def test_a_status_that_is_asked_for_is_owed_again_at_once_and_is_the_same() -> None:
    for e in (holder(), waiting()):
        r = election.redeliver(resource(paris=e), "paris", NOW)
        assert state(r) == state(resource(paris=e))
        asked = r.endpoints["paris"]
        assert (asked.pending, asked.pending_since, election.due(r, "paris", REFRESH)) == (True, NOW, NOW)
        told = claim(r)
        (delivery,) = election.deliveries(told, "t")
        assert (delivery.sequence, delivery.reason, delivery.refreshed_at) == (1, e.reason, None)
        o = Outcome("paris", "t", 1, delivery.status, Result(ResultKind.DELIVERED))
        assert not election.outcome(told, o, NOW + 5, 0.0).endpoints["paris"].pending


def test_an_attempt_from_before_does_not_settle_what_is_asked_for_now() -> None:
    r = election.redeliver(claim(resource(paris=holder(delivered_sequence=0))), "paris", NOW + 1)
    assert election.due(r, "paris", REFRESH) == NOW + 15_000, "its claim still keeps others away"
    o = Outcome("paris", "t", 1, ACTIVATED, Result(ResultKind.DELIVERED))
    e = election.outcome(r, o, NOW + 2, 0.0).endpoints["paris"]
    assert (e.delivered_sequence, e.pending, e.next_attempt_at, e.claim) == (1, True, NOW + 2, None)


def test_what_is_owed_anyway_is_owed_since_it_was_announced_and_tried_at_once() -> None:
    e = waiting(sequence=2, announced_at=NOW - 500, attempt=4, next_attempt_at=NOW + 9_000, failure="not_sent dns")
    r = election.redeliver(resource(paris=e), "paris", NOW)
    assert r.endpoints["paris"] == replace(e, requested_at=NOW, next_attempt_at=NOW)
    assert r.endpoints["paris"].pending_since == NOW - 500


def test_a_new_status_supersedes_what_was_asked_for() -> None:
    r = election.redeliver(resource(paris=holder()), "paris", NOW)
    assert report(r, "paris", FAILING).endpoints["paris"].requested_at == 0


def test_of_nothing_there_is_nothing_to_tell_once_more() -> None:
    with pytest.raises(Conflict, match="nothing has been announced"):
        election.redeliver(resource(paris=endpoint()), "paris", NOW)


def test_a_stored_freeze_and_a_stored_question_come_back() -> None:
    r = election.redeliver(frozen(paris=holder()), "paris", NOW)
    assert stored(r) == r


def test_only_the_frozen_holder_itself_is_kept_whatever_the_others_are_called() -> None:
    r = frozen(paris=holder(), zurich=waiting(lease_expires_at=NOW))
    assert election.elect(r, NOW).endpoints["zurich"].status is FAILING
    assert set(election.delete(r, "zurich", NOW).endpoints) == {"paris"}


def test_what_is_compared_with_a_stored_item_is_compared_by_value() -> None:
    big = 1_000
    r = stored(resource(paris=holder(sequence=big, delivered_sequence=big, revision=big, lease_seconds=big)))
    e = r.endpoints["paris"]
    changed = election.change(r, "paris", NOW, revision=int("1000"), priority=0, lease_seconds=int("1000"))
    assert changed.endpoints["paris"] == replace(e, revision=big + 1), "no new lease"
    unheard = replace(resource(paris=holder(believed_until=None)), holder="".join(("par", "is")))
    with pytest.raises(Conflict, match="fail over first"):
        change(unheard, moves=True)
    asked = stored(claim(election.redeliver(r, "paris", NOW)))
    o = Outcome("paris", "t", int("1000"), ACTIVATED, Result(ResultKind.DELIVERED))
    assert not election.outcome(asked, o, NOW + 1, 0.0).endpoints["paris"].pending
