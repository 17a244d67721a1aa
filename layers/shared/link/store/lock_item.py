"""The stored form of the lock item.

Names are short because an item over 1 KB costs a second write unit at every heartbeat; what has its default value
is left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from link.election.state import Claim, Endpoint, Resource, Status

SHARDS = 8
"""Partitions of the due index: one partition serves 1,000 writes a second."""

FORMAT = 1
"""What `format` says when the meaning of a stored attribute changes. An item without it has format 1."""

Item = dict[str, Any]


class NewerFormat(Exception):
    """The item was written by a version whose attributes have another meaning."""


_SHORT = {
    "joined": "j",
    "revision": "v",
    "host": "h",
    "priority": "p",
    "lease_seconds": "l",
    "reported": "r",
    "reported_at": "ra",
    "lease_expires_at": "le",
    "status": "s",
    "epoch": "ep",
    "sequence": "sq",
    "reason": "rs",
    "announced_at": "an",
    "delivered_sequence": "ds",
    "delivered_at": "da",
    "attempt": "at",
    "next_attempt_at": "na",
    "failure_kind": "fk",
    "failure_reason": "fr",
    "claim": "c",
    "believed_until": "b",
    "requested_at": "aa",
    "deleting": "d",
    "losses": "n",
    "lost_at": "lo",
    "ready_since": "rd",
}


def _number(value: int) -> Item:
    return {"N": str(value)}


def _text(value: str) -> Item:
    # str: an enum's member is stored as the text that it equals.
    return {"S": str(value)}


def _claim(claim: Claim) -> Item:
    return {"M": {"t": _text(claim.token), "u": _number(claim.until), "s": _number(claim.sequence)}}


def _read_claim(stored: Item) -> Claim:
    claim = stored["M"]
    return Claim(claim["t"]["S"], int(claim["u"]["N"]), int(claim["s"]["N"]))


_FORMS: dict[str, tuple[Callable[[Any], Item], Callable[[Item], Any]]] = {
    **dict.fromkeys(_SHORT, (_number, lambda stored: int(stored["N"]))),
    **dict.fromkeys(("host", "reason", "failure_kind", "failure_reason"), (_text, lambda stored: stored["S"])),
    **dict.fromkeys(("reported", "status"), (_text, lambda stored: Status(stored["S"]))),
    "deleting": (lambda value: {"BOOL": value}, lambda stored: stored["BOOL"]),
    "claim": (_claim, _read_claim),
}
_OWN = {
    "resource_id", "version", "nonce", "epoch", "endpoints", "holder", "plugin", "command", "frozen", "due_shard",
    "due_at",
}  # fmt: skip
_FAILURE = "f"
"""Kind and reason in one text, as version 0.1 stored them."""
_WRITE = [(f.name, _SHORT[f.name], f.default, _FORMS[f.name][0]) for f in fields(Endpoint) if f.name in _SHORT]
_READ = {short: (name, _FORMS[name][1]) for name, short in _SHORT.items()}


def due_shard(resource_id: str) -> int:
    """The shard of the due index to which a resource belongs."""
    return zlib.crc32(resource_id.encode()) % SHARDS


def to_item(resource: Resource) -> Item:
    """The item as stored; what has its default value is left out."""
    item: Item = {
        **resource.unknown,
        "resource_id": {"S": resource.resource_id},
        "version": {"N": str(resource.version)},
        "nonce": {"S": resource.nonce},
        "epoch": {"N": str(resource.epoch)},
        "endpoints": {"M": {i: {"M": _entry_to_item(e)} for i, e in resource.endpoints.items()}},
    }
    if resource.holder is not None:
        item["holder"] = {"S": resource.holder}
    if resource.plugin:
        item["plugin"] = {"S": resource.plugin}
    if resource.commands:
        item["command"] = {"S": " ".join(resource.commands)}
    if resource.frozen:
        item["frozen"] = {"BOOL": True}
    if resource.due_at is not None:
        item["due_shard"] = {"N": str(due_shard(resource.resource_id))}
        item["due_at"] = {"N": str(resource.due_at)}
    return item


def from_item(item: Item) -> Resource:
    """The resource of a stored item; raises NewerFormat."""
    if int(item.get("format", {"N": "1"})["N"]) > FORMAT:
        raise NewerFormat(
            f"{item['resource_id']['S']}: the lock item has format {item['format']['N']}, and this version reads up to "
            f"{FORMAT}: deploy the newer version again"
        )
    return Resource(
        resource_id=item["resource_id"]["S"],
        version=int(item["version"]["N"]),
        nonce=item["nonce"]["S"],
        epoch=int(item["epoch"]["N"]),
        holder=item["holder"]["S"] if "holder" in item else None,
        plugin=item["plugin"]["S"] if "plugin" in item else "",
        commands=tuple(item["command"]["S"].split()) if "command" in item else (),
        due_at=int(item["due_at"]["N"]) if "due_at" in item else None,
        frozen=item.get("frozen") == {"BOOL": True},
        endpoints={i: _entry_from_item(e["M"]) for i, e in item["endpoints"]["M"].items()},
        unknown={name: value for name, value in item.items() if name not in _OWN},
    )


def _entry_to_item(e: Endpoint) -> Item:
    known = {short: write(value) for name, short, default, write in _WRITE if (value := getattr(e, name)) != default}
    return {**e.unknown, **known}


def _entry_from_item(item: Item) -> Endpoint:
    values: dict[str, Any] = {}
    unknown: Item = {}
    for short, stored in item.items():
        if short in _READ:
            name, read = _READ[short]
            values[name] = read(stored)
        elif short != _FAILURE:
            unknown[short] = stored
    if unknown:
        values["unknown"] = unknown
    if _FAILURE in item:
        values["failure_kind"], _, values["failure_reason"] = item[_FAILURE]["S"].partition(" ")
    return Endpoint(**values)
