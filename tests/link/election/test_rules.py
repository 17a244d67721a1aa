"""What a report, the end of a lease or an operator's command changes. There is no store and no clock."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from link.election import rules
from link.election.deliveries import deliveries, due, outcome
from link.election.state import NEVER, Claim, Endpoint, Observer, ReadyWhen, Reason, Resource, Status, Word
from link.election.wake_up import next_due
from link.errors import Conflict, NotFound, Rejected
from tests.support.entries import (
    ACTIVATED,
    BOOTING,
    FAILING,
    REFRESH_MS,
    STANDBY,
    announced,
    claim,
    endpoint,
    frozen,
    holder,
    outcome_of,
    report,
    resource,
    waiting,
)
from tests.support.ids import NOW

# report


def test_the_first_ready_endpoint_is_elected_with_epoch_1() -> None:
    r = report(resource(paris=endpoint()), "paris", ACTIVATED)
    assert (r.holder, r.epoch, announced(r)["paris"]) == ("paris", 1, (ACTIVATED, 1, 1, "elected"))


def test_the_second_joins_as_standby_with_the_current_epoch() -> None:
    r = report(resource(paris=holder(), london=endpoint()), "london", ACTIVATED)
    assert (r.holder, announced(r)["london"]) == ("paris", (STANDBY, 1, 1, "joined"))


@pytest.mark.parametrize(("status", "became", "reason"), [(STANDBY, STANDBY, "demoted"), (FAILING, FAILING, "failing")])
def test_a_holder_that_gives_up_is_succeeded_at_once(status: Status, became: Status, reason: str) -> None:
    r = report(resource(paris=holder(), london=waiting()), "paris", status)
    assert (r.holder, r.epoch) == ("london", 2)
    assert announced(r) == {"paris": (became, 2, 1, reason), "london": (ACTIVATED, 2, 2, "elected")}


@pytest.mark.parametrize(
    ("before", "reported", "after"),
    [
        pytest.param(BOOTING, STANDBY, (STANDBY, 1, "joined"), id="booting, on standby: announced"),
        pytest.param(BOOTING, FAILING, (FAILING, 0, ""), id="booting, fails: not announced"),
        pytest.param(STANDBY, FAILING, (FAILING, 0, ""), id="a standby fails: not announced"),
        pytest.param(FAILING, STANDBY, (STANDBY, 0, ""), id="failing, on standby: not announced"),
    ],
)
def test_standby_or_failing_from_an_endpoint_that_does_not_hold(
    before: Status, reported: Status, after: tuple[Status, int, str]
) -> None:
    r = report(resource(paris=holder(), london=endpoint(status=before)), "london", reported)
    e = r.endpoints["london"]
    assert (e.status, e.sequence, e.reason) == after
    assert r.holder == "paris"


def test_an_endpoint_that_recovers_beside_a_holder_is_announced_as_standby_again() -> None:
    london = waiting(status=FAILING, reported=FAILING)
    r = report(resource(paris=holder(), london=london), "london", ACTIVATED)
    assert announced(r)["london"] == (STANDBY, 2, 1, "recovered")


def test_an_endpoint_that_recovers_alone_becomes_the_holder_without_a_standby_before() -> None:
    r = report(resource(paris=endpoint(status=FAILING, reported=FAILING, sequence=3)), "paris", ACTIVATED)
    assert announced(r)["paris"] == (ACTIVATED, 4, 1, "elected")


def test_a_heartbeat_changes_only_what_was_reported_and_the_lease() -> None:
    before = resource(paris=holder(lease_seconds=30, lease_expires_at=NOW + 5_000))
    after = report(before, "paris", ACTIVATED)
    expected = replace(
        before.endpoints["paris"], words={Observer.HOST: Word(ACTIVATED, NOW)}, lease_expires_at=NOW + 30_000
    )
    assert after.endpoints == {"paris": expected}


@pytest.mark.parametrize(
    ("status", "at", "accepted"),
    [
        pytest.param(ACTIVATED, NOW + 1, True, id="newer"),
        pytest.param(STANDBY, NOW - 1, False, id="older"),
        pytest.param(STANDBY, NOW, False, id="the same again"),
        pytest.param(FAILING, NOW, True, id="same moment, more severe"),
        pytest.param(ACTIVATED, NOW, False, id="same moment, less severe"),
    ],
)
def test_only_a_newer_or_more_severe_report_is_accepted(status: Status, at: int, accepted: bool) -> None:
    before = resource(paris=endpoint(status=STANDBY, reported=STANDBY, reported_at=NOW))
    after = rules.report(before, "paris", status, at, NOW + 1)
    assert (after != before) is accepted


def test_a_late_duplicate_does_not_revive_a_lease() -> None:
    before = resource(paris=endpoint(lease_seconds=10, reported=STANDBY, reported_at=NOW - 60_000))
    after = report(before, "paris", ACTIVATED, at=NOW - 20_000)
    assert after.endpoints["paris"].lease_expires_at == NOW - 10_000
    assert after.holder is None


@pytest.mark.parametrize("status", [STANDBY, FAILING])
def test_only_activated_renews_a_lease(status: Status) -> None:
    after = report(resource(paris=waiting(lease_seconds=10, lease_expires_at=NOW + 5)), "paris", status)
    assert after.endpoints["paris"].lease_expires_at == NOW + 5


def test_a_duplicate_from_a_host_whose_clock_is_ahead_gains_no_lease_later() -> None:
    before = report(resource(paris=endpoint(lease_seconds=10)), "paris", ACTIVATED, at=NOW + 30_000)
    assert rules.report(before, "paris", ACTIVATED, NOW + 30_000, NOW + 9_000) == before


def test_a_host_whose_clock_is_ahead_gains_no_lease() -> None:
    after = report(resource(paris=endpoint(lease_seconds=10)), "paris", ACTIVATED, at=NOW + 30_000)
    assert after.endpoints["paris"].lease_expires_at == NOW + 10_000


@pytest.mark.parametrize(
    ("name", "at", "code"),
    [
        pytest.param("oslo", NOW, "unknown_endpoint", id="no entry: an event never creates one"),
        pytest.param("london", NOW, "unknown_endpoint", id="being deleted"),
        pytest.param("paris", NOW + 60_001, "reported_in_future", id="more than a minute ahead"),
    ],
)
def test_a_report_that_can_never_be_applied_is_rejected(name: str, at: int, code: str) -> None:
    before = resource(paris=endpoint(), london=endpoint(deleting=True))
    with pytest.raises(Rejected) as rejected:
        report(before, name, ACTIVATED, at=at)
    assert rejected.value.code == code


def test_a_report_from_the_future_is_rejected_with_how_far_it_is_ahead() -> None:
    with pytest.raises(Rejected) as rejected:
        report(resource(paris=waiting()), "paris", STANDBY, NOW + 60_001)
    assert str(rejected.value) == (
        f"reported_at {NOW + 60_001} is 60001 ms ahead of our clock, at most 60000 are accepted: set the host's clock"
    )


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
    assert rules.elect(r, NOW).holder == "a_old"
    r.endpoints["young"] = replace(r.endpoints["young"], priority=1)
    assert rules.elect(r, NOW).holder == "young"


@pytest.mark.parametrize(("low", "high"), [(1, 5), (-5, -1), (-1, 0), (0, 1)])
def test_the_higher_priority_wins_though_it_joined_later(low: int, high: int) -> None:
    r = resource(paris=waiting(priority=low, joined=NOW - 2000), london=waiting(priority=high, joined=NOW - 1000))
    assert rules.elect(r, NOW).holder == "london"


def test_a_ready_holder_stays_though_a_better_endpoint_joined() -> None:
    r = resource(paris=holder(), london=waiting(priority=5))
    assert rules.elect(r, NOW) == r


def test_a_lease_ends_at_its_moment_not_before() -> None:
    r = resource(paris=holder(lease_expires_at=NOW), london=waiting())
    assert rules.elect(r, NOW - 1) == r
    ended = rules.elect(r, NOW)
    assert announced(ended) == {"paris": (FAILING, 2, 1, "lease_expired"), "london": (ACTIVATED, 2, 2, "elected")}


def test_a_standby_whose_lease_ends_fails_without_an_announcement() -> None:
    r = rules.elect(resource(paris=holder(), london=waiting(lease_expires_at=NOW)), NOW)
    assert announced(r)["london"] == (FAILING, 1, 1, "")


def test_without_a_ready_endpoint_there_is_no_holder_and_the_epoch_stays() -> None:
    r = report(resource(paris=holder(epoch=7)), "paris", FAILING)
    assert (r.holder, r.epoch) == (None, 7)


# failover


def failover(item: Resource, name: str = "paris", *, to: str | None = None, command: str = "request-1") -> Resource:
    return rules.failover(item, name, NOW, to=to, command=command)


def test_a_failover_is_announced_to_both_sides() -> None:
    r = failover(resource(paris=holder(), london=waiting()))
    assert announced(r) == {"paris": (STANDBY, 2, 1, "failover"), "london": (ACTIVATED, 2, 2, "failover")}
    assert (r.holder, r.epoch, r.commands) == ("london", 2, ("request-1",))


def test_a_repeated_failover_changes_nothing() -> None:
    once = failover(resource(paris=holder(), london=waiting()))
    assert failover(once) == once


@pytest.mark.parametrize(("first", "second"), [("request-b", "request-a"), ("request-a", "request-b")])
def test_a_failover_under_another_request_id_is_not_a_repetition(first: str, second: str) -> None:
    r = failover(resource(paris=holder(), london=waiting()), command=first)
    assert failover(r, "london", command=second).holder == "paris"


def test_a_failover_is_recognised_as_repeated_even_after_two_others() -> None:
    r = resource(paris=holder(), london=waiting())
    for command, name in (("first", "paris"), ("second", "london"), ("third", "paris")):
        r = failover(r, name, command=command)
    assert r.commands == ("third", "second", "first")
    for command in r.commands:
        assert failover(r, "london", command=command) == r
    assert failover(r, "london", command="fourth").commands == ("fourth", "third", "second")


def test_failover_to_the_named_one_even_if_another_is_better() -> None:
    r = resource(paris=holder(), london=waiting(), rome=waiting(priority=9))
    assert failover(r, to="london").holder == "london"


@pytest.mark.parametrize(
    ("name", "to", "message"),
    [
        pytest.param("london", None, "this node is not master of this endpoint", id="a standby"),
        pytest.param("paris", "rome", "rome is not another endpoint", id="to one that fails"),
        pytest.param("paris", "paris", "paris is not another endpoint", id="to itself"),
    ],
)
def test_a_failover_that_is_refused(name: str, to: str | None, message: str) -> None:
    r = resource(paris=holder(), london=waiting(), rome=endpoint(reported=FAILING))
    with pytest.raises(Conflict, match=message):
        failover(r, name, to=to)


def test_failover_without_another_ready_endpoint_is_refused() -> None:
    with pytest.raises(Conflict, match="no other nodes are listening"):
        failover(resource(paris=holder(), london=endpoint()))


# register


def test_registering_elects_no_endpoint() -> None:
    r = rules.register(resource(), "paris", entry=endpoint())
    assert (r.holder, announced(r)) == (None, {"paris": (BOOTING, 0, 0, "")})


def test_the_same_host_twice_is_refused_unless_the_first_is_being_deleted() -> None:
    with pytest.raises(Conflict, match="already exists on that host"):
        rules.register(resource(paris=endpoint(host="a")), "london", entry=endpoint(host="a"))
    r = rules.register(resource(paris=endpoint(host="a", deleting=True)), "london", entry=endpoint(host="a"))
    assert "london" in r.endpoints


def test_hosts_without_a_name_are_not_the_same_host() -> None:
    assert "london" in rules.register(resource(paris=endpoint()), "london", entry=endpoint()).endpoints


def test_the_65th_endpoint_of_a_resource_is_refused() -> None:
    r = resource(**{f"e{i}": endpoint() for i in range(63)})
    r = rules.register(r, "e63", entry=endpoint())
    with pytest.raises(Conflict, match="64"):
        rules.register(r, "e64", entry=endpoint())


@pytest.mark.parametrize(
    ("there", "plugin", "allowed"),
    [
        pytest.param({}, "log", True, id="the first endpoint decides"),
        pytest.param({"paris": endpoint()}, "log", True, id="the same plugin"),
        pytest.param({"paris": endpoint()}, "", False, id="the default plugin beside another"),
        pytest.param({"paris": endpoint()}, "mail", False, id="another name, later in the alphabet"),
        pytest.param({"paris": endpoint(deleting=True)}, "", False, id="one that is being deleted still counts"),
    ],
)
def test_the_endpoints_of_a_resource_have_one_plugin(there: dict[str, Endpoint], plugin: str, allowed: bool) -> None:
    r = replace(resource(**there), plugin="log" if there else "")
    if allowed:
        assert rules.register(r, "london", entry=endpoint(), plugin=plugin).plugin == "log"
    else:
        with pytest.raises(Conflict, match="another plugin: use another resource_id") as refused:
            rules.register(r, "london", entry=endpoint(), plugin=plugin)
        assert refused.value.code == "assigned"


# delete


def test_a_deleted_holder_stays_until_its_standby_is_delivered() -> None:
    r = rules.delete(resource(paris=holder(), london=waiting()), "paris", NOW)
    assert announced(r) == {"paris": (STANDBY, 2, 1, "deleted"), "london": (ACTIVATED, 2, 2, "elected")}
    assert rules.drop_delivered(r) == r
    delivered = r.having("paris", replace(r.endpoints["paris"], delivered_sequence=2))
    assert rules.drop_delivered(delivered).endpoints.keys() == {"london"}


def test_one_commit_removes_fifty_entries_and_the_next_one_is_due_at_once() -> None:
    r = resource(**{f"host-{n}": waiting(deleting=True) for n in range(120)})
    for left in (70, 20):
        r = rules.drop_delivered(r)
        assert (len(r.endpoints), next_due(r, NOW, REFRESH_MS)) == (left, NOW)
    assert next_due(rules.drop_delivered(r), NOW, REFRESH_MS) == NEVER


def test_a_resource_full_of_entries_being_deleted_accepts_no_registration() -> None:
    r = resource(**{f"host-{n}": waiting(deleting=n > 0) for n in range(256)})
    with pytest.raises(Conflict, match="255 deleted endpoints of this resource wait for their receivers"):
        rules.register(r, "new", entry=endpoint())
    assert "new" in rules.register(r.without("host-255"), "new", entry=endpoint()).endpoints


def test_a_deleted_endpoint_with_believed_until_stays_until_its_standby_is_delivered() -> None:
    demoted = holder(status=STANDBY, sequence=2)
    r = rules.delete(resource(paris=demoted, london=waiting()), "paris", NOW)
    assert r.endpoints["paris"].deleting and r.endpoints["paris"].sequence == 2


@pytest.mark.parametrize("e", [endpoint(), waiting(), waiting(status=FAILING, sequence=2)])
def test_a_deleted_endpoint_without_believed_until_is_removed_at_once(e: Endpoint) -> None:
    assert rules.delete(resource(paris=e), "paris", NOW).endpoints == {}


def test_deleting_by_force_removes_the_holder_and_elects() -> None:
    r = rules.delete(resource(paris=holder(), london=waiting()), "paris", NOW, force=True)
    assert (r.holder, announced(r)) == ("london", {"london": (ACTIVATED, 2, 2, "elected")})


def test_deleting_the_last_endpoint_keeps_the_epoch() -> None:
    r = rules.delete(resource(paris=holder(epoch=7)), "paris", NOW, force=True)
    assert (r.endpoints, r.epoch) == ({}, 7)


# Every command about an endpoint that is not there

COMMANDS = {
    "failover": failover,
    "redeliver": lambda item, name: rules.redeliver(item, name, NOW),
    "change": lambda item, name: rules.change(item, name, NOW, revision=1, priority=0, lease_seconds=None),
    "delete": lambda item, name: rules.delete(item, name, NOW),
    "registered": rules.registered,
}


@pytest.mark.parametrize("name", ["oslo", "london"], ids=["no entry", "being deleted"])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_endpoint_that_is_not_there_is_not_found(command: str, name: str) -> None:
    with pytest.raises(NotFound, match=r"^Endpoint not found$"):
        COMMANDS[command](resource(paris=holder(), london=waiting(deleting=True)), name)


def test_only_an_endpoint_that_is_not_being_deleted_counts_as_registered() -> None:
    r = resource(paris=holder(), london=waiting(deleting=True))
    assert [rules.is_registered(r, name) for name in ("paris", "london", "oslo")] == [True, False, False]
    assert not rules.is_registered(None, "paris")


# freeze


@pytest.mark.parametrize("status", [STANDBY, FAILING])
def test_a_frozen_holder_stays_whatever_it_reports(status: Status) -> None:
    r = report(frozen(paris=holder(), london=waiting()), "paris", status)
    assert (r.holder, r.epoch, r.endpoints["paris"].status) == ("paris", 1, ACTIVATED)
    assert r.endpoints["paris"].words[Observer.HOST].status is status
    assert not r.endpoints["paris"].pending, "no receiver gets a webhook"


def test_a_frozen_holders_lease_does_not_end_and_wakes_up_no_function() -> None:
    ended = {"lease_expires_at": NOW - 1}
    r = frozen(paris=holder(**ended), london=waiting(**ended), zurich=waiting(**ended))
    r = rules.elect(r, NOW)
    assert (r.holder, r.endpoints["paris"].status) == ("paris", ACTIVATED)
    for other in ("london", "zurich"):
        assert r.endpoints[other].status is FAILING, "the leases of the others end as always"
    assert next_due(r, NOW, REFRESH_MS) == NOW - 10_000 + REFRESH_MS


def test_freezing_needs_a_holder_and_is_done_once() -> None:
    with pytest.raises(Conflict, match="nothing to keep"):
        rules.freeze(resource(paris=waiting()), NOW)
    r = frozen(paris=holder())
    assert r.frozen and rules.freeze(r, NOW) == r


@pytest.mark.parametrize(
    ("reported", "became", "reason"),
    [
        pytest.param({"reported": STANDBY}, STANDBY, "demoted", id="it reported STANDBY"),
        pytest.param({"reported": FAILING}, FAILING, "failing", id="it reported FAILING"),
        pytest.param({"lease_expires_at": NOW}, FAILING, "lease_expired", id="its reports stopped"),
    ],
)
def test_unfreezing_applies_what_the_holder_reported_meanwhile(
    reported: dict[str, object], became: Status, reason: str
) -> None:
    r = rules.unfreeze(frozen(paris=holder(**reported), london=waiting()), NOW)
    assert (r.frozen, r.holder, r.epoch) == (False, "london", 2)
    assert announced(r) == {"paris": (became, 2, 1, reason), "london": (ACTIVATED, 2, 2, "elected")}


def test_unfreezing_a_healthy_holder_or_no_holder_changes_nothing_else() -> None:
    healthy = resource(paris=holder(lease_expires_at=NOW + 1), london=waiting())
    assert rules.unfreeze(rules.freeze(healthy, NOW), NOW) == healthy == rules.unfreeze(healthy, NOW)
    without_holder = resource(paris=waiting(reported=STANDBY))
    assert rules.unfreeze(without_holder, NOW) == without_holder


@pytest.mark.parametrize(("reported", "became"), [(ACTIVATED, STANDBY), (STANDBY, STANDBY), (FAILING, FAILING)])
def test_a_failover_moves_a_frozen_lock_which_stays_frozen(reported: Status, became: Status) -> None:
    r = failover(frozen(paris=holder(reported=reported), london=waiting()))
    assert (r.holder, r.frozen) == ("london", True)
    assert announced(r)["paris"] == (became, 2, 1, "failover")


@pytest.mark.parametrize("other", ["london", "zurich"])
@pytest.mark.parametrize("force", [False, True])
def test_the_frozen_holder_cannot_be_deleted_and_the_others_can(force: bool, other: str) -> None:
    r = frozen(paris=holder(), **{other: waiting()})
    with pytest.raises(Conflict, match="frozen"):
        rules.delete(r, "paris", NOW, force=force)
    assert set(rules.delete(r, other, NOW, force=force).endpoints) == {"paris"}


# change


def change(item: Resource, name: str = "paris", **changes: Any) -> Endpoint:
    """The entry after a change of only the given fields."""
    e = item.endpoints[name]
    as_it_is = {"revision": e.revision, "priority": e.priority, "lease_seconds": e.lease_seconds}
    return rules.change(item, name, NOW, **{**as_it_is, **changes}).endpoints[name]


def test_a_change_leads_to_the_next_revision_from_its_own_only() -> None:
    r = resource(paris=holder(revision=3))
    assert change(r, priority=7) == replace(r.endpoints["paris"], revision=4, priority=7)
    for other in (2, 4):
        message = f"changed concurrently .expected revision {other}, found 3.: fetch it and retry"
        with pytest.raises(Conflict, match=message):
            change(r, revision=other)


def test_a_priority_counts_at_the_next_election_only() -> None:
    r = resource(paris=holder(), london=waiting())
    r = rules.change(r, "london", NOW, revision=1, priority=9, lease_seconds=None)
    assert rules.elect(r, NOW).holder == "paris"


@pytest.mark.parametrize(
    ("before", "lease_seconds", "after"),
    [
        pytest.param({}, 20, NOW + 20_000, id="a first lease runs from now"),
        pytest.param({"lease_seconds": 60, "lease_expires_at": NOW + 1}, 20, NOW + 20_000, id="a shorter one, too"),
        pytest.param({"lease_seconds": 20, "lease_expires_at": NOW + 1}, None, None, id="no lease any more"),
        pytest.param({"lease_seconds": 20, "lease_expires_at": NOW + 1}, 20, NOW + 1, id="the same one runs on"),
        pytest.param({"lease_seconds": 20, "lease_expires_at": NOW}, 60, NOW, id="an ended one stays ended"),
        pytest.param({"lease_seconds": 20, "lease_expires_at": NOW}, None, NOW, id="even without a lease"),
        pytest.param({"reported": FAILING}, 20, None, id="an endpoint that is not ready gets none"),
    ],
)
def test_a_changed_lease(before: dict[str, object], lease_seconds: int | None, after: int | None) -> None:
    changed = change(resource(paris=waiting(**before)), lease_seconds=lease_seconds)
    assert (changed.lease_seconds, changed.lease_expires_at) == (lease_seconds, after)


def test_the_next_report_removes_the_end_of_a_lease_that_was_taken_away() -> None:
    r = report(resource(paris=waiting(status=FAILING, lease_expires_at=NOW - 1)), "paris", ACTIVATED)
    assert (r.holder, r.endpoints["paris"].lease_expires_at) == ("paris", None)


@pytest.mark.parametrize(
    "e",
    [
        pytest.param(holder(), id="the holder"),
        pytest.param(holder(believed_until=None), id="a holder with no attempt yet"),
        pytest.param(waiting(sequence=2), id="pending"),
        pytest.param(waiting(requested_at=NOW), id="requested again"),
        pytest.param(waiting(believed_until=NOW - 1), id="believed active"),
    ],
)
def test_a_url_changes_only_when_the_old_receiver_has_its_last_status(e: Endpoint) -> None:
    r = resource(paris=e)
    with pytest.raises(Conflict, match="fail over first"):
        change(r, new_receiver=True)
    assert change(r).revision == 2, "anything else may change"
    for quiet in (waiting(), endpoint()):
        assert change(resource(paris=quiet), new_receiver=True).revision == 2


# redeliver

redeliver = partial(rules.redeliver, endpoint_id="paris")


def test_a_requested_status_is_pending_at_once_and_stays_the_same() -> None:
    for e in (holder(), waiting()):
        r = redeliver(resource(paris=e), now=NOW)
        assert announced(r) == announced(resource(paris=e))
        requested = r.endpoints["paris"]
        assert (requested.pending, requested.pending_since, due(r, "paris", REFRESH_MS)) == (True, NOW, NOW)
        claimed = claim(r)
        (delivery,) = deliveries(claimed, "t")
        assert (delivery.sequence, delivery.reason, delivery.refreshed_at) == (1, e.reason, None)
        after = outcome(claimed, outcome_of("paris", delivery.status), NOW + 5, 0.0)
        assert not after.endpoints["paris"].pending


def test_an_attempt_from_before_the_request_does_not_settle_it() -> None:
    r = redeliver(claim(resource(paris=holder(delivered_sequence=0))), now=NOW + 1)
    assert due(r, "paris", REFRESH_MS) == NOW + 15_000, "its claim still stops other senders"
    e = outcome(r, outcome_of("paris", ACTIVATED), NOW + 2, 0.0).endpoints["paris"]
    assert (e.delivered_sequence, e.pending, e.next_attempt_at, e.claim) == (1, True, NOW + 2, None)


def test_a_pending_status_stays_pending_since_its_announcement_and_is_attempted_at_once() -> None:
    e = waiting(
        sequence=2,
        announced_at=NOW - 500,
        attempt=4,
        next_attempt_at=NOW + 9_000,
        failure_kind="not_sent",
        failure_reason="dns",
    )
    r = redeliver(resource(paris=e), now=NOW)
    assert r.endpoints["paris"] == replace(e, requested_at=NOW, next_attempt_at=NOW)
    assert r.endpoints["paris"].pending_since == NOW - 500


def test_a_claim_keeps_its_token_and_its_end_when_its_status_is_requested() -> None:
    r = redeliver(resource(paris=waiting(sequence=2, claim=Claim("t", NOW + 9_000, 2))), now=NOW)
    assert r.endpoints["paris"].claim == Claim("t", NOW + 9_000, 0)


def test_a_new_status_supersedes_a_request() -> None:
    r = redeliver(resource(paris=holder()), now=NOW)
    assert report(r, "paris", FAILING).endpoints["paris"].requested_at == 0


def test_before_the_first_announcement_there_is_nothing_to_deliver_again() -> None:
    with pytest.raises(Conflict, match="nothing has been announced"):
        redeliver(resource(paris=endpoint()), now=NOW)


# hold


def lost(times: int, **values: Any) -> Endpoint:
    """A standby that is ready again. It lost the lock this many times, the last time 10 s ago."""
    return waiting(**{"losses": times, "lost_at": NOW - 10_000, "ready_since": NOW - 1, **values})


@pytest.mark.parametrize(
    ("losses", "held_ms"),
    [(0, 0), (1, 0), (2, 0), (3, 60_000), (4, 120_000), (6, 480_000), (7, 600_000), (99, 600_000)],
)
def test_from_the_third_loss_on_each_hold_is_twice_as_long(losses: int, held_ms: int) -> None:
    e = lost(losses, lost_at=NOW)
    assert rules.held_until(e) == (NOW + held_ms if held_ms else 0)
    assert rules.on_hold(e, NOW + held_ms - 1) is (held_ms > 0)
    assert not rules.on_hold(e, NOW + held_ms)


@pytest.mark.parametrize(
    ("ago_ms", "losses"),
    [
        pytest.param(1_200_000, 3, id="within 20 minutes"),
        pytest.param(1_200_001, 1, id="later: counts as the first"),
    ],
)
def test_losses_within_twenty_minutes_of_each_other_add_up(ago_ms: int, losses: int) -> None:
    r = report(resource(paris=holder(losses=2, lost_at=NOW - ago_ms)), "paris", FAILING)
    assert (r.endpoints["paris"].losses, r.endpoints["paris"].lost_at) == (losses, NOW)


@pytest.mark.parametrize("reason", Reason)
def test_only_its_own_report_or_silence_counts_as_a_loss(reason: Reason) -> None:
    counts = reason in ("demoted", "failing", "lease_expired")
    assert rules.release(resource(paris=holder()), reason, NOW).endpoints["paris"].losses == counts


def test_an_endpoint_on_hold_is_not_elected_while_another_is_ready() -> None:
    r = resource(paris=lost(3, priority=9), london=waiting())
    assert rules.elect(r, NOW).holder == "london"
    assert rules.elect(r, NOW + 50_000).holder == "paris", "its hold is over, and its priority is higher"


@pytest.mark.parametrize(
    ("paris", "elected_at"),
    [
        pytest.param({"ready_since": NOW - 1}, NOW + 4_999, id="ready again after its loss"),
        pytest.param({"lost_at": NOW - 2, "ready_since": 0}, NOW + 4_998, id="ready at its loss, by this clock"),
    ],
)
def test_an_endpoint_on_hold_is_elected_after_five_seconds_when_no_other_is_ready(
    paris: dict[str, int], elected_at: int
) -> None:
    r = resource(paris=lost(3, **paris), london=waiting(reported=FAILING, status=FAILING))
    assert next_due(r, NOW, REFRESH_MS) == elected_at
    assert rules.elect(r, elected_at - 1).holder is None
    assert rules.elect(r, elected_at).holder == "paris"


def test_readiness_counts_from_the_report_that_ends_an_outage_and_only_after_a_loss() -> None:
    down = lost(3, reported=FAILING, status=FAILING, ready_since=1)
    up = report(resource(paris=down), "paris", ACTIVATED)
    assert up.endpoints["paris"].ready_since == NOW
    again = rules.report(up, "paris", ACTIVATED, NOW + 1, NOW + 1_000)
    assert again.endpoints["paris"].ready_since == NOW, "a heartbeat does not start the five seconds again"
    silent = lost(3, lease_seconds=5, lease_expires_at=NOW)
    assert report(resource(paris=silent), "paris", ACTIVATED).endpoints["paris"].ready_since == NOW
    never_lost = waiting(reported=FAILING, status=FAILING)
    assert report(resource(paris=never_lost, london=holder()), "paris", ACTIVATED).endpoints["paris"].ready_since == 0


def test_a_recovery_during_a_hold_is_announced_when_the_hold_is_over() -> None:
    down = lost(3, reported=FAILING, status=FAILING)
    r = report(resource(paris=down, london=holder(delivered_at=NOW)), "paris", ACTIVATED)
    assert announced(r)["paris"] == (FAILING, 1, 1, ""), "nothing is announced during a hold"
    assert next_due(r, NOW, REFRESH_MS) == NOW + 50_000
    assert rules.elect(r, NOW + 49_999) == r
    assert announced(rules.elect(r, NOW + 50_000))["paris"] == (STANDBY, 2, 1, "recovered")


@pytest.mark.parametrize(
    "paris",
    [
        pytest.param({"reported": FAILING}, id="it is not ready"),
        pytest.param({"lease_expires_at": NOW + 49_999}, id="its lease ends before"),
        pytest.param({"deleting": True}, id="it is being deleted"),
        pytest.param({"status": STANDBY}, id="there is nothing to announce"),
        pytest.param({"losses": 2}, id="it is not on hold"),
    ],
)
def test_no_wake_up_is_planned_for_the_end_of_a_hold_after_which_nothing_follows(paris: dict[str, Any]) -> None:
    r = resource(paris=lost(3, **{"status": FAILING, **paris}), london=holder())
    assert rules.hold_ends(r, NOW) == []


def test_the_end_of_a_hold_that_has_passed_is_due_now() -> None:
    r = resource(paris=lost(3, status=FAILING), london=holder())
    assert rules.hold_ends(r, NOW + 70_000) == [NOW + 70_000]


def test_a_failover_prefers_an_endpoint_that_is_not_on_hold_unless_it_names_another() -> None:
    r = resource(paris=holder(), london=lost(3, priority=9), zurich=waiting())
    assert rules.failover(r, "paris", NOW, to=None, command="c").holder == "zurich"
    assert rules.failover(r, "paris", NOW, to="london", command="c").holder == "london"
    without = resource(paris=holder(), london=lost(3))
    assert rules.failover(without, "paris", NOW, to=None, command="c").holder == "london"


def test_losses_up_to_a_time_are_forgotten() -> None:
    r = resource(paris=lost(3, lost_at=NOW), london=holder(losses=1, lost_at=NOW + 1))
    forgotten = rules.forget_losses(r, NOW)
    assert forgotten.endpoints["paris"] == replace(r.endpoints["paris"], losses=0, lost_at=0, ready_since=0)
    assert forgotten.endpoints["london"] == r.endpoints["london"]
    assert rules.forget_losses(forgotten, NOW) is forgotten


# observers


def watched(name_or_entry: Endpoint, *, ready_when: str = "all", **words: Status) -> Endpoint:
    """The same endpoint with a host and a probe, which said this nine seconds ago."""
    said = {Observer(observer): Word(status, NOW - 9_000) for observer, status in words.items()}
    both = (Observer.HOST, Observer.PROBE)
    return replace(name_or_entry, observers=both, ready_when=ReadyWhen(ready_when), words=said)


def probe(item: Resource, name: str, status: Status, at: int = NOW) -> Resource:
    """The item after a report of the probe."""
    return rules.report(item, name, status, at, NOW, observer=Observer.PROBE)


def test_each_observer_has_a_word_of_its_own() -> None:
    paris = watched(holder(), host=ACTIVATED, probe=ACTIVATED)
    failing = probe(resource(paris=paris, london=waiting()), "paris", FAILING)
    assert failing.holder == "london"
    heartbeat = rules.report(failing, "paris", ACTIVATED, NOW + 1, NOW + 1)
    assert heartbeat.holder == "london"
    assert heartbeat.endpoints["paris"].status is FAILING, "a heartbeat does not speak for the probe"
    assert (
        announced(rules.report(heartbeat, "paris", ACTIVATED, NOW, NOW + 2, observer=Observer.PROBE))["paris"][0]
        is FAILING
    )
    recovered = rules.report(heartbeat, "paris", ACTIVATED, NOW + 1, NOW + 2, observer=Observer.PROBE)
    assert announced(recovered)["paris"] == (STANDBY, 3, 2, "recovered")


def test_the_order_of_reports_is_that_of_their_observer() -> None:
    paris = watched(waiting(), host=ACTIVATED, probe=ACTIVATED)
    early = probe(resource(paris=paris, london=holder()), "paris", FAILING, at=NOW - 8_000)
    assert early.endpoints["paris"].status is FAILING
    assert report(early, "paris", ACTIVATED, at=NOW - 9_000) == early, "older than the host's own word"


def test_a_report_of_another_observer_is_rejected_with_what_to_do() -> None:
    with pytest.raises(Rejected) as refusal:
        probe(resource(paris=holder()), "paris", FAILING)
    assert refusal.value.code == "not_an_observer"
    assert str(refusal.value) == (
        "the observers of paris are host, not probe: change them, or stop sending these events"
    )


@pytest.mark.parametrize(("host", "accepted"), [(None, True), ("paris-1", True), ("paris-2", False), ("", False)])
def test_a_source_that_names_a_host_reports_for_that_host_only(host: str | None, accepted: bool) -> None:
    before = resource(paris=holder(host="paris-1"), london=waiting())
    if accepted:
        assert rules.report(before, "paris", FAILING, NOW, NOW, host=host).holder == "london"
        return
    with pytest.raises(Rejected, match="paris is registered with host 'paris-1'") as refusal:
        rules.report(before, "paris", FAILING, NOW, NOW, host=host)
    assert refusal.value.code == "host_mismatch"


def test_an_endpoint_is_elected_when_its_last_observer_reports() -> None:
    booting = watched(endpoint())
    r = report(resource(paris=booting), "paris", ACTIVATED)
    assert (r.holder, r.endpoints["paris"].status) == (None, BOOTING)
    assert probe(r, "paris", ACTIVATED).holder == "paris"


def test_with_any_the_lock_stays_until_both_are_gone() -> None:
    paris = watched(holder(lease_seconds=30, lease_expires_at=NOW), ready_when="any", host=ACTIVATED, probe=ACTIVATED)
    r = resource(paris=paris, london=waiting())
    assert rules.lease_ends(r) == [], "nothing has to be done when the lease ends"
    assert rules.elect(r, NOW) == r
    gone = probe(r, "paris", FAILING)
    assert gone.holder == "london"
    assert announced(gone)["paris"] == (FAILING, 2, 1, "failing")


def test_with_any_the_end_of_a_lease_leaves_the_best_of_the_other_words() -> None:
    paris = watched(holder(lease_expires_at=NOW + 5), ready_when="any", host=ACTIVATED, probe=STANDBY)
    r = resource(paris=paris, london=waiting())
    assert rules.lease_ends(r) == [("paris", NOW + 5)]
    assert announced(rules.elect(r, NOW + 5))["paris"] == (STANDBY, 2, 1, "demoted")
    waits = watched(waiting(lease_expires_at=NOW + 5), ready_when="any", host=ACTIVATED, probe=STANDBY)
    assert rules.lease_ends(resource(paris=holder(), london=waits)) == [], "it is on standby already"


def test_a_lease_that_ends_is_not_covered_by_an_observer_that_never_reported() -> None:
    paris = watched(holder(lease_expires_at=NOW), ready_when="any", host=ACTIVATED)
    assert rules.elect(resource(paris=paris, london=waiting()), NOW).holder == "london"


@pytest.mark.parametrize(
    ("options", "words", "holds"),
    [
        pytest.param({"observers": (Observer.HOST, Observer.PROBE)}, ["host"], True, id="undecided: it stays"),
        pytest.param({"observers": (Observer.PROBE,)}, [], True, id="others only: it stays until one reports"),
        pytest.param({}, ["host"], True, id="as before"),
    ],
)
def test_a_change_of_observers_drops_their_words_and_keeps_an_undecided_holder(
    options: dict[str, Any], words: list[str], holds: bool
) -> None:
    before = resource(paris=holder(lease_seconds=None, lease_expires_at=NOW + 1), london=waiting())
    r = rules.change(before, "paris", NOW, revision=1, priority=0, lease_seconds=None, **options)
    assert ([*r.endpoints["paris"].words], r.holder == "paris") == (words, holds)
    assert (r.endpoints["paris"].lease_expires_at is None) is ("host" not in words)


def test_a_change_of_observers_counts_at_once() -> None:
    paris = watched(holder(), ready_when="any", host=ACTIVATED, probe=FAILING)
    r = rules.change(
        resource(paris=paris, london=waiting()), "paris", NOW, revision=1, priority=0, lease_seconds=None,
        observers=paris.observers, ready_when=ReadyWhen.ALL,
    )  # fmt: skip
    assert r.holder == "london"


# drain


def drain(item: Resource, name: str, *, force: bool = False) -> Resource:
    """The item after a drain that arrives now."""
    return rules.drain(item, name, NOW, drained=True, force=force)


def test_a_drained_holder_hands_over_and_no_heartbeat_brings_it_back() -> None:
    r = drain(resource(paris=holder(), london=waiting()), "paris")
    assert announced(r) == {"paris": (STANDBY, 2, 1, "drained"), "london": (ACTIVATED, 2, 2, "elected")}
    assert r.endpoints["paris"].losses == 0, "a drain puts nobody on hold"
    later = rules.report(r, "paris", ACTIVATED, NOW + 1, NOW + 1)
    failed = rules.report(later, "london", FAILING, NOW + 1, NOW + 1)
    assert failed.holder is None
    assert rules.drain(failed, "paris", NOW + 2, drained=False).holder == "paris", "a candidate at once"


def test_an_undrained_endpoint_pushes_nobody_out() -> None:
    drained = drain(resource(paris=holder(priority=9), london=waiting()), "paris")
    assert rules.drain(drained, "paris", NOW + 1, drained=False).holder == "london"


def test_a_drained_endpoint_that_fails_is_failing() -> None:
    r = drain(resource(paris=holder(), london=waiting()), "london")
    assert r.endpoints["london"].status is STANDBY
    assert report(r, "london", FAILING).endpoints["london"].status is FAILING


def test_the_last_ready_endpoint_is_drained_only_with_force() -> None:
    r = resource(paris=holder(host="paris-1"), london=waiting(reported=FAILING, status=FAILING, host="london-1"))
    with pytest.raises(Conflict) as refusal:
        drain(r, "paris")
    assert str(refusal.value) == (
        "no other endpoint of this resource is ready (london (london-1) is not ready: its host says FAILING): make one "
        "ready first, or use force to have no active endpoint"
    )
    assert drain(r, "paris", force=True).holder is None
    assert drain(r, "london").endpoints["london"].drained_at == NOW, "it was not ready"


def test_a_holder_whose_probe_has_not_reported_hands_over_when_it_is_drained() -> None:
    paris = watched(holder(), host=ACTIVATED)
    assert paris.verdict(NOW) is None
    r = drain(resource(paris=paris, london=waiting()), "paris")
    assert announced(r) == {"paris": (STANDBY, 2, 1, "drained"), "london": (ACTIVATED, 2, 2, "elected")}
    assert rules.drain(r, "paris", NOW + 1, drained=False).endpoints["paris"].waits_for(NOW) == [Observer.PROBE]


def test_a_holder_whose_probe_has_not_reported_is_the_last_ready_endpoint_too() -> None:
    r = resource(paris=watched(holder(), host=ACTIVATED), london=waiting(drained_at=NOW))
    with pytest.raises(Conflict, match="no other endpoint of this resource is ready"):
        drain(r, "paris")
    assert drain(r, "paris", force=True).holder is None


def test_an_endpoint_that_is_drained_before_its_first_report_stays_booting_until_then() -> None:
    r = drain(resource(paris=holder(), london=endpoint()), "london")
    assert announced(r)["london"] == (BOOTING, 0, 0, "")
    assert announced(report(r, "london", ACTIVATED))["london"] == (STANDBY, 1, 1, "joined")


def test_a_drain_repeated_changes_nothing() -> None:
    drained = drain(resource(paris=holder(), london=waiting()), "paris")
    assert rules.drain(drained, "paris", NOW + 5, drained=True) is drained
    undrained = resource(paris=holder())
    assert rules.drain(undrained, "paris", NOW, drained=False) is undrained


def test_the_holder_of_a_frozen_resource_cannot_be_drained() -> None:
    with pytest.raises(Conflict, match="it holds a frozen resource: fail over to another endpoint, or unfreeze"):
        drain(frozen(paris=holder(), london=waiting()), "paris", force=True)
    assert drain(frozen(paris=holder(), london=waiting()), "london").endpoints["london"].drained_at == NOW


@pytest.mark.parametrize(
    ("london", "why"),
    [
        pytest.param(waiting(drained_at=NOW), "london is drained", id="drained"),
        pytest.param(
            watched(waiting(), host=ACTIVATED), "its host says ACTIVATED, its probe has not reported", id="undecided"
        ),
        pytest.param(waiting(lease_expires_at=NOW), "london is not ready: its host has a lease that ended", id="lease"),
        pytest.param(
            waiting(host="l-1", reported=STANDBY), "london (l-1) is not ready: its host says STANDBY", id="host"
        ),
    ],
)
def test_a_refused_failover_says_why_nobody_is_ready(london: Endpoint, why: str) -> None:
    with pytest.raises(Conflict, match=r"^no other nodes are listening for this endpoint: ") as refusal:
        failover(resource(paris=holder(), london=london))
    assert str(refusal.value).endswith(why)
    with pytest.raises(Conflict, match=r"^london is not another endpoint of this resource that is ready: it "):
        rules.failover(resource(paris=holder(), london=london), "paris", NOW, to="london", command="c")


def test_a_refused_failover_explains_at_most_five_endpoints() -> None:
    others = {f"e{number}": waiting(reported=FAILING) for number in range(7)}
    with pytest.raises(Conflict) as refusal:
        failover(resource(paris=holder(), **others))
    assert str(refusal.value).count("its host says FAILING") == 5
    assert str(refusal.value).endswith("; and 2 more")
    with pytest.raises(Conflict, match="the resource has no other endpoint"):
        failover(resource(paris=holder()))
