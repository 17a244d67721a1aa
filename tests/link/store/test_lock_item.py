"""The stored form of the lock item: short names, no default values. Items of version 0.1 can be read."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from link.election import rules
from link.election.state import NEVER, Claim, Endpoint, Observer, ReadyWhen, Resource, Word
from link.store.lock_item import SHARDS, NewerFormat, due_shard, from_item, to_item
from tests.support.entries import ACTIVATED, FAILING, STANDBY, frozen, holder, resource, waiting
from tests.support.ids import NOW
from tests.world import size

FULL = Endpoint(
    joined=NOW, revision=2, host="paris", priority=-5, lease_seconds=30,
    observers=(Observer.HOST, Observer.PROBE, Observer.SIGNAL), ready_when=ReadyWhen.ANY, drained_at=NOW,
    words={Observer.HOST: Word(ACTIVATED, NOW), Observer.PROBE: Word(STANDBY, NOW + 1)},
    lease_expires_at=NOW + 1, status=STANDBY, epoch=3, sequence=4, reason="demoted", announced_at=NOW,
    delivered_sequence=3, delivered_at=NOW, attempt=2, next_attempt_at=NEVER, failure_kind="not_sent",
    failure_reason="dns", claim=Claim("token", NOW, 4), believed_until=NEVER, requested_at=NOW, deleting=True,
    losses=3, lost_at=NOW, ready_since=NOW + 1, unknown={"zz": {"S": "newer"}},
)  # fmt: skip
FULL_ENTRY: dict[str, Any] = {
    "j": {"N": "1795435200000"},
    "v": {"N": "2"},
    "h": {"S": "paris"},
    "p": {"N": "-5"},
    "l": {"N": "30"},
    "o": {"S": "host probe signal"},
    "w": {"S": "any"},
    "dr": {"N": "1795435200000"},
    "r": {"S": "ACTIVATED"},
    "ra": {"N": "1795435200000"},
    "pr": {"S": "STANDBY"},
    "pa": {"N": "1795435200001"},
    "le": {"N": "1795435200001"},
    "s": {"S": "STANDBY"},
    "ep": {"N": "3"},
    "sq": {"N": "4"},
    "rs": {"S": "demoted"},
    "an": {"N": "1795435200000"},
    "ds": {"N": "3"},
    "da": {"N": "1795435200000"},
    "at": {"N": "2"},
    "na": {"N": "9007199254740991"},
    # Version 0.1 had both in one attribute, `f`.
    "fk": {"S": "not_sent"},
    "fr": {"S": "dns"},
    "c": {"M": {"t": {"S": "token"}, "u": {"N": "1795435200000"}, "s": {"N": "4"}}},
    "b": {"N": "9007199254740991"},
    "aa": {"N": "1795435200000"},
    "d": {"BOOL": True},
    "n": {"N": "3"},
    "lo": {"N": "1795435200000"},
    "rd": {"N": "1795435200001"},
    "zz": {"S": "newer"},
}
ITEM: dict[str, Any] = {
    "resource_id": {"S": "ip ü"},
    "format": {"N": "2"},
    "version": {"N": "7"},
    "nonce": {"S": "a nonce"},
    "epoch": {"N": "3"},
    "holder": {"S": "london"},
    "command": {"S": "third second first"},
    "frozen": {"BOOL": True},
    "due_shard": {"N": "1"},
    "due_at": {"N": "1795435200000"},
    "endpoints": {"M": {"paris": {"M": FULL_ENTRY}, "london": {"M": {"j": {"N": "1"}}}}},
}
STORED = Resource(
    "ip ü",
    version=7,
    nonce="a nonce",
    epoch=3,
    holder="london",
    commands=("third", "second", "first"),
    due_at=NOW,
    frozen=True,
    endpoints={"paris": FULL, "london": Endpoint(joined=1)},
)


def test_the_stored_form_is_that_of_version_0_1_except_for_the_failure() -> None:
    shard = {"due_shard": {"N": str(due_shard("ip ü"))}}
    assert to_item(STORED) == {**ITEM, **shard}
    assert from_item(ITEM) == STORED


def test_the_full_entry_has_no_default_value() -> None:
    assert [f.name for f in fields(Endpoint) if getattr(FULL, f.name) in (f.default, {})] == []


def test_what_has_its_default_value_is_left_out() -> None:
    assert to_item(Resource("ip", 1, "n")) == {
        "resource_id": {"S": "ip"},
        "version": {"N": "1"},
        "nonce": {"S": "n"},
        "epoch": {"N": "0"},
        "endpoints": {"M": {}},
    }


def test_the_plugin_is_stored_unless_it_is_the_default_one() -> None:
    assert "plugin" not in to_item(STORED)
    of_another = replace(STORED, plugin="log")
    assert to_item(of_another)["plugin"] == {"S": "log"}
    assert from_item(to_item(of_another)) == of_another


@pytest.mark.parametrize(
    ("stored", "kind", "reason"),
    [
        ("not_sent dns", "not_sent", "dns"),
        ("unreadable secret_unreadable_NotFoundException", "unreadable", "secret_unreadable_NotFoundException"),
        ("refused", "refused", ""),
    ],
)
def test_a_failure_of_version_0_1_is_read_as_its_two_fields(stored: str, kind: str, reason: str) -> None:
    item = to_item(resource(paris=waiting()))
    item["endpoints"]["M"]["paris"]["M"]["f"] = {"S": stored}
    e = from_item(item).endpoints["paris"]
    assert (e.failure_kind, e.failure_reason) == (kind, reason)
    entry = to_item(from_item(item))["endpoints"]["M"]["paris"]["M"]
    assert "f" not in entry and entry["fk"] == {"S": kind}


def test_attributes_of_a_newer_version_stay_in_the_item_and_its_entries() -> None:
    item = to_item(resource(paris=holder(), london=waiting()))
    item["endpoints"]["M"]["paris"]["M"]["zz"] = {"S": "newer"}
    item["newer"] = {"L": [{"N": "1"}]}
    decided = rules.report(from_item(item), "paris", FAILING, NOW, NOW)
    assert decided.holder == "london"
    stored = to_item(decided)
    assert (stored["newer"], stored["endpoints"]["M"]["paris"]["M"]["zz"]) == ({"L": [{"N": "1"}]}, {"S": "newer"})


def test_an_item_of_a_newer_format_is_refused() -> None:
    item = to_item(resource(paris=holder()))
    assert from_item({**item, "format": {"N": "1"}}) == from_item({**item, "format": {"N": "2"}}) == from_item(item)
    with pytest.raises(NewerFormat, match="ip: the lock item has format 3, and this version reads up to 2: deploy"):
        from_item({**item, "format": {"N": "3"}})


@pytest.mark.parametrize(
    ("london", "stored"),
    [
        pytest.param({}, None, id="its host is its only observer"),
        pytest.param({"observers": (Observer.PROBE,)}, {"N": "2"}, id="another observer"),
        pytest.param({"drained_at": NOW}, {"N": "2"}, id="drained"),
    ],
)
def test_older_code_refuses_an_item_with_an_endpoint_that_it_would_elect_wrongly(
    london: dict[str, Any], stored: dict[str, str] | None
) -> None:
    item = to_item(resource(paris=holder(), london=waiting(**london)))
    assert item.get("format") == stored
    ended = replace(from_item(item).endpoints["london"], observers=(Observer.HOST,), drained_at=0)
    assert "format" not in to_item(from_item(item).having("london", ended)), "it is accepted again afterwards"


@pytest.mark.parametrize(
    "before", [resource(paris=holder(), london=waiting()), frozen(paris=holder(), london=waiting())]
)
def test_a_decision_on_a_stored_item_is_the_same_as_before_it_was_stored(before: Resource) -> None:
    read = from_item(json.loads(json.dumps(to_item(before))))
    assert read == before
    decided = [rules.failover(one, "paris", NOW, to=None, command="request-1") for one in (before, read)]
    assert decided[0] == decided[1] != before
    again = from_item(json.loads(json.dumps(to_item(decided[1]))))
    assert rules.failover(again, "paris", NOW, to=None, command="request-1") == again


def test_three_endpoints_with_leases_cost_one_write_unit() -> None:
    ids = [f"vip-{n}1111111-1111-4111-8111-111111111111" for n in (1, 2, 3)]
    e = Endpoint(
        joined=NOW, status=ACTIVATED, words={Observer.HOST: Word(ACTIVATED, NOW)}, epoch=1, sequence=1, host="paris-1",
        lease_seconds=30,
        lease_expires_at=NOW, reason="elected", delivered_sequence=1, delivered_at=NOW,
        next_attempt_at=NOW, believed_until=NEVER, announced_at=NOW,
    )  # fmt: skip
    item = to_item(
        Resource(
            "floating-ip-203.0.113.7",
            version=1000,
            nonce="n" * 12,
            epoch=1,
            holder=ids[0],
            due_at=NOW,
            endpoints=dict.fromkeys(ids, e),
        )
    )
    assert size(item) <= 1024


def test_a_resource_stays_in_its_shard() -> None:
    # crc32("123456789") is 0xcbf43926, the check value in every table of CRCs.
    assert (SHARDS, due_shard("123456789")) == (8, 0xCBF43926 % 8)
