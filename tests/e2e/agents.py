"""Agents as real processes against the deployed template, and what their reports led to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from scripts.cloud import REGION, Cloud
from tests.e2e.site import Site, linkctl_environment
from tests.support.agent import Running, running

LEASE_SECONDS = 15


@contextlib.contextmanager
def agent(
    cloud: Cloud,
    folder: Path,
    host: str,
    endpoints: Mapping[str, str],
    *,
    lease_seconds: int = LEASE_SECONDS,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Run the agent of a host for endpoints, given with their resources."""
    text = f'host = "{host}"\nevent_bus = "{cloud.outputs["EventBusName"]}"\nregion = "{REGION}"\n'
    for endpoint_id, resource_id in endpoints.items():
        text += f'[[endpoints]]\nendpoint_id = "{endpoint_id}"\nresource_id = "{resource_id}"\n'
        text += f"lease_seconds = {lease_seconds}\n"
    file = folder / f"{host}.toml"
    file.write_text(text)
    with running(file, cloud.endpoint_url, **linkctl_environment(cloud, "host"), **(environment or {})) as one:
        yield one


def wait_for(site: Site, *statuses: tuple[str, str]) -> None:
    """Return as soon as the last statuses that the receiver got are these."""
    site.receiver.wait_for(
        lambda requests: dict(brief[:2] for brief in (one.brief() for one in requests)) == dict(statuses)
    )
