"""The endpoints table: how a registration is stored, read, changed and cached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from link.election.state import Observer
from link.errors import NotFound
from link.plugins.webhook.config import StoredWebhook
from link.registration import Registration
from link.store.endpoints import MAX_CACHED, Registrations, from_item, to_item
from tests.support.deployed import create_tables, settings
from tests.support.ids import NOW, PARIS, URL
from tests.support.registrations import REGISTERED, STORED, with_config

MINIMAL_STORED: dict[str, Any] = {
    "endpoint_id": {"S": PARIS},
    "revision": {"N": "1"},
    "plugin": {"S": "webhook"},
    "resource_id": {"S": "ip ü"},
    "url": {"S": URL},
    "ciphertext": {"B": b"\x00\xff"},
    "header_names": {"L": []},
    "checks": {"S": "[]"},
    "healthcheck_interval": {"N": "0"},
    "host": {"S": ""},
    "priority": {"N": "0"},
    "created_at": {"N": "1795435200000"},
    "encrypted_at": {"N": "1795435200000"},
}
MINIMAL = Registration(
    PARIS, "webhook", "ip ü", config=StoredWebhook(URL, b"\x00\xff", (), NOW).attributes(), created_at=NOW
)
OBSERVED_BY_AWS = replace(
    MINIMAL, observers=(Observer.SIGNAL,), signals=({"type": "ec2", "instance_id": "i-0123456789abcdef0"},)
)
OBSERVED_BY_AWS_STORED = {
    **MINIMAL_STORED,
    "observers": {"S": "signal"},
    "signals": {"S": '[{"type": "ec2", "instance_id": "i-0123456789abcdef0"}]'},
}
CHANGING = replace(REGISTERED, config=with_config(previous_ciphertext=b"before", previous_until=NOW + 1))
CHANGING_STORED = {**STORED, "previous_ciphertext": {"B": b"before"}, "previous_until": {"N": "1795435200001"}}


class Table:
    """The endpoints table; it counts its reads."""

    def __init__(self) -> None:
        self.client = boto3.client("dynamodb", region_name="eu-west-1")
        create_tables(self.client, settings())
        self.reads = 0

    def put(self, registration: Registration) -> None:
        self.put_item(to_item(registration))

    def put_item(self, item: dict[str, Any]) -> None:
        self.client.put_item(TableName=settings().endpoints_table, Item=item)

    def item(self) -> dict[str, Any]:
        key = {"endpoint_id": {"S": PARIS}}
        return self.client.get_item(TableName=settings().endpoints_table, Key=key)["Item"]

    def get_item(self, **arguments: Any) -> Any:
        assert arguments["ConsistentRead"]
        self.reads += 1
        return self.client.get_item(**arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


@pytest.fixture
def table() -> Iterator[Table]:
    with mock_aws():
        yield Table()


@pytest.fixture
def registrations(table: Table) -> Registrations:
    return Registrations(table, settings())  # type: ignore[arg-type]


# The stored form


@pytest.mark.parametrize(
    ("registration", "item"),
    [(REGISTERED, STORED), (MINIMAL, MINIMAL_STORED), (CHANGING, CHANGING_STORED)],
    ids=["everything", "nothing that is optional", "its secret is being changed"],
)
def test_an_item_is_what_version_0_1_stored(registration: Registration, item: dict[str, Any]) -> None:
    assert to_item(registration) == item
    assert from_item(item) == registration


def test_signals_are_stored_as_they_were_given() -> None:
    assert to_item(OBSERVED_BY_AWS) == OBSERVED_BY_AWS_STORED
    assert from_item(OBSERVED_BY_AWS_STORED) == OBSERVED_BY_AWS


def test_a_registration_comes_back_as_it_was_written(table: Table, registrations: Registrations) -> None:
    for registration in (REGISTERED, MINIMAL, CHANGING):
        table.put(registration)
        assert registrations.get(PARIS) == registration


def test_without_encrypted_at_a_ciphertext_is_as_old_as_its_registration() -> None:
    item = {name: value for name, value in STORED.items() if name != "encrypted_at"}
    assert StoredWebhook.of(from_item({**item, "created_at": {"N": "7"}})).encrypted_at == 7


def test_attributes_that_are_not_known_belong_to_the_plugin_and_are_written_back(
    table: Table, registrations: Registrations
) -> None:
    unknown = {"channel": {"S": "#ops"}, "limit": {"N": "7"}, "seal": {"B": b"\x01"}, "sites": {"L": [{"S": "paris"}]}}
    table.put_item({**STORED, "plugin": {"S": "log"}, **unknown})
    read = registrations.existing(PARIS)
    assert {name: read.config[name] for name in unknown} == {
        "channel": "#ops",
        "limit": 7,
        "seal": b"\x01",
        "sites": ("paris",),
    }
    assert to_item(read) == {**STORED, "plugin": {"S": "log"}, **unknown}
    table.transact_write_items(TransactItems=[registrations.update(read, replace(read, revision=2))])
    assert table.item() == {**STORED, "plugin": {"S": "log"}, **unknown, "revision": {"N": "2"}}


def test_a_plugins_attribute_never_replaces_one_of_the_registration() -> None:
    assert to_item(replace(REGISTERED, config=with_config(resource_id="another", host="london"))) == STORED


# Reading


def test_an_endpoint_that_is_not_there(registrations: Registrations) -> None:
    assert registrations.get(PARIS) is None
    assert registrations.at_revision(PARIS, 1) is None
    with pytest.raises(NotFound, match="Endpoint not found"):
        registrations.existing(PARIS)


def test_a_cached_registration_serves_only_at_its_revision(table: Table, registrations: Registrations) -> None:
    table.put(REGISTERED)
    assert registrations.at_revision(PARIS, 1) == registrations.at_revision(PARIS, 1) == REGISTERED
    assert table.reads == 1
    changed = replace(REGISTERED, revision=2, config=with_config(url="https://other.example.com/"))
    table.put(changed)
    assert registrations.at_revision(PARIS, 2) == changed
    # A sender that claimed for the old revision learns that there is a newer one.
    assert registrations.at_revision(PARIS, 1) == changed
    assert table.reads == 3


def test_a_registration_that_is_forgotten_is_read_again(table: Table, registrations: Registrations) -> None:
    table.put(REGISTERED)
    registrations.at_revision(PARIS, 1)
    rotated = replace(REGISTERED, config=with_config(ciphertext=b"renewed"))
    table.put(rotated)
    assert registrations.at_revision(PARIS, 1) == REGISTERED
    registrations.forget(PARIS)
    registrations.forget("one that was never read")
    assert registrations.at_revision(PARIS, 1) == rotated


def test_a_bounded_number_of_registrations_is_cached() -> None:
    class AnyItem:
        reads = 0

        def get_item(self, Key: dict[str, Any], **_: object) -> dict[str, Any]:
            self.reads += 1
            return {"Item": {**STORED, **Key}}

    items = AnyItem()
    registrations = Registrations(items, settings())  # type: ignore[arg-type]
    for number in range(MAX_CACHED):
        registrations.at_revision(str(number), 1)
    registrations.at_revision("0", 1)
    assert items.reads == MAX_CACHED == 1_000
    registrations.at_revision("one more", 1)
    registrations.at_revision("0", 1)
    assert items.reads == MAX_CACHED + 2


def test_scan_count_and_pages_hold_every_registration_once(table: Table, registrations: Registrations) -> None:
    all_of_them = {f"vip-{n}": replace(REGISTERED, endpoint_id=f"vip-{n}") for n in range(5)}
    for one in all_of_them.values():
        table.put(one)
    assert {one.endpoint_id: one for one in registrations.scan()} == all_of_them
    assert registrations.count() == 5
    found, after = registrations.page(2, None)
    assert len(found) == 2 and after == found[-1].endpoint_id
    while after is not None:
        more, after = registrations.page(2, after)
        found += more
    assert len(found) == 5 and {one.endpoint_id: one for one in found} == all_of_them
    assert registrations.page(100, None)[1] is None


def test_scan_and_count_go_on_to_the_second_page() -> None:
    """A page ends after 1 MiB, which no test fills."""
    client = boto3.client("dynamodb", region_name="eu-west-1")
    rows = [to_item(replace(REGISTERED, endpoint_id=endpoint_id)) for endpoint_id in ("paris", "london")]
    first = {"Items": rows[:1], "Count": 1, "LastEvaluatedKey": {"endpoint_id": {"S": "paris"}}}
    second = {"Items": rows[1:], "Count": 1}
    asked: dict[str, Any] = {"TableName": settings().endpoints_table}
    with Stubber(client) as stubber:
        for more in ({}, {"Select": "COUNT"}):
            stubber.add_response("scan", first, {**asked, **more})
            after = {"ExclusiveStartKey": first["LastEvaluatedKey"]}
            stubber.add_response("scan", second, {**asked, **more, **after})
        registrations = Registrations(client, settings())
        assert [row.endpoint_id for row in registrations.scan()] == ["paris", "london"]
        assert registrations.count() == 2


# Writing


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            REGISTERED,
            replace(
                REGISTERED,
                revision=2,
                config=with_config(url="https://new.example/"),
                host="london",
                priority=1,
                checks=(),
            ),
            id="names that are reserved words of DynamoDB",
        ),
        pytest.param(
            REGISTERED,
            replace(CHANGING, revision=2, config=with_config(CHANGING, ciphertext=b"renewed", header_names=())),
            id="more attributes",
        ),
        pytest.param(CHANGING, replace(REGISTERED, revision=2, lease_seconds=None), id="fewer attributes"),
    ],
)
def test_an_update_writes_only_the_change_and_needs_the_ciphertext_that_was_read(
    before: Registration, after: Registration, table: Table, registrations: Registrations
) -> None:
    table.put(before)
    table.transact_write_items(TransactItems=[registrations.update(before, after)])
    assert registrations.get(PARIS) == after
    table.put(replace(before, config=with_config(before, ciphertext=b"another")))
    with pytest.raises(table.exceptions.TransactionCanceledException) as refused:
        table.transact_write_items(TransactItems=[registrations.update(before, after)])
    assert refused.value.response["CancellationReasons"][0]["Code"] == "ConditionalCheckFailed"


def test_an_item_without_ciphertexts_is_updated_while_it_exists_and_never_created(
    table: Table, registrations: Registrations
) -> None:
    before = replace(REGISTERED, plugin="log", config={"channel": "#ops"})
    after = replace(before, revision=2, config={"channel": "#paris"})
    with pytest.raises(table.exceptions.TransactionCanceledException):
        table.transact_write_items(TransactItems=[registrations.update(before, after)])
    table.put(before)
    table.transact_write_items(TransactItems=[registrations.update(before, after)])
    assert registrations.get(PARIS) == after


def test_a_key_rotation_never_creates_an_item(registrations: Registrations) -> None:
    renewed = replace(REGISTERED, config=with_config(ciphertext=b"renewed"))
    assert not registrations.reencrypt(REGISTERED, renewed)
    assert registrations.count() == 0


def test_a_renewed_ciphertext_replaces_only_the_one_that_it_was_made_from(
    table: Table, registrations: Registrations
) -> None:
    table.put(REGISTERED)
    renewed = replace(REGISTERED, config=with_config(ciphertext=b"renewed", encrypted_at=NOW + 5))
    assert registrations.reencrypt(REGISTERED, renewed)
    assert registrations.get(PARIS) == renewed
    again = replace(REGISTERED, config=with_config(ciphertext=b"again"))
    assert not registrations.reencrypt(REGISTERED, again), "another rotation was faster"
    assert registrations.get(PARIS) == renewed
