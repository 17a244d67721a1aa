"""`python -m tests.performance.peers ROUNDS`: measure what other libraries take; the last line is JSON.

Powertools' idempotency takes a lock with one conditional write; it does not elect, keep an epoch, write transitions or
deliver webhooks. standardwebhooks signs and verifies one signature.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import boto3
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent_function
from standardwebhooks import Webhook

from link import receiver
from link.chance import Chance
from link.clock import Clock
from link.election import rules
from link.election.state import Status
from link.plugins.webhook import wire
from link.store import aws
from link.store.locks import Cause, Locks, Step
from tests.performance import situation
from tests.performance.floor import PARIS, RESOURCE, SECRET, URL
from tests.performance.stub import SETTINGS, Stub
from tests.performance.warm import WARM_UP, spread, timed

NOW = 1_795_435_200


def locks(stub: Stub) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Return (acquire, afterwards) by name; `afterwards` makes the next `acquire` possible and is not measured."""
    config = IdempotencyConfig(use_local_cache=False)
    layer = DynamoDBPersistenceLayer(table_name="peers", boto3_client=boto3.client("dynamodb"))
    number = iter(range(10**9))

    @idempotent_function(data_keyword_argument="key", persistence_store=layer, config=config)
    def once(key: str) -> bool:
        return True

    clock = Clock()
    mine = Locks(aws.client("dynamodb"), SETTINGS, clock, Chance())

    def acquire() -> None:
        def step(resource: Any, nonce: str) -> Step:
            now = clock.now()
            return Step(rules.report(resource, PARIS, Status.ACTIVATED, now, now), False)

        committed = mine.update(RESOURCE, step, Cause("report", "bench"))
        assert committed.after.holder == PARIS

    return {
        "ours: elects, epoch, audit": (acquire, lambda: stub.seed(1, situation.tables(Status.FAILING))),
        "Powertools idempotency": (lambda: once(key=str(next(number))), lambda: None),
    }


def signatures() -> dict[str, Callable[[], object]]:
    """Return what to measure by name."""
    body = wire.payload(PARIS, RESOURCE, "webhook", Status.ACTIVATED)
    standard = Webhook("whsec_" + base64.b64encode(SECRET.encode()).decode())
    announcement = wire.Announcement(
        endpoint_id=PARIS,
        resource_id=RESOURCE,
        plugin="webhook",
        status=Status.ACTIVATED,
        epoch=7,
        sequence=3,
        reason="elected",
        attempt=1,
        refreshed_at=None,
    )
    sent, headers = wire.request(announcement, [SECRET], {}, timestamp=NOW)

    def verify() -> None:
        receiver.parse_and_validate_webhook(SECRET, headers, sent, now=NOW)

    # standardwebhooks takes no time as an argument: it needs a current one.
    now = datetime.now(UTC)
    message, names = body.decode(), ("webhook-id", "webhook-timestamp", "webhook-signature")
    theirs = dict(zip(names, ("id", str(int(now.timestamp())), standard.sign("id", now, message)), strict=True))
    return {
        "ours: body, both signatures, headers": lambda: wire.request(announcement, [SECRET], {}, timestamp=NOW),
        "standardwebhooks: one signature": lambda: standard.sign("id", now, message),
        "ours: verify both, ids, freshness": verify,
        "standardwebhooks: verify one": lambda: standard.verify(message, theirs),
    }


def main(rounds: int) -> dict[str, Any]:
    stub = Stub(urlsplit(URL).port or 0)
    found: dict[str, Any] = {}
    taken: dict[str, list[tuple[float, float]]] = {}
    calls: dict[str, float] = {}
    ways = locks(stub)
    for number in range(-WARM_UP, rounds):
        for name, (acquire, afterwards) in ways.items():
            if name.startswith("ours"):
                afterwards()
            stub.calls()
            one = timed(acquire)
            if number >= 0:
                taken.setdefault(name, []).append(one)
                calls[name] = stub.calls().total()
            if not name.startswith("ours"):
                afterwards()
    for name, times in taken.items():
        cpu, wall = (spread([one[i] for one in times]) for i in (0, 1))
        found[f"lock {name}"] = {"calls": calls[name], "cpu": cpu, "wall": wall}
    ways2 = signatures()
    times2: dict[str, list[float]] = {name: [] for name in ways2}
    for _ in range(rounds):
        for name, sign in ways2.items():
            times2[name].append(timed(lambda sign=sign: [sign() for _ in range(20)])[0] / 20)
    for name, values in times2.items():
        found[f"signature {name}"] = {"cpu": spread(values)}
    return found


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
