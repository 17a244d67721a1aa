"""How fast another host is active after one died: `python -m tests.e2e.probe_runs [RESOURCES]`.

It runs on the local cloud with real listeners, two hosts for each resource, all at the same time. Each active host dies
at a random moment of a minute. `make test` does not run it: the times say how busy the machine is, too.
"""

from __future__ import annotations

import json
import random
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable

from scripts.cloud import Cloud, local_cloud
from scripts.demo import PARAMETERS, Listener, Receiver, api_body, event_bytes

RESOURCES = 20
SPREAD_SECONDS = 60
"""So that few die in one slot: many at once are not believed."""
PATIENCE_SECONDS = 180


class Hole(Listener):
    """A host that answers no connection request any more when it is dead: its queue is full."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[socket.socket] = []

    def die(self) -> None:
        """Accept nothing more, and fill the queue until a connection request has no answer."""
        self.stop()
        self._socket.listen(0)
        while True:
            one = socket.socket()
            one.settimeout(0.5)
            self._held.append(one)
            try:
                one.connect(("127.0.0.1", self.port))
            except TimeoutError:
                return


class Run:
    """One kind of death, for many resources at once."""

    def __init__(
        self, cloud: Cloud, receiver: Receiver, kind: str, host: Callable[[], Listener], resources: int
    ) -> None:
        self.cloud, self.receiver, self.kind = cloud, receiver, kind
        self.hosts: dict[str, Listener] = {}
        self.pairs: list[tuple[str, str]] = []
        for number in range(resources):
            first, second = (self._register(f"{kind}-{number}", name, host()) for name in ("paris", "london"))
            self.pairs.append((first, second))

    def _register(self, resource_id: str, host: str, listener: Listener) -> str:
        body = api_body("create")
        body |= {"host": host, "priority": 5 * (host == "paris")}
        body["checks"] = [{"type": "TCP", "host": "127.0.0.1", "port": listener.port}]
        body["plugin_config"] |= {"url": self.receiver.url, "resource_id": resource_id, "secret": "secret-0123456789"}
        status, answer = self.cloud.call("POST", "/endpoints", body)
        assert status == 201, answer
        endpoint_id: str = answer["endpoint"]["id"]
        self.hosts[endpoint_id] = listener
        return endpoint_id

    def active(self) -> list[tuple[str, str]]:
        """(active, other) of each resource; waits until each has an active one and another that is ready."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            found = [self._active(number) for number in range(len(self.pairs))]
            if None not in found:
                return [one for one in found if one is not None]
            time.sleep(2)
        raise TimeoutError(f"not every resource has two ready endpoints: {found}")

    def _active(self, number: int) -> tuple[str, str] | None:
        _, answer = self.cloud.call("GET", f"/resources?resource_id={self.kind}-{number}")
        resource = answer["resource"]
        if not all(one["ready"] for one in resource["candidates"]) or resource["holder"] is None:
            return None
        first, second = self.pairs[number]
        return (first, second) if resource["holder"] == first else (second, first)

    def seconds(self) -> list[float]:
        """Seconds from each death until the other host's ACTIVATED arrived."""
        draw, died = random.Random(self.kind), dict[str, float]()
        pairs, began = self.active(), len(self.receiver.arrivals)

        def dies(endpoint_id: str, other: str, after: float) -> None:
            time.sleep(after)
            self.hosts[endpoint_id].die()
            died[other] = time.time()

        for pair in pairs:
            after = draw.random() * SPREAD_SECONDS
            threading.Thread(target=dies, args=(*pair, after), daemon=True).start()
        active = self.activated({other for _, other in pairs}, began)
        came = [(webhook["endpoint_id"], webhook["status"]) for webhook in self._webhooks(began)]
        for dead, other in pairs:
            assert came.index((dead, "STANDBY")) < came.index((other, "ACTIVATED")), "break before make"
        return [at - died[other] for other, at in active.items()]

    def _webhooks(self, began: int) -> list[dict[str, str]]:
        return [json.loads(arrival.body) for arrival in self.receiver.arrivals[began:]]

    def activated(self, others: set[str], began: int) -> dict[str, float]:
        """When ACTIVATED arrived for each of these endpoints, from this arrival on; waits until all did."""

        def found() -> dict[str, float]:
            arrivals: dict[str, float] = {}
            for arrival in self.receiver.arrivals[began:]:
                webhook = json.loads(arrival.body)
                if webhook["status"] == "ACTIVATED" and webhook["endpoint_id"] in others:
                    arrivals.setdefault(webhook["endpoint_id"], arrival.at)
            return arrivals

        with self.receiver.changed:
            done = self.receiver.changed.wait_for(lambda: others <= found().keys(), PATIENCE_SECONDS)
        assert done, f"of {len(others)} only {len(found())} are active"
        return found()


def put_slots(cloud: Cloud) -> None:
    """Put the slots of this minute. Those of the next ones come by the rule of the clock."""
    tick = {**json.loads(event_bytes()), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    cloud.client("lambda").invoke(
        FunctionName=cloud.outputs["ProbeClockFunctionName"], Payload=json.dumps(tick).encode()
    )


def main() -> None:
    resources = int(sys.argv[1]) if len(sys.argv) > 1 else RESOURCES
    receiver = Receiver()
    parameters = {**PARAMETERS, "RefreshInterval": "5m"}
    with local_cloud(parameters=parameters, name="probes") as cloud:
        for kind, host, limit in (("refused", Listener, 16), ("hole", Hole, 21)):
            run = Run(cloud, receiver, kind, host, resources)
            if kind == "refused":
                put_slots(cloud)
            found = sorted(run.seconds())
            print(
                f"{kind}: {found[0]:.1f} / {statistics.median(found):.1f} / {found[-1]:.1f} s "
                f"(minimum / median / maximum of {len(found)}), {sum(one <= limit for one in found)} within {limit} s",
                flush=True,
            )
    receiver.close()


if __name__ == "__main__":
    main()
