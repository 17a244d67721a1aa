"""Whether the agent keeps its limits on the local cloud.

`PYTHONPATH=cli:layers/shared python -m tests.e2e.agent_limits [NAME…]` prints a line per limit and takes half an hour.
The exit status is 1 if a limit is missed. `make test` does not run it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from link.election.state import Observer
from scripts.cloud import Cloud, local_cloud
from tests.e2e.agent_runs import spread
from tests.e2e.agents import LEASE_SECONDS, agent, wait_for
from tests.e2e.site import Site, eventually
from tests.support.agent import SECONDS, Running, Supervisor
from tests.support.receiver import LoopbackReceiver

TERM_RUNS, KILL_RUNS, PAUSE_RUNS = 20, 10, 3
PAUSE_SECONDS = 60
AWAY_SECONDS = 600
WATCHDOG_SECONDS = 30
BEATS = 4
HUNDRED_LEASE_SECONDS = 60
EVENT = ("EventBridge → SQS", "StatusQueue")
"""What the local cloud logs for each event that it hands on."""
ACTIVATED_SECONDS, EXIT_SECONDS, KILLED_SECONDS = 2.0, 3.5, LEASE_SECONDS + 2.0


@dataclass
class Pair:
    """Paris is active, london is ready; each has its agent."""

    site: Site
    paris: str
    london: str
    on_paris: Running
    supervisor: Supervisor

    def until_london_is_activated(self, began: float) -> float:
        """Return the seconds from a monotonic time to the arrival of london's first ACTIVATED, at most."""
        wait_for(self.site, (self.paris, "STANDBY"), (self.london, "ACTIVATED"))
        return time.monotonic() - began

    def until_heard(self, endpoint_id: str, since_ms: int) -> float:
        """Return the seconds from a Unix time until a report from then or later is stored."""
        eventually("a report is stored", lambda: reported_at(self.site, endpoint_id) >= since_ms, SECONDS)
        return (unix_ms() - since_ms) / 1_000


@contextlib.contextmanager
def pair(cloud: Cloud) -> Iterator[Pair]:
    """Two hosts for one resource. At the end: never were two endpoints ACTIVATED, by the audit and the receiver."""
    with (
        LoopbackReceiver() as receiver,
        tempfile.TemporaryDirectory() as name,
        Supervisor(Path(name) / "notify") as supervisor,
    ):
        site, folder = Site(cloud, receiver, f"ip-{uuid.uuid4()}"), Path(name)
        paris, london = (site.register(host, lease_seconds=LEASE_SECONDS) for host in ("paris", "london"))
        watched = {"NOTIFY_SOCKET": str(supervisor.path), "WATCHDOG_USEC": str(WATCHDOG_SECONDS * 1_000_000)}
        with agent(cloud, folder, "paris", {paris: site.resource_id}, environment=watched) as on_paris:
            wait_for(site, (paris, "ACTIVATED"))
            with agent(cloud, folder, "london", {london: site.resource_id}):
                wait_for(site, (paris, "ACTIVATED"), (london, "STANDBY"))
                yield Pair(site, paris, london, on_paris, supervisor)
        told = (request.brief()[:2] for request in receiver.requests)
        assert most_active(told) == most_active(audited(site)) == 1, "two were ACTIVATED at the same time"


def audited(site: Site) -> Iterator[tuple[str, str]]:
    """Yield endpoint and status of each change. One write takes the lock from one endpoint and gives it to another."""
    for row in site.transitions():
        changes = [(one["M"]["endpoint_id"]["S"], one["M"]["to"]["S"]) for one in row["changes"]["L"]]
        yield from sorted(changes, key=lambda change: change[1] == "ACTIVATED")


def most_active(statuses: Iterable[tuple[str, str]]) -> int:
    """Return how many endpoints were ACTIVATED at the same time, at most.

    >>> most_active([("paris", "ACTIVATED"), ("london", "ACTIVATED"), ("paris", "STANDBY")])
    2
    """
    last: dict[str, str] = {}
    most = 0
    for endpoint_id, status in statuses:
        last[endpoint_id] = status
        most = max(most, list(last.values()).count("ACTIVATED"))
    return most


def reported_at(site: Site, endpoint_id: str) -> int:
    """Return when the host made the report that is in force, in Unix milliseconds; 0 without one."""
    word = site.resource().endpoints[endpoint_id].words.get(Observer.HOST)
    return word.at if word else 0


def unix_ms() -> int:
    return time.time_ns() // 1_000_000


@contextlib.contextmanager
def stopped(cloud: Cloud) -> Iterator[None]:
    """Stop the cloud and its functions: connections to it hang, and it keeps its state."""
    os.killpg(cloud.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(cloud.pid, signal.SIGCONT)


def limited(what: str, seconds: list[float], limit: float) -> bool:
    """Print a figure; return whether it keeps its limit."""
    kept = max(seconds) <= limit
    print(f"{what}: {spread(seconds)}, limit {limit:g} s{'' if kept else ': MISSED'}", flush=True)
    return kept


def left(two: Pair) -> float:
    """Send SIGTERM to the agent on paris; return the seconds until it has ended, with status 0."""
    began = time.monotonic()
    assert two.on_paris.end() == 0, two.on_paris.log.read_text()
    return time.monotonic() - began


def term(cloud: Cloud) -> bool:
    exits: list[float] = []
    cold: list[float] = []
    warm: list[float] = []
    for _ in range(TERM_RUNS):
        with pair(cloud) as two:
            began, starts = time.monotonic(), cold_starts(cloud)
            exits.append(left(two))
            seconds = two.until_london_is_activated(began)
            (cold if cold_starts(cloud) > starts else warm).append(seconds)
    what = f"SIGTERM, {TERM_RUNS} runs"
    kept = limited(f"{what}: the other's ACTIVATED", cold + warm, ACTIVATED_SECONDS)
    if cold and warm:
        print(f"  {len(cold)} met a cold start of the function that applies reports: {spread(cold)}")
        print(f"  {len(warm)} did not: {spread(warm)}")
    return limited(f"{what}: exit", exits, EXIT_SECONDS) and kept


def cold_starts(cloud: Cloud) -> int:
    """Return how often the local cloud has started a process for the function that applies reports."""
    return logged(cloud, "worker spawned", "EndpointStatusFunction")


def logged(cloud: Cloud, *words: str) -> int:
    """Return how many lines of the local cloud's log have all the words."""
    lines = cloud.log.read_text(errors="replace").splitlines()
    return sum(all(word in line for word in words) for line in lines)


def term_away(cloud: Cloud) -> bool:
    exits = []
    for _ in range(TERM_RUNS):
        with pair(cloud) as two, stopped(cloud):
            exits.append(left(two))
    return limited(f"SIGTERM with the cloud stopped, {TERM_RUNS} runs: exit", exits, EXIT_SECONDS)


def kill(cloud: Cloud) -> bool:
    activated = []
    for _ in range(KILL_RUNS):
        with pair(cloud) as two:
            # The worst moment: the lease has just begun again.
            two.until_heard(two.paris, unix_ms())
            began = time.monotonic()
            two.on_paris.end(signal.SIGKILL)
            activated.append(two.until_london_is_activated(began))
    return limited(f"SIGKILL right after a report, {KILL_RUNS} runs: the other's ACTIVATED", activated, KILLED_SECONDS)


def pause(cloud: Cloud) -> bool:
    activated, heard = [], []
    for _ in range(PAUSE_RUNS):
        with pair(cloud) as two:
            began = time.monotonic()
            two.on_paris.send(signal.SIGSTOP)
            activated.append(two.until_london_is_activated(began))
            time.sleep(began + PAUSE_SECONDS - time.monotonic())
            continued = unix_ms()
            two.on_paris.send(signal.SIGCONT)
            heard.append(two.until_heard(two.paris, continued))
            two.until_heard(two.paris, continued + LEASE_SECONDS * 1_000)
            assert two.site.resource().holder == two.london
    what = f"SIGSTOP for {PAUSE_SECONDS} s, {PAUSE_RUNS} runs"
    print(f"{what}: never two ACTIVATED, the agent's next report after SIGCONT after {spread(heard)}", flush=True)
    return limited(f"{what}: the other's ACTIVATED", activated, KILLED_SECONDS)


def away(cloud: Cloud) -> bool:
    with pair(cloud) as two:
        with stopped(cloud):
            until = time.monotonic() + AWAY_SECONDS
            pings = fed = two.supervisor.notes.count("WATCHDOG=1")
            while time.monotonic() < until:
                time.sleep(WATCHDOG_SECONDS)
                last, fed = fed, two.supervisor.notes.count("WATCHDOG=1")
                assert fed > last, f"no ping in {WATCHDOG_SECONDS} s: systemd would restart the agent"
        returned = unix_ms()
        two.on_paris.wait_for_log("events can be put again")
        accepted = (unix_ms() - returned) / 1_000
        heard = [two.until_heard(id, returned) for id in (two.paris, two.london)]
        eventually("a holder with a lease is told so", lambda: has_told_holder(two.site), SECONDS)
        settled = (unix_ms() - returned) / 1_000
        assert two.on_paris.process.poll() is None and two.supervisor.notes.count("READY=1") == 1
    print(
        f"the cloud away for {AWAY_SECONDS} s: the same process, {fed - pings} pings of the watchdog; after the return "
        f"an event is accepted within {accepted:.2f} s, both hosts' reports are stored within {max(heard):.2f} s, "
        f"a holder is told within {settled:.2f} s",
        flush=True,
    )
    return True


def has_told_holder(site: Site) -> bool:
    resource = site.resource()
    if resource.holder is None:
        return False
    holder = resource.endpoints[resource.holder]
    return not holder.pending and (holder.lease_expires_at or 0) > unix_ms()


def hundred(cloud: Cloud) -> bool:
    unknown = f"vip-{uuid.uuid4()}"
    rejected: list[int] = []
    """When each rejected report was made. All reports of one event have the same time, and each event has another."""

    def took_in(events: int) -> bool:
        sqs, queue = cloud.client("sqs"), cloud.outputs["RejectedEventsQueueUrl"]
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            detail = json.loads(message["Body"])["event"]["detail"]
            rejected.extend(detail["at"] for one in detail["reports"] if one["endpoint_id"] == unknown)
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return len(rejected) >= events and all(reported_at(site, id) == max(rejected) for id, site in sites.items())

    with LoopbackReceiver() as receiver, tempfile.TemporaryDirectory() as name:
        new = [Site(cloud, receiver, f"ip-{uuid.uuid4()}") for _ in range(99)]
        sites = {site.register("paris", lease_seconds=HUNDRED_LEASE_SECONDS): site for site in new}
        endpoints = {endpoint_id: site.resource_id for endpoint_id, site in sites.items()} | {unknown: "unknown"}
        before = logged(cloud, *EVENT)
        with agent(cloud, Path(name), "paris", endpoints, lease_seconds=HUNDRED_LEASE_SECONDS) as on_paris:
            for events in range(1, BEATS + 1):
                eventually("99 are applied and 1 is rejected", functools.partial(took_in, events), SECONDS)
            assert on_paris.end() == 0
        eventually("the same for STANDBY", lambda: took_in(BEATS + 1), SECONDS)
    events = logged(cloud, *EVENT) - before
    assert len(rejected) == len(set(rejected)) == events, (rejected, events)
    gaps = [(after - before) / 1_000 for before, after in itertools.pairwise(sorted(rejected)[:-1])]
    print(
        f"100 endpoints, one unknown, a lease of {HUNDRED_LEASE_SECONDS} s: {BEATS + 1} times 99 reports applied and 1 "
        f"rejected; {events} events, {spread(gaps)} apart but for the last",
        flush=True,
    )
    return True


RUNS: dict[str, Callable[[Cloud], bool]] = {one.__name__: one for one in (away, term, term_away, kill, pause, hundred)}


def main() -> int:
    chosen = sys.argv[1:] or list(RUNS)
    with local_cloud(parameters={"AllowedNetworks": "127.0.0.0/8"}, name="agent") as cloud:
        kept = [RUNS[name](cloud) for name in chosen]
    print("Times: minimum / median / maximum.")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
