"""Lambda's recursion detection: what it would break if the template did not allow the loop of wake-ups."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest

from link.election.state import Status
from tests.simulation import cloud as simulation
from tests.simulation import promises
from tests.simulation.cloud import CHAIN, START, Cloud, simulated
from tests.simulation.histories import Story
from tests.simulation.promises import Broken

HEARTBEAT_MS = 2_000
LEASE_SECONDS = 5


@pytest.fixture(autouse=True)
def edges() -> Iterator[None]:
    with simulated():
        yield


def silence(falls_silent_at: int, *, allowed: bool) -> tuple[Cloud, str | None]:
    """A holder with a lease falls silent, and nothing else happens; the cloud afterwards, and the broken promise."""
    cloud = Cloud(latency=lambda: 5, call_ms=10, recursion_allowed=allowed)
    simulation.enter(cloud)
    story = Story(cloud)

    def heartbeat() -> None:
        if cloud.now < START + falls_silent_at:
            story.report("paris", Status.ACTIVATED)
            cloud.at(HEARTBEAT_MS, heartbeat)

    story.host("paris", lease=LEASE_SECONDS, priority=5)
    story.host("london")
    story.register("paris")
    story.register("london")
    cloud.at(1_000, heartbeat)
    cloud.at(1_500, lambda: story.report("london", Status.ACTIVATED))
    try:
        # The oracle "calls" has a limit for shorter histories.
        with mock.patch.object(promises, "CALLS", 10_000):
            cloud.run(START + falls_silent_at + 20_000)
    except Broken as broken:
        return cloud, str(broken)
    return cloud, None


def test_with_recursion_detection_a_chain_is_cut_and_the_end_of_a_lease_is_seen_late() -> None:
    histories = [silence(at, allowed=False) for at in range(30_000, 180_000, 5_000)]
    assert any(cloud.queue.dropped for cloud, _ in histories)
    late = [broken for _, broken in histories if broken]
    assert late
    assert all("promise 7" in broken and "the lease of" in broken for broken in late)


def test_with_the_loop_allowed_the_same_histories_keep_every_promise() -> None:
    histories = [silence(at, allowed=True) for at in range(30_000, 180_000, 5_000)]
    assert [broken for _, broken in histories if broken] == []
    assert not any(cloud.queue.dropped for cloud, _ in histories)


def test_a_chain_begins_with_each_report_and_each_sweep() -> None:
    cloud = Cloud(recursion_allowed=False)
    simulation.enter(cloud)
    chains = []
    with mock.patch.object(cloud, "wake_up", lambda message, *, chain: chains.append(chain)):
        for chain in (0, 1, CHAIN):
            process = simulation.Process("handlers-0", 0, cloud, chain=chain)
            cloud.current = cloud.start(process, lambda: None)
            cloud.queue.send_message(cloud.settings.wake_up_queue_url, '{"due_at": 0}')
            cloud.current = None  # type: ignore[assignment]
        cloud.run(START)
    assert chains == [1, 2, CHAIN + 1]
