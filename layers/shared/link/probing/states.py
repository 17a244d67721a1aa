"""What the looks at endpoints come to: who is up, who is down, and when a slot says nothing. There is no I/O.

Times are Unix milliseconds. A slot is ten seconds of a shard, which has all probed endpoints of its resources.
docs/probes.md has these rules in the same order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from zlib import crc32

SLOT_SECONDS = 10
SLOT_MS = SLOT_SECONDS * 1_000
TRIES = 3
"""For an endpoint that is not down. One that is down is looked at with one."""
RISE = 2
"""Looks in a row that have to pass until an endpoint that was down is up."""
DOWN_SLOTS = 3
"""An endpoint that is down is looked at in at most every third slot until a look passes."""
DOWNS = 3
"""From this DOWN on, the next UP waits. The first two are followed as fast as possible."""
DOWNS_KEPT_MS = 600_000
"""An endpoint that was up for longer than this goes DOWN for the first time again."""
HOLD_MS = 60_000
"""The first hold; each further one is twice as long."""
MAX_HOLD_MS = 600_000
MANY = 5
"""So many endpoints, and half of those that were up, do not go down in the first slot that says so."""
FIFTH = 5
"""Then at most this part of them goes down in each slot."""
MAX_LAG_MS = 1_000
"""A slot in which our own process was later than this says nothing bad about anybody."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What is known about one endpoint."""

    up: bool | None = None
    """None before the first look that counts."""
    since: int = 0
    """When it became so."""
    reason: str = ""
    """Why the last look failed: the check and one word; empty when it passed."""
    passes: int = 0
    """Looks in a row that passed while it is down."""
    downs: int = 0
    """How often it went down, each time within `DOWNS_KEPT_MS` of its last UP."""
    told: bool | None = None
    """The last state that the event bus took from us."""

    @property
    def held_until(self) -> int:
        """Until when a DOWN endpoint stays so although looks pass; 0: no hold."""
        if self.up is not False or self.downs < DOWNS:
            return 0
        return self.since + min(MAX_HOLD_MS, HOLD_MS << min(self.downs - DOWNS, 10))


@dataclass(frozen=True, slots=True)
class Shard:
    """What is known about the endpoints of a shard. Version 0: not stored yet."""

    version: int = 0
    slot: int = 0
    """The last slot that changed something."""
    mass: int = 0
    """How many were up when many began to go down at once; 0: nothing of the kind is under way."""
    endpoints: Mapping[str, Probed] = field(default_factory=dict)


def is_due(endpoint_id: str, probed: Probed, interval_seconds: int, slot: int) -> bool:
    """Whether an endpoint is looked at in this slot. Those of an interval are spread over its slots.

    ● A new one is looked at in each slot until a look counts: with an interval of an hour, nobody would wait for it.
    """
    if probed.up is None:
        return True
    every = max(1, -(-interval_seconds // SLOT_SECONDS))
    if probed.up is False:
        # ● One that is coming up, or that never was up, does not wait for its interval.
        every = 1 if probed.passes else max(every, DOWN_SLOTS) if probed.downs else DOWN_SLOTS
    return slot % every == crc32(endpoint_id.encode()) % every


def next_look(endpoint_id: str, probed: Probed, interval_seconds: int, now: int) -> int:
    """When an endpoint is looked at next, as far as is known now."""
    slot = now // SLOT_MS + 1
    while not is_due(endpoint_id, probed, interval_seconds, slot):
        slot += 1
    return slot * SLOT_MS


def tries(probed: Probed) -> int:
    """How often a check is tried in a look until it counts as failed."""
    return 1 if probed.up is False else TRIES


def judge(shard: Shard, reasons: Mapping[str, str], now: int, *, lagging: bool = False) -> tuple[Shard, frozenset[str]]:
    """The shard after the looks of a slot, and the endpoints that should go down.

    `reasons` has one for each endpoint looked at, empty when the look passed. A slot in which no reference answered is
    not judged at all: it says nothing.
    """
    endpoints = {**shard.endpoints}
    failed = set()
    for i, reason in reasons.items():
        known = shard.endpoints.get(i, Probed())
        if not reason:
            endpoints[i] = _passed(known, now)
        # ● Otherwise it was not the endpoint that was slow.
        elif not lagging:
            endpoints[i] = replace(known, reason=reason, passes=0)
            if known.up is not False:
                failed.add(i)
    return replace(shard, endpoints=endpoints), frozenset(failed)


def _passed(probed: Probed, now: int) -> Probed:
    if probed.up is None:
        return replace(probed, up=True, since=now, reason="")
    if probed.up:
        return replace(probed, reason="")
    passes = min(probed.passes + 1, RISE)
    if passes < RISE or now < probed.held_until:
        return replace(probed, passes=passes, reason="")
    return replace(probed, up=True, since=now, reason="", passes=0)


def fall(
    shard: Shard, failed: Collection[str], again: Collection[str], looked_at: Collection[str], now: int
) -> tuple[Shard, int]:
    """The shard in which the failed endpoints are down, and how many of them stay as they are because of their number.

    `again`: those whose look before this one failed, too. ● What many lost at once is more often our own way to them.
    The first slot waits; later ones are slow.
    """
    falling, mass = sorted(failed), shard.mass
    standing = sum(shard.endpoints.get(i, Probed()).up is not False for i in looked_at)
    if not mass and len(failed) >= MANY and 2 * len(failed) >= standing:
        # ● A slot between, in which others are looked at and pass, ends it. Who waited already does not wait for ever.
        falling, mass = sorted(set(again) & set(failed)), standing
    if mass:
        falling = falling[: -(-mass // FIFTH)]
        mass = mass if len(falling) < len(failed) else 0
    endpoints = {**shard.endpoints, **{i: _down(shard.endpoints[i], now) for i in falling}}
    return replace(shard, mass=mass, endpoints=endpoints), len(failed) - len(falling)


def _down(probed: Probed, now: int) -> Probed:
    downs = 0
    if probed.up is not None:
        downs = 1 + (probed.downs if now - probed.since <= DOWNS_KEPT_MS else 0)
    return replace(probed, up=False, since=now, passes=0, downs=downs)


def untold(shard: Shard) -> list[str]:
    """The endpoints whose state the event bus has not taken yet."""
    return sorted(i for i, one in shard.endpoints.items() if one.up is not None and one.told is not one.up)


def with_told(shard: Shard, endpoint_ids: Collection[str]) -> Shard:
    """The shard after the event bus took the states of these endpoints."""
    told = {i: replace(shard.endpoints[i], told=shard.endpoints[i].up) for i in endpoint_ids}
    return replace(shard, endpoints={**shard.endpoints, **told})


def compared(shard: Shard, words: Mapping[str, bool | None]) -> Shard:
    """The shard after a look at the lock items: a state is told again where the word there is another one.

    ● An event can be lost after the bus took it.
    """
    wrong = {
        i: replace(one, told=None)
        for i, one in shard.endpoints.items()
        if i in words and one.told is not None and words[i] is not one.told
    }
    return replace(shard, endpoints={**shard.endpoints, **wrong}) if wrong else shard


def only(shard: Shard, endpoint_ids: Collection[str]) -> Shard:
    """The shard without the endpoints that are no longer probed."""
    if shard.endpoints.keys() <= set(endpoint_ids):
        return shard
    return replace(shard, endpoints={i: one for i, one in shard.endpoints.items() if i in endpoint_ids})
