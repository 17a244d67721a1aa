"""SIGKILL at three moments of a delivery; the deployed functions bring it to its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from link.election.state import Status
from tests.e2e.reporters import deployed_environment
from tests.e2e.site import Site, eventually

ROOT = Path(__file__).parents[2]
MOMENTS = ["before the webhook", "after the webhook", "before the outcome is written"]


def test_a_process_killed_in_the_middle_of_a_delivery_loses_nothing(site: Site) -> None:
    sites = [Site(site.cloud, site.receiver, f"ip-{uuid.uuid4()}") for _ in MOMENTS]
    ids = [one.register("paris") for one in sites]
    environment = deployed_environment(site.cloud)
    victims = []
    for one, endpoint_id, moment in zip(sites, ids, MOMENTS, strict=True):
        detail = {"endpoint_id": endpoint_id, "status": "ACTIVATED", "resource_id": one.resource_id}
        event = {"id": moment, "source": "link", "detail": {**detail, "reported_at": time.time_ns() // 1_000_000}}
        order = {
            "endpoint_url": site.cloud.endpoint_url,
            "environment": environment,
            "moment": moment,
            "event": event,
        }
        command = [sys.executable, "-m", "tests.e2e.victim", json.dumps(order)]
        paths = os.pathsep.join([str(ROOT / "layers/shared"), str(ROOT)])
        victims.append(subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}))
    for moment, victim in zip(MOMENTS, victims, strict=True):
        assert victim.wait(60) == -signal.SIGKILL, moment
    for one, endpoint_id in zip(sites, ids, strict=True):
        e = one.resource().endpoints[endpoint_id]
        assert e.pending and e.claim is not None, "it died with the claim in its hands"

    # The dead process's claim lasts 15 s; its wake-up or the sweep's brings the next one.
    site.sweep()
    for one, endpoint_id, moment in zip(sites, ids, MOMENTS, strict=True):
        eventually(
            f"delivered, killed {moment}", lambda one=one, id=endpoint_id: not one.resource().endpoints[id].pending
        )
        told = [r.brief() for r in site.receiver.requests]
        requests = [brief for brief in told if brief[0] == endpoint_id and brief[-1] != "refresh"]
        assert set(requests) == {(endpoint_id, "ACTIVATED", 1, 1, "elected")}
        assert len(requests) == (1 if moment == "before the webhook" else 2), "at least once, and once more if unsure"
        assert one.resource().endpoints[endpoint_id].status is Status.ACTIVATED
