"""The environment Lambda would give; read when the package's logger and clients are made."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.functions import Deployment

from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing about what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

for name in [name for name in os.environ if name.startswith("AWS_")]:
    # Nothing of the user's account may reach a test.
    del os.environ[name]
os.environ.update(
    AWS_DEFAULT_REGION="eu-west-1",
    AWS_ACCESS_KEY_ID="testing",
    AWS_SECRET_ACCESS_KEY="testing",
    AWS_EC2_METADATA_DISABLED="true",
    POWERTOOLS_SERVICE_NAME="link-webhook",
    POWERTOOLS_METRICS_NAMESPACE="LinkWebhook/test",
)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An AWS account on moto, empty: clients that a test makes talk to it, one call at a time."""
    # Imported where it is used: most tests need none.
    from botocore.client import BaseClient
    from moto import mock_aws

    # moto is not atomic under threads: two conditional writes could both succeed.
    one_at_a_time, call = threading.Lock(), BaseClient._make_api_call  # type: ignore[attr-defined]

    def alone(client: BaseClient, *arguments: Any) -> Any:
        with one_at_a_time:
            return call(client, *arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", alone)
    with mock_aws():
        yield


@pytest.fixture
def deployment(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """The functions with empty tables, and a receiver on loopback."""
    from tests.support.functions import Deployment
    from tests.support.receiver import LoopbackReceiver

    with LoopbackReceiver() as receiver:
        yield Deployment(receiver, monkeypatch)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the figures that tests recorded, e.g. how many fault points were tried."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value} {name}")
