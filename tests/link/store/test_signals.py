"""The table of signals: who is found by a signal, and how what was heard is stored. With moto, and with the simulator's
store, which has to answer the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from link.election.state import Observer, Status
from link.registration import Registration
from link.signals.keys import Signal, SignalType
from link.signals.words import Observed, Word
from link.store.signals import Signals
from tests.simulation.store import Store
from tests.support.deployed import create_tables, settings
from tests.support.ids import LONDON, NOW, PARIS
from tests.support.registrations import registration

INSTANCE, ALARM = "ec2:i-0123456789abcdef0", "alarm:arn:aws:cloudwatch:eu-west-1:111122223333:alarm:paris"
EC2 = {"type": "ec2", "instance_id": INSTANCE.removeprefix("ec2:")}
BOTH = (EC2, {"type": "alarm", "arn": ALARM.removeprefix("alarm:")})
SIGNALS = (Signal(SignalType.EC2, INSTANCE), Signal(SignalType.ALARM, ALARM))
HEARD = {INSTANCE: Word(Status.STANDBY, NOW, 3, "stopping", NOW - 9, NOW + 9, "spot_interruption", NOW - 99)}


class Table:
    """The table, with any client of DynamoDB."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.signals = Signals(client, settings())

    def register(self, before: Registration | None, after: Registration | None) -> int:
        """Commits a registration; returns the number of writes that its signals needed."""
        writes = self.signals.registered(before, after)
        if writes:
            self.client.transact_write_items(TransactItems=writes)
        return len(writes)


@pytest.fixture(params=["moto", "simulator"])
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    if request.param == "simulator":
        yield Table(Store(settings()))
        return
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-west-1")
        create_tables(client, settings())
        yield Table(client)


def signalled(*signals: dict[str, Any], endpoint_id: str = PARIS) -> Registration:
    return replace(registration(), endpoint_id=endpoint_id, observers=(Observer.SIGNAL,), signals=signals)


def test_a_registered_endpoint_is_found_by_each_of_its_signals(table: Table) -> None:
    table.register(None, signalled(*BOTH))
    table.register(None, signalled(EC2, endpoint_id=LONDON))
    assert table.signals.followers(INSTANCE) == [PARIS, LONDON]
    assert (table.signals.followers(ALARM), table.signals.followers("ec2:i-0")) == ([PARIS], [])
    assert [one.endpoint_id for one in table.signals.all()] == [PARIS, LONDON]


def test_a_new_endpoint_has_heard_nothing(table: Table) -> None:
    new = signalled(*BOTH)
    table.register(None, new)
    assert table.signals.read(PARIS) == Observed(PARIS, new.resource_id, SIGNALS, version=1)
    assert table.signals.read(LONDON) is None


def test_what_was_heard_comes_back_as_it_was_written(table: Table) -> None:
    table.register(None, signalled(*BOTH))
    before = table.signals.read(PARIS)
    assert before is not None
    after = table.signals.write(before, replace(before, words=HEARD, status=Status.STANDBY, at=NOW))
    assert after == table.signals.read(PARIS) == replace(before, words=HEARD, status=Status.STANDBY, at=NOW, version=2)


def test_of_two_that_write_at_once_the_second_is_refused(table: Table) -> None:
    table.register(None, signalled(*BOTH))
    before = table.signals.read(PARIS)
    assert before is not None
    first = table.signals.write(before, replace(before, status=Status.STANDBY, at=NOW))
    assert table.signals.write(before, replace(before, status=Status.FAILING, at=NOW)) is None
    assert table.signals.read(PARIS) == first


def test_a_change_of_the_signals_keeps_what_was_heard_and_refuses_whoever_has_not_read_it(table: Table) -> None:
    table.register(None, signalled(*BOTH))
    before = table.signals.read(PARIS)
    assert before is not None
    heard = table.signals.write(before, replace(before, words=HEARD, status=Status.STANDBY, at=NOW))
    assert heard is not None
    table.register(signalled(*BOTH), signalled(EC2))
    assert table.signals.followers(ALARM) == []
    assert table.signals.read(PARIS) == replace(heard, signals=SIGNALS[:1], version=3)
    assert table.signals.write(heard, replace(heard, status=Status.FAILING, at=NOW + 1)) is None


def test_another_meaning_of_the_same_signal_is_stored(table: Table) -> None:
    table.register(None, signalled(EC2))
    assert table.register(signalled(EC2), signalled({**EC2, "rebalance": "standby"})) == 1
    observed = table.signals.read(PARIS)
    assert observed is not None and observed.signals[0].heeds_risk


@pytest.mark.parametrize("after", [None, signalled(), replace(signalled(*BOTH), observers=(Observer.HOST,))])
def test_what_is_not_observed_any_more_is_gone_from_the_table(table: Table, after: Registration | None) -> None:
    table.register(None, signalled(*BOTH))
    table.register(signalled(*BOTH), after)
    assert [table.signals.followers(INSTANCE), table.signals.followers(ALARM), [*table.signals.all()]] == [[], [], []]


def test_without_signals_a_registration_costs_nothing_here(table: Table) -> None:
    plain = registration()
    assert table.register(None, plain) == table.register(plain, replace(plain, priority=1)) == 0
    assert table.register(plain, None) == table.register(None, None) == 0
    assert table.register(signalled(EC2), replace(signalled(EC2), priority=1)) == 0


def test_who_was_deleted_meanwhile_is_not_written_again(table: Table) -> None:
    table.register(None, signalled(EC2))
    before = table.signals.read(PARIS)
    assert before is not None
    table.register(signalled(EC2), None)
    assert table.signals.write(before, replace(before, status=Status.FAILING, at=NOW)) is None
    table.signals.confirm(replace(before, at=NOW))
    assert [*table.signals.all()] == []


def test_what_the_bus_took_is_confirmed_and_an_older_confirmation_changes_nothing(table: Table) -> None:
    table.register(None, signalled(EC2))
    before = table.signals.read(PARIS)
    assert before is not None
    heard = table.signals.write(before, replace(before, status=Status.FAILING, at=NOW))
    assert heard is not None and heard.untold
    for at in (NOW - 1, NOW, NOW - 2):
        table.signals.confirm(replace(heard, at=at))
    assert table.signals.read(PARIS) == replace(heard, told_at=NOW)


def test_a_write_keeps_what_was_confirmed_meanwhile(table: Table) -> None:
    table.register(None, signalled(EC2))
    before = table.signals.read(PARIS)
    assert before is not None
    heard = table.signals.write(before, replace(before, status=Status.FAILING, at=NOW))
    assert heard is not None
    table.signals.confirm(heard)
    table.signals.write(heard, replace(heard, status=Status.STANDBY, at=NOW + 5))
    after = table.signals.read(PARIS)
    assert after is not None and (after.told_at, after.at) == (NOW, NOW + 5)


def test_a_fault_of_dynamodb_is_raised() -> None:
    with mock_aws():
        signals = Signals(boto3.client("dynamodb", region_name="eu-west-1"), settings())
        with pytest.raises(ClientError, match="ResourceNotFound"):
            signals.write(Observed(PARIS, "", ()), Observed(PARIS, "", ()))
