"""Each path makes exactly the calls of its budget, prints no more than that, and docs/cost.md is up to date."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from link import signal_look
from link.election.result import Result, ResultKind
from tests.performance import cost, ours, stub

HERE = Path(__file__).parent
BUDGET = tomllib.loads((HERE / "budget.toml").read_text())
COST = HERE.parents[1] / "docs/cost.md"


@pytest.fixture(scope="module")
def aws() -> Iterator[stub.Stub]:
    with stub.running() as running:
        yield running


@pytest.mark.parametrize(
    ("function", "status", "due_in_ms", "path"),
    [
        ("endpoint_status", "FAILING", None, "change of status, one webhook"),
        ("endpoint_status", "ACTIVATED", None, "heartbeat"),
        ("reconcile", "ACTIVATED", 0, "refresh"),
        ("refresh", "ACTIVATED", 0, "sweep"),
        ("endpoints_api", "ACTIVATED", None, None),
    ],
)
def test_a_first_event_makes_exactly_the_calls_and_log_lines_of_its_budget(
    aws: stub.Stub, tmp_path: Path, function: str, status: str, due_in_ms: int | None, path: str | None
) -> None:
    program = f"""
import json, sys
from tests.performance import ours, situation, stub
from urllib.parse import urlsplit
stub.Stub({aws.url.rpartition(":")[2]}).seed(1, situation.tables(situation.Status({status!r}), due_in_ms={due_in_ms}))
calls = ours.recorded()
ours.handle({function!r}, situation.first_event({function!r}))
json.dump(calls, open(sys.argv[1], "w"))
"""
    calls = tmp_path / "calls.json"
    command = [sys.executable, "-c", program, str(calls)]
    done = subprocess.run(
        command, cwd=stub.ROOT, env=aws.environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    methods = ["get_item", "put_item"] if path == "heartbeat" else BUDGET["first"][function]
    assert len(ours.in_order(json.loads(calls.read_text()), methods)) == len(methods)
    if path is not None:
        assert len(done.stdout) <= BUDGET["log_bytes"][path], done.stdout


def test_an_extra_call_and_a_missing_call_are_found() -> None:
    get = ["dynamodb", "get_item", {}]
    assert ours.in_order([get], ["get_item"]) == [get]
    with pytest.raises(AssertionError, match="beyond its budget"):
        ours.in_order([get, get], ["get_item"])
    with pytest.raises(AssertionError, match="the budget has put_item"):
        ours.in_order([get], ["get_item", "put_item"])


def test_the_cost_document_is_up_to_date() -> None:
    assert COST.read_text() == cost.document(), "run make cost"


def test_a_million_heartbeats_cost_what_a_calculation_by_hand_says() -> None:
    """Each: 1 read unit of $0.125, 1 write unit of $0.625, 22 ms of half a GB, an event, three requests to SQS."""
    bill = cost.times(cost.MILLION, cost.cost("heartbeat"))
    assert bill["DynamoDB"] == pytest.approx(0.75)
    assert bill["Lambda"] == pytest.approx(0.20 + 0.022 * 0.5 * 13.3334)
    assert (bill["EventBridge"], bill["SQS"], bill["KMS"]) == pytest.approx((1.00, 1.20, 0))


def test_a_thousand_probed_endpoints_cost_what_a_calculation_by_hand_says() -> None:
    """Two shards of 500, 262,800 slots each; 1,000 TCP connections of 200 bytes in each slot."""
    bill = cost.probes(1_000, "TCP")
    assert bill["SQS"] == pytest.approx(525_600 * 2.1667 * 0.40e-6, rel=1e-3)
    # 500 × 0.4 ms at the 0.145 vCPU of 256 MB are 1.38 s.
    assert bill["Lambda"] == pytest.approx(525_600 * (0.20e-6 + 1.382 * 0.25 * 13.3334e-6), rel=1e-3)
    # The state: 40 KB, 5 units. The targets, every third slot: 150 KB, 18.5 units. Every 30th: 250 lock items.
    assert bill["DynamoDB"] == pytest.approx(525_600 * (5 + 18.5 / 3 + 125 / 30) * 0.125e-6, rel=1e-2)
    assert bill["Transfer"] == pytest.approx(525_600 * 500 * 200 / 1e9 * 0.09, rel=1e-3)
    assert bill.total() <= 12, "the goal for 1,000 endpoints by TCP every 10 s"


def test_a_hundred_alarms_cost_what_a_calculation_by_hand_says() -> None:
    """43,800 looks with one DescribeAlarms each, which read 40 KB; every fifth minute 50 lock items."""
    bill = cost.signals(100, "alarms")
    assert bill["CloudWatch"] == pytest.approx(43_800 * 0.01e-3 + 0.30 + 10 * 0.10)
    assert bill["DynamoDB"] == pytest.approx(43_800 * (5 + 25 / 5) * 0.125e-6)
    assert bill["Lambda"] == pytest.approx(43_800 * (0.20e-6 + 0.215 * 0.5 * 13.3334e-6))
    assert bill["SQS"] == pytest.approx(525_600 * 0.40e-6)
    assert cost.signals(100, "instances")["CloudWatch"] == pytest.approx(0.30 + 10 * 0.10)
    assert cost.described(100, "services of ECS") == 200


def test_the_cost_of_a_look_is_that_of_the_code() -> None:
    assert (signal_look.LOOK_SECONDS, signal_look.AT_ONCE) == (cost.LOOK_SECONDS, cost.DESCRIBED_AT_ONCE)
    assert cost.described(signal_look.MAX_IN_A_CALL + 1, "alarms") == 2


def test_the_readme_states_what_its_example_costs() -> None:
    readme = " ".join((HERE.parents[1] / "README.md").read_text().split())
    one, many = cost.probes(2, "TCP").total(), cost.probes(1_000, "TCP").total()
    [idle] = re.findall(r"With nothing registered it costs (\$[0-9.]+),", " ".join(COST.read_text().split()))
    assert f"With nothing registered it costs {idle} a month" in readme
    assert f"resource every 10 s costs ${one:.2f} a month; 1,000 endpoints cost ${many:.2f}" in readme


def test_a_month_costs_what_a_calculation_by_hand_says() -> None:
    """8,760 refreshes of 7 write and 3 read units, 4 handovers of 11 and 4, 3 KB, 394,200 empty queries."""
    bill = cost.month(1, cost.Setting())
    units = 8_760 * (7 * 0.625 + 3 * 0.125) + 4 * (11 * 0.625 + 4 * 0.125) + 394_200 / 2 * 0.125
    assert bill["DynamoDB"] == pytest.approx(units / 1e6 + 3e-6 * 0.25)


def test_a_storm_without_throttling_ends_when_the_pollers_have_read_all_events() -> None:
    became = cost.storm(1_000, warm_units=1e9, account=1_000)
    assert (became.events, became.throttled, became.backlog) == (2_000, 0, 2_000)
    assert became.seconds < 10


def test_a_storm_above_the_write_units_is_throttled_and_still_ends() -> None:
    became = cost.storm(1_000, warm_units=1_000, account=1_000)
    # The table accepts 100 commits of 10 units each per second.
    assert became.throttled > 0
    assert became.seconds >= 2_000 / 100


def emitted_results() -> Iterator[tuple[str, str]]:
    """Every kind of result with a reason that stands in the code as a text or as the beginning of one."""
    for path in (HERE.parents[1] / "layers/shared/link").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            match call:
                case ast.Call(args=[ast.Attribute(value=ast.Name(id="ResultKind"), attr=kind), reason, *_]):
                    for text in ast.walk(reason):
                        if isinstance(text, ast.Constant) and isinstance(text.value, str):
                            yield ResultKind[kind].value, text.value


def test_the_metrics_that_are_priced_are_those_that_the_code_emits() -> None:
    found = {
        (kind, Result(ResultKind(kind), f"{reason}5", 500).category if reason == "status_" else reason.rstrip("_"))
        for kind, reason in emitted_results()
    }
    priced = {(kind, reason) for kind, reasons in cost.WEBHOOKS.items() for reason in reasons}
    assert len(found) > 12
    assert found <= priced
    assert {kind for kind, _ in priced} == {str(kind) for kind in ResultKind}
    usual, most = cost.custom_metrics()
    assert (usual, most) == (15, 14 + len(priced))


def test_a_nat_gateway_costs_what_a_calculation_by_hand_says() -> None:
    """A gateway of $0.045 and an address of $0.005 an hour; 6 GB a million webhooks; two endpoints of $0.01 an hour."""
    assert cost.in_a_vpc() == pytest.approx((730 * 0.05, 6 * 0.045, 730 * 0.02))
