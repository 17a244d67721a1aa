"""The demo's story on the deployed template, and whether its judge would notice if it went wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts import demo
from scripts.cloud import Cloud

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
    assert demo.judge(story, arrivals, demo.SECRETS) == []


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
    problems = demo.judge(story, *demo.seed(fault, arrivals, demo.SECRETS))
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
