"""A host that answers nothing among 500 targets: `python -m tests.e2e.probe_slots`.

On the local cloud, with the deployed function. It shows when slots begin, how long they take, and who causes an event.
`make test` does not run it: the times say how busy the machine is, too.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable

from link.election.state import Observer
from link.probing.states import Probed, Shard
from link.registration import Registration
from link.store import endpoints
from link.store.probes import to_item
from scripts.cloud import Cloud, local_cloud
from scripts.demo import PARAMETERS, Receiver
from tests.e2e.probe_runs import PATIENCE_SECONDS, Hole, Run, put_slots
from tests.performance.probes import serving

TARGETS = 500
SLOT_SECONDS = 10
SLOTS_AFTER = 4
LIMIT_SECONDS = (21.0, 1.5, 9.0)
"""Until the other host is active; a slot's delay; its duration."""
SLOT_DONE = re.compile(r'"Timestamp":(\d{13})[^\n]*"ProbeSlots":\[1')


class Timed(Hole):
    """A host that knows when it was looked at."""

    def __init__(self) -> None:
        self.looked_at: list[float] = []
        super().__init__()

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                connection = self._socket.accept()[0]
            except TimeoutError:
                continue
            self.looked_at.append(time.time())
            connection.close()


class Events:
    """What the prober puts on the bus from now on."""

    def __init__(self, cloud: Cloud) -> None:
        self._sqs, events = cloud.client("sqs"), cloud.client("events")
        self._queue: str = self._sqs.create_queue(QueueName="told")["QueueUrl"]
        wanted = {"QueueUrl": self._queue, "AttributeNames": ["QueueArn"]}
        arn = self._sqs.get_queue_attributes(**wanted)["Attributes"]["QueueArn"]
        bus = cloud.outputs["EventBusName"]
        events.put_rule(Name="told", EventBusName=bus, EventPattern=json.dumps({"source": ["link.probe"]}))
        events.put_targets(Rule="told", EventBusName=bus, Targets=[{"Id": "told", "Arn": arn}])

    def told(self) -> list[tuple[str, str]]:
        """(endpoint id, status) of each."""
        found = []
        while messages := self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                detail = json.loads(message["Body"])["detail"]
                found.append((detail["endpoint_id"], detail["status"]))
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return found


def crowd(cloud: Cloud, port: int, many: int) -> None:
    """Registrations that nobody elects, known to be up: only the prober sees them."""
    dynamodb = cloud.client("dynamodb")
    known = {f"vip-{number}": Probed(up=True, told=True) for number in range(many)}
    state = {"shard": {"S": "0/1"}, **to_item(Shard(version=1, endpoints=known))}
    dynamodb.put_item(TableName=cloud.outputs["ProbesTableName"], Item=state)
    for number in range(many):
        check = {"type": "HTTP", "host": "127.0.0.1", "port": port, "path": f"/{number}"}
        one = Registration(
            f"vip-{number}", "webhook", f"crowd-{number}", {}, observers=(Observer.PROBE,), checks=(check,)
        )
        dynamodb.put_item(TableName=cloud.outputs["EndpointsTableName"], Item=endpoints.to_item(one))


def until_known(cloud: Cloud) -> None:
    """Wait until the prober has told of every target once."""
    dynamodb, table = cloud.client("dynamodb"), cloud.outputs["ProbesTableName"]
    until, told = time.monotonic() + PATIENCE_SECONDS, 0
    while time.monotonic() < until:
        items = dynamodb.scan(TableName=table)["Items"]
        told = sum(state[-1] is True for item in items for state in json.loads(item["endpoints"]["S"]).values())
        if told == TARGETS:
            return
        time.sleep(1)
    raise TimeoutError(f"{told} of {TARGETS} targets are told")


def slots_after(cloud: Cloud, looked_at: Iterable[float], began: float) -> list[tuple[float, float]]:
    """(delay, duration) of each slot that began since then, in seconds. The function logs its end."""
    ends = [int(found[1]) / 1_000 for found in SLOT_DONE.finditer(cloud.log.read_text(errors="replace"))]
    starts = {round(at // SLOT_SECONDS): at for at in reversed([*looked_at]) if at > began}
    return [(at % SLOT_SECONDS, min(end for end in ends if end > at) - at) for at in sorted(starts.values())]


def main() -> None:
    receiver = Receiver()
    with local_cloud(parameters=PARAMETERS, name="probes") as cloud, serving() as ports:
        crowd(cloud, ports["HTTP"], TARGETS - 2)
        run = Run(cloud, receiver, "slots", Timed, 1)
        put_slots(cloud)
        [(dies, other)] = run.active()
        until_known(cloud)
        events, arrived, began = Events(cloud), len(receiver.arrivals), time.time()
        run.hosts[dies].die()
        active = run.activated({other}, arrived)[other] - began
        survivor = run.hosts[other]
        assert isinstance(survivor, Timed)
        time.sleep(SLOTS_AFTER * SLOT_SECONDS)
        slots, told = slots_after(cloud, survivor.looked_at, began), events.told()
    receiver.close()
    late, took = max(delay for delay, _ in slots), max(duration for _, duration in slots)
    print(
        f"the other host was active after {active:.1f} s; {len(slots)} slots began at most {late:.1f} s late and took "
        f"{min(duration for _, duration in slots):.1f} to {took:.1f} s; events: {told}"
    )
    assert told == [(dies, "FAILING")]
    assert all(found <= limit for found, limit in zip((active, late, took), LIMIT_SECONDS, strict=True))


if __name__ == "__main__":
    main()
