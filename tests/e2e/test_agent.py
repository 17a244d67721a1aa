"""The agent as a real process on two hosts, against the deployed template."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.agents import LEASE_SECONDS, agent, wait_for
from tests.e2e.site import Site


@pytest.fixture
def ids(site: Site) -> tuple[str, str]:
    """The endpoints of paris and london."""
    paris, london = (site.register(host, lease_seconds=LEASE_SECONDS) for host in ("paris", "london"))
    return paris, london


def test_a_host_that_is_stopped_hands_over_and_one_that_is_killed_loses_its_lease(
    site: Site, ids: tuple[str, str], tmp_path: Path
) -> None:
    paris, london = ids
    with agent(site.cloud, tmp_path, "paris", {paris: site.resource_id}) as on_paris:
        wait_for(site, (paris, "ACTIVATED"))
        with agent(site.cloud, tmp_path, "london", {london: site.resource_id}) as on_london:
            wait_for(site, (paris, "ACTIVATED"), (london, "STANDBY"))
            assert on_paris.end() == 0
            wait_for(site, (paris, "STANDBY"), (london, "ACTIVATED"))
            with agent(site.cloud, tmp_path, "paris", {paris: site.resource_id}):
                on_london.end(signal.SIGKILL)
                wait_for(site, (paris, "ACTIVATED"), (london, "STANDBY"))
    told = [(brief[0], brief[1], brief[4]) for brief in (one.brief() for one in site.receiver.requests)]
    assert (paris, "STANDBY", "demoted") in told and (london, "STANDBY", "lease_expired") in told


def test_a_report_for_another_endpoint_that_cannot_count_changes_nothing(
    site: Site, ids: tuple[str, str], tmp_path: Path
) -> None:
    paris, _ = ids
    unknown = "vip-00000000-0000-4000-8000-000000000000"
    with agent(site.cloud, tmp_path, "paris", dict.fromkeys((unknown, paris), site.resource_id)):
        wait_for(site, (paris, "ACTIVATED"))
