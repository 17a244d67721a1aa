"""`make cost`: writes docs/cost.md from the counted calls in budget.toml and the prices and quotas in prices.toml."""

from __future__ import annotations

import functools
import re
import sys
import textwrap
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.cloud import template

HERE = Path(__file__).parent
BUDGET = tomllib.loads((HERE / "budget.toml").read_text())
_TABLE = tomllib.loads((HERE / "prices.toml").read_text())
PRICES: dict[str, float] = _TABLE["prices"]
ASSUMED: dict[str, float] = _TABLE["assumptions"]
QUOTAS: dict[str, float] = _TABLE["quotas"]
PUT_EVENTS: dict[str, float] = _TABLE["put_events"]
WEBHOOKS: dict[str, list[str]] = _TABLE["webhooks"]

HOURS = 730
MINUTES = HOURS * 60
SECONDS = MINUTES * 60
SIZES = (10, 1_000, 100_000, 1_000_000)
SHARDS = 8
MILLION = 1e6
SLOT_SECONDS, TARGETS_SECONDS, COMPARE_SECONDS = 10, 30, 300
"""How often a shard's slot, its list of targets and the words of its lock items are read."""
LONGEST_SLOT_SECONDS = 9
LOOK_SECONDS, DESCRIBED_AT_ONCE = 10, 4
"""How long a look at signals asks at most, and how many calls it makes at a time."""
MEGABYTES_OF_A_VCPU = 1_769
EVENT_BYTES = 65_536
"""EventBridge charges an event for each 64 KB."""
LEASED = "a minute with leases of 60 s: six heartbeats"
HANDOVER = "handover, two webhooks"
CALLED = {"SendMessage": "SQS sends", "Decrypt": "KMS decrypts", "POSTs": "webhooks"}

Dollars = Counter[str]


@dataclass(frozen=True)
class Setting:
    """One way to run the deployment."""

    refresh_minutes: float = 5
    heartbeats: bool = False
    tracing: bool = True
    remembered: bool = False
    """Whether secrets are already in memory: few endpoints, warm processes."""


def cost(path: str, *, events: int = 1, swept: bool = False, remembered: bool = False) -> Dollars:
    """Dollars of one path, once, by service. Assumes one message per invocation, which costs most."""
    counted = dict(zip(BUDGET["paths"]["columns"], BUDGET["paths"][path], strict=True))
    reads, writes, sends, decrypts, posts = (
        counted[name] for name in ("items read", "items written", "SendMessage", "Decrypt", "POSTs")
    )
    decrypts = 0 if remembered else decrypts
    invocations = events + sends
    # The sweep sends batches of ten: a tenth of a request per message. Each message is received and deleted.
    requests = (0.1 if swept else events) + sends + 2 * invocations
    calls = reads + writes + sends + decrypts
    took_ms = calls * ASSUMED["aws_call_ms"] + posts * ASSUMED["receiver_ms"] + invocations * ASSUMED["cpu_ms"]
    printed = (
        invocations * ASSUMED["platform_log_bytes"]
        + posts * BUDGET["log_bytes"]["refresh" if path == "refresh" else "change of status, one webhook"]
    )
    return Counter(
        {
            "DynamoDB": _million("DynamoDB write, million units", counted["write units"])
            + _million("DynamoDB read, million units", counted["read units"]),
            "Lambda": _million("Lambda, million requests", invocations)
            + _million("Lambda arm64, million GB-seconds", took_ms / 1000 * ASSUMED["memory_gb"]),
            "SQS": _million("SQS standard, million requests", requests),
            "EventBridge": 0 if swept else _million("EventBridge custom events, million", events),
            "KMS": _million("KMS, million requests", decrypts),
            "Logs": printed / 1e9 * PRICES["CloudWatch Logs, GB"],
            "Transfer": posts * ASSUMED["webhook_wire_bytes"] / 1e9 * PRICES["Data transfer out, GB"],
        }
    )


def month(resources: int, setting: Setting) -> Dollars:
    """Dollars a month, by service."""
    refreshes = MINUTES / setting.refresh_minutes
    bill = times(refreshes, cost("refresh", swept=True, remembered=setting.remembered))
    bill.update(times(ASSUMED["handovers_a_month"], cost(HANDOVER, remembered=setting.remembered)))
    if setting.heartbeats:
        bill.update(times(MINUTES, cost(LEASED, events=6)))
    bill = times(resources, bill)
    bill["DynamoDB"] += resources * ASSUMED["stored_bytes"] / 1e9 * PRICES["DynamoDB storage, GB-month"]
    if setting.tracing:
        bill["X-Ray"] = (
            _million("X-Ray, million traces", sum(map(_traced, rates(resources, setting).values()))) * SECONDS
        )
    bill.update(fixed())
    return bill


def beat(endpoints: int, *, together: bool) -> Dollars:
    """Dollars of one heartbeat of a host with so many endpoints: an event each, or one `Host Report`."""
    each = cost("heartbeat with a lease")
    if not together:
        return times(endpoints, each)
    # One event, message and invocation. Each report has its own read and write, and no less CPU than alone.
    counted = dict(zip(BUDGET["paths"]["columns"], BUDGET["paths"]["heartbeat with a lease"], strict=True))
    calls_ms = (counted["items read"] + counted["items written"]) * ASSUMED["aws_call_ms"]
    took_ms = endpoints * ASSUMED["cpu_ms"] + calls_ms * -(-endpoints // ASSUMED["reports_at_a_time"])
    chunks = -(-endpoints * ASSUMED["report_bytes"] // EVENT_BYTES)
    return Counter(
        {
            **each,
            "DynamoDB": endpoints * each["DynamoDB"],
            "Lambda": _million("Lambda, million requests", 1)
            + _million("Lambda arm64, million GB-seconds", took_ms / 1000 * ASSUMED["memory_gb"]),
            "EventBridge": _million("EventBridge custom events, million", chunks),
        }
    )


def probes(endpoints: int, kind: str, *, seconds: int = 10) -> Dollars:
    """Dollars a month of looking at so many endpoints with one check each, of which all are up, by service.

    A shard has 500 endpoints, or 250 by HTTPS, and all endpoints in it the same interval. So a slot looks at a part of
    them, and its invocation is paid whatever there is to do.
    """
    shards = -(-endpoints // (250 if kind == "HTTPS" else 500))
    slots, of_shard = shards * SECONDS / SLOT_SECONDS, endpoints / shards
    looks = of_shard * SLOT_SECONDS / seconds
    vcpus = ASSUMED["probe_memory_gb"] * 1024 / MEGABYTES_OF_A_VCPU
    took_ms = max(ASSUMED["probe_slot_ms"], looks * ASSUMED[f"{kind}_cpu_ms"] / vcpus)

    def read(size: float) -> float:
        # Eventually consistent: half a unit for 4 KB.
        return -(-size // 4096) / 2

    state = read(of_shard * ASSUMED["probe_state_bytes"])
    targets = read(of_shard * ASSUMED["probe_target_bytes"]) * SLOT_SECONDS / TARGETS_SECONDS
    compared = of_shard / ASSUMED["endpoints_per_resource"] * read(1) * SLOT_SECONDS / COMPARE_SECONDS
    return Counter(
        {
            # Sent six at a time, received and deleted.
            "SQS": _million("SQS standard, million requests", slots * (2 + 1 / 6)),
            "Lambda": slots
            * (
                _million("Lambda, million requests", 1)
                + _million("Lambda arm64, million GB-seconds", took_ms / 1000 * ASSUMED["probe_memory_gb"])
            ),
            "DynamoDB": _million("DynamoDB read, million units", slots * (state + targets + compared)),
            "Logs": slots
            * (ASSUMED["platform_log_bytes"] + ASSUMED["probe_log_bytes"])
            / 1e9
            * PRICES["CloudWatch Logs, GB"],
            "Transfer": slots * looks * ASSUMED[f"{kind}_bytes"] / 1e9 * PRICES["Data transfer out, GB"],
        }
    )


def described(endpoints: int, kind: str) -> int:
    """How many calls a look at so many endpoints with one signal each takes."""
    return 2 * endpoints if kind == "services of ECS" else -(-endpoints // 100)


def signals(endpoints: int, kind: str) -> Dollars:
    """Dollars a month of following so many endpoints with one signal each, of which none changes, by service.

    `kind`: alarms, instances or services of ECS. The alarms that are followed are not counted, those of the stack are.
    """
    calls = described(endpoints, kind)
    took_ms = ASSUMED["signal_look_ms"] + min(calls * ASSUMED["describe_ms"] / DESCRIBED_AT_ONCE, LOOK_SECONDS * 1_000)
    # Eventually consistent: half a unit for 4 KB. The words of the lock items are read every fifth minute.
    state = -(-endpoints * ASSUMED["signal_state_bytes"] // 4096) / 2
    compared = endpoints / ASSUMED["endpoints_per_resource"] / 2 * 60 / COMPARE_SECONDS
    asked = calls if kind == "alarms" else 0
    return Counter(
        {
            "SQS": _million("SQS standard, million requests", ASSUMED["idle_polls_a_second"] * SECONDS),
            "Lambda": MINUTES
            * (
                _million("Lambda, million requests", 1)
                + _million("Lambda arm64, million GB-seconds", took_ms / 1000 * ASSUMED["memory_gb"])
            ),
            "DynamoDB": _million("DynamoDB read, million units", MINUTES * (state + compared)),
            "CloudWatch": MINUTES * asked / 1_000 * PRICES["CloudWatch API, thousand requests"]
            + PRICES["CloudWatch custom metric-month"]
            + created("AWS::CloudWatch::Alarm", for_signals=True) * PRICES["CloudWatch alarm-month"],
            "Logs": MINUTES
            * (ASSUMED["platform_log_bytes"] + ASSUMED["signal_log_bytes"])
            / 1e9
            * PRICES["CloudWatch Logs, GB"],
        }
    )


def fixed() -> Dollars:
    """Dollars a month when nothing is registered, by service."""
    polls = 3 * ASSUMED["idle_polls_a_second"] * SECONDS
    swept = ASSUMED["sweep_ms"] / 1000 * ASSUMED["sweep_memory_gb"]
    # The clock of the probes finds nothing to look at, with one Query.
    clock = ASSUMED["clock_ms"] / 1000 * ASSUMED["probe_memory_gb"]
    return Counter(
        {
            "KMS": PRICES["KMS key-month"],
            # A Query that finds nothing costs half a unit.
            "DynamoDB": _million("DynamoDB read, million units", MINUTES * (SHARDS + 1) / 2),
            "Lambda": MINUTES
            * (_million("Lambda, million requests", 2) + _million("Lambda arm64, million GB-seconds", swept + clock)),
            "SQS": _million("SQS standard, million requests", polls),
            "Logs": MINUTES
            * (2 * ASSUMED["platform_log_bytes"] + BUDGET["log_bytes"]["sweep"] + ASSUMED["probe_log_bytes"])
            / 1e9
            * PRICES["CloudWatch Logs, GB"],
            "CloudWatch": created("AWS::CloudWatch::Alarm") * PRICES["CloudWatch alarm-month"]
            + created("AWS::CloudWatch::Dashboard") * PRICES["CloudWatch dashboard-month"]
            + custom_metrics()[0] * PRICES["CloudWatch custom metric-month"],
        }
    )


@functools.cache
def created(kind: str, *, for_signals: bool = False) -> int:
    """How many resources of a kind a stack has without `SignalTypes`, or only with it."""
    of_all = template()["Resources"].values()
    return sum(each["Type"] == kind and (each.get("Condition") == "HearsSignals") is for_signals for each in of_all)


@functools.cache
def custom_metrics() -> tuple[int, int]:
    """How many metrics the code emits if every receiver answers 2xx, and how many at most.

    CloudWatch counts each combination of dimensions as a metric. Only `Webhooks` has dimensions of its own. Those of
    signals are not counted: `signals` has the one that each look emits, and without `SignalTypes` there is none.
    """
    shared = HERE.parents[1] / "layers/shared/link"
    files = [path for path in shared.rglob("*.py") if not path.name.startswith("signal")]
    names = {name for path in files for name in re.findall(r'\bmetric\("(\w+)"', path.read_text())}
    return len(names), len(names - {"Webhooks"}) + sum(map(len, WEBHOOKS.values()))


def in_a_vpc() -> tuple[float, float, float]:
    """Dollars in each Availability Zone: a NAT gateway's month; its share of a million webhooks; endpoints instead."""
    nat = HOURS * (PRICES["NAT gateway, hour"] + PRICES["public IPv4 address, hour"])
    endpoints = HOURS * 2 * PRICES["interface endpoint, hour"]
    return nat, _million("NAT gateway, GB", MILLION * ASSUMED["webhook_wire_bytes"] / 1e3), endpoints


def etcd() -> float:
    """Dollars a month of three small machines with their disks."""
    return 3 * (HOURS * PRICES["t4g.small, hour"] + 20 * PRICES["gp3, GB-month"])


def rates(resources: int, setting: Setting) -> dict[str, float]:
    """Invocations a second by function."""
    refreshes = resources / (setting.refresh_minutes * 60)
    reports = resources * (6 / 60 if setting.heartbeats else 0)
    return {"reconcile": 2 * refreshes + (resources / 60 if setting.heartbeats else 0), "endpoint_status": reports}


def _traced(rate: float) -> float:
    return min(rate, 1) + ASSUMED["trace_share"] * max(0, rate - 1)


def times(number: float, bill: Dollars) -> Dollars:
    return Counter({name: number * dollars for name, dollars in bill.items()})


def _million(price: str, number: float) -> float:
    return PRICES[price] * number / MILLION


# Limits


def limits() -> list[tuple[str, str, float, float, str]]:
    """(what, unit, at a million resources, allowed, what changes it), for refreshes every five minutes."""
    counted = dict(zip(BUDGET["paths"]["columns"], BUDGET["paths"]["refresh"], strict=True))
    refreshes = MILLION / 300
    index = counted["write units"] - counted["items written"]
    took = (counted["POSTs"] * ASSUMED["receiver_ms"] + 9 * ASSUMED["aws_call_ms"] + 2 * ASSUMED["cpu_ms"]) / 1000
    sweep_seconds = BUDGET["sweep"]["CPU seconds of 100,000"]["goal"] * MILLION / 5 / 100_000
    partition = QUOTAS["DynamoDB write units a second, partition"]
    account = QUOTAS["DynamoDB units a second, table"]
    return [
        ("due index, each of 8 shards", "write units/s", refreshes * index / SHARDS, partition,
         "`RefreshInterval`; `SHARDS` in `store/locks.py`"),
        ("one sweep, CPU", "s of its 30", sweep_seconds, 30.0, "`RefreshInterval`; the function's memory"),
        ("lock table", "write units/s", refreshes * counted["items written"], account, "the account's quota"),
        ("due index, all shards", "write units/s", refreshes * index, account, "the account's quota"),
        ("Lambda, one wake-up each", "concurrent", refreshes * took, QUOTAS["Lambda concurrency, account"],
         "the account's quota; batches of ten reduce the need to a tenth"),
        ("SQS pollers, one wake-up each", "concurrent", refreshes * took, QUOTAS["SQS pollers, event source"],
         "provisioned pollers"),
        ("KMS, no secret in memory", "requests/s", refreshes, QUOTAS["KMS requests a second, account"],
         "the account's quota"),
        ("SQS in flight, one wake-up each", "messages", refreshes * took, QUOTAS["SQS messages in flight, queue"],
         "the account's quota"),
        ("webhooks", "POSTs/s", refreshes, float("inf"), "the receivers"),
    ]  # fmt: skip


def probe_limits(endpoints: int) -> tuple[int, float, float, float]:
    """Shards, invocations at a time with all up and with all hanging, and checks a second; TCP every ten seconds."""
    shards = -(-endpoints // 500)
    vcpus = ASSUMED["probe_memory_gb"] * 1024 / MEGABYTES_OF_A_VCPU
    took = max(ASSUMED["probe_slot_ms"], min(endpoints, 500) * ASSUMED["TCP_cpu_ms"] / vcpus) / 1000
    at_a_time = shards / SLOT_SECONDS
    return shards, at_a_time * took, at_a_time * LONGEST_SLOT_SECONDS, endpoints / SLOT_SECONDS


# A storm


@dataclass(frozen=True)
class Storm:
    """The result of one modelled storm."""

    events: int
    backlog: int
    throttled: int
    concurrency: int
    seconds: int


def storm(resources: int, *, warm_units: float, account: float) -> Storm:
    """Models a storm second by second: every host reports at once. Ends when all is committed and sent.

    Lambda adds pollers at its own rate; each processes ten messages in parallel. DynamoDB accepts `warm_units` write
    units a second. A write beyond them is tried three times within its call; then its message comes back after 180 s.
    """
    hosts = int(resources * ASSUMED["endpoints_per_resource"])
    counted = dict(zip(BUDGET["paths"]["columns"], BUDGET["paths"]["change of status, one webhook"], strict=True))
    each = (ASSUMED["receiver_ms"] + 8 * ASSUMED["aws_call_ms"] + 2 * ASSUMED["cpu_ms"]) / 1000
    waiting, hidden = hosts, Counter[int]()
    throttled = second = peak = concurrency = 0
    while waiting or hidden:
        waiting += hidden.pop(second, 0)
        peak = max(peak, waiting)
        pollers = 5 + QUOTAS["SQS pollers more, a minute"] / 60 * second
        # Two event sources share the account.
        may = min(pollers, QUOTAS["SQS pollers, event source"], account)
        taken = min(waiting, int(may * 10 / each))
        concurrency = max(concurrency, round(min(may, taken * each / 10)))
        committed = min(taken, int(warm_units / counted["write units"]))
        throttled += taken - committed
        waiting -= taken
        if taken > committed:
            hidden[second + 180] += taken - committed
        second += 1
        if not waiting and hidden:
            second = max(second, min(hidden))
    return Storm(hosts, peak, throttled, concurrency, second)


# The document


def document() -> str:
    lines: list[str] = []

    def table(*columns: str) -> None:
        lines.append("")
        row(*columns)
        row(*("---" for _ in columns))

    def row(*cells: object) -> None:
        lines.append("| " + " | ".join(map(str, cells)) + " |")

    def say(text: str) -> None:
        lines.extend(["", textwrap.fill(" ".join(text.split()), 120, break_on_hyphens=False)])

    lines += [
        "# What it costs, and what breaks first",
    ]
    say("This page is for operators who estimate the bill, or who want to know which limit they reach first.")
    say(
        "`make cost` writes this page from calls that tests count (`tests/performance/budget.toml`) and from prices, "
        "quotas and assumptions (`tests/performance/prices.toml`). It assumes us-east-1, no free tier, one message per "
        "invocation and no secret in memory. To change a number, edit it there and run `make cost` again. `make prove "
        "WHAT=bench` measures time and memory."
    )

    say("## Each path, once")
    services = ("DynamoDB", "Lambda", "SQS", "EventBridge", "KMS", "Logs", "Transfer")
    table("dollars per million", *services, "sum")
    for path in [name for name in BUDGET["paths"] if name not in ("columns", "three minutes without an event")]:
        events = 6 if path == LEASED else 1
        bill = times(MILLION, cost(path, events=events, swept=path == "refresh"))
        row(path, *(f"{bill[name]:.2f}" for name in services), f"{bill.total():.2f}")

    say("### Its calls")
    say(
        "`tests/test_costs.py` counts these calls on the wire, in every invocation, from the event until nothing more "
        "happens. It uses `resource_id` in the event, two endpoints, no contention and a process with nothing cached. "
        "Units are DynamoDB's on-demand request units: a write in a transaction costs two, and a moved `due_at` costs "
        "two more in the index."
    )
    table("path", *(CALLED.get(name, name) for name in BUDGET["paths"]["columns"]))
    for path in [name for name in BUDGET["paths"] if name != "columns"]:
        row(path, *BUDGET["paths"][path])
    say(
        f"The sweep adds {SHARDS} queries a minute, and one SQS send per ten resources that are due. A registration "
        "costs 1 encrypt, 1 read and 2 items; it also counts the endpoints with a `Scan`, unless `MaxEndpoints` is 0. "
        "KMS is called once per endpoint, process and 15 minutes. In addition, EventBridge puts each event into a "
        "queue as one message, and Lambda reads it."
    )

    say("## A month")
    say(
        "The table assumes two endpoints per resource, a refresh every five minutes and "
        f"{ASSUMED['handovers_a_month']:.0f} handovers of each resource a month. In the columns with heartbeats, both "
        "endpoints also report every 20 s, with leases of 60 s. The last column is the price of three t4g.small "
        f"machines with 20 GB each for etcd (${etcd():.0f}). It does not include the agents on the hosts, nor the work "
        "of operating etcd."
    )
    table(
        *("resources", "dollars", "per resource", "per endpoint"),
        *("with heartbeats", "per resource", "per endpoint", "etcd"),
    )
    endpoints = ASSUMED["endpoints_per_resource"]
    for number in SIZES:
        quiet, beating = month(number, Setting()).total(), month(number, Setting(heartbeats=True)).total()
        of_each = [
            text
            for all_of_it in (quiet, beating)
            for text in (f"{all_of_it:,.0f}", f"{all_of_it / number:.3f}", f"{all_of_it / number / endpoints:.3f}")
        ]
        row(f"{number:,}", *of_each, f"{etcd():.0f}")
    even = next(number for number in range(1, 10_000) if month(number, Setting()).total() > etcd())
    hourly = Setting(refresh_minutes=60)
    even_hourly = next(number for number in range(1, 100_000) if month(number, hourly).total() > etcd())
    say(
        f"It costs as much as three etcd machines at {even} resources (at {even_hourly:,} with an hourly refresh). "
        "Three such machines cannot serve a million resources either. With nothing registered it costs "
        f"${fixed().total():.2f}, most of it for the alarms, the metrics, the dashboard and the key."
    )
    usual, most = custom_metrics()
    dearest = most * PRICES["CloudWatch custom metric-month"]
    say(
        f"The code emits {usual} metrics if every receiver answers 2xx, and at most {most}, because each combination "
        f"of result and reason of a webhook is one: at most ${dearest:.2f} a month. CloudWatch bills a metric only for "
        "the hours in which it is emitted."
    )
    nat, of_webhooks, endpoints_instead = in_a_vpc()
    say(
        f"The tables are without a VPC. With `VpcSubnetIds`, a NAT gateway and its address cost ${nat:.2f} a month in "
        f"each Availability Zone, and ${of_webhooks:.2f} for a million webhooks. What the functions send to AWS passes "
        "the NAT gateway, too, unless there are endpoints: the one for DynamoDB is free, those for SQS and KMS cost "
        f"${endpoints_instead:.2f} a month in each Availability Zone. Without public receivers, endpoints are enough."
    )

    say("### Where the money goes")
    names = [name for name, _ in month(1_000, Setting(heartbeats=True)).most_common()]
    table("dollars a month, 1,000 resources", *names, "sum")
    for title, setting in (
        ("as deployed", Setting()),
        ("`RefreshInterval` 15m", Setting(refresh_minutes=15)),
        ("`RefreshInterval` 1h", Setting(refresh_minutes=60)),
        ("`Tracing: PassThrough` in the template", Setting(tracing=False)),
        ("secrets in memory (few endpoints, warm processes)", Setting(remembered=True)),
        ("heartbeats every 20 s, leases of 60 s", Setting(heartbeats=True)),
    ):
        bill = month(1_000, setting)
        row(title, *(f"{bill[name]:.0f}" for name in names), f"{bill.total():.0f}")
    say(
        "Each heartbeat costs an event, an invocation and a write. With a longer lease and rarer heartbeats the cost "
        "falls in proportion, but a failure is noticed later. A host that reports `FAILING` itself needs no "
        "heartbeats. `MaxEndpoints` above 0 adds a `Scan` to each registration. `LogLevel: WARNING` removes the "
        "functions' own log lines. It does not remove Lambda's lines, nor the metrics, which are log lines, too."
    )

    say("### A host with many endpoints")
    say(
        "A `Host Report` is one event with the reports of all endpoints of a host. The table has a heartbeat every "
        "20 s, for one host and a month. The reads, the writes and the wake-ups at the ends of leases stay the same."
    )
    table("endpoints", "an event each, dollars", "one Host Report, dollars", "per endpoint", "events a month")
    beats = SECONDS / 20
    for number in (1, 10, 100):
        apart, together = (times(beats, beat(number, together=one)).total() for one in (False, True))
        saved = f"{number * beats:,.0f} → {beats:,.0f}"
        row(f"{number}", f"{apart:.2f}", f"{together:.2f}", f"{apart / number:.2f} → {together / number:.2f}", saved)

    say("### Probes")
    say(
        "Looking at endpoints from outside, with one check each, while all of them are up. A change costs an event, a "
        "write and a handover in addition. An invocation handles 500 endpoints, or 250 with HTTPS. The largest part is "
        "the transfer to public addresses; within a VPC there is none. With another interval, looks and transfer fall, "
        "and a dead host is noticed later: within the interval and 8 s."
    )
    kinds = ("TCP", "HTTP", "HTTPS")
    table("endpoints, dollars a month", *(f"{kind}, every {each} s" for kind in kinds for each in (10, 60)))
    for number in SIZES[:3]:
        row(
            f"{number:,}",
            *(f"{probes(number, kind, seconds=each).total():,.2f}" for kind in kinds for each in (10, 60)),
        )
    thousand = probes(1_000, "TCP")
    table("dollars a month, 1,000 endpoints by TCP every 10 s", *thousand, "sum")
    row("", *(f"{dollars:.2f}" for dollars in thousand.values()), f"{thousand.total():.2f}")
    two = probes(2, "TCP").total()
    say(
        f"A resource with two hosts that are looked at every 10 s costs ${two:.2f} a month if it is the only one: one "
        "shard has to be paid. Noticing a dead host by heartbeats every 20 s costs "
        f"${times(MINUTES, cost(LEASED, events=6)).total():.2f} a month for each resource."
    )

    say("### Signals")
    say(
        "Following endpoints by one signal each: a look once a minute, while nothing changes. A change costs a "
        "message, an event, three writes and a handover in addition. The alarms that are "
        "followed are not counted, those of the stack are. With `SignalTypes` empty, there is nothing of this."
    )
    sources = ("alarms", "instances", "services of ECS")
    table("endpoints, dollars a month", *sources)
    for number in (2, 100, 1_000):
        row(f"{number:,}", *(f"{signals(number, kind).total():,.2f}" for kind in sources))
    in_a_look = int(LOOK_SECONDS * 1_000 / ASSUMED["describe_ms"] * DESCRIBED_AT_ONCE)
    say(
        f"A look makes about {in_a_look:,} calls in its {LOOK_SECONDS} seconds: {in_a_look // 2:,} services of ECS, "
        f"{in_a_look:,} target groups, or {in_a_look * 100:,} alarms or instances. If there are more, each look asks "
        "another part of them, and a metric counts the rest."
    )

    say("## Limits on paper")
    say(
        "One million resources, each refreshed every five minutes, need 3,333 webhooks a second. The table compares "
        "this load with the default quotas. The limit that is reached first comes first."
    )
    table("what", "unit", "at 1,000,000", "allowed", "enough for", "what changes it")
    for what, unit, needed, allowed, moves in sorted(limits(), key=lambda one: one[3] / one[2]):
        enough = "any" if allowed == float("inf") else f"{allowed / needed * MILLION:,.0f}"
        row(what, unit, f"{needed:,.0f}", "" if allowed == float("inf") else f"{allowed:,.0f}", enough, moves)
    new = QUOTAS["DynamoDB write units a second, new on-demand table"]
    say(
        "With heartbeats every 20 s, EventBridge is the first limit. The quota of PutEvents is different in each "
        "Region. A host that sends each event by itself needs a request for each."
    )
    table("Region", "PutEvents/s", "enough for resources with heartbeats")
    for region, allowed in PUT_EVENTS.items():
        row(region, f"{allowed:,.0f}", f"{allowed / (6 / 60):,.0f}")
    say(
        f"A new on-demand table accepts {new:,.0f} write units a second at first, "
        "and later twice its previous peak: increase the load step by step, or set its warm throughput. When a "
        "partition of the index is full, the writes of its shard become slower. Deliveries are then late, but nothing "
        "is lost. Elections use the same writes, so they are late, too."
    )

    say("### Of probes")
    say(
        "Each endpoint has one TCP check every 10 s, and each shard 500 endpoints. `ProbeShards` is at most 200. Of "
        "the invocations, 90 run at a time, or `MaximumConcurrency`; slots that are late because of that are left out. "
        "The hosts and the network's NAT gateway break first."
    )
    table("endpoints", "shards", "invocations at a time, all up", "all hanging", "checks a second")
    for number in SIZES[:3]:
        shards, up, hanging, checks = probe_limits(number)
        row(f"{number:,}", shards, f"{up:,.1f}", f"{hanging:,.1f}", f"{checks:,.0f}")

    say("## A storm")
    say(
        "A region comes back and every host reports at once. The table comes from a model of the queue, second by "
        "second. The model is limited by the rate at which Lambda adds pollers, by the account's concurrency and by "
        "DynamoDB's write units. A write that is throttled in all three tries comes back with its message after 180 s."
    )
    table("resources", "events", "write units/s", "concurrency", "largest backlog", "throttled", "all decided after")
    for number in SIZES[1:]:
        for units in (new, QUOTAS["DynamoDB units a second, table"]):
            became = storm(number, warm_units=units, account=QUOTAS["Lambda concurrency, account"])
            row(f"{number:,}", f"{became.events:,}", f"{units:,.0f}", became.concurrency, f"{became.backlog:,}",
                f"{became.throttled:,}", f"{became.seconds:,} s")  # fmt: skip
    say(
        "The lower number of write units is that of a new table. The higher one is the account's default quota, which "
        "a table reaches by growing or by its warm throughput. A report survives 24 hours of this before it goes to "
        "the dead-letter queue."
    )
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> Any:
    Path(arguments[0]).write_text(document())


if __name__ == "__main__":
    main(sys.argv[1:])
