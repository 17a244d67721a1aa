"""How fast what AWS says is followed: `python -m tests.e2e.signal_runs [RESOURCES]`.

It runs on the local cloud, two hosts for each resource, one resource after the other. The events are the recorded ones,
put on the default bus, from where the deployed rules take them. `make test` does not run it: the times say how busy the
machine is, too.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from datetime import UTC, datetime
from typing import Any

from scripts.cloud import ROOT, Cloud, local_cloud
from scripts.demo import PARAMETERS, Receiver, api_body

RESOURCES = 20
PATIENCE_SECONDS = 90
ACCOUNT = "000000000000"


class Run:
    """One kind of event, for one resource after the other."""

    def __init__(self, cloud: Cloud, receiver: Receiver) -> None:
        self.cloud, self.receiver = cloud, receiver

    def register(self, resource_id: str, host: str, signal: dict[str, str]) -> str:
        body = api_body("create")
        body |= {"host": host, "priority": 5 * (host == "paris"), "signals": [signal]}
        body["plugin_config"] |= {"url": self.receiver.url, "resource_id": resource_id, "secret": "secret-0123456789"}
        status, answer = self.cloud.call("POST", "/endpoints", body)
        assert status == 201, answer
        endpoint_id: str = answer["endpoint"]["id"]
        return endpoint_id

    def put(self, name: str, **changes: Any) -> float:
        """Puts a recorded event, as if it happened now; returns when that was."""
        event = json.loads((ROOT / f"events/signal_{name}.json").read_text())
        now = datetime.now(UTC)
        detail = event["detail"] | changes.get("detail", {})
        if "state" in detail and isinstance(detail["state"], dict):
            detail["state"]["timestamp"] = now.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"
        entry = {
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": json.dumps(detail),
            "Resources": changes.get("resources", event["resources"]),
            "Time": now,
        }
        answer = self.cloud.client("events").put_events(Entries=[entry])
        assert answer["FailedEntryCount"] == 0, answer
        return now.timestamp()

    def until(self, endpoint_id: str, status: str, after: float) -> float:
        """When a webhook with this status arrived for an endpoint."""

        def arrived() -> list[float]:
            return [
                arrival.at
                for arrival in self.receiver.arrivals
                if arrival.at >= after
                and (webhook := json.loads(arrival.body))["endpoint_id"] == endpoint_id
                and webhook["status"] == status
            ]

        with self.receiver.changed:
            assert self.receiver.changed.wait_for(arrived, PATIENCE_SECONDS), f"{endpoint_id} gets no {status}"
        return arrived()[0]


def alarms(run: Run, resources: int) -> list[float]:
    """Seconds from the change of an alarm's state until the other host's ACTIVATED."""
    seconds = []
    for number in range(resources):
        arns = {host: f"arn:aws:cloudwatch:eu-west-1:{ACCOUNT}:alarm:{host}-{number}" for host in ("paris", "london")}
        ids = {host: run.register(f"alarm-{number}", host, {"type": "alarm", "arn": arn}) for host, arn in arns.items()}
        for host, arn in arns.items():
            began = run.put("alarm_ok", resources=[arn])
            if host == "paris":
                run.until(ids[host], "ACTIVATED", began)
        time.sleep(1)
        began = run.put("alarm", resources=[arns["paris"]])
        seconds.append(run.until(ids["london"], "ACTIVATED", began) - began)
    return seconds


def spots(run: Run, resources: int) -> tuple[list[float], list[float]]:
    """Seconds from a Spot warning until STANDBY, and until the other host's ACTIVATED."""
    ec2 = run.cloud.client("ec2")
    standby, activated = [], []
    for number in range(resources):
        started = ec2.run_instances(ImageId="ami-12345678", MinCount=2, MaxCount=2)["Instances"]
        instances = dict(zip(("paris", "london"), (one["InstanceId"] for one in started), strict=True))
        ids = {}
        for host, instance in instances.items():
            ids[host] = run.register(f"spot-{number}", host, {"type": "ec2", "instance_id": instance})
            began = time.time()
            look(run.cloud)
            if host == "paris":
                run.until(ids[host], "ACTIVATED", began)
        time.sleep(1)
        began = run.put("spot_warning", detail={"instance-id": instances["paris"]})
        standby.append(run.until(ids["paris"], "STANDBY", began) - began)
        activated.append(run.until(ids["london"], "ACTIVATED", began) - began)
    return standby, activated


def losses(run: Run, resources: int) -> list[float]:
    """Seconds from the end of an instance of which no event tells until the other host's ACTIVATED."""
    ec2 = run.cloud.client("ec2")
    others, ended = {}, []
    for number in range(resources):
        started = ec2.run_instances(ImageId="ami-12345678", MinCount=2, MaxCount=2)["Instances"]
        ids = []
        for host, instance in zip(("paris", "london"), started, strict=True):
            signal = {"type": "ec2", "instance_id": instance["InstanceId"]}
            ids.append(run.register(f"lost-{number}", host, signal))
            began = time.time()
            look(run.cloud)
            if host == "paris":
                run.until(ids[0], "ACTIVATED", began)
        ended.append(started[0]["InstanceId"])
        others[ids[1]] = started[0]["InstanceId"]
    # The local cloud runs no schedule, so the look is started here when a minute begins.
    draw = random.Random("losses")
    offsets = sorted(draw.random() * 59 for _ in ended)
    minute = time.time() // 60 * 60 + 60
    died = {}
    for offset, (other, instance) in zip(offsets, others.items(), strict=True):
        time.sleep(max(0.0, minute + offset - time.time()))
        ec2.terminate_instances(InstanceIds=[instance])
        died[other] = time.time()
    time.sleep(max(0.0, minute + 60 - time.time()))
    look(run.cloud)
    return [run.until(other, "ACTIVATED", began) - began for other, began in died.items()]


def look(cloud: Cloud) -> None:
    """Looks now, and not only when the minute begins."""
    tick = json.loads((ROOT / "events/schedule_tick.json").read_text())
    tick["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    answer = cloud.client("lambda").invoke(
        FunctionName=cloud.outputs["SignalFunctionName"], Payload=json.dumps(tick).encode()
    )
    assert "FunctionError" not in answer, answer["Payload"].read()


def told(name: str, seconds: list[float], limit: float) -> None:
    found = sorted(seconds)
    late = found[max(0, -(-95 * len(found) // 100) - 1)]
    print(
        f"{name}: {found[0]:.2f} / {statistics.median(found):.2f} / {late:.2f} / {found[-1]:.2f} s "
        f"(minimum / median / p95 / maximum of {len(found)}), {sum(one <= limit for one in found)} within {limit} s",
        flush=True,
    )


def main() -> None:
    resources = int(sys.argv[1]) if len(sys.argv) > 1 else RESOURCES
    receiver = Receiver()
    parameters = {**PARAMETERS, "RefreshInterval": "5m", "SignalTypes": "alarm,ec2,ecs,target,zone"}
    with local_cloud(parameters=parameters, name="signals") as cloud:
        run = Run(cloud, receiver)
        told("alarm, until the other host's ACTIVATED", alarms(run, resources), 3)
        standby, activated = spots(run, resources)
        told("Spot warning, until STANDBY", standby, 3)
        told("Spot warning, until the other host's ACTIVATED", activated, 3)
        told("terminated without an event, until the other host's ACTIVATED", losses(run, resources), 75)
    receiver.close()


if __name__ == "__main__":
    main()
