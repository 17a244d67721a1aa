"""The sweep: wakes up every resource that is due within the next minute, so that no lost message stays unnoticed.

AWS calls: 1 Query per shard of the due index and MiB, 1 SendMessageBatch per ten resources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from link.clock import Clock
from link.election.wake_up import NEAR_MS
from link.store.lock_item import SHARDS
from link.store.locks import Locks
from link.store.queues import Queues
from link.telemetry import logger


class Sweep:
    """Finds what is due and puts its wake-up messages."""

    def __init__(self, locks: Locks, queues: Queues, clock: Clock) -> None:
        self._locks = locks
        self._queues = queues
        self._clock = clock

    def run(self, at_once: Callable[..., Iterable[Any]] = map, shards: Iterable[int] = range(SHARDS)) -> int:
        """The number of resources woken up; raises RuntimeError when SQS did not take all messages.

        `at_once` is the `map` of a thread pool, where there is one.
        """
        until = self._clock.now() + NEAR_MS
        due = chain.from_iterable(self._locks.due_in(shard, until) for shard in shards)
        woken, failed = self._queues.wake_up_all(due, self._clock.now, at_once)
        logger.info("sweep.done", woken=woken, failed=failed)
        if failed:
            raise RuntimeError(f"SQS did not take {failed} of {woken} wake-ups: the next sweep repeats them")
        return woken
