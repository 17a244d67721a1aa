"""Storms: many at once with AWS unwell, and processes that are killed and stopped. `make storm` lasts its full time."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from link.election.state import Observer, Status
from tests.e2e.reporters import deployed_environment
from tests.e2e.site import Site, eventually
from tests.e2e.storm import Faults, Pool, proxy

RANK = {"ACTIVATED": 0, "STANDBY": 1, "FAILING": 2}
SECONDS = float(os.environ.get("STORM_SECONDS", "8"))
REPORTERS, ENDPOINTS = 64, 8
PAUSE = (4, 12)
"""Seconds between two reports of a host. At first all of them report at once."""
MOST_TRIES = 100
"""A report commits within so many conditional writes, each behind one that won."""
SETTLE_SECONDS = 240
"""A claim of a killed process, a message that comes back after 180 s, a backoff."""

Reports = dict[str, list[tuple[int, int, str]]]


def test_nothing_is_lost_when_every_host_reports_while_aws_fails(site: Site, record_property: Any) -> None:
    ids = [site.register(f"host-{n}") for n in range(ENDPOINTS)]
    environment = deployed_environment(site.cloud) | {"WEBHOOK_REFRESH_INTERVAL": "5s"}
    reports: Reports = defaultdict(list)
    injected: Counter[str] = Counter()
    seen: list[int] = []
    with proxy(site.cloud.endpoint_url, Faults(), injected) as url, Pool(url, environment, 4) as pool:
        until = time.monotonic() + SECONDS

        def host(endpoint_id: str) -> None:
            while time.monotonic() < until:
                status = random.choices(("ACTIVATED", "STANDBY", "FAILING"), (8, 1, 1))[0]
                _report(pool, reports, endpoint_id, site.resource_id, status)
                time.sleep(random.uniform(*PAUSE))

        def operator() -> None:
            while time.monotonic() < until:
                holder = site.resource().holder
                if holder is not None:
                    status, _ = site.cloud.call("POST", f"/endpoints/{holder}/failover")
                    injected[f"failover answered {status}"] += 1
                with contextlib.suppress(AssertionError):
                    site.sweep()  # Its reads may time out, as any other's.
                time.sleep(2)

        def observer() -> None:
            while time.monotonic() < until:
                entries = site.resource().endpoints.values()
                seen.append(sum(e.status is Status.ACTIVATED for e in entries))
                time.sleep(0.05)

        _together([*(lambda i=i: host(i) for i in ids * (REPORTERS // ENDPOINTS)), operator, observer])
        eventually("every report was applied", lambda: not pool.asked, SETTLE_SECONDS)
    assert {"lost answer", "throttled", "500"} <= set(injected), "a fault that was never injected"
    assert max(seen) == 1, "never two active"
    assert max(pool.tries) <= MOST_TRIES
    _judged(site, [site.resource_id], reports)
    record_property(
        "reports, most tries, injected", (len(pool.tries), max(pool.tries), dict(injected), dict(pool.errors))
    )


def test_processes_that_are_killed_and_stopped_lose_nothing(site: Site, record_property: Any) -> None:
    sites = [Site(site.cloud, site.receiver, f"ip-{uuid.uuid4()}") for _ in range(3)]
    ids = {one.register(host): one.resource_id for one in sites for host in ("paris", "london")}
    reports: Reports = defaultdict(list)
    site.receiver.answer = lambda: random.choice((204, 500))
    site.receiver.takes = lambda: random.choice((0.0, 0.2, 1.0, 3.0))
    with Pool(site.cloud.endpoint_url, deployed_environment(site.cloud), 4) as pool:
        until = time.monotonic() + SECONDS

        def host(endpoint_id: str) -> None:
            while time.monotonic() < until:
                status = random.choices(("ACTIVATED", "STANDBY", "FAILING"), (3, 1, 1))[0]
                _report(pool, reports, endpoint_id, ids[endpoint_id], status)
                time.sleep(random.uniform(0.1, 2))

        _together([*(lambda i=i: host(i) for i in ids), lambda: pool.strike(until)])
        site.receiver.answer, site.receiver.takes = None, lambda: 0.0
        eventually("every report was applied", lambda: not pool.asked, SETTLE_SECONDS)
        site.sweep()
        _judged(site, sites_of := sorted(set(ids.values())), reports)
        assert len(sites_of) == 3
    assert pool.told["SIGKILL"] and pool.told["SIGSTOP"], "no process was struck"
    record_property(
        "reports, webhooks, strikes", (sum(map(len, reports.values())), len(site.receiver.requests), dict(pool.told))
    )


def _report(pool: Pool, reports: Reports, endpoint_id: str, resource_id: str, status: str) -> None:
    at = pool.report(endpoint_id, resource_id, status)
    reports[endpoint_id].append((at, RANK[status], status))


def _together(tasks: list[Callable[[], None]]) -> None:
    """Runs the tasks side by side; raises the first error of any."""
    errors: list[BaseException] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _judged(site: Site, resource_ids: list[str], reports: Reports) -> None:
    """What tables and receiver's log say, once nothing is owed any more."""
    sites = [Site(site.cloud, site.receiver, resource_id) for resource_id in resource_ids]
    eventually(
        "everything was delivered",
        lambda: not any(e.pending or e.claim for one in sites for e in one.resource().endpoints.values()),
        SETTLE_SECONDS,
    )
    answered = list(zip(site.receiver.requests, site.receiver.answers, strict=True))
    told: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
    arrived: dict[str, list[int]] = defaultdict(list)
    for request, status in answered:
        endpoint_id, wire, epoch, sequence, _ = request.brief()
        arrived[endpoint_id].append(sequence)
        if status == 204:
            told[endpoint_id].append((sequence, wire, epoch))
    for one in sites:
        final = one.resource()
        active = None
        epochs: dict[int, str] = {}
        changes = 0
        for row in one.transitions():
            for change in (entry["M"] for entry in row["changes"]["L"]):
                i, to, sequence = change["endpoint_id"]["S"], change["to"]["S"], int(change["sequence"]["N"])
                changes += 1
                if change["from"]["S"] == "ACTIVATED":
                    assert active == i, "only who is active can stop being it"
                    active = None
            for change in (entry["M"] for entry in row["changes"]["L"]):
                i, to, sequence = change["endpoint_id"]["S"], change["to"]["S"], int(change["sequence"]["N"])
                if to == "ACTIVATED":
                    assert active is None, "never two active"
                    active, epoch = i, int(row["epoch"]["N"])
                    assert epoch == max(epochs, default=0) + 1, "an epoch more for every grant"
                    epochs[epoch] = i
                assert sequence <= max((s for s, _, _ in told[i]), default=0), "told, or superseded by what was told"
        assert changes and active == final.holder
        for i, e in final.endpoints.items():
            assert arrived[i] == sorted(arrived[i]), "nothing older after something newer"
            word = e.words[Observer.HOST]
            assert (word.at, RANK[str(word.status)]) == max(reports[i])[:2], "the newest report is in force"
            wire = "ACTIVATED" if final.holder == i else "STANDBY"
            assert not told[i] or told[i][-1][1] == wire, "the receiver knows the truth"
            for sequence, status, epoch in told[i]:
                assert status == "STANDBY" or epochs[epoch] == i, f"epoch {epoch}, sequence {sequence} is another's"
