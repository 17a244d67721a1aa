"""Endpoints that a probe looks at, from the look to the webhook, on the simulated cloud."""

from __future__ import annotations

import json
from typing import Any

import pytest

from link import deployment
from link.election.state import Status
from link.prober import Prober, Untold
from link.probing.states import SLOT_MS, Shard
from link.store.probes import ProbeStates
from tests.support.probed import REFERENCE, Probing


@pytest.fixture
def two() -> Probing:
    """paris is active and london waits, by their probes alone."""
    probing = Probing()
    probing.register("paris")
    probing.slots()
    probing.register("london")
    probing.slots()
    assert probing.world.holder() == "paris"
    probing.events.clear()
    probing.looked_at.clear()
    return probing


def test_checks_alone_make_an_endpoint_active_and_its_death_hands_over(two: Probing) -> None:
    two.down["paris"] = "refused"
    assert two.until("london", within=1) == 1
    assert two.events == [("paris", "FAILING")]
    assert two.world.receiver.delivered()[-2:] == [("paris", "STANDBY", 1, 2), ("london", "ACTIVATED", 2, 2)]


def test_while_all_is_well_nothing_is_written_and_nobody_is_told(two: Probing) -> None:
    probes, words = two.known(), {i: e.words for i, e in two.world.resource().endpoints.items()}
    two.slots(360)
    assert two.events == []
    assert two.known() == probes, "not one write in an hour"
    assert {i: e.words for i, e in two.world.resource().endpoints.items()} == words


def test_one_black_hole_among_thirty_hosts_concerns_nobody_else() -> None:
    probing = Probing()
    hosts = [f"host-{number}" for number in range(30)]
    probing.register(*hosts)
    probing.slots()
    probing.events.clear()
    holder = probing.world.holder()
    assert holder is not None
    probing.down[holder] = "timeout"
    probing.slots(6)
    assert probing.events == [(holder, "FAILING")]
    assert probing.world.holder() != holder


def test_a_host_that_flaps_for_twenty_minutes_hands_over_a_few_times_and_comes_back_when_its_hold_ends(
    two: Probing,
) -> None:
    webhooks = len(two.world.receiver.requests)
    for turn in range(120):
        two.down = {"paris": "refused"} if turn % 2 else {}
        two.slots()
    assert len(two.events) <= 6
    announced = [request for request in two.world.receiver.requests[webhooks:] if request.reason != "refresh"]
    assert len(announced) <= 12
    two.down = {"paris": "refused"}
    two.slots(4)
    shown = two.world.control.queries.show(two.id("paris"))["probe"]
    assert shown["up"] is False
    two.down = {}
    until = shown["held_until"] or two.world.clock.now()
    while two.world.clock.now() <= until + 30_000:
        two.slots()
    assert two.world.control.queries.show(two.id("paris"))["probe"]["up"]


def test_heartbeats_of_a_host_that_is_no_observer_change_nothing_and_are_rejected(two: Probing) -> None:
    two.down["paris"] = "refused"
    two.slots()
    rejected, sequences = (
        len(two.world.queue.rejected),
        {i: e.sequence for i, e in two.world.resource().endpoints.items()},
    )
    for _ in range(30):
        two.world.report(two.id("paris"), "ACTIVATED")
        two.slots(2)
    assert two.world.holder() == "london"
    assert {i: e.sequence for i, e in two.world.resource().endpoints.items()} == sequences
    reasons = [message["reason"] for message in two.world.queue.rejected[rejected:]]
    assert reasons == ["not_an_observer"] * 30


def test_a_blind_prober_changes_nothing(two: Probing) -> None:
    two.down |= dict.fromkeys(("paris", "london", REFERENCE), "timeout")
    two.slots(30)
    two.down.clear()
    two.slots(30)
    assert two.events == []
    assert two.world.holder() == "paris"


def test_a_network_that_breaks_down_during_a_look_changes_nothing(two: Probing) -> None:
    two.down["paris"] = "timeout"
    look = two.look

    def breaks_down(wanted):  # type: ignore[no-untyped-def]
        looks = look(wanted)
        two.down[REFERENCE] = "timeout"
        return looks

    two.look = breaks_down  # type: ignore[method-assign]
    two.new_process()
    two.slots()
    assert two.events == []


def test_the_last_endpoint_of_a_resource_stays_up(two: Probing) -> None:
    two.down |= dict.fromkeys(("paris", "london"), "refused")
    webhooks = len(two.world.receiver.requests)
    two.slots(60)
    assert two.world.holder() == "paris"
    assert {request.reason for request in two.world.receiver.requests[webhooks:]} == {"refresh"}
    del two.down["london"]
    assert two.until("london", within=3) <= 3, "paris is not the last one any more"


def test_an_endpoint_that_only_its_host_observes_is_not_the_last_one_either() -> None:
    probing = Probing()
    probing.register("paris")
    probing.slots()
    london = probing.world.register("london")
    probing.world.report(london, "ACTIVATED")
    probing.down["paris"] = "refused"
    assert probing.until("london", within=1) == 1


def test_an_endpoint_that_is_ready_by_its_hosts_word_stands_although_its_probe_fails() -> None:
    probing = Probing()
    probing.register("paris", "london", observers=["host", "probe"], ready_when="any")
    probing.down["london"] = "refused"
    probing.slots()
    probing.world.report(probing.id("london"), "ACTIVATED")
    assert probing.world.holder() == "paris"
    probing.down["paris"] = "refused"
    assert probing.until("london", within=1) == 1


def test_release_lets_the_last_endpoint_go_down_as_link_does() -> None:
    probing = Probing(PROBE_WHEN_ALL_FAIL="release")
    probing.register("paris", "london")
    probing.slots()
    probing.down |= dict.fromkeys(("paris", "london"), "refused")
    assert probing.until(None, within=1) == 1
    del probing.down["london"]
    assert probing.until("london", within=6) <= 6


def test_an_endpoint_that_never_answered_is_failing() -> None:
    probing = Probing()
    (paris,) = probing.register("paris")
    probing.down["paris"] = "refused"
    probing.slots()
    assert probing.world.resource().endpoints[paris].status is Status.FAILING


def test_what_the_bus_does_not_take_is_told_again(two: Probing) -> None:
    two.down["paris"], two.refusing = "refused", True
    for _ in range(2):
        with pytest.raises(Untold, match="did not take 1 of 1 states: the next slot repeats them"):
            two.slots()
    assert two.world.holder() == "paris"
    two.refusing = False
    assert two.until("london", within=1) == 1


def test_a_lost_event_is_found_within_five_minutes(two: Probing) -> None:
    two.down["paris"], two.lost = "refused", True
    two.slots(2)
    two.lost = False
    assert two.world.holder() == "paris"
    assert two.until("london", within=30) <= 30


def test_an_invocation_that_ends_after_it_told_tells_again(two: Probing, monkeypatch: pytest.MonkeyPatch) -> None:
    two.down["paris"] = "refused"
    with monkeypatch.context() as patch:
        patch.setattr(ProbeStates, "write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            two.slots()
    assert two.world.holder() == "london"
    two.slots()
    assert two.events == [("paris", "FAILING")] * 2
    assert two.known().endpoints[two.id("paris")].told is False


def test_states_that_a_newer_version_stored_with_more_fields_are_read(two: Probing) -> None:
    table, key = two.world.settings.probes_table, {"shard": {"S": "0/1"}}
    item = two.world._dynamodb.get_item(TableName=table, Key=key)["Item"]
    more = {i: [*values, "more"] for i, values in json.loads(item["endpoints"]["S"]).items()}
    two.world._dynamodb.put_item(TableName=table, Item={**item, "endpoints": {"S": json.dumps(more)}})
    two.down["paris"] = "refused"
    assert two.until("london", within=1) == 1


def test_of_two_invocations_for_one_slot_the_second_write_is_refused(
    two: Probing, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.down["paris"] = "refused"
    read, meanwhile = ProbeStates.read, [True]

    def reads_before_the_other_writes(self: ProbeStates, shard: int, of: int, **more: Any) -> Shard:
        found = read(self, shard, of, **more)
        if meanwhile:
            meanwhile.clear()
            two.prober.run(shard, of, two.world.clock.now() // SLOT_MS)
        return found

    monkeypatch.setattr(ProbeStates, "read", reads_before_the_other_writes)
    version = two.known().version
    meanwhile.append(True)
    two.slots()
    assert two.known().version == version + 2, "the second one only says that what it told has to be told again"
    assert two.events == [("paris", "FAILING")] * 2, "an event that comes twice changes nothing"
    assert [word.epoch for word in two.world.receiver.requests[-2:]] == [1, 2]


def test_what_a_refused_write_would_have_stored_is_told_again_by_the_next_slot(
    two: Probing, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.down["paris"] = "refused"
    write, late = ProbeStates.write, [True]

    def comes_after_the_next_slot(self: ProbeStates, *arguments: Any) -> bool:
        if late:
            late.clear()
            two.down.clear()
            two.register("berlin")
            two.prober.run(0, 1, two.world.clock.now() // SLOT_MS + 1)
        return write(self, *arguments)

    monkeypatch.setattr(ProbeStates, "write", comes_after_the_next_slot)
    two.slots()
    assert two.events[0] == ("paris", "FAILING")
    assert two.known().endpoints[two.id("paris")].up, "the later slot found it well and was stored first"
    two.slots(2)
    assert two.world.resource().endpoints[two.id("paris")].ready(two.world.clock.now())


def test_a_process_that_stops_after_its_look_does_not_overtake_a_later_slot(
    two: Probing, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.down["paris"] = "refused"
    last, stopped = Prober._last, [True]

    def stops(self: Prober, *arguments: Any) -> set[str]:
        found = last(self, *arguments)
        if stopped:
            stopped.clear()
            two.down.clear()
            other = deployment.prober(
                two.environment, client=two.clients.__getitem__, clock=two.world.clock, look=two.look
            )
            for slot in range(two.world.clock.now() // SLOT_MS + 1, two.world.clock.now() // SLOT_MS + 31):
                two.world.settle(slot * SLOT_MS - two.world.clock.now())
                other.run(0, 1, slot)
            # Something that a later slot told: the comparison found the word missing.
            two.world.report(two.id("paris"), "ACTIVATED", source="link.probe")
        return found

    monkeypatch.setattr(Prober, "_last", stops)
    two.slots()
    assert two.events == [("paris", "FAILING")]
    assert two.world.holder() == "paris"


def test_a_slot_that_is_done_already_or_too_late_is_left_out(two: Probing) -> None:
    two.down["paris"] = "refused"
    two.slots()
    slot = two.known().slot
    looks = len(two.looked_at)
    two.prober.run(0, 1, slot)
    two.world.settle(40_000)
    two.prober.run(0, 1, slot + 1)
    assert len(two.looked_at) == looks


def test_an_endpoint_that_is_down_is_asked_less_often_and_comes_back_after_two_looks(two: Probing) -> None:
    two.down["paris"] = "refused"
    two.slots()
    two.looked_at.clear()
    two.slots(30)
    asked = [look["paris"] for look in two.looked_at if "paris" in look]
    assert asked == [1] * 10
    del two.down["paris"]
    two.events.clear()
    two.slots(4)
    assert two.events == [("paris", "ACTIVATED")]
    assert two.world.holder() == "london", "it pushes nobody out"


def test_a_check_at_the_address_of_another_endpoint_is_registered_with_a_warning(two: Probing) -> None:
    checks = [{"type": "HTTP", "host": "paris.example.com", "port": 80}]
    view = two.world.control.commands.change(two.id("london"), {"checks": checks}, "change")
    [warning] = view["warnings"]
    assert warning.startswith(f"paris.example.com:80 is also checked for {two.id('paris')}: ")
    own = [{"type": "HTTP", "host": "london.example.com", "port": 80}]
    assert "warnings" not in two.world.control.commands.change(two.id("london"), {"checks": own}, "change")


def test_a_drained_endpoint_stays_on_standby_whatever_its_probe_says(two: Probing) -> None:
    two.world.control.commands.change(two.id("paris"), {"drained": True}, "drain")
    two.slots(60)
    assert two.world.holder() == "london"
