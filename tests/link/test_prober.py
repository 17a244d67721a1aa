"""The prober's guards with their metrics, and the clock of the slots. There is no network."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from link import deployment, prober
from link.election.result import Result, ResultKind
from link.election.state import Resource
from link.prober import COMPARE_SLOTS
from link.probing import states
from link.probing.states import MAX_LAG_MS, SLOT_MS
from link.registration import Registration
from link.store import endpoints
from link.store.lock_item import to_item
from link.store.probes import Targets
from tests.simulation.store import Store
from tests.support.deployed import environment, settings
from tests.support.hands import HeldClock
from tests.support.ids import NOW
from tests.support.probed import REFERENCE, Probing
from tests.world import SECRETS


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Name and value of each metric line that the prober writes."""
    written: list[tuple[str, float]] = []
    monkeypatch.setattr(prober, "metric", lambda name, value=1: written.append((name, value)))
    return written


@pytest.fixture
def two() -> Probing:
    probing = Probing()
    probing.register("paris", "london")
    probing.slots()
    probing.events.clear()
    return probing


@pytest.mark.parametrize(
    ("down", "lag_ms", "metric"),
    [
        pytest.param({"paris": "refused", REFERENCE: "timeout"}, 0, ("ProbesBlind", 1), id="blind"),
        pytest.param({"paris": "timeout"}, MAX_LAG_MS + 1, ("ProbesLagging", 1), id="lagging"),
        pytest.param({"paris": "refused", "london": "refused"}, 0, ("ProbesKept", 2), id="the last"),
    ],
)
def test_a_guard_says_nothing_to_the_bus_and_counts(
    two: Probing, metrics: list[tuple[str, float]], down: dict[str, str], lag_ms: int, metric: tuple[str, float]
) -> None:
    two.down, two.lag_ms = down, lag_ms
    two.slots()
    assert two.events == []
    assert metrics == [metric, ("ProbeSlots", 1)]


@pytest.mark.parametrize(("lag_ms", "holder"), [(MAX_LAG_MS, "london"), (MAX_LAG_MS + 1, "paris")])
def test_up_to_a_second_of_lag_counts(two: Probing, lag_ms: int, holder: str) -> None:
    two.down, two.lag_ms = {"paris": "refused"}, lag_ms
    two.slots()
    assert two.world.holder() == holder


@pytest.mark.parametrize(("dns", "events"), [(2, 5), (3, 2)])
def test_a_name_server_that_fails_for_more_than_half_of_those_that_failed_is_our_own_fault(
    metrics: list[tuple[str, float]], dns: int, events: int
) -> None:
    probing = Probing()
    hosts = [f"host-{number}" for number in range(12)]
    probing.register(*hosts)
    probing.slots()
    probing.events.clear()
    failing = hosts[:5]
    probing.down = {host: "dns" if number < dns else "refused" for number, host in enumerate(failing)}
    probing.slots()
    assert ("ProbesBlind" in dict(metrics)) is (dns == 3)
    assert len(probing.events) == events, "a host that refused has an address"


def test_names_that_were_never_found_do_not_make_the_prober_blind(metrics: list[tuple[str, float]]) -> None:
    probing = Probing()
    wrong = [f"wrong-{number}" for number in range(8)]
    probing.down = dict.fromkeys(wrong, "dns")
    probing.register("paris", "london", *wrong)
    probing.slots(6)
    assert probing.world.holder() == "paris"
    probing.down["paris"] = "refused"
    assert probing.until("london", within=2) <= 2
    assert "ProbesBlind" not in dict(metrics)


def test_names_that_are_lost_for_good_do_not_keep_others_up(metrics: list[tuple[str, float]]) -> None:
    probing = Probing()
    lost = [f"lost-{number}" for number in range(8)]
    probing.register("paris", "london", *lost)
    probing.slots()
    probing.down = dict.fromkeys(lost, "dns")
    probing.slots()
    probing.down["paris"] = "refused"
    probing.events.clear()
    probing.slots(2)
    assert probing.events == [("paris", "FAILING")]
    assert "ProbesBlind" in dict(metrics)


def test_many_at_once_wait_for_the_next_slot(metrics: list[tuple[str, float]]) -> None:
    probing = Probing()
    hosts = [f"host-{number}" for number in range(10)]
    probing.register(*hosts)
    probing.slots()
    probing.events.clear()
    probing.down = dict.fromkeys(hosts[:6], "refused")
    probing.slots()
    assert (probing.events, ("ProbesHeldBack", 6) in metrics) == ([], True)
    probing.slots()
    assert len(probing.events) == 2, "a fifth of the ten"


def test_many_that_share_their_slots_go_down_although_nothing_fails_in_the_slots_between() -> None:
    probing = Probing()
    hosts = [f"host-{number}" for number in range(24)]
    probing.register(*hosts, healthcheck_interval=20)
    probing.slots(2)
    failing = [host for host in hosts if zlib.crc32(probing.id(host).encode()) % 2 == 0]
    probing.down = dict.fromkeys(failing, "refused")
    probing.slots(12)
    assert len(failing) >= states.MANY
    assert not any(probing.known().endpoints[probing.id(host)].up for host in failing)


def test_a_resource_of_a_newer_format_keeps_its_endpoints_and_the_others_change(two: Probing) -> None:
    config = {"url": "http://receiver.example.com/hook", "resource_id": "newer", "secret": SECRETS["paris"]}
    two.register("lyon", plugin_config=config)
    two.slots()
    newer = {**to_item(Resource("newer", version=9)), "format": {"N": "999"}}
    two.world._dynamodb.put_item(TableName=two.world.settings.locks_table, Item=newer)
    two.down = {"paris": "refused", "lyon": "refused"}
    two.slots(COMPARE_SLOTS)
    assert two.world.holder() == "london"
    assert two.known().endpoints[two.id("lyon")].up


@pytest.mark.parametrize("command", ["delete", "other observers"])
def test_a_host_that_goes_after_its_endpoint_is_no_rejected_event(
    two: Probing, metrics: list[tuple[str, float]], command: str
) -> None:
    paris = two.id("paris")
    if command == "delete":
        two.world.receiver.always = Result(ResultKind.ANSWERED, "status_503", 503)
        two.world.control.commands.delete(paris, "delete")
    else:
        two.world.control.commands.change(paris, {"observers": ["host"]}, "change")
    two.down["paris"] = "refused"
    two.slots()
    assert two.events == []
    assert metrics == [("ProbeSlots", 1)]


def test_a_slot_that_comes_too_late_is_counted(two: Probing, metrics: list[tuple[str, float]]) -> None:
    slot = two.world.clock.now() // SLOT_MS - 2
    two.prober.run(0, 1, slot)
    assert metrics == [("ProbeSlotsLate", 1)]


def test_without_references_every_failure_counts() -> None:
    probing = Probing(PROBE_REFERENCES="")
    probing.register("paris", "london")
    probing.slots()
    probing.down["paris"] = "refused"
    assert probing.until("london", within=1) == 1


def test_a_look_has_each_check_once_with_the_most_tries(two: Probing) -> None:
    berlin = two.world.register("berlin", checks=[{"type": "TCP", "host": "paris.example.com", "port": 80}])
    two.new_process()
    two.looked_at.clear()
    two.slots()
    assert two.looked_at == [{REFERENCE: 1, "paris": 3, "london": 3}]
    assert berlin in two.known().endpoints


def test_a_new_endpoint_is_found_within_half_a_minute(two: Probing) -> None:
    berlin = two.world.register("berlin", checks=[{"type": "TCP", "host": "berlin.example.com", "port": 80}])
    two.slots(3)
    assert two.known().endpoints[berlin].up


def test_an_endpoint_without_checks_or_probe_is_not_looked_at(two: Probing) -> None:
    checks = [{"type": "TCP", "host": "berlin.example.com", "port": 80}]
    two.world.register("berlin", checks=checks, observers=["host"])
    two.world.control.commands.change(two.id("london"), {"observers": ["host"]}, "change")
    two.new_process()
    two.looked_at.clear()
    two.slots()
    assert two.looked_at == [{REFERENCE: 1, "paris": 3}]
    assert set(two.known().endpoints) == {two.id("paris")}


# The clock

MINUTE = NOW // 60_000 * 60_000


class Sqs:
    def __init__(self) -> None:
        self.messages: list[tuple[dict[str, int], int]] = []
        self.refusing = 0

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        assert QueueUrl == "probe" and len(Entries) <= 10
        self.messages += [(json.loads(entry["MessageBody"]), entry["DelaySeconds"]) for entry in Entries]
        return {"Failed": [{}] * self.refusing}


def clock_over(*resource_ids: str, shards: int = 1, at: int = MINUTE) -> tuple[prober.ProbeClock, Sqs]:
    """The clock of a deployment with an endpoint of each of these resources."""
    store, sqs = Store(settings()), Sqs()
    for number, resource_id in enumerate(resource_ids):
        check = {"type": "TCP", "host": "a.example.com", "port": 80}
        registered = Registration(
            f"vip-{number}", "webhook", resource_id, {}, observers=(prober.Observer.PROBE,), checks=(check,)
        )
        store.put_item(TableName=settings().endpoints_table, Item=endpoints.to_item(registered))
    env = {**environment(), "PROBE_SHARDS": str(shards)}
    clients = {"dynamodb": store, "sqs": sqs}
    return deployment.probe_clock(env, client=clients.__getitem__, clock=HeldClock(at)), sqs


def test_a_minute_has_six_slots_each_at_its_time() -> None:
    clock, sqs = clock_over("ip-1", at=MINUTE + 3_200)
    assert clock.run(MINUTE + 2_000) == 6
    first = MINUTE // 10_000 + 1
    assert [message["slot"] for message, _ in sqs.messages] == [*range(first, first + 6)]
    assert [delay for _, delay in sqs.messages] == [7, 17, 27, 37, 47, 57]


def test_minutes_follow_each_other_without_a_gap_at_whichever_second_their_events_come() -> None:
    clock, sqs = clock_over("ip-1")
    for minute, second, late in ((0, 0, 0), (1, 9, 9_000), (2, 1, 0), (3, 19, 100)):
        event_at = MINUTE + 60_000 * minute + 1_000 * second
        clock._clock.at = event_at + late  # type: ignore[attr-defined]
        clock.run(event_at)
    slots = [message["slot"] for message, _ in sqs.messages]
    assert slots == [*range(slots[0], slots[0] + 24)]


def test_slots_that_are_over_are_not_put() -> None:
    clock, sqs = clock_over("ip-1", at=MINUTE + 40_000)
    assert clock.run(MINUTE) == 3
    assert [delay for _, delay in sqs.messages] == [0, 10, 20]


def test_only_shards_with_something_to_look_at_get_slots() -> None:
    resources = [f"ip-{number}" for number in range(3)]
    clock, sqs = clock_over(*resources, shards=8)
    put = clock.run(MINUTE)
    shards = {message["shard"] for message, _ in sqs.messages}
    assert shards == {zlib.crc32(resource_id.encode()) >> 29 for resource_id in resources}, "an eighth of the hashes"
    assert put == 6 * len(shards)
    clock, sqs = clock_over()
    assert (clock.run(MINUTE), sqs.messages) == (0, [])


@pytest.mark.parametrize("of", [1, 2, 3, 7, 200])
def test_each_endpoint_is_in_one_shard(of: int) -> None:
    store = Store(settings())
    for number in range(100):
        check = {"type": "TCP", "host": "a.example.com", "port": 80}
        one = Registration(
            f"vip-{number}", "webhook", f"ip-{number}", {}, observers=(prober.Observer.PROBE,), checks=(check,)
        )
        store.put_item(TableName=settings().endpoints_table, Item=endpoints.to_item(one))
    targets = Targets(store, settings())  # type: ignore[arg-type]
    found = [target.endpoint_id for shard in range(of) for target in targets.of_shard(shard, of)]
    assert sorted(found) == sorted(f"vip-{number}" for number in range(100))


def test_a_check_that_a_newer_version_stored_leaves_the_others_of_its_shard_alone() -> None:
    store = Store(settings())
    for endpoint_id, kind in (("vip-newer", "QUIC"), ("vip-known", "TCP")):
        check = {"type": kind, "host": "a.example.com", "port": 80}
        one = Registration(endpoint_id, "webhook", "ip-1", {}, observers=(prober.Observer.PROBE,), checks=(check,))
        store.put_item(TableName=settings().endpoints_table, Item=endpoints.to_item(one))
    targets = Targets(store, settings())  # type: ignore[arg-type]
    assert [target.endpoint_id for target in targets.of_shard(0, 1)] == ["vip-known"]


def test_slots_that_sqs_does_not_take_are_an_error() -> None:
    clock, sqs = clock_over("ip-1")
    sqs.refusing = 2
    with pytest.raises(RuntimeError, match="SQS did not take 2 of 6 slots"):
        clock.run(MINUTE)
