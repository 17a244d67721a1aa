"""The agent as a real process on two hosts, against the deployed template."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.cloud import REGION
from tests.e2e.site import Site, linkctl_environment
from tests.support.agent import Running, running

LEASE_SECONDS = 15


@contextlib.contextmanager
def agent(site: Site, folder: Path, host: str, *endpoint_ids: str) -> Iterator[Running]:
    """Run the agent of a host for endpoints of the site's resource."""
    text = f'host = "{host}"\nevent_bus = "{site.cloud.outputs["EventBusName"]}"\nregion = "{REGION}"\n'
    for endpoint_id in endpoint_ids:
        text += f'[[endpoints]]\nendpoint_id = "{endpoint_id}"\nresource_id = "{site.resource_id}"\n'
        text += f"lease_seconds = {LEASE_SECONDS}\n"
    file = folder / f"{host}.toml"
    file.write_text(text)
    with running(file, site.cloud.endpoint_url, **linkctl_environment(site.cloud, "host")) as one:
        yield one


def wait_for(site: Site, *statuses: tuple[str, str]) -> None:
    """Return as soon as the last statuses that the receiver got are these."""
    site.receiver.wait_for(
        lambda requests: dict(brief[:2] for brief in (one.brief() for one in requests)) == dict(statuses)
    )


@pytest.fixture
def ids(site: Site) -> tuple[str, str]:
    """The endpoints of paris and london."""
    paris, london = (site.register(host, lease_seconds=LEASE_SECONDS) for host in ("paris", "london"))
    return paris, london


def test_a_host_that_is_stopped_hands_over_and_one_that_is_killed_loses_its_lease(
    site: Site, ids: tuple[str, str], tmp_path: Path
) -> None:
    paris, london = ids
    with agent(site, tmp_path, "paris", paris) as on_paris:
        wait_for(site, (paris, "ACTIVATED"))
        with agent(site, tmp_path, "london", london) as on_london:
            wait_for(site, (paris, "ACTIVATED"), (london, "STANDBY"))
            assert on_paris.end() == 0
            wait_for(site, (paris, "STANDBY"), (london, "ACTIVATED"))
            with agent(site, tmp_path, "paris", paris):
                on_london.end(signal.SIGKILL)
                wait_for(site, (paris, "ACTIVATED"), (london, "STANDBY"))
    told = [(brief[0], brief[1], brief[4]) for brief in (one.brief() for one in site.receiver.requests)]
    assert (paris, "STANDBY", "demoted") in told and (london, "STANDBY", "lease_expired") in told


def test_a_report_for_another_endpoint_that_cannot_count_changes_nothing(
    site: Site, ids: tuple[str, str], tmp_path: Path
) -> None:
    paris, _ = ids
    unknown = "vip-00000000-0000-4000-8000-000000000000"
    with agent(site, tmp_path, "paris", unknown, paris):
        wait_for(site, (paris, "ACTIVATED"))
