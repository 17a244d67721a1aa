"""What an entry says about itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from link.election.state import Endpoint, Status
from tests.support.entries import ACTIVATED, BOOTING, FAILING, STANDBY, endpoint, holder, resource, waiting
from tests.support.ids import NOW


@pytest.mark.parametrize(
    ("e", "ready"),
    [
        pytest.param(holder(), True, id="it reported ACTIVATED"),
        pytest.param(waiting(reported=STANDBY), False, id="it reported STANDBY"),
        pytest.param(waiting(reported=FAILING), False, id="it reported FAILING"),
        pytest.param(endpoint(), False, id="it never reported"),
        pytest.param(waiting(deleting=True), False, id="it is being deleted"),
        pytest.param(waiting(lease_expires_at=NOW + 1), True, id="its lease runs"),
        pytest.param(waiting(lease_expires_at=NOW), False, id="its lease ends now"),
    ],
)
def test_which_endpoint_can_be_elected(e: Endpoint, ready: bool) -> None:
    assert e.ready(NOW) is ready


@pytest.mark.parametrize(
    ("status", "wire"), [(BOOTING, STANDBY), (ACTIVATED, ACTIVATED), (STANDBY, STANDBY), (FAILING, STANDBY)]
)
def test_a_receiver_gets_activated_or_standby(status: Status, wire: Status) -> None:
    assert endpoint(status=status).wire is wire


@pytest.mark.parametrize(
    ("e", "pending", "since"),
    [
        pytest.param(waiting(), False, 0, id="delivered"),
        pytest.param(waiting(sequence=2, announced_at=NOW - 7), True, NOW - 7, id="announced"),
        pytest.param(waiting(requested_at=NOW), True, NOW, id="requested again"),
        pytest.param(waiting(sequence=2, announced_at=NOW - 7, requested_at=NOW), True, NOW - 7, id="both"),
    ],
)
def test_since_when_a_status_is_pending(e: Endpoint, pending: bool, since: int) -> None:
    assert (e.pending, e.pending_since if pending else 0) == (pending, since)


def test_an_item_is_the_same_object_only_when_nothing_changes() -> None:
    r = resource(paris=holder(), london=waiting())
    assert r.having("paris", holder()) is r
    changed = r.having("paris", holder(priority=1))
    assert changed == replace(r, endpoints={**r.endpoints, "paris": holder(priority=1)}) != r
    assert r.without("paris").endpoints == {"london": waiting()}
