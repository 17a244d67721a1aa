"""The stored form of the lock item.

Names are short because an item over 1 KB costs a second write unit at every heartbeat; what has its default value
is left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from link.election.state import Claim, Endpoint, Observer, ReadyWhen, Resource, Status, Word

SHARDS = 8
"""Partitions of the due index: one partition serves 1,000 writes a second."""

FORMAT = 2
"""The newest format. An item without `format` has format 1.

2: an endpoint has other observers than its host, or is drained. Code for format 1 would elect it on its host's word.
"""

Item = dict[str, Any]


class NewerFormat(Exception):
    """The item was written by a version whose attributes have another meaning."""


_SHORT = {
    "joined": "j",
    "revision": "v",
    "host": "h",
    "priority": "p",
    "lease_seconds": "l",
    "observers": "o",
    "ready_when": "w",
    "lease_expires_at": "le",
    "drained_at": "dr",
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


def _observers(observers: tuple[Observer, ...]) -> Item:
    return _text(" ".join(observers))


def _read_observers(stored: Item) -> tuple[Observer, ...]:
    return tuple(map(Observer, stored["S"].split()))


_WORDS = {Observer.HOST: ("r", "ra"), Observer.PROBE: ("pr", "pa"), Observer.SIGNAL: ("sr", "sa")}
"""Where the word of each observer and its time are stored."""
_WORD_ATTRIBUTES = {name for pair in _WORDS.values() for name in pair}


def _words(words: Mapping[Observer, Word]) -> Item:
    item: Item = {}
    for observer, word in words.items():
        status, at = _WORDS[observer]
        item[status], item[at] = _text(word.status), _number(word.at)
    return item


def _read_words(item: Item) -> dict[Observer, Word]:
    return {
        # Version 0.1 leaves out a time of 0.
        observer: Word(Status(item[status]["S"]), int(item.get(at, {"N": "0"})["N"]))
        for observer, (status, at) in _WORDS.items()
        if status in item
    }


_FORMS: dict[str, tuple[Callable[[Any], Item], Callable[[Item], Any]]] = {
    **dict.fromkeys(_SHORT, (_number, lambda stored: int(stored["N"]))),
    **dict.fromkeys(("host", "reason", "failure_kind", "failure_reason"), (_text, lambda stored: stored["S"])),
    "status": (_text, lambda stored: Status(stored["S"])),
    "observers": (_observers, _read_observers),
    "ready_when": (_text, lambda stored: ReadyWhen(stored["S"])),
    "deleting": (lambda value: {"BOOL": value}, lambda stored: stored["BOOL"]),
    "claim": (_claim, _read_claim),
}
_OWN = {
    "resource_id", "version", "nonce", "epoch", "endpoints", "holder", "plugin", "command", "frozen", "due_shard",
    "due_at", "format",
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
    if any(e.drained_at or e.observers != (Observer.HOST,) for e in resource.endpoints.values()):
        item["format"] = _number(FORMAT)
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
    return {**e.unknown, **known, **_words(e.words)}


def _entry_from_item(item: Item) -> Endpoint:
    values: dict[str, Any] = {}
    unknown: Item = {}
    for short, stored in item.items():
        if short in _READ:
            name, read = _READ[short]
            values[name] = read(stored)
        elif short != _FAILURE and short not in _WORD_ATTRIBUTES:
            unknown[short] = stored
    if words := _read_words(item):
        values["words"] = words
    if unknown:
        values["unknown"] = unknown
    if _FAILURE in item:
        values["failure_kind"], _, values["failure_reason"] = item[_FAILURE]["S"].partition(" ")
    return Endpoint(**values)
