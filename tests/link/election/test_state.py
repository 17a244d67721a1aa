"""What an entry says about itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from link.election.state import Endpoint, Observer, ReadyWhen, Status, Word
from tests.support.entries import ACTIVATED, BOOTING, FAILING, STANDBY, endpoint, holder, resource, waiting
from tests.support.ids import NOW


@pytest.mark.parametrize(
    ("e", "ready"),
    [
        pytest.param(holder(), True, id="it reported ACTIVATED"),
        pytest.param(waiting(reported=STANDBY), False, id="it reported STANDBY"),
        pytest.param(waiting(reported=FAILING), False, id="it reported FAILING"),
        pytest.param(endpoint(), False, id="it never reported"),
        pytest.param(waiting(deleting=True), False, id="it is being deleted"),
        pytest.param(waiting(lease_expires_at=NOW + 1), True, id="its lease runs"),
        pytest.param(waiting(lease_expires_at=NOW), False, id="its lease ends now"),
    ],
)
def test_which_endpoint_can_be_elected(e: Endpoint, ready: bool) -> None:
    assert e.ready(NOW) is ready


@pytest.mark.parametrize(
    ("ready_when", "host", "probe", "verdict"),
    [
        ("all", ACTIVATED, ACTIVATED, ACTIVATED),
        ("all", ACTIVATED, STANDBY, STANDBY),
        ("all", STANDBY, FAILING, FAILING),
        ("all", FAILING, ACTIVATED, FAILING),
        ("all", ACTIVATED, None, None),
        ("all", STANDBY, None, STANDBY),
        ("all", None, FAILING, FAILING),
        ("all", None, None, None),
        ("any", FAILING, ACTIVATED, ACTIVATED),
        ("any", ACTIVATED, STANDBY, ACTIVATED),
        ("any", FAILING, STANDBY, STANDBY),
        ("any", FAILING, FAILING, FAILING),
        ("any", ACTIVATED, None, ACTIVATED),
        ("any", None, FAILING, FAILING),
        ("any", None, None, None),
    ],
)
def test_what_the_words_of_two_observers_come_to(
    ready_when: str, host: Status | None, probe: Status | None, verdict: Status | None
) -> None:
    said = {Observer.HOST: host, Observer.PROBE: probe}
    words = {observer: Word(status, NOW - 1) for observer, status in said.items() if status is not None}
    both = endpoint(observers=(Observer.HOST, Observer.PROBE), ready_when=ReadyWhen(ready_when), words=words)
    assert both.verdict(NOW) is verdict
    drained = replace(both, drained_at=NOW)
    assert drained.verdict(NOW) is (FAILING if verdict is FAILING else STANDBY)


def test_only_the_word_of_a_host_ends_with_its_lease() -> None:
    words = {observer: Word(ACTIVATED, NOW - 1) for observer in Observer}
    e = endpoint(observers=tuple(Observer), words=words, lease_expires_at=NOW)
    assert [e.word(observer, NOW) for observer in Observer] == [FAILING, ACTIVATED, ACTIVATED]
    assert [e.word(observer, NOW - 1) for observer in Observer] == [ACTIVATED] * 3
    gone = replace(e, words={**words, Observer.HOST: Word(STANDBY, NOW)})
    assert gone.word(Observer.HOST, NOW) is STANDBY, "the lease belongs to an ACTIVATED"


@pytest.mark.parametrize(
    ("ready_when", "words", "waits_for"),
    [
        ("all", {}, ["host", "probe"]),
        ("all", {Observer.HOST: Word(ACTIVATED, NOW)}, ["probe"]),
        ("all", {Observer.HOST: Word(FAILING, NOW)}, []),
        ("any", {}, ["host", "probe"]),
        ("any", {Observer.HOST: Word(ACTIVATED, NOW)}, []),
    ],
)
def test_an_undecided_endpoint_waits_for_those_who_have_not_reported(
    ready_when: str, words: dict[Observer, Word], waits_for: list[str]
) -> None:
    both = endpoint(observers=(Observer.HOST, Observer.PROBE), ready_when=ReadyWhen(ready_when), words=words)
    assert both.waits_for(NOW) == waits_for
    assert replace(both, drained_at=NOW).waits_for(NOW) == waits_for, "it will wait for them when it is undrained"


@pytest.mark.parametrize(
    ("status", "wire"), [(BOOTING, STANDBY), (ACTIVATED, ACTIVATED), (STANDBY, STANDBY), (FAILING, STANDBY)]
)
def test_a_receiver_gets_activated_or_standby(status: Status, wire: Status) -> None:
    assert endpoint(status=status).wire is wire


@pytest.mark.parametrize(
    ("e", "pending", "since"),
    [
        pytest.param(waiting(), False, 0, id="delivered"),
        pytest.param(waiting(sequence=2, announced_at=NOW - 7), True, NOW - 7, id="announced"),
        pytest.param(waiting(requested_at=NOW), True, NOW, id="requested again"),
        pytest.param(waiting(sequence=2, announced_at=NOW - 7, requested_at=NOW), True, NOW - 7, id="both"),
    ],
)
def test_since_when_a_status_is_pending(e: Endpoint, pending: bool, since: int) -> None:
    assert (e.pending, e.pending_since if pending else 0) == (pending, since)


def test_an_item_is_the_same_object_only_when_nothing_changes() -> None:
    r = resource(paris=holder(), london=waiting())
    assert r.having("paris", holder()) is r
    changed = r.having("paris", holder(priority=1))
    assert changed == replace(r, endpoints={**r.endpoints, "paris": holder(priority=1)}) != r
    assert r.without("paris").endpoints == {"london": waiting()}
