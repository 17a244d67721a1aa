"""An item from a backup: what `restore` makes of it. There is no store and no clock."""

from __future__ import annotations

import pytest

from link.election import rules
from link.election.deliveries import due, outcome
from link.election.state import NEVER, Claim, Endpoint, Observer, Reason, Resource, Status, Word
from link.election.wake_up import settle
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
    resource,
    waiting,
)
from tests.support.ids import NOW


def restored(backup: Resource, current: Resource | None = None, *without: str, now: int = NOW) -> Resource:
    """The item after the rule. Every endpoint in it has a registration, except those named."""
    registered = {i: endpoint() for i in backup.endpoints if i not in without}
    return rules.restore(current or backup, backup, now, registered=registered)


def test_version_epoch_and_sequences_are_at_least_the_time_in_milliseconds() -> None:
    r = restored(resource(paris=holder(), london=waiting()))
    assert (r.version, r.epoch) == (NOW, NOW + 1)
    assert all(e.sequence > NOW for e in r.endpoints.values())


@pytest.mark.parametrize(
    "current",
    [
        pytest.param(Resource("ip", version=NOW + 70), id="the version"),
        pytest.param(Resource("ip", epoch=NOW + 70), id="the epoch"),
        pytest.param(resource(zurich=waiting(sequence=NOW + 70)), id="a sequence"),
    ],
)
def test_a_number_ahead_of_the_clock_is_exceeded_too(current: Resource) -> None:
    r = restored(resource(paris=holder()), current)
    assert r.version >= NOW + 70
    assert r.epoch > NOW + 70
    assert r.endpoints["paris"].sequence > NOW + 70


def test_the_holder_of_the_backup_holds_the_lock_in_a_new_epoch_and_every_other_receiver_is_told_standby() -> None:
    r = restored(resource(paris=holder(), london=waiting(reason="failover"), zurich=endpoint()))
    assert r.holder == "paris"
    assert announced(r) == {
        "paris": (ACTIVATED, NOW + 1, NOW + 1, "elected"),
        "london": (STANDBY, NOW + 1, NOW, "failover"),
        "zurich": (BOOTING, NOW + 1, NOW, "joined"),
    }
    assert all(e.pending for e in r.endpoints.values())


def test_the_holder_is_told_after_the_others_because_any_of_them_may_be_believed_active() -> None:
    r = restored(resource(paris=holder(), london=waiting(believed_until=None)))
    assert due(r, "london", REFRESH_MS) == NOW
    assert due(r, "paris", REFRESH_MS) == NEVER
    told = outcome(claim(r), outcome_of("london", STANDBY, sequence=NOW + 1), NOW, 0.5)
    assert due(told, "paris", REFRESH_MS) == NOW


def test_a_lease_that_has_ended_stays_ended() -> None:
    r = restored(resource(paris=holder(lease_seconds=20, lease_expires_at=NOW - 1), london=waiting()))
    r, _ = settle(r, NOW, refresh_ms=REFRESH_MS, damping=True)
    assert (r.holder, r.endpoints["paris"].status) == ("london", FAILING)


def test_an_attempt_under_way_ends_first_and_its_outcome_says_nothing() -> None:
    under_way = Claim("t", NOW + 9_000, 7)
    now = resource(paris=holder(), london=waiting(claim=under_way))
    backup = resource(paris=holder(claim=under_way), london=waiting(claim=Claim("stale", NOW - 900_000, 3)))
    r = restored(backup, now)
    assert due(r, "london", REFRESH_MS) == NOW + 9_000
    assert outcome(r, outcome_of("london", STANDBY, sequence=7), NOW, 0.5) == r
    assert r.endpoints["paris"].claim is None, "that of the backup is gone with its sender"


def test_an_endpoint_without_a_registration_is_removed_and_loses_the_lock() -> None:
    r = restored(frozen(paris=holder(), london=waiting()), None, "paris")
    assert (r.holder, r.frozen) == (None, False)
    r, _ = settle(r, NOW, refresh_ms=REFRESH_MS, damping=True)
    assert (r.holder, list(r.endpoints)) == ("london", ["london"])


def test_an_endpoint_that_was_registered_after_the_backup_gets_an_entry() -> None:
    berlin = endpoint(host="berlin", revision=4, priority=5, lease_seconds=30)
    r = rules.restore(Resource("ip"), Resource("ip"), NOW, registered={"berlin": berlin})
    e = r.endpoints["berlin"]
    assert (e.host, e.revision, e.priority, e.lease_seconds) == ("berlin", 4, 5, 30)
    assert (e.status, e.pending, e.wire) == (BOOTING, True, STANDBY)


def test_the_registration_says_revision_priority_and_lease() -> None:
    registered: dict[str, Endpoint] = {"paris": endpoint(revision=9, priority=3, lease_seconds=60)}
    backup = resource(paris=holder(revision=2, priority=0, lease_seconds=None))
    e = rules.restore(backup, backup, NOW, registered=registered).endpoints["paris"]
    assert (e.revision, e.priority, e.lease_seconds) == (9, 3, 60)


@pytest.mark.parametrize(
    ("probe", "paris", "london"),
    [
        pytest.param(FAILING, (FAILING, "failing"), (ACTIVATED, "elected"), id="says FAILING"),
        pytest.param(STANDBY, (STANDBY, "demoted"), (ACTIVATED, "elected"), id="says STANDBY"),
        pytest.param(None, (ACTIVATED, "elected"), (STANDBY, "failover"), id="has not reported"),
    ],
)
def test_a_holder_that_is_judged_by_a_probe_since_the_backup_follows_what_it_says(
    probe: Status | None, paris: tuple[Status, str], london: tuple[Status, str]
) -> None:
    words = {Observer.HOST: Word(ACTIVATED, NOW - 9_000)} | (
        {Observer.PROBE: Word(probe, NOW - 9_000)} if probe else {}
    )
    backup = resource(paris=holder(words=words, lease_expires_at=NOW - 1), london=waiting(reason="failover"))
    registered = {"paris": endpoint(observers=(Observer.PROBE,)), "london": endpoint()}
    r = rules.restore(backup, backup, NOW, registered=registered)
    r, _ = settle(r, NOW, refresh_ms=REFRESH_MS, damping=True)
    assert {i: (e.status, e.reason) for i, e in r.endpoints.items()} == {"paris": paris, "london": london}
    assert r.endpoints["paris"].lease_expires_at is None, "the lease is the host's"
    assert due(r, r.holder or "", REFRESH_MS) == NEVER, "the STANDBY goes first"


@pytest.mark.parametrize(
    ("drained_since", "drained_before", "holds"),
    [
        pytest.param(NOW - 5, 0, "london", id="drained since"),
        pytest.param(0, NOW - 90_000, "paris", id="undrained since"),
    ],
)
def test_a_drain_is_that_of_the_item_in_force(drained_since: int, drained_before: int, holds: str) -> None:
    backup = resource(paris=holder(drained_at=drained_before), london=waiting())
    current = resource(paris=waiting(drained_at=drained_since), london=holder())
    r, _ = settle(restored(backup, current), NOW, refresh_ms=REFRESH_MS, damping=True)
    assert r.endpoints["paris"].drained_at == drained_since
    assert r.holder == holds


def test_the_drain_of_the_backup_counts_if_the_item_in_force_is_lost() -> None:
    backup = resource(paris=waiting(drained_at=NOW - 90_000), london=holder())
    assert restored(backup, Resource("ip")).endpoints["paris"].drained_at == NOW - 90_000


def test_a_frozen_holder_keeps_the_lock() -> None:
    r = restored(frozen(paris=holder(lease_seconds=20, lease_expires_at=NOW - 1), london=waiting()))
    r, _ = settle(r, NOW, refresh_ms=REFRESH_MS, damping=True)
    assert (r.holder, r.frozen, r.endpoints["paris"].reason) == ("paris", True, Reason.ELECTED)
