"""One switch at a time: however late a switch ends, the newest status is the one that stays.

A `target` here has no fence of its own: the last switch to end wins.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest
from greenlet import greenlet

from link import receiver
from link.receiver import ActiveSlot, Busy, DynamoDBStore, InMemoryStore, SQLiteStore, Target, Turn, Webhook, apply
from tests.support.ids import LONDON, PARIS, RESOURCE
from tests.support.receiver import create_slots_table
from tests.support.webhooks import NOW, verified

P1, P_OUT, L2 = (PARIS, "ACTIVATED", 1, 1), (PARIS, "STANDBY", 1, 2), (LONDON, "ACTIVATED", 2, 2)
Switch = Callable[[Target], object]


@pytest.fixture(params=["in memory", "SQLite", "DynamoDB"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "in memory":
        return InMemoryStore()
    if request.param == "SQLite":
        return SQLiteStore(str(tmp_path / "slots"))
    request.getfixturevalue("aws")
    create_slots_table(boto3.client("dynamodb"))
    return DynamoDBStore(boto3.client("dynamodb"), "slots")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time of the receiver, in its only member."""
    now = [NOW]
    monkeypatch.setattr(receiver.time, "time", lambda: now[0])
    return now


class Stopped:
    """A switch that waits between its begin and its end."""

    def __init__(self, switched: list[str | None]) -> None:
        self._switched, self.begun, self.go_on = switched, threading.Event(), threading.Event()

    def __call__(self, target: Target) -> None:
        self.begun.set()
        assert self.go_on.wait(60)
        self._switched.append(target.endpoint_id)


def answered(store: Any, webhook: Webhook, switch: Switch) -> bool:
    """Whether the receiver answers 2xx."""
    try:
        apply(store, webhook, switch)
    except Busy:
        return False
    return True


def test_a_switch_that_outlives_its_attempt_does_not_have_the_last_word(store: Any) -> None:
    switched: list[str | None] = []
    slow = Stopped(switched)

    with ThreadPoolExecutor(1) as pool:
        paris = pool.submit(apply, store, verified(*P1), slow)
        assert slow.begun.wait(60)
        first_answer = answered(store, verified(*L2), lambda target: switched.append(target.endpoint_id))
        slow.go_on.set()
        assert paris.result(60)

    assert (first_answer, switched) == (False, [PARIS, LONDON])
    assert answered(store, verified(*L2), lambda target: switched.append(target.endpoint_id))
    assert switched == [PARIS, LONDON, LONDON]


def test_a_switch_that_outlives_its_turn_does_not_have_the_last_word(store: Any, clock: list[int]) -> None:
    switched: list[str | None] = []
    slow = Stopped(switched)

    with ThreadPoolExecutor(1) as pool:
        paris = pool.submit(apply, store, verified(*P1), slow)
        assert slow.begun.wait(60)
        clock[0] += receiver.TURN_SECONDS
        assert answered(store, verified(*L2), lambda target: switched.append(target.endpoint_id))
        slow.go_on.set()
        assert paris.result(60)

    assert switched == [LONDON, PARIS, LONDON]


def test_two_switches_that_outlive_their_turns_end_at_the_newest_status(store: Any, clock: list[int]) -> None:
    """The first one ends within the second one's turn: the second one has to switch again."""
    switched: list[str | None] = []
    slow, slower = Stopped(switched), Stopped(switched)

    with ThreadPoolExecutor(2) as pool:
        paris = pool.submit(answered, store, verified(*P1), slow)
        assert slow.begun.wait(60)
        clock[0] += receiver.TURN_SECONDS
        london = pool.submit(answered, store, verified(*L2), slower)
        assert slower.begun.wait(60)
        slow.go_on.set()
        assert not paris.result(60)
        slower.go_on.set()
        assert london.result(60)

    assert switched == [PARIS, LONDON, LONDON]


def test_a_webhook_that_finds_a_switch_under_way_is_answered_503_and_says_so(store: Any, clock: list[int]) -> None:
    store.save(RESOURCE, ActiveSlot(turn=Turn("another's", NOW + 1)), 0)

    with pytest.raises(Busy, match=f"'{RESOURCE}' is being switched: answer 503") as busy:
        apply(store, verified(*P1), pytest.fail)
    assert (busy.value.http_status, busy.value.code) == (503, "busy")
    assert store.load(RESOURCE)[0].active == PARIS, "whoever switches will look again"


def test_a_webhook_that_comes_again_during_its_own_switch_writes_nothing(store: Any, clock: list[int]) -> None:
    """Otherwise each of the sender's attempts would make a slow switch begin again."""
    store.save(RESOURCE, ActiveSlot(turn=Turn("another's", NOW + 1)), 0)
    assert not answered(store, verified(*P1), pytest.fail)
    before = store.load(RESOURCE)

    assert not answered(store, verified(*P1), pytest.fail)
    assert store.load(RESOURCE) == before


def test_the_turn_of_a_process_that_died_ends_after_fifteen_seconds(store: Any, clock: list[int]) -> None:
    def die(target: Target) -> None:
        raise SystemExit

    end_turn, receiver._end_turn = receiver._end_turn, lambda *_: None
    try:
        with pytest.raises(SystemExit):
            apply(store, verified(*P1), die)
    finally:
        receiver._end_turn = end_turn
    clock[0] += 14
    assert not answered(store, verified(*L2), pytest.fail)
    clock[0] += 1
    assert answered(store, verified(*L2), lambda target: None)


def test_a_switch_that_fails_gives_its_turn_back(store: Any) -> None:
    with pytest.raises(OSError, match="no route"):
        apply(store, verified(*P1), lambda target: (_ for _ in ()).throw(OSError("no route")))

    assert store.load(RESOURCE)[0] == ActiveSlot(PARIS, 1, {PARIS: 1})
    assert answered(store, verified(*P1), lambda target: None)


def test_the_fence_grows_with_every_change_of_the_active_endpoint(store: Any) -> None:
    targets: list[Target] = []

    for webhook in (P1, P_OUT, (LONDON, "STANDBY", 1, 1), L2, P_OUT, L2):
        assert apply(store, verified(*webhook), targets.append)

    assert [(target.endpoint_id, target.fence) for target in targets] == [
        (PARIS, 2), (None, 3), (None, 3), (LONDON, 4), (LONDON, 4), (LONDON, 4)
    ]  # fmt: skip
    assert {target.resource_id for target in targets} == {RESOURCE}


def test_before_the_first_activated_the_fence_is_lower_than_any_other() -> None:
    assert ActiveSlot().target(RESOURCE) == Target(RESOURCE, None, None, fence=1)


# Every order of what several processes do


class Histories:
    """Processes that take turns at each call of the store and in the middle of a switch, in a given order."""

    def __init__(self) -> None:
        self.store, self.active, self.now = InMemoryStore(), None, NOW
        self.dead: list[greenlet] = []
        self.main = greenlet.getcurrent()

    def load(self, resource_id: str) -> tuple[ActiveSlot, int]:
        self.main.switch()
        return self.store.load(resource_id)

    def save(self, resource_id: str, slot: ActiveSlot, version: int) -> bool:
        self.main.switch()
        return self.store.save(resource_id, slot, version)

    def switch(self, target: Target) -> None:
        self.main.switch()
        self.active = target.endpoint_id
        self.main.switch()

    def run(self, process: greenlet, steps: int) -> None:
        for _ in range(steps):
            if not process.dead and process not in self.dead:
                process.switch()

    def process(self, webhook: Webhook, again: bool) -> greenlet:
        """A sender that delivers one status: `again` until it is answered 2xx, otherwise once."""

        def run() -> None:
            while not answered(self, webhook, self.switch) and again:
                self.main.switch()

        return greenlet(run)


@pytest.mark.parametrize("mishap", [(), (0, "late"), (1, "late"), (0, "dies")], ids=str)
@pytest.mark.parametrize(
    ("statuses", "order"),
    [([P1, L2], (0, 1, 0)), ([P1, P_OUT], (0, 1, 0)), ([P1, P_OUT, L2], (0, 1, 2)), ([P1, L2, L2], (0, 1, 2))],
    ids=["handover", "step down", "handover in three", "newest status twice"],
)
def test_whoever_is_late_or_dies_the_newest_status_stays(statuses: list[Any], order: Any, mishap: Any) -> None:
    """Three processes run one after the other for every number of steps; then all of them run to their end.

    One that is late and then dies is the window that stays open: docs/receiving.md.
    """
    for steps in itertools.product(range(9), repeat=3):
        plays = Histories()
        running = [plays.process(verified(*status), again=status == statuses[-1]) for status in statuses]
        with mock.patch.object(receiver.time, "time", lambda plays=plays: plays.now):
            for burst, which in enumerate(order):
                plays.run(running[which], steps[burst])
                if mishap[:1] == (burst,):
                    plays.now += receiver.TURN_SECONDS
                if mishap == (burst, "dies"):
                    # The rest of it never runs.
                    plays.dead.append(running[which])
            for which in range(300):
                plays.run(running[which % len(running)], 1)

        assert all(process.dead or process in plays.dead for process in running), steps
        assert plays.active == (None if statuses[-1] == P_OUT else LONDON), steps


# Several processes


PROGRAM = """
import json, sys
from link.receiver import Busy, SQLiteStore, Webhook, apply

def switch(target):
    print("switching", flush=True)
    sys.stdin.readline()
    with open(sys.argv[2], "a") as switched:
        print(target.endpoint_id, file=switched)

try:
    apply(SQLiteStore(sys.argv[1]), Webhook(**json.loads(sys.argv[3])), switch)
except Busy:
    print("busy", flush=True)
else:
    print("done", flush=True)
"""


class Process:
    """A receiver's process that takes one webhook and stops in its switch until `go_on`."""

    def __init__(self, folder: Path, *announcement: Any) -> None:
        webhook = verified(*announcement)
        fields = {name: getattr(webhook, name) for name in webhook.__dataclass_fields__}
        arguments = [str(folder / "slots"), str(folder / "switched"), json.dumps(fields)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            env={"PYTHONPATH": str(Path(receiver.__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    running: list[Process] = []

    def start(*announcement: Any) -> Process:
        running.append(Process(tmp_path, *announcement))
        return running[-1]

    yield start
    for process in running:
        process.end()


def test_processes_of_one_host_switch_one_after_the_other(started: Callable[..., Process], tmp_path: Path) -> None:
    paris = started(*P1)
    assert paris.says() == "switching"
    assert started(*L2).says() == "busy"

    paris.go_on()
    assert paris.says() == "switching", "it looked again"
    paris.go_on()
    assert paris.says() == "done"

    assert (tmp_path / "switched").read_text().split() == [PARIS, LONDON]


def test_a_process_that_is_killed_in_its_switch_lets_the_next_one_in(
    started: Callable[..., Process], tmp_path: Path
) -> None:
    paris = started(*P1)
    assert paris.says() == "switching"
    paris.end()
    store = SQLiteStore(str(tmp_path / "slots"))
    assert not answered(store, verified(*L2), pytest.fail)

    slot, version = store.load(RESOURCE)
    assert slot.turn is not None and store.save(RESOURCE, replace(slot, turn=Turn(slot.turn.token, 0)), version)
    london = started(*L2)
    assert london.says() == "switching"
    london.go_on()
    assert london.says() == "done"
    assert (tmp_path / "switched").read_text().split() == [LONDON]
