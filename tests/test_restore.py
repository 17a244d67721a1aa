"""scripts/restore.py on moto: what it prints, what it changes, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from link.chance import Chance
from link.election.state import Status
from link.store.endpoints import Registrations
from link.store.locks import Locks
from link.store.signals import Signals
from scripts import restore
from tests.support.deployed import create_tables, settings
from tests.support.ids import RESOURCE
from tests.world import World, tables

STACK = {"EndpointStatusFunctionName": "link-webhook-EndpointStatusFunction-1"}
EC2 = {"type": "ec2", "instance_id": "i-0123456789abcdef0"}


@pytest.fixture
def world(aws: None) -> World:
    """Paris is active, london is ready."""
    world = World()
    for host in ("paris", "london"):
        world.report(world.register(host), "ACTIVATED")
    world.settle(10_000)
    return world


class Session:
    """The deployment of a world, seen with an operator's credentials."""

    def __init__(self, world: World) -> None:
        self.world = world

    def client(self, service: str, region_name: str) -> Any:
        return self.world._dynamodb if service == "dynamodb" else self

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        made = STACK | {"SignalsTableName": self.world.settings.signals_table}
        outputs = [{"OutputKey": name, "OutputValue": value} for name, value in made.items()]
        return {"Stacks": [{"StackName": StackName, "Outputs": outputs}]}

    def get_function_configuration(self, FunctionName: str) -> dict[str, Any]:
        assert FunctionName in STACK.values()
        return {"Environment": {"Variables": self.world.cloud.env}}


def run(world: World, *arguments: str) -> int:
    options = ["--stack", "link-webhook", "--region", "eu-west-1", *arguments]
    return restore.main(options, Session(world), world.clock)


def of(world: World) -> restore.Tables:
    locks = Locks(world._dynamodb, world.settings, world.clock, Chance())
    return restore.Tables(locks, Registrations(world._dynamodb, world.settings), world.settings, world.clock)


def test_signals_are_put_back_where_their_table_lacks_them(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    rome, oslo = (world.register(host, signals=[EC2]) for host in ("rome", "oslo"))
    signals = Signals(world._dynamodb, world.settings)
    world._dynamodb.transact_write_items(
        TransactItems=signals.registered(Registrations(world._dynamodb, world.settings).existing(rome), None)
    )
    before = world.resource()
    assert signals.followers("ec2:i-0123456789abcdef0") == [oslo]
    assert run(world, "--signals") == 0 and signals.read(rome) is None
    assert run(world, "--signals", "--write") == 0
    assert sorted(signals.followers("ec2:i-0123456789abcdef0")) == sorted([rome, oslo])
    assert capsys.readouterr().out.splitlines() == [f"{rome}: its signals are put back"] * 2
    assert run(world, "--signals", "--write") == 0 and capsys.readouterr().out == ""
    assert world.resource() == before, "no lock item is restored"


def test_without_write_it_says_what_would_change_and_changes_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    before = world.resource()
    assert run(world) == 0
    said = capsys.readouterr().out
    assert (
        f"{RESOURCE!r}: epoch 1 -> {world.clock.now() + 1}, holder {before.holder}, 2 endpoints are told again" in said
    )
    assert "Nothing was changed" in said
    assert world.resource() == before


def test_with_write_every_receiver_is_told_again_by_the_next_sweep_and_the_audit_says_why(world: World) -> None:
    told = len(world.receiver.requests)
    assert run(world, "--write") == 0
    now = world.clock.now()
    assert world.resource().epoch == now + 1
    world.settle(70_000)
    assert [(r.status, r.epoch > now or r.sequence > now) for r in world.receiver.requests[told:]] == [
        ("STANDBY", True),
        ("ACTIVATED", True),
    ]
    assert [row["cause"]["M"]["kind"]["S"] for row in world.transitions()][-1] == "restore"


def test_a_second_run_raises_the_numbers_again(world: World) -> None:
    assert run(world, "--write") == 0
    first = world.resource()
    assert run(world, "--write") == 0
    assert world.resource().epoch > first.epoch
    assert world.resource().holder == first.holder


def test_a_missing_registration_is_put_back_and_an_existing_one_stays(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = settings("-backup")
    create_tables(world._dynamodb, backup)
    for item in tables(world).endpoints.all():
        world._dynamodb.put_item(TableName=backup.endpoints_table, Item={**item, "priority": {"N": "99"}})
    world._dynamodb.put_item(TableName=backup.locks_table, Item=tables(world).locks.get_item(RESOURCE))
    paris, london = world.names
    world.operator(lambda: world.control.commands.delete(paris, "delete"))
    world.settle(10_000)
    assert list(world.resource().endpoints) == [london]

    sources = ["--locks-from", backup.locks_table, "--endpoints-from", backup.endpoints_table]
    assert run(world, *sources) == 0
    said = capsys.readouterr().out
    assert f"{paris}: its registration is put back" in said
    assert "2 endpoints are told again" in said
    assert world.registered() == {"london"}
    assert run(world, *sources, "--write") == 0
    assert world.registered() == {"paris", "london"}
    assert {world.name(i): e.priority for i, e in world.resource().endpoints.items()} == {"paris": 99, "london": 0}
    world.settle(70_000)
    assert world.holder() == world.name(world.receiver.active() or "") == "paris"


def test_a_resource_that_is_younger_than_the_backup_keeps_its_state_with_higher_numbers(world: World) -> None:
    backup, before = settings("-empty"), world.resource()
    create_tables(world._dynamodb, backup)
    assert run(world, "--locks-from", backup.locks_table, "--write") == 0
    after = world.resource()
    assert (after.holder, after.epoch > before.epoch) == (before.holder, True)
    assert [e.status for e in after.endpoints.values()] == [e.status for e in before.endpoints.values()]


def test_an_endpoint_that_is_registered_while_it_runs_keeps_its_entry(world: World) -> None:
    restored = of(world)
    step = restored.step(RESOURCE, set(world.names))
    world.register("berlin")
    restored.locks.update(RESOURCE, step, restore.CAUSE)
    assert {e.host for e in world.resource().endpoints.values() if not e.deleting} == {"paris", "london", "berlin"}


def test_a_write_while_it_runs_is_not_undone(world: World) -> None:
    restored, (paris, london) = of(world), world.names
    step = restored.step(RESOURCE, {paris, london})
    world.report(paris, "FAILING")
    restored.locks.update(RESOURCE, step, restore.CAUSE)
    assert world.resource().holder == london
    assert world.resource().endpoints[paris].status is Status.FAILING


def test_a_resource_whose_lock_item_is_lost_gets_one_from_its_registrations(world: World) -> None:
    world._dynamodb.delete_item(TableName=world.settings.locks_table, Key={"resource_id": {"S": RESOURCE}})
    assert run(world, "--write") == 0
    entries = world.resource().endpoints
    assert {i: (e.status, e.host) for i, e in entries.items()} == {
        i: (Status.BOOTING, name) for i, name in world.names.items()
    }
    world.settle(70_000)
    assert world.receiver.active() is None
    world.report(next(iter(world.names)), "ACTIVATED")
    assert world.receiver.active() == next(iter(world.names))


def test_a_resource_that_does_not_exist_is_an_error_and_no_other_is_restored(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    before = world.resource()
    assert run(world, "--resource", "another", "--write") == 1
    assert "no such resource" in capsys.readouterr().out
    assert world.resource() == before
    assert len(tables(world).locks.all()) == 1


def test_only_the_named_resource_is_restored(world: World) -> None:
    other = {**tables(world).locks.get_item(RESOURCE), "resource_id": {"S": "another"}}
    tables(world).locks.put_item(other)
    assert run(world, "--resource", RESOURCE, "--write") == 0
    assert tables(world).locks.get_item("another") == other
    assert world.resource().epoch > 1


def test_an_error_says_that_the_command_can_be_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "TransactWriteItems")

    monkeypatch.setattr(Locks, "commit", refuse)
    assert run(world, "--write") == 1
    said = capsys.readouterr().out
    assert "AccessDeniedException" in said
    assert "Run the command again" in said
