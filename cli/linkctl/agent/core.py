"""What the agent does, and when. It does nothing itself: `World` runs checks, puts events, logs and has the clocks.

A *round* runs every check once. `turn` is called after each thing that happened and whenever `wake_at` has come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from linkctl.agent import health
from linkctl.agent.checks import Result
from linkctl.agent.config import Check, Config, Endpoint
from linkctl.agent.health import Health, Status
from linkctl.agent.outbox import (
    GOODBYE_PAUSE_SECONDS,
    GOODBYE_PUT_SECONDS,
    PUT_SECONDS,
    Outbox,
    Outcome,
    Word,
    Words,
    details,
)
from linkctl.errors import Failed

STOP_SECONDS = 3.0
GRACE_SECONDS = 1.0
"""A check without a result so long after its timeout hangs, for instance in a name look-up. It fails in each round."""
MAX_CLOCK_OFFSET_SECONDS = 2.0

FIXED = ("host", "event_bus", "region", "host_identity")
"""What a reload cannot change: it names who we are and whom we talk to."""

CheckKey = tuple[str, Check]
"""Endpoint id and check. A reload keeps the health of a check that did not change."""


class World(Protocol):
    """Everything around the core."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""

    def unix_ms(self) -> int:
        """Return Unix milliseconds."""

    def chance(self, low: float, high: float) -> float:
        """Return a number between two."""

    def check(self, key: CheckKey) -> None:
        """Begin a check; `Core.checked` gets its result."""

    def put(self, number: int, details: Sequence[str]) -> None:
        """Begin to put events; `Core.put_ended` gets the outcome."""

    def log(self, text: str) -> None:
        """Write a line to the log."""

    def notify(self, *lines: str) -> None:
        """Tell systemd."""


class Core:
    """The state of a running agent."""

    def __init__(self, config: Config, world: World) -> None:
        self.config = config
        self.finished = False
        self.puts_failed = 0
        self.last_put_ms: int | None = None
        self.clock_offset: float | None = None
        self.results: dict[CheckKey, Result] = {}
        self.statuses: dict[str, Status] = {}
        self.notice: str | None = None
        self.rounds = 0
        self.reloads = 0
        self.reloads_refused = 0
        self._world = world
        self._outbox = Outbox(world.chance)
        self._endpoints: dict[str, Endpoint] = {}
        self._health: dict[CheckKey, Health] = {}
        self._hanging: set[CheckKey] = set()
        self._running: dict[CheckKey, float] = {}
        self._round_due = world.monotonic()
        self._round_open = False
        self._round_began = -math.inf
        self._checked_at = -math.inf
        """When the last complete round began."""
        self._fed = True
        """Whether the watchdog knows of it."""
        self._ready = False
        self._stopped_at = math.inf
        self._goodbyes = 0
        self._leaving: dict[str, Word] = {}
        """The words of endpoints that a reload removed, until the bus has them."""
        self._clock_is_off = False
        self._status_line = ""
        self._problem = ""
        """Why puts fail, as the log has it."""
        self._refused = False
        self._adopt(config)

    @property
    def words(self) -> Words:
        """The host's words: STANDBY for all once it stops or its instance is taken."""
        down = self.notice is not None or (self.stopping and not self.config.keep_on_stop)
        words = dict(self._leaving)
        for endpoint in self.config.endpoints:
            status = Status.STANDBY if down else self.statuses.get(endpoint.endpoint_id)
            if status is not None:
                words[endpoint.endpoint_id] = Word(endpoint.resource_id, status)
        return words

    @property
    def stopping(self) -> bool:
        return self._stopped_at < math.inf

    # What happened

    def checked(self, key: CheckKey, result: Result) -> None:
        """A check has a result."""
        self._hanging.discard(key)
        if self._running.pop(key, None) is not None:
            self._count(key, result)

    def put_ended(self, number: int, outcome: Outcome) -> None:
        """A put has ended."""
        self._compare_clocks(outcome.clock_offset)
        if number != self._outbox.number or not self._outbox.under_way:
            return
        if outcome.problem:
            self._put_failed(outcome.problem)
            return
        if self._problem:
            self._problem = ""
            self._world.log(f"events can be put again, after {self._outbox.failed_in_a_row} failed")
        self._outbox.succeeded()
        self.last_put_ms = self._world.unix_ms()
        for id in [id for id, word in self._leaving.items() if self._outbox.told.get(id) == word]:
            del self._leaving[id], self._outbox.told[id]

    def interrupted(self, action: str) -> None:
        """The instance will be taken: the words stay STANDBY until the agent is started again."""
        if self.notice is None:
            self.notice = action
            self._world.log(f"Spot interruption notice ({action}): STANDBY for all endpoints")

    def reload(self, load: Callable[[], Config]) -> None:
        """Take another configuration, or keep the present one if the other cannot be used."""
        if self._ready:
            self._world.notify("RELOADING=1", f"MONOTONIC_USEC={int(self._world.monotonic() * 1e6)}")
        try:
            self._take(load())
        except Failed as problem:
            self.reloads_refused += 1
            self._refused = True
            self._world.log(f"the new configuration is refused, the present one stays: {problem}")
        else:
            self.reloads += 1
            self._refused = False
            self._world.log("the new configuration is in use")
        if self._ready:
            self._world.notify("READY=1")

    def _take(self, config: Config) -> None:
        """Replace the configuration. Endpoints that it leaves out get STANDBY."""
        changed = [name for name in FIXED if getattr(config, name) != getattr(self.config, name)]
        if changed:
            raise Failed(f"{' and '.join(changed)} changed: restart the agent for that")
        kept = {endpoint.endpoint_id for endpoint in config.endpoints}
        for id, word in self.words.items():
            if id not in kept:
                self._leaving[id] = Word(word.resource_id, Status.STANDBY)
                self._world.log(f"{id} of {word.resource_id}: no longer in the configuration, STANDBY")
        self._leaving = {id: word for id, word in self._leaving.items() if id not in kept}
        self._adopt(config)
        self._round_due = self._world.monotonic()

    def stop(self, why: str) -> None:
        """Say goodbye and finish, within three seconds. Called again, it changes nothing."""
        if self.stopping:
            return
        self._stopped_at = self._world.monotonic()
        self._outbox.limit = math.inf  # An answer to the put under way is of no use any more.
        self.finished = self.config.keep_on_stop
        goodbye = "the last word stays (keep_on_stop)" if self.finished else "STANDBY for all endpoints"
        self._world.log(f"{why}: {goodbye}")
        self._world.notify("STOPPING=1", f"STATUS=Stopping: {goodbye}")

    # What follows from it

    def turn(self) -> None:
        """Do what is due."""
        if self.finished:
            return
        now = self._world.monotonic()
        if self._outbox.limit <= now:
            self._put_failed("no answer in time")
        if self.stopping:
            self._say_goodbye(now)
            return
        self._give_up_on_checks(now)
        self._end_round()
        if not self._round_open and now >= self._round_due:
            self._begin_round(now)
            self._end_round()
        words = self.words
        if self._may_put(now) and self._outbox.due(words) <= now:
            self._put(words, now, PUT_SECONDS)
        if not self._fed and not self._outbox.under_way:
            # Every check has run and a put that was due was tried. Whether it succeeded is no reason for a restart.
            self._fed = True
            self._feed()
        self._tell_status(words)

    def wake_at(self) -> float:
        """Return when `turn` has something to do next if nothing happens before, by the monotonic clock."""
        now = self._world.monotonic()
        times = [self._outbox.limit]
        if self.stopping:
            times += [self._stopped_at + STOP_SECONDS, *([self._outbox.due(self.words)] if self._goodbyes else [])]
        else:
            times += self._running.values()
            times += [] if self._running else [self._round_due]
            times += [self._outbox.due(self.words)] if self._may_put(now) else []
        return min(times)

    # Rounds

    def _begin_round(self, now: float) -> None:
        self._round_open = True
        self._round_began = now
        self._round_due = now + self.config.interval_seconds
        for key in self._keys():
            if key in self._hanging:
                self._count(key, Result("hangs", key[1].timeout_seconds + GRACE_SECONDS))
            else:
                self._running[key] = now + key[1].timeout_seconds + GRACE_SECONDS
        for key in self._running:
            self._world.check(key)

    def _give_up_on_checks(self, now: float) -> None:
        for key in [key for key, limit in self._running.items() if limit <= now]:
            del self._running[key]
            self._hanging.add(key)

    def _end_round(self) -> None:
        """End the round if all of its checks have."""
        if self._round_open and not self._running:
            self._round_open = False
            self._checked_at = self._round_began
            self._fed = False

    def _count(self, key: CheckKey, result: Result) -> None:
        """Add a result to the health of a check, and log what it changes."""
        self.results[key] = result
        self._health[key] = self._health[key].after(result.passed)
        self._judge(key[0], f": {key[1]}: {result.reason}" if result.reason else "")

    def _judge(self, endpoint_id: str, reason: str = "") -> None:
        endpoint = self._endpoints[endpoint_id]
        checks = [self._health[endpoint_id, check] for check in endpoint.checks]
        last = self.statuses.get(endpoint_id)
        status = health.word(checks, last)
        if status is None or status is last:
            return
        self.statuses[endpoint_id] = status
        was = f"{last} → " if last else ""
        self._world.log(f"{endpoint_id} of {endpoint.resource_id}: {was}{status}{reason}")

    def _adopt(self, config: Config) -> None:
        self.config = config
        self._health = {key: self._health.get(key, Health()) for key in self._keys()}
        self.results = {key: result for key, result in self.results.items() if key in self._health}
        self._running = {key: limit for key, limit in self._running.items() if key in self._health}
        self._endpoints = {endpoint.endpoint_id: endpoint for endpoint in config.endpoints}
        self.statuses = {id: status for id, status in self.statuses.items() if id in self._endpoints}
        for endpoint_id in self._endpoints:
            self._judge(endpoint_id)

    def _keys(self) -> Iterable[CheckKey]:
        return dict.fromkeys(
            (endpoint.endpoint_id, check) for endpoint in self.config.endpoints for check in endpoint.checks
        )

    # Puts

    def _may_put(self, now: float) -> bool:
        """Whether the checks are young enough to be told: not before the first round, not after a long pause."""
        return now - self._checked_at <= 3 * (self.config.interval_seconds + GRACE_SECONDS)

    def _put(self, words: Words, now: float, seconds: float) -> None:
        at = self._outbox.begin(words, now, self._world.unix_ms(), seconds, self.config.beat_seconds)
        self._world.put(self._outbox.number, details(self.config.host, at, words))

    def _put_failed(self, problem: str) -> None:
        now = self._world.monotonic()
        self.puts_failed += 1
        self._outbox.failed(now, self.config.beat_seconds)
        # One failure alone is nothing: AWS closes a connection that was idle.
        if self._outbox.failed_in_a_row > 1 and problem != self._problem:
            self._problem = problem
            self._world.log(f"events cannot be put, the agent tries again: {problem}")
        if self.stopping:
            self._outbox.retry_at(now + GOODBYE_PAUSE_SECONDS)

    def _say_goodbye(self, now: float) -> None:
        told = self._goodbyes > 0 and not self._outbox.under_way and not self._outbox.failed_in_a_row
        failed = self._goodbyes == 2 and not self._outbox.under_way
        if told or failed or now >= self._stopped_at + STOP_SECONDS:
            if not told:
                self._world.log("the bus did not get STANDBY in time: the endpoints stay active until their leases end")
            self.finished = True
        elif not self._outbox.under_way and (self._goodbyes == 0 or self._outbox.due(self.words) <= now):
            self._goodbyes += 1
            self._put(self.words, now, GOODBYE_PUT_SECONDS)

    def _compare_clocks(self, offset: float | None) -> None:
        if offset is None:
            return
        self.clock_offset = offset
        is_off = abs(offset) > MAX_CLOCK_OFFSET_SECONDS
        if is_off and not self._clock_is_off:
            side = "ahead of" if offset > 0 else "behind"
            self._world.log(f"the clock is at least {abs(offset):.0f} s {side} AWS's: set it, leases depend on it")
        elif self._clock_is_off and not is_off:
            self._world.log("the clock agrees with AWS's again")
        self._clock_is_off = is_off

    # systemd

    def _feed(self) -> None:
        self.rounds += 1
        if not self._ready:
            self._ready = True
            self._world.notify("READY=1")
        self._world.notify("WATCHDOG=1")

    def _tell_status(self, words: Words) -> None:
        statuses = [word.status for word in words.values()]
        counts = ", ".join(f"{statuses.count(one)} {one}" for one in Status if one in statuses) or "no word yet"
        line = f"STATUS={len(self.config.endpoints)} endpoints: {counts}"
        if self.notice is not None:
            line += f"; Spot interruption notice ({self.notice})"
        if self._outbox.failed_in_a_row:
            line += "; events cannot be put"
        if self._refused:
            line += "; the new configuration is refused, see the log"
        if line != self._status_line:
            self._status_line = line
            self._world.notify(line)
