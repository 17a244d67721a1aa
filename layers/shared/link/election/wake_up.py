"""Wake-ups: when a resource has to be looked at next, and what an invocation does until then.

In the order and the words of docs/protocol.md, "When to wake up".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from link.election import rules
from link.election.deliveries import claim_due, due
from link.election.state import NEVER, Resource

NEAR_MS = 60_000
"""What is due sooner gets a wake-up message; the sweep finds what is due later."""
LOOK_MS = 600_000
"""Between two looks at a resource without holder: each look counts it, and the count keeps its alarm on."""
WAIT_IN_PLACE_MS = 1_000
"""SQS delays are whole seconds: an invocation that is woken up to a second early waits for the rest."""


def next_due(resource: Resource, now: int, refresh_ms: int) -> int:
    """The next moment at which something has to be done; NEVER if nothing has to."""
    sends = (due(resource, endpoint_id, refresh_ms) for endpoint_id in resource.endpoints)
    lease_ends = (end for _, end in rules.lease_ends(resource))
    removals = [now] if rules.removable(resource) else []
    looks = [now + LOOK_MS] if rules.lacks_holder(resource) else []
    return min([NEVER, *sends, *lease_ends, *rules.hold_ends(resource, now), *removals, *looks])


def keep_due_at(resource: Resource, now: int, *, carried: int | None, refresh_ms: int) -> tuple[Resource, bool]:
    """The item with its due_at, and whether the caller, when it commits the item, has to put a wake-up message.

    ● due_at itself records that a wake-up is arranged: only a message with the same value may raise it, and only once.
    """
    wanted = next_due(resource, now, refresh_ms)
    present = resource.due_at
    if present is None or present <= now or present == carried or present > wanted:
        resource = replace(resource, due_at=None if wanted == NEVER else wanted)
        return resource, wanted < now + NEAR_MS
    return resource, False


@dataclass(frozen=True, slots=True)
class Claiming:
    """The right to claim deliveries in this commit, and the values for the claims."""

    token: str
    jitter: float
    handover_ms: int


def settle(
    resource: Resource,
    now: int,
    *,
    refresh_ms: int,
    damping: bool,
    carried: int | None = None,
    claiming: Claiming | None = None,
) -> tuple[Resource, bool]:
    """The end of every step: elects, removes deleted entries, claims what is due (if `claiming`) and sets due_at.

    Returns the item to commit, and whether the caller, after the commit, has to put a wake-up message. Without
    `damping` no endpoint is put on hold.
    """
    # First: damping may have been switched off while an endpoint was on hold.
    resource = rules.forget_losses(resource, now - rules.LOSSES_KEPT_MS - 1 if damping else NEVER)
    resource = rules.drop_delivered(rules.elect(resource, now))
    if claiming is not None:
        resource = claim_due(
            resource,
            now,
            token=claiming.token,
            jitter=claiming.jitter,
            refresh_ms=refresh_ms,
            handover_ms=claiming.handover_ms,
        )
    return keep_due_at(resource, now, carried=carried, refresh_ms=refresh_ms)


class Then(Enum):
    """What an invocation does next."""

    WAIT = "wait for outcomes"
    SLEEP = "sleep until something is due"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Move:
    """An invocation's next move: whether it puts a wake-up message; then it waits or sleeps, or stops.

    It waits or sleeps for at most `seconds`.
    """

    wake_up: bool
    then: Then
    seconds: float
    responsible: bool
    """Whether this invocation handles what is due within a second: it was woken for that, or put the message."""


def next_move(
    *,
    due: int,
    due_at: int | None,
    now: int,
    needs_wake_up: bool,
    woken_for: int | None,
    sending: bool,
    may_claim: bool,
    responsible: bool,
    seconds_left: float,
) -> Move:
    """What an invocation does after a commit.

    `due`: what `next_due` says; `due_at`: the item's; `needs_wake_up`: the commit requires a wake-up message;
    `woken_for`: the due_at that the invocation's own message carried; `sending`: attempts are under way.
    """
    wake_up = False
    if needs_wake_up and due_at is not None:
        # This invocation was woken early for exactly this due_at. Sleeping the rest costs less than another message.
        sleeps_the_rest = woken_for == due_at and due_at - now <= WAIT_IN_PLACE_MS and may_claim
        wake_up, responsible = not sleeps_the_rest, True
    if sending:
        # An attempt ends by itself. An invocation that may not claim any more can only wait for it.
        until_due = (due - now) / 1000 if may_claim and due != NEVER else max(1.0, seconds_left)
        return Move(wake_up, Then.WAIT, until_due, responsible)
    if responsible and may_claim and due - now <= WAIT_IN_PLACE_MS:
        return Move(wake_up, Then.SLEEP, max(0, due - now) / 1000, responsible)
    return Move(wake_up, Then.STOP, 0, responsible)
