"""32 endpoints report at the same moment, from 8 processes with 4 threads each, on a store that is atomic."""

from __future__ import annotations

import os
from dataclasses import replace

from link.chance import Chance
from link.clock import Clock
from link.election.state import Observer, Resource, Status, Word
from link.settings import load
from link.store.locks import Cause, Locks
from tests.e2e import reporters
from tests.e2e.site import Site

ENDPOINTS = 32
ROUNDS = int(os.environ.get("CONTENTION_ROUNDS", "4"))


def reset(site: Site, locks: Locks) -> None:
    """Every endpoint has stepped down; in one write, past the protocol. Epoch and sequences stay."""
    now = Clock().now()
    while True:
        before = site.resource()
        entries = {
            i: replace(e, status=Status.STANDBY, words={Observer.HOST: Word(Status.STANDBY, now - 1)}, claim=None,
                       believed_until=None, delivered_sequence=e.sequence)
            for i, e in before.endpoints.items()
        }  # fmt: skip
        after = replace(before, version=before.version + 1, nonce="reset", holder=None, endpoints=entries)
        if locks.commit(before, after, Cause("reset", "")).nonce == "reset":
            return


def contend(site: Site) -> None:
    """Each round, all endpoints report at the same moment: one holder, one epoch step, every report applied."""
    ids = [site.register(f"host-{n}") for n in range(ENDPOINTS)]
    settings = load(reporters.deployed_environment(site.cloud))
    locks = Locks(site.cloud.client("dynamodb"), settings, Clock(), Chance())
    barrier, done, processes = reporters.start(site.cloud, site.resource_id, ids, ROUNDS)
    reported: dict[tuple[int, str], int] = {}
    finals: list[Resource] = []
    try:
        for number in range(ROUNDS):
            reset(site, locks)
            barrier.wait(reporters.SECONDS)
            barrier.wait(reporters.SECONDS)  # Now all of them report.
            barrier.wait(reporters.SECONDS)
            for _ in ids:
                round_number, endpoint_id, at, error = done.get(timeout=reporters.SECONDS)
                assert (round_number, error) == (number, "")
                reported[number, endpoint_id] = at
            finals.append(site.resource())
        for process in processes:
            process.join(30)
    finally:
        for process in processes:
            process.kill()

    # Judged from the tables ...
    for number, final in enumerate(finals):
        active = [i for i, e in final.endpoints.items() if e.status is Status.ACTIVATED]
        assert active == [final.holder], f"round {number}: exactly one holder"
        assert final.epoch == number + 1, f"round {number}: one epoch step per change of holder"
        for i in ids:
            word = final.endpoints[i].words[Observer.HOST]
            assert word.status is Status.ACTIVATED
            assert word.at == reported[number, i], f"round {number}: a report was lost"
    grants = [
        (int(item["epoch"]["N"]), change["M"]["endpoint_id"]["S"])
        for item in site.transitions()
        for change in item["changes"]["L"]
        if change["M"]["to"]["S"] == "ACTIVATED"
    ]
    assert grants == [(number + 1, final.holder) for number, final in enumerate(finals)]
    # ... and from the receiver's log alone.
    told = [request.brief() for request in site.receiver.requests]
    activated = {(epoch, i) for i, status, epoch, _, _ in told if status == "ACTIVATED"}
    assert len({epoch for epoch, _ in activated}) == len(activated), "no epoch for two endpoints"
    assert (ROUNDS, finals[-1].holder) in activated
