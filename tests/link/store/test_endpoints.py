from __future__ import annotations

from dataclasses import replace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from link.store.endpoints import from_item, to_item
from tests.support.deployed import create_tables, settings
from tests.world import START

PARIS = StorablePluginConfig(
    endpoint_id="vip-1",
    revision=1,
    plugin="webhook",
    resource_id="ip ü",
    url="https://receiver.example.com/hook",
    ciphertext=b"\x00\xff",
    header_names=("Authorization", "X-Site"),
    checks=({"type": "TCP", "host": "203.0.113.7", "port": 443},),
    healthcheck_interval=10,
    host="paris",
    priority=-5,
    lease_seconds=30,
    created_at=START,
    encrypted_at=START,
)


class Table:
    """The endpoints table, counting its reads."""

    def __init__(self) -> None:
        self.client = boto3.client("dynamodb", region_name="eu-west-1")
        create_tables(self.client, settings())
        self.reads = 0

    def put(self, row: StorablePluginConfig) -> None:
        self.client.put_item(TableName=settings().endpoints_table, Item=to_item(row))

    def get_item(self, **arguments: Any) -> Any:
        assert arguments["ConsistentRead"]
        self.reads += 1
        return self.client.get_item(**arguments)

    def get_paginator(self, name: str) -> Any:
        return self.client.get_paginator(name)


@pytest.fixture
def table():
    with mock_aws():
        yield Table()


@pytest.mark.parametrize("row", [PARIS, replace(PARIS, lease_seconds=None, checks=(), header_names=(), host="")])
def test_a_row_comes_back_as_it_was_written(row: StorablePluginConfig, table: Table) -> None:
    table.put(row)
    assert Registry(table, settings()).get("vip-1") == row  # type: ignore[arg-type]
    assert from_item(to_item(row)) == row


def test_a_row_that_is_not_there(table: Table) -> None:
    registry = Registry(table, settings())  # type: ignore[arg-type]
    assert registry.get("vip-1") is None
    assert registry.at_revision("vip-1", 1) is None


def test_a_remembered_row_serves_only_at_its_revision(table: Table) -> None:
    registry = Registry(table, settings())  # type: ignore[arg-type]
    table.put(PARIS)
    assert registry.at_revision("vip-1", 1) == registry.at_revision("vip-1", 1) == PARIS
    assert table.reads == 1
    changed = replace(PARIS, revision=2, url="https://other.example.com/")
    table.put(changed)
    assert registry.at_revision("vip-1", 2) == changed
    # Whoever claimed for the old revision learns that there is a newer one.
    assert registry.at_revision("vip-1", 1) == changed
    assert table.reads == 3


def test_a_row_that_is_forgotten_is_read_again(table: Table) -> None:
    registry = Registry(table, settings())  # type: ignore[arg-type]
    table.put(PARIS)
    registry.at_revision("vip-1", 1)
    rotated = replace(PARIS, ciphertext=b"anew")
    table.put(rotated)
    assert registry.at_revision("vip-1", 1) == PARIS
    registry.forget("vip-1")
    registry.forget("vip-2")
    assert registry.at_revision("vip-1", 1) == rotated


ROTATING = replace(PARIS, previous_ciphertext=b"before", previous_until=START + 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (PARIS, replace(PARIS, revision=2, url="https://new.example/", host="london", priority=1, checks=())),
        (PARIS, replace(ROTATING, revision=2, ciphertext=b"anew", header_names=())),
        (ROTATING, replace(PARIS, revision=2, lease_seconds=None)),
    ],
    ids=["the names that DynamoDB has words for", "an attribute more", "attributes less"],
)
def test_an_update_leads_to_the_row_it_was_made_for_unless_the_ciphertext_is_another(
    before: StorablePluginConfig, after: StorablePluginConfig, table: Table
) -> None:
    registry = Registry(table.client, settings())
    table.put(before)
    table.client.transact_write_items(TransactItems=[registry.update(before, after)])
    assert registry.get("vip-1") == after
    table.put(replace(before, ciphertext=b"another"))
    with pytest.raises(table.client.exceptions.TransactionCanceledException) as refused:
        table.client.transact_write_items(TransactItems=[registry.update(before, after)])
    assert refused.value.response["CancellationReasons"][0]["Code"] == "ConditionalCheckFailed"


def test_an_update_never_makes_a_row(table: Table) -> None:
    registry = Registry(table.client, settings())
    assert not registry.reencrypt(PARIS, replace(PARIS, ciphertext=b"anew"))
    assert registry.count() == 0


def test_a_ciphertext_made_anew_is_written_over_the_one_it_was_made_of_only(table: Table) -> None:
    registry = Registry(table.client, settings())
    table.put(PARIS)
    anew = replace(PARIS, ciphertext=b"anew", encrypted_at=START + 5)
    assert registry.reencrypt(PARIS, anew)
    assert registry.get("vip-1") == anew
    assert not registry.reencrypt(PARIS, replace(PARIS, ciphertext=b"again")), "somebody was faster"
    assert registry.get("vip-1") == anew


def test_a_row_from_before_there_were_rotations_is_as_old_as_itself() -> None:
    item = to_item(PARIS)
    del item["encrypted_at"]
    assert from_item(item).encrypted_at == PARIS.created_at


def test_scan_and_count_see_every_row(table: Table) -> None:
    rows = {f"vip-{n}": replace(PARIS, endpoint_id=f"vip-{n}") for n in range(5)}
    for row in rows.values():
        table.put(row)
    registry = Registry(table, settings())  # type: ignore[arg-type]
    assert {row.endpoint_id: row for row in registry.scan()} == rows
    assert registry.count() == 5
