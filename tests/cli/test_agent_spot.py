"""The Spot interruption notice, asked of an instance metadata service on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from linkctl.agent.spot import Metadata
from tests.support.instance import Instance


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as one:
        yield one


def metadata(instance: Instance) -> Metadata:
    found = Metadata.of({"AWS_EC2_METADATA_SERVICE_ENDPOINT": instance.url})
    assert found is not None
    return found


def test_without_a_notice_there_is_none_and_one_token_serves_many_looks(instance: Instance) -> None:
    looking = metadata(instance)
    assert [looking.notice(), looking.notice()] == [None, None]
    path = "/latest/meta-data/spot/instance-action"
    assert instance.requests == ["PUT /latest/api/token 200", f"GET {path} 404", f"GET {path} 404"]


def test_a_notice_names_the_action(instance: Instance) -> None:
    instance.notice = '{"action": "terminate", "time": "2026-11-28T12:00:00Z"}'
    assert metadata(instance).notice() == "terminate"


def test_a_token_that_has_ended_is_replaced_at_the_next_look(instance: Instance) -> None:
    looking = metadata(instance)
    looking.notice()
    instance.token, instance.notice = "two", '{"action": "stop"}'
    with pytest.raises(OSError, match="status 401"):
        looking.notice()
    assert looking.notice() == "stop"


@pytest.mark.parametrize("notice", ["terminate", "[]", "{}"])
def test_an_answer_that_is_no_notice_is_an_error_and_no_interruption(instance: Instance, notice: str) -> None:
    instance.notice = notice
    with pytest.raises(OSError, match="not a notice"):
        metadata(instance).notice()


def test_metadata_that_cannot_be_reached_is_an_error() -> None:
    with Instance() as stopped:
        looking = metadata(stopped)
    with pytest.raises(OSError):
        looking.notice()


def test_the_environment_can_turn_metadata_off() -> None:
    assert Metadata.of({"AWS_EC2_METADATA_DISABLED": "True"}) is None
    assert Metadata.of({"AWS_EC2_METADATA_DISABLED": "false"}) is not None
    assert Metadata.of({}) is not None
