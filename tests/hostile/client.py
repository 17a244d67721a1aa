"""`python -m tests.hostile.client CLIENT WARM_UP URL CA`: measure one POST by one client in a process of its own.

The address space of the process is limited, so that a client that allocates without end does not exhaust the machine.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import threading
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

LIMIT_MB = 600


def this_sender(ca: str) -> Callable[[str], str]:
    from link.plugins.webhook.sender import Sender

    sender = Sender(allowed_networks=[ip_network("127.0.0.0/8")], ca_bundle=ca)

    def post(url: str) -> str:
        result = sender.post(url, b"{}", {}, not_after=round(time.time() * 1000) + 60_000)
        return f"{result.kind} {result.reason}".strip()

    return post


def plain_requests(ca: str) -> Callable[[str], str]:
    import requests

    return lambda url: str(requests.post(url, b"{}", timeout=5, verify=ca).status_code)


def requests_hardened(ca: str) -> Callable[[str], str]:
    from requests_hardened import Config, Manager  # type: ignore[import-not-found,import-untyped,unused-ignore]

    manager = Manager(
        Config(
            ip_filter_enable=True,
            ip_filter_allow_loopback_ips=True,
            never_redirect=True,
            default_timeout=(5, 5),
        )
    )
    return lambda url: str(manager.send_request("POST", url, data=b"{}", verify=ca).status_code)


CLIENTS = {"sender": this_sender, "requests": plain_requests, "requests-hardened": requests_hardened}


def peak_mb() -> float:
    """Return the highest memory use of this process."""
    # getrusage would start with the peak of the parent process.
    found = re.search(r"VmHWM:\s+([0-9]+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def main(name: str, warm_up: str, url: str, ca: str) -> None:
    post = CLIENTS[name](ca)
    # The first request of a process imports modules; the attack must not be charged for them.
    post(warm_up)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + (LIMIT_MB << 20), -1))
    mb, cpu, started = peak_mb(), time.process_time(), time.monotonic()
    try:
        outcome = post(url)
    except Exception as error:
        outcome = type(error).__name__
    seconds = time.monotonic() - started
    figures = {
        "seconds": seconds,
        "mb": peak_mb() - mb,
        "cpu": time.process_time() - cpu,
        "outcome": outcome,
        "threads": threading.active_count() - 1,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
