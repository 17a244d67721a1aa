"""Every oracle of the simulator against a planted fault that only it sees.

Each history is played to its end whatever the oracles say. The planted fault is seen by the one oracle of its row and
by no other: with the others muted the fault is found, and with this one muted the history passes.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from link.election import audit, deliveries, rules, wake_up
from link.election.deliveries import Delivery
from link.election.result import ResultKind
from link.election.state import Endpoint, Reason, Resource, Status, Word
from link.errors import Conflict
from link.store.locks import Locks
from tests.mutants import catalogue
from tests.mutants.catalogue import Attribute, Function, Mutant, Promise
from tests.mutants.verdict import applied
from tests.simulation.cloud import simulated
from tests.simulation.histories import Plan, planned, random_history
from tests.simulation.promises import Broken, Promises

# The planted faults, in the order of the table

_commit = Locks.commit


def commit_two_versions_on(self: Locks, before: Resource, after: Resource, *more: Any) -> Resource:
    """A write leaves out a version."""
    return _commit(self, before, replace(after, version=after.version + 1), *more)


_report = rules.report


def report_despite_freezing(resource: Resource, *arguments: Any, **more: Any) -> Resource:
    """A frozen holder is released by its report."""
    reported = _report(replace(resource, frozen=False), *arguments, **more)
    return replace(reported, frozen=resource.frozen and reported.holder is not None)


def freeze_at_any_time(resource: Resource, now: int) -> Resource:
    """A resource without a holder is frozen, too."""
    return replace(resource, frozen=True)


_drain = rules.drain


def drain_by_force(resource: Resource, endpoint_id: str, now: int, **more: Any) -> Resource:
    """The last ready endpoint is drained without force."""
    return _drain(resource, endpoint_id, now, **{**more, "force": True})


_grant = rules._grant


def grant_two_epochs(*arguments: Any) -> Resource:
    """The lock's epoch grows by two."""
    granted = _grant(*arguments)
    holder = granted.holder
    if holder is None or granted is arguments[0]:
        return granted
    epoch = granted.epoch + 1
    return replace(granted.having(holder, replace(granted.endpoints[holder], epoch=epoch)), epoch=epoch)


def no_changes(before: Resource, after: Resource) -> list[audit.Change]:
    """The audit has no changes of status."""
    return []


_failover = rules.failover


def failover_checked_first(resource: Resource, endpoint_id: str, now: int, *, to: str | None, command: str) -> Resource:
    """A failover that was carried out is refused when it is repeated."""
    if command in resource.commands:
        raise Conflict("this node is not master of this endpoint")
    return _failover(resource, endpoint_id, now, to=to, command=command)


_due = deliveries.due


def due_ten_times_as_late(resource: Resource, endpoint_id: str, refresh_ms: int) -> int:
    """A refresh is due after ten intervals."""
    return _due(resource, endpoint_id, 10 * refresh_ms)


def due_half_as_late(resource: Resource, endpoint_id: str, refresh_ms: int) -> int:
    """A refresh is due after half an interval."""
    return _due(resource, endpoint_id, refresh_ms // 2)


def due_for_a_standby(resource: Resource, endpoint_id: str, refresh_ms: int) -> int:
    """A standby is refreshed, too."""
    e = resource.endpoints[endpoint_id]
    if e.pending or e.claim is not None or e.status is not Status.STANDBY:
        return _due(resource, endpoint_id, refresh_ms)
    return max(e.delivered_at + refresh_ms, e.next_attempt_at)


_delivery = deliveries._delivery


def delivery_with_the_announced_reason(resource: Resource, endpoint_id: str, e: Endpoint, **options: Any) -> Delivery:
    """A refresh carries the reason of the announcement that it repeats."""
    return replace(_delivery(resource, endpoint_id, e, **options), reason=e.reason)


def delivery_with_the_present_epoch(resource: Resource, endpoint_id: str, e: Endpoint, **options: Any) -> Delivery:
    """A STANDBY carries the resource's epoch, and not the one that its endpoint held."""
    return replace(_delivery(resource, endpoint_id, e, **options), epoch=resource.epoch)


def delivery_with_an_old_epoch(resource: Resource, endpoint_id: str, e: Endpoint, **options: Any) -> Delivery:
    """A webhook carries the epoch before its own."""
    return replace(_delivery(resource, endpoint_id, e, **options), epoch=e.epoch - 1)


def delivery_with_a_lower_sequence(resource: Resource, endpoint_id: str, e: Endpoint, **options: Any) -> Delivery:
    """A repeated first attempt carries the sequence before."""
    d = _delivery(resource, endpoint_id, e, **options)
    return replace(d, sequence=d.sequence - 1) if d.attempt > 1 and d.sequence == 1 else d


_announce = rules.announce


def announce_later(e: Endpoint, status: Status, reason: Reason, epoch: int, now: int) -> Endpoint:
    """A new status is due ten seconds after its announcement."""
    announced = _announce(e, status, reason, epoch, now)
    return replace(announced, next_attempt_at=now + 10_000)


_companion_writes = Locks._companion_writes


def keep_registrations(self: Locks, *arguments: Any) -> list[Any]:
    """The registration of a removed entry stays."""
    return [write for write in _companion_writes(self, *arguments) if "Delete" not in write]


_delete = rules.delete


def delete_only_a_holder(resource: Resource, endpoint_id: str, now: int, *, force: bool = False) -> Resource:
    """An endpoint that does not hold the lock stays."""
    return _delete(resource, endpoint_id, now, force=force) if resource.holder == endpoint_id else resource


_outcome = deliveries.outcome


def outcome_of_a_standby_is_delivered(resource: Resource, o: Any, now: int, jitter: float) -> Resource:
    """A STANDBY that was not sent counts as delivered."""
    if o.result.kind is not ResultKind.DELIVERED and o.status is Status.STANDBY:
        o = replace(o, result=replace(o.result, kind=ResultKind.DELIVERED))
    return _outcome(resource, o, now, jitter)


_supersedes = rules.supersedes


def supersedes_another_status(word: Word | None, status: Status, at: int) -> bool:
    """A report that repeats the last one is ignored."""
    return (word is None or status is not word.status) and _supersedes(word, status, at)


def redeliver_nothing(resource: Resource, endpoint_id: str, now: int) -> Resource:
    """A redeliver is answered and forgotten."""
    return resource


_elect = rules.elect


def elect_without_recovery(resource: Resource, now: int) -> Resource:
    """An endpoint that recovers stays FAILING."""
    after = _elect(resource, now)
    for endpoint_id, e in resource.endpoints.items():
        new = after.endpoints[endpoint_id]
        if new.reason == Reason.RECOVERED and new.sequence > e.sequence:
            after = after.having(endpoint_id, e)
    return after


def grant_to_the_last(resource: Resource, ready: Any, reason: Reason, now: int) -> Resource:
    """An endpoint that only registered can be elected."""
    return _grant(resource, [*ready, *resource.endpoints], reason, now)


@dataclass(frozen=True)
class Row:
    """What one oracle sees, and in which history: a seed, or a scenario with its plan."""

    fault: Function | Attribute | Mutant
    where: int | tuple[str, Plan]


def _of(name: str) -> Mutant:
    return next(mutant for mutant in catalogue.CATALOGUE if mutant.name == name)


ORACLES = {
    "one active": Row(_of("the loser stays active"), ("flapping", ())),
    "frozen keeps": Row(Function(rules.report, report_despite_freezing), ("frozen and failing", ())),
    "frozen has": Row(Function(rules.freeze, freeze_at_any_time), 107),
    "versions": Row(Attribute(Locks, "commit", commit_two_versions_on), ("handover", ())),
    "epochs": Row(Function(rules._grant, grant_two_epochs), ("handover", ())),
    "epoch on the wire": Row(Function(deliveries._delivery, delivery_with_an_old_epoch), ("handover", ())),
    "audit": Row(Function(audit.changes, no_changes), ("handover", ())),
    "old receiver": Row(_of("change: url"), 52),
    "failover once": Row(_of("failover: ids"), 58_820),
    "failover answer": Row(Function(rules.failover, failover_checked_first), 4_626),
    "one meaning": Row(Function(deliveries._delivery, delivery_with_the_present_epoch), 67),
    "rows": Row(Attribute(Locks, "_companion_writes", keep_registrations), 1),
    "deleted": Row(Function(rules.delete, delete_only_a_holder), 1),
    "delivered": Row(Function(deliveries.outcome, outcome_of_a_standby_is_delivered), 45),
    "redelivered": Row(Function(rules.redeliver, redeliver_nothing), 7),
    "receiver agrees": Row(_of("the loser stays active"), 29),
    "sequence order": Row(Function(deliveries._delivery, delivery_with_a_lower_sequence), 8),
    "one attempt": Row(_of("two attempts at a time"), 0),
    "broken before": Row(_of("the new holder does not wait"), 0),
    "granted to ready": Row(Function(rules._grant, grant_to_the_last), ("boot race", ())),
    "reports": Row(Function(rules.supersedes, supersedes_another_status), 3),
    "status": Row(Function(rules.elect, elect_without_recovery), ("flapping", ())),
    "drain keeps one": Row(Function(rules.drain, drain_by_force), ("drain of the last", ())),
    "no idle lock": Row(_of("hold: nobody else is ready"), 17),
    "lease ends": Row(_of("no wake-up for a lease's end"), 12),
    "told in time": Row(Function(rules.announce, announce_later), 2),
    "calls": Row(Attribute(wake_up, "LOOK_MS", 100), 2),
    "ready holder": Row(_of("unfreeze: what was reported"), 32),
    "no standby refreshed": Row(Function(deliveries.due, due_for_a_standby), 1),
    "refresh early": Row(Function(deliveries.due, due_half_as_late), 0),
    "refresh late": Row(Function(deliveries.due, due_ten_times_as_late), 59),
    "only refreshes": Row(Function(deliveries._delivery, delivery_with_the_announced_reason), 4),
    "refreshes": Row(Function(deliveries.due, due_ten_times_as_late), 4),
}
"""Each oracle, and a planted fault that only it sees."""

NOT_ALONE = {
    "old attempt ended": (
        Row(
            _of("two attempts at a time"),
            ("redeliver against failover", ((41, "hangs"), (53, "unreachable"), (69, "unreachable"))),
        ),
        "one attempt",
    ),
}
"""Oracles without such a fault: what they see, and the oracle that sees it, too.

"one attempt" sees the old endpoint's next attempt beside the one that is under way. The new holder's ACTIVATED may
leave before that attempt.
"""


def seen_by(where: int | tuple[str, Plan]) -> set[str]:
    """The oracles that see a history broken, which goes on to its end. An error of the code is raised."""
    seen = set()

    def note(self: Promises, oracle: str, promise: int, holds: bool, *says: object) -> None:
        if not holds:
            seen.add(oracle)
        if not holds and oracle == "calls":
            # It would go on for ever.
            self.broken = oracle
            raise Broken(oracle)

    with mock.patch.object(Promises, "hold", note), simulated():
        told = random_history(where) if isinstance(where, int) else planned(*where)[0]
    assert told.broken in (None, "calls")
    return seen


@pytest.mark.parametrize("oracle", ORACLES)
def test_each_oracle_sees_a_planted_fault_that_no_other_sees(oracle: str) -> None:
    row = ORACLES[oracle]
    fault = row.fault if isinstance(row.fault, Mutant) else Mutant(oracle, "", "", Promise(0), (row.fault,))
    with applied(fault):
        assert seen_by(row.where) == {oracle}
    assert seen_by(row.where) == set()


@pytest.mark.parametrize("oracle", NOT_ALONE)
def test_an_oracle_without_a_fault_of_its_own_sees_one_with_another(oracle: str) -> None:
    row, other = NOT_ALONE[oracle]
    assert isinstance(row.fault, Mutant)
    with applied(row.fault):
        assert seen_by(row.where) == {oracle, other}
    assert seen_by(row.where) == set()


def test_every_oracle_has_a_row_and_a_line_in_the_documentation() -> None:
    names = set()
    for file in ("promises.py", "histories.py"):
        for node in ast.walk(ast.parse((Path(__file__).parent / file).read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="hold" | "_prompt"), args=[ast.Constant(value=name), *_]):
                    names.add(name)
    assert names == set(ORACLES) | set(NOT_ALONE)
    text = (Path(__file__).parents[2] / "docs/testing.md").read_text()
    _, _, section = text.partition("## The oracles")
    documented = [line.split("|")[1].strip() for line in section.partition("\n## ")[0].splitlines() if "|" in line]
    assert names == set(documented[2:])
