"""`make cost`: writes docs/cost.md from the counted calls of budget.toml, and prices and quotas of prices.toml."""

from __future__ import annotations

import sys
import textwrap
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUDGET = tomllib.loads((HERE / "budget.toml").read_text())
_TABLE = tomllib.loads((HERE / "prices.toml").read_text())
PRICES: dict[str, float] = _TABLE["prices"]
ASSUMED: dict[str, float] = _TABLE["assumptions"]
QUOTAS: dict[str, float] = _TABLE["quotas"]

HOURS = 730
MINUTES = HOURS * 60
SECONDS = MINUTES * 60
SIZES = (10, 1_000, 100_000, 1_000_000)
SHARDS = 8
MILLION = 1e6
LEASED = "a minute of it: six heartbeats, leases of 60 s"
HANDOVER = "handover, two webhooks"

Dollars = Counter[str]


@dataclass(frozen=True)
class Setting:
    """A way to run it."""

    refresh_minutes: float = 5
    heartbeats: bool = False
    tracing: bool = True
    remembered: bool = False
    """Whether secrets are found in memory: few endpoints, warm processes."""


def cost(path: str, *, events: int = 1, swept: bool = False, remembered: bool = False) -> Dollars:
    """Dollars of one time, by service. Every message is taken to be handled alone, which is the dearest way."""
    counted = dict(zip(BUDGET["paths"]["columns"], BUDGET["paths"][path], strict=True))
    reads, writes, sends, decrypts, posts = (
        counted[name] for name in ("items read", "items written", "SendMessage", "Decrypt", "POSTs")
    )
    decrypts = 0 if remembered else decrypts
    invocations = events + sends
    # One in ten of a batch for the sweep's; received and deleted each.
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


def fixed() -> Dollars:
    """What is paid for when nothing is registered."""
    polls = 2 * ASSUMED["idle_polls_a_second"] * SECONDS
    swept = ASSUMED["sweep_ms"] / 1000 * ASSUMED["sweep_memory_gb"]
    return Counter(
        {
            "KMS": PRICES["KMS key-month"],
            # Half a unit each: what a Query that finds nothing costs.
            "DynamoDB": _million("DynamoDB read, million units", MINUTES * SHARDS / 2),
            "Lambda": MINUTES
            * (_million("Lambda, million requests", 1) + _million("Lambda arm64, million GB-seconds", swept)),
            "SQS": _million("SQS standard, million requests", polls),
            "Logs": MINUTES
            * (ASSUMED["platform_log_bytes"] + BUDGET["log_bytes"]["sweep"])
            / 1e9
            * PRICES["CloudWatch Logs, GB"],
            "Alarms and metrics": alarms() * PRICES["CloudWatch alarm-month"]
            + ASSUMED["custom_metrics"] * PRICES["CloudWatch custom metric-month"],
        }
    )


def alarms() -> int:
    return (HERE.parents[1] / "template.yaml").read_text().count("Type: AWS::CloudWatch::Alarm")


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
    """(what, unit, at a million resources, allowed, what moves it), for refreshes every five minutes."""
    counted = dict(zip(BUDGET["paths"]["columns"], BUDGET["paths"]["refresh"], strict=True))
    refreshes = MILLION / 300
    index = counted["write units"] - counted["items written"]
    took = (counted["POSTs"] * ASSUMED["receiver_ms"] + 9 * ASSUMED["aws_call_ms"] + 2 * ASSUMED["cpu_ms"]) / 1000
    sweep_seconds = BUDGET["sweep"]["CPU seconds of 100,000"]["goal"] * MILLION / 5 / 100_000
    partition = QUOTAS["DynamoDB write units a second, partition"]
    account = QUOTAS["DynamoDB units a second, table"]
    return [
        ("due index, each of 8 shards", "write units/s", refreshes * index / SHARDS, partition,
         "`RefreshInterval`; `SHARDS` in `lock.py`"),
        ("one sweep, CPU", "s of its 30", sweep_seconds, 30.0, "`RefreshInterval`; the function's memory"),
        ("table of locks", "write units/s", refreshes * counted["items written"], account, "the account's quota"),
        ("due index altogether", "write units/s", refreshes * index, account, "the account's quota"),
        ("Lambda, every wake-up alone", "concurrent", refreshes * took, QUOTAS["Lambda concurrency, account"],
         "the account's quota; batches of ten make it a tenth"),
        ("SQS pollers, every wake-up alone", "concurrent", refreshes * took, QUOTAS["SQS pollers, event source"],
         "provisioned pollers"),
        ("KMS, nothing remembered", "requests/s", refreshes, QUOTAS["KMS requests a second, account"],
         "the account's quota"),
        ("SQS in flight, every wake-up alone", "messages", refreshes * took, QUOTAS["SQS messages in flight, queue"],
         "the account's quota"),
        ("webhooks", "POSTs/s", refreshes, float("inf"), "the receivers"),
    ]  # fmt: skip


# A storm


@dataclass(frozen=True)
class Storm:
    """What became of it."""

    events: int
    backlog: int
    throttled: int
    concurrency: int
    seconds: int


def storm(resources: int, *, warm_units: float, account: float) -> Storm:
    """Every host reports at once; second by second until every report is committed and every webhook sent.

    Lambda adds pollers at its pace, each works on ten messages side by side. DynamoDB takes `warm_units` write units a
    second; a write beyond them is tried three times within its call and then comes back with its message after 180 s.
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
        lines.extend(["", textwrap.fill(" ".join(text.split()), 120)])

    lines += [
        "# What it costs, and what breaks first",
    ]
    say(
        "Written by `make cost` from calls that tests count "
        "(`tests/performance/budget.toml`) and from prices, quotas and "
        "assumptions in `tests/performance/prices.toml`: us-east-1, no free tier, every message handled alone, no "
        "secret remembered. `make bench` measures time and memory. Change a number there and run it again."
    )

    say("## One time")
    services = ("DynamoDB", "Lambda", "SQS", "EventBridge", "KMS", "Logs", "Transfer")
    table("dollars a million", *services, "sum")
    for path in [name for name in BUDGET["paths"] if name not in ("columns", "three minutes of nothing")]:
        events = 6 if path == LEASED else 1
        bill = times(MILLION, cost(path, events=events, swept=path == "refresh"))
        row(path, *(f"{bill[name]:.2f}" for name in services), f"{bill.total():.2f}")

    say("## A month")
    say(
        "Two endpoints per resource, a refresh every five minutes, "
        f"{ASSUMED['handovers_a_month']:.0f} handovers; with heartbeats: both endpoints every 20 s, leases of 60 s. "
        f"Beside it three t4g.small with 20 GB each for etcd (${etcd():.0f}), whose agents on the hosts are not "
        "counted, nor whoever keeps them alive."
    )
    table("resources", "dollars", "a resource", "an endpoint", "with heartbeats", "a resource", "an endpoint", "etcd")
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
        f"It is as dear as the three machines at {even} resources, at {even_hourly:,} with a "
        f"refresh every hour. (Three "
        "machines will not carry a million either.) With nothing registered it costs "
        f"${fixed().total():.2f}, most of it alarms, metrics and the key."
    )

    say("### Where the money goes")
    names = [name for name, _ in month(1_000, Setting(heartbeats=True)).most_common()]
    table("dollars a month, 1,000 resources", *names, "sum")
    for title, setting in (
        ("as deployed", Setting()),
        ("`RefreshInterval` 15m", Setting(refresh_minutes=15)),
        ("`RefreshInterval` 1h", Setting(refresh_minutes=60)),
        ("`Tracing: PassThrough` in the template", Setting(tracing=False)),
        ("secrets remembered (few endpoints, warm processes)", Setting(remembered=True)),
        ("heartbeats every 20 s, leases of 60 s", Setting(heartbeats=True)),
    ):
        bill = month(1_000, setting)
        row(title, *(f"{bill[name]:.0f}" for name in names), f"{bill.total():.0f}")
    say(
        "Heartbeats cost what they are: an event, an invocation and a write each. A longer lease with rarer heartbeats "
        "is proportionally cheaper and later to notice; a host that reports `FAILING` itself needs "
        "none. `MaxEndpoints` "
        "above 0 adds a `Scan` to each registration. `LogLevel: WARNING` takes the functions' own lines away, not "
        "Lambda's and not the metrics, which are lines, too."
    )

    say("## Limits on paper")
    say(
        "A million resources, each refreshed every five minutes: 3,333 webhooks a second. Against default quotas, the "
        "first to break first:"
    )
    table("what", "unit", "at 1,000,000", "allowed", "enough for", "what moves it")
    for what, unit, needed, allowed, moves in sorted(limits(), key=lambda one: one[3] / one[2]):
        enough = "any" if allowed == float("inf") else f"{allowed / needed * MILLION:,.0f}"
        row(what, unit, f"{needed:,.0f}", "" if allowed == float("inf") else f"{allowed:,.0f}", enough, moves)
    events = QUOTAS["EventBridge events a second, account"]
    new = QUOTAS["DynamoDB write units a second, new on-demand table"]
    say(
        f"With heartbeats every 20 s the first to break is EventBridge: {events:,.0f} events a second are "
        f"{events / (6 / 60):,.0f} resources. A new on-demand table takes {new:,.0f} "
        "write units a second and twice its last "
        "peak from then on: grow into it, or set its warm throughput. A partition of the index that is full slows the "
        "writes of its shard down: deliveries come later, nothing is lost, and who is active is decided by the same "
        "writes, so that waits, too."
    )

    say("## A storm")
    say(
        "A region comes back and every host reports at once: a model of the queue second by second, with Lambda's "
        "pace of adding pollers, the account's concurrency and DynamoDB's write units as "
        "bounds. A write that is throttled "
        "through three tries comes back with its message after 180 s."
    )
    table("resources", "events", "write units/s", "concurrency", "largest backlog", "throttled", "all decided after")
    for number in SIZES[1:]:
        for units in (new, QUOTAS["DynamoDB units a second, table"]):
            became = storm(number, warm_units=units, account=QUOTAS["Lambda concurrency, account"])
            row(f"{number:,}", f"{became.events:,}", f"{units:,.0f}", became.concurrency, f"{became.backlog:,}",
                f"{became.throttled:,}", f"{became.seconds:,} s")  # fmt: skip
    say(
        "The first write units are a new table's, the second an account's default quota, which a "
        "table reaches by growing or by its warm throughput. A report survives 24 hours "
        "of this before it is dead-lettered."
    )
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> Any:
    Path(arguments[0]).write_text(document())


if __name__ == "__main__":
    main(sys.argv[1:])
