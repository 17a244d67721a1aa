"""The agent's puts against an EventBridge on loopback: what is on the wire, what went wrong, and the clocks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.credentials import Credentials

from linkctl.agent.bus import CLIENT_CONFIG, Bus, clock_offset
from tests.support.event_bus import EventBus

DETAILS = [json.dumps({"host": "paris", "at": at, "reports": []}) for at in (1, 2)]


@pytest.fixture
def bus() -> Iterator[EventBus]:
    with EventBus() as running:
        yield running


def client(url: str) -> Any:
    return boto3.Session(region_name="eu-west-1").client("events", endpoint_url=url, config=CLIENT_CONFIG)


def test_an_event_has_the_source_of_the_host_and_each_has_its_own_request(bus: EventBus) -> None:
    outcome = Bus(lambda: client(bus.url), "bus", "link.host.paris").put(DETAILS)
    assert outcome.problem == "" and outcome.clock_offset == pytest.approx(0, abs=1)
    assert [(put.source, put.detail_type, put.detail["at"]) for put in bus.puts] == [
        ("link.host.paris", "Host Report", 1),
        ("link.host.paris", "Host Report", 2),
    ]
    assert bus.requests == 2


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        ("throttle", "ThrottlingException: Rate exceeded"),
        ("reject", "InternalFailure: try again"),
        ("close", "ConnectionClosedError"),
        ("hang", "ReadTimeoutError"),
    ],
)
def test_a_put_that_failed_is_one_request_and_one_line(bus: EventBus, mode: str, problem: str) -> None:
    bus.mode = mode
    assert Bus(lambda: client(bus.url), "bus", "link").put(DETAILS).problem == problem
    assert bus.requests == 1


def test_nothing_that_a_credential_process_prints_is_in_the_problem(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    config = tmp_path / "config"
    config.write_text('[default]\ncredential_process = /bin/sh -c "echo hidden >&2; exit 1"\n')
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    problem = Bus(lambda: client(bus.url), "bus", "link").put(DETAILS).problem
    assert problem == "CredentialRetrievalError"


def test_a_bus_that_cannot_be_reached_is_named_by_the_class_of_the_error() -> None:
    with EventBus() as stopped:
        url = stopped.url
    assert Bus(lambda: client(url), "bus", "link").put(DETAILS).problem == "EndpointConnectionError"


def test_a_clock_is_compared_also_when_aws_refuses(bus: EventBus) -> None:
    bus.mode, bus.clock_error_seconds = "throttle", -100
    offset = Bus(lambda: client(bus.url), "bus", "link").put(DETAILS).clock_offset
    assert offset is not None and 98 <= offset <= 101


@pytest.mark.parametrize(
    ("began", "ended", "offset"),
    [
        (1_000.0, 1_000.1, 0),
        (1_000.9, 1_001.0, 0),
        (999.0, 1_000.0, 0),
        (1_003.5, 1_003.6, 2.5),
        (990.0, 997.5, -2.5),
        (900.0, 1_900.0, 0),
    ],
)
def test_the_offset_is_the_least_that_the_date_allows(began: float, ended: float, offset: float) -> None:
    headers = {"date": "Thu, 01 Jan 1970 00:16:40 GMT"}
    assert clock_offset({"ResponseMetadata": {"HTTPHeaders": headers}}, began, ended) == pytest.approx(offset)


@pytest.mark.parametrize("answer", [{}, {"ResponseMetadata": {"HTTPHeaders": {"date": "yesterday"}}}])
def test_an_answer_without_a_date_says_nothing_about_the_clock(answer: dict[str, Any]) -> None:
    assert clock_offset(answer, 0, 0) is None


def test_the_client_is_made_once_and_not_before_it_is_used(bus: EventBus) -> None:
    made = []

    def make() -> Any:
        made.append(client(bus.url))
        return made[-1]

    one = Bus(make, "bus", "link")
    assert made == []
    one.put(DETAILS)
    one.put(DETAILS)
    assert len(made) == 1


def test_credentials_are_never_part_of_a_problem(bus: EventBus) -> None:
    bus.mode = "close"
    session = boto3.Session(region_name="eu-west-1")
    session._session._credentials = Credentials("AKIAHIDDEN", "hidden")  # type: ignore[attr-defined]
    made = session.client("events", endpoint_url=bus.url, config=CLIENT_CONFIG)
    assert "hidden" not in Bus(lambda: made, "bus", "link").put(DETAILS).problem.lower()
