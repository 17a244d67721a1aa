"""The demo's story on the deployed template, and whether its judge would notice if it went wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from scripts import demo
from scripts.cloud import LOCAL, Cloud

Played = tuple[demo.Story, list[demo.Arrival]]


@pytest.fixture(scope="module")
def played(cloud: Cloud) -> Iterator[Played]:
    receiver = demo.Receiver()
    director = demo.Director(cloud, receiver)
    director.play()
    receiver.close()
    yield director.story, receiver.arrivals


def test_every_webhook_comes_as_promised(played: Played) -> None:
    story, arrivals = played
    announcements, problems = demo.verify_all(story, arrivals, demo.SECRETS)
    assert problems + demo.judge(story, announcements) == []


def test_the_story_is_the_recorded_one(played: Played) -> None:
    story, arrivals = played
    announcements, _ = demo.verify_all(story, arrivals, demo.SECRETS)
    assert demo.differences(demo.recorded(story, announcements)) == []
    announcements[3].reason = "recovered"
    assert "+" in demo.differences(demo.recorded(story, announcements))[0]


def test_processes_of_functions_share_their_layers(played: Played) -> None:
    """Otherwise each has a copy of its own, and removing them takes as long as the story."""
    layers = list((LOCAL / f"tests-{os.getpid()}/tmp").glob("ministack-lambda-*/layer_*"))
    assert len(layers) > 8 and len({layer.resolve() for layer in layers}) == 2


def test_the_timeline_says_why_an_activated_precedes_a_standby() -> None:
    def sent(host: str, status: str, epoch: int, answered: int) -> demo.Announcement:
        return demo.Announcement(0.0, host, status, epoch, 1, "failing", answered)

    late, passed = sent("london", "STANDBY", 2, 503), sent("paris", "ACTIVATED", 3, 204)
    lines = demo.timeline([late, passed, sent("london", "STANDBY", 2, 204)])
    assert lines[3].strip() == (
        "london's STANDBY is still pending: HandoverTimeout (1 s) ended. "
        "When it arrives, paris stays active: its epoch is higher"
    )
    assert len(demo.timeline([sent("london", "STANDBY", 2, 204), passed])) == 3


def test_the_recorded_story_has_no_times_and_no_repeats() -> None:
    def sent(at: float, host: str, status: str, answered: int, reason: str = "failing") -> demo.Announcement:
        return demo.Announcement(at, host, status, 2, 3, reason, answered)

    story = demo.Story(told=["paris was active 9 s after london died"])
    story.expected = [{("london", "STANDBY", 2, 3, "failing"), ("paris", "ACTIVATED", 2, 3, "failing")}]
    one, other = sent(3.0, "london", "STANDBY", 204), sent(4.0, "paris", "ACTIVATED", 204)
    failed = [sent(1.0, "london", "STANDBY", 503), sent(2.0, "london", "STANDBY", 503)]
    refresh = sent(5.0, "paris", "ACTIVATED", 204, "refresh")
    assert demo.recorded(story, [*failed, one, other, refresh]) == demo.recorded(story, [failed[0], other, one])
    assert not re.search(r"\d s|\d\.\d", demo.recorded(story, [one, other]))


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("drop-standby", "expected [('london', 'STANDBY', 1, 1, 'joined')]"),
        ("wrong-key", "not verified: paris: WebhookError"),
        ("swap", "expected [('paris', 'STANDBY', 1, 2, 'failing')]"),
    ],
)
def test_the_judge_notices_a_seeded_fault(played: Played, fault: str, complaint: str) -> None:
    story, arrivals = played
    announcements, problems = demo.verify_all(story, *demo.seed(fault, arrivals, demo.SECRETS))
    problems += demo.judge(story, announcements)
    assert any(complaint in problem for problem in problems), problems


def test_each_fault_ends_the_demo_with_status_1(
    played: Played, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole of `main`, with the cloud and the story taken from above."""
    story, arrivals = played

    class Again:
        def __init__(self, cloud: object, receiver: demo.Receiver) -> None:
            self.story = story
            receiver.arrivals = arrivals

        def play(self) -> None:
            pass

    class NoCloud:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(demo, "Director", Again)
    monkeypatch.setattr(demo, "local_cloud", lambda **_: NoCloud())
    for fault in (None, *demo.FAULTS):
        monkeypatch.setattr("sys.argv", ["demo", *(["--fault", fault] if fault else [])])
        assert demo.main() == (1 if fault else 0), fault
        assert ("PASSED" in capsys.readouterr().out) is (fault is None)
