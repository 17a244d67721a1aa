"""What an operator does when state was lost, on the local cloud, with a receiver that remembers what it saw."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from link.receiver import ActiveSlot, InMemoryStore, apply, parse_and_validate_webhook
from scripts import adopt, demo, restore
from scripts.cloud import REGION, STACK, Cloud, deploy, local_cloud
from tests.e2e.site import Site, eventually, secret
from tests.support.receiver import LoopbackReceiver


class Session:
    """The operator's credentials: those of the account's owner."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def client(self, service: str, region_name: str) -> Any:
        assert region_name == REGION
        return self._cloud.client(service)


class Kit:
    """A receiver that is built with `link.receiver`, and reads what has arrived."""

    def __init__(self, receiver: LoopbackReceiver) -> None:
        self._receiver, self._store, self._read = receiver, InMemoryStore(), 0
        self.secrets = [secret("paris"), secret("london")]
        self.refused = 0

    def slot(self, resource_id: str) -> ActiveSlot:
        for request in self._receiver.requests[self._read :]:
            webhook = parse_and_validate_webhook(self.secrets, request.headers, request.body)
            self.refused += not apply(self._store, webhook, lambda target: None)
            self._read += 1
        return self._store.load(resource_id)[0]


def two_handovers(site: Site, kit: Kit) -> tuple[str, str]:
    """Paris and london are registered; the lock goes to paris, london and paris: epoch 3."""
    paris, london = site.register("paris"), site.register("london")
    site.report(paris, "ACTIVATED")
    eventually("paris is active", lambda: kit.slot(site.resource_id).active == paris)
    site.report(london, "ACTIVATED")
    eventually("london is ready", lambda: site.resource().endpoints[london].ready(0))
    fail_over(site, kit, paris, london)
    fail_over(site, kit, london, paris)
    return paris, london


def fail_over(site: Site, kit: Kit, host: str, other: str, *, user: str = "operator") -> None:
    """An operator's failover, until the receiver has all of it."""
    credentials = site.cloud.credentials(user)
    status, answer = site.cloud.call("POST", f"/endpoints/{host}/failover", credentials=credentials)
    assert status == 204, answer
    eventually("the other one is active", lambda: kit.slot(site.resource_id).active == other)
    eventually("all is delivered", lambda: not any(e.pending for e in site.resource().endpoints.values()))


def restored(cloud: Cloud, *arguments: str) -> int:
    return restore.main(["--stack", STACK, "--region", REGION, *arguments], Session(cloud))


def test_a_receiver_refuses_an_old_table_and_accepts_it_after_restore(
    site: Site, receiver: LoopbackReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    dynamodb, table = site.cloud.client("dynamodb"), site.cloud.outputs["LocksTableName"]
    kit = Kit(receiver)
    key = {"resource_id": {"S": site.resource_id}}
    first = site.register("berlin")
    site.report(first, "STANDBY")
    kit.secrets.append(secret("berlin"))
    eventually("berlin is told", lambda: first in kit.slot(site.resource_id).last_sequence)
    backup = dynamodb.get_item(TableName=table, Key=key)["Item"]
    paris, _ = two_handovers(site, kit)
    remembered = kit.slot(site.resource_id)
    assert (remembered.active, remembered.highest_epoch) == (paris, 3)

    dynamodb.put_item(TableName=table, Item=backup)
    site.report(first, "ACTIVATED")
    eventually("berlin's ACTIVATED is refused", lambda: kit.slot(site.resource_id) == remembered and kit.refused)
    assert site.resource().holder == first

    assert restored(site.cloud, "--resource", site.resource_id) == 0
    assert "Nothing was changed" in capsys.readouterr().out
    assert site.resource().epoch == 1
    assert restored(site.cloud, "--resource", site.resource_id, "--write") == 0
    site.sweep()
    eventually("berlin is active", lambda: kit.slot(site.resource_id).active == first)
    slot = kit.slot(site.resource_id)
    assert slot.highest_epoch and slot.highest_epoch > remembered.highest_epoch
    assert set(site.resource().endpoints) == set(slot.last_sequence), "paris and london have a registration"
    eventually("all is delivered", lambda: not any(e.pending for e in site.resource().endpoints.values()))
    assert "restore" in [row["cause"]["M"]["kind"]["S"] for row in site.transitions()]


def test_items_and_registrations_are_copied_from_restored_tables(site: Site, receiver: LoopbackReceiver) -> None:
    dynamodb, kit = site.cloud.client("dynamodb"), Kit(receiver)
    paris, london = two_handovers(site, kit)
    copies = {}
    for name in ("LocksTableName", "EndpointsTableName"):
        table = site.cloud.outputs[name]
        copies[name] = f"restored-{uuid.uuid4()}"
        backup = dynamodb.create_backup(TableName=table, BackupName="before")["BackupDetails"]["BackupArn"]
        dynamodb.restore_table_from_backup(TargetTableName=copies[name], BackupArn=backup)
        dynamodb.get_waiter("table_exists").wait(TableName=copies[name])
    status, _ = site.cloud.call("DELETE", f"/endpoints/{paris}")
    assert status == 204
    eventually("london is active", lambda: kit.slot(site.resource_id).active == london)
    eventually("paris is gone", lambda: list(site.resource().endpoints) == [london])

    sources = ["--locks-from", copies["LocksTableName"], "--endpoints-from", copies["EndpointsTableName"]]
    assert restored(site.cloud, "--resource", site.resource_id, *sources, "--write") == 0
    site.sweep()
    eventually("paris is active again", lambda: kit.slot(site.resource_id).active == paris)
    assert kit.refused == 0
    assert set(site.resource().endpoints) == {paris, london}
    assert site.cloud.call("GET", f"/endpoints/{paris}")[0] == 200


@pytest.fixture
def deleted() -> Iterator[Cloud]:
    """A local cloud of its own, because the test deletes the stack."""
    with local_cloud(parameters=demo.PARAMETERS, name="adopt") as running:
        yield running


def test_a_new_stack_takes_over_the_tables_and_the_key_of_a_deleted_one(
    deleted: Cloud, receiver: LoopbackReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = deleted
    kit, site = Kit(receiver), Site(cloud, receiver, "floating-ip")
    paris, london = two_handovers(site, kit)
    tables = {name: cloud.outputs[name] for name in ("LocksTableName", "EndpointsTableName", "TransitionsTableName")}
    key = cloud.outputs["SecretsKeyArn"]
    arguments = ["--stack", STACK, "--region", REGION]
    assert adopt.main(arguments, Session(cloud)) == 1
    assert "delete it first" in capsys.readouterr().out

    cloudformation = cloud.client("cloudformation")
    cloudformation.delete_stack(StackName=STACK)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=STACK)
    assert adopt.main(arguments, Session(cloud)) == 0
    assert tables["LocksTableName"] in capsys.readouterr().out
    assert adopt.main([*arguments, "--write"], Session(cloud)) == 0
    deploy(cloud, demo.PARAMETERS, update=True)

    assert {name: cloud.outputs[name] for name in tables} == tables
    assert cloud.outputs["SecretsKeyArn"] == key
    # The API of the new stack has another id, so the operator needs another permission.
    api = f"arn:aws:execute-api:{REGION}:000000000000:{cloud.outputs['ApiId']}/*"
    cloud.create_user("next-operator", statement={"Action": "execute-api:Invoke", "Resource": api})
    fail_over(site, kit, paris, london, user="next-operator")
    assert (kit.slot("floating-ip").highest_epoch, kit.refused) == (4, 0)
