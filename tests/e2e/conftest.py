"""The real template, deployed once per test session to a local cloud on loopback."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from scripts import demo
from scripts.cloud import Cloud, local_cloud
from tests.e2e.site import Site
from tests.support.receiver import LoopbackReceiver


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """MiniStack with AUTH=true and the stack in it, deployed as for the demo."""
    # A refresh as early as the demo's would come between the webhooks of other tests.
    parameters = {**demo.PARAMETERS, "RefreshInterval": "15s", "SignalTypes": "alarm,ec2,ecs,target,zone"}
    with local_cloud(parameters=parameters, name="tests") as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[LoopbackReceiver]:
    with LoopbackReceiver() as listening:
        yield listening


@pytest.fixture
def site(cloud: Cloud, receiver: LoopbackReceiver) -> Site:
    return Site(cloud, receiver, f"ip-{uuid.uuid4()}")
