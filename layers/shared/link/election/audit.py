"""The audit: the changes of status from one version of a lock item to the next."""

from __future__ import annotations

from dataclasses import dataclass

from link.election.state import Resource, Status


@dataclass(frozen=True, slots=True)
class Change:
    """One endpoint's change of status, as the transitions table records it."""

    endpoint_id: str
    before: Status
    after: Status
    reason: str
    sequence: int


def changes(before: Resource, after: Resource) -> list[Change]:
    """The changes of status from one version of an item to a later one."""
    found = []
    for endpoint_id, new in after.endpoints.items():
        old = before.endpoints.get(endpoint_id)
        if old is None or old.status is new.status:
            continue
        # A status that is not announced is always STANDBY or FAILING.
        reason = new.reason if new.sequence > old.sequence else new.reason_for(new.status)
        found.append(Change(endpoint_id, old.status, new.status, reason, new.sequence))
    return found
