"""The changes of status from one version of an item to the next."""

from __future__ import annotations

from link.election.audit import Change, changes
from tests.support.entries import ACTIVATED, BOOTING, FAILING, STANDBY, endpoint, holder, report, resource, waiting
from tests.support.ids import NOW


def test_every_change_of_status_is_recorded_with_its_reason() -> None:
    down = waiting(status=FAILING, reported=FAILING)
    before = resource(paris=holder(), london=waiting(), rome=waiting(lease_expires_at=NOW), oslo=waiting(), bern=down)
    after = report(before, "paris", FAILING)
    after = report(after, "oslo", FAILING)
    after = report(after, "bern", STANDBY)
    assert sorted(changes(before, after), key=lambda change: change.endpoint_id) == [
        Change("bern", FAILING, STANDBY, "demoted", 1),
        Change("london", STANDBY, ACTIVATED, "elected", 2),
        Change("oslo", STANDBY, FAILING, "failing", 1),
        Change("paris", ACTIVATED, FAILING, "failing", 2),
        Change("rome", STANDBY, FAILING, "lease_expired", 1),
    ]


def test_a_first_report_is_a_change_from_booting() -> None:
    before = resource(paris=endpoint())
    assert changes(before, report(before, "paris", ACTIVATED)) == [Change("paris", BOOTING, ACTIVATED, "elected", 1)]


def test_a_heartbeat_a_new_endpoint_and_one_that_is_gone_are_no_changes_of_status() -> None:
    before = resource(paris=holder(), london=waiting())
    assert changes(before, report(before, "paris", ACTIVATED)) == []
    assert changes(before, before.having("oslo", endpoint())) == []
    assert changes(before, before.without("london")) == []
