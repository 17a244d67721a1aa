"""Clients of AWS services: their deadlines, and what their errors are called."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from link import VERSION
from link.reconcile import CLAIM_SECONDS_LEFT
from link.store.aws import FAULTS, client, error_code


def test_a_call_gives_up_before_a_claim_would_end() -> None:
    config = client("dynamodb").meta.config
    tries = config.retries["total_max_attempts"]
    assert (config.connect_timeout, config.read_timeout, tries) == (1, 2, 3)
    assert tries * (config.connect_timeout + config.read_timeout) < CLAIM_SECONDS_LEFT


def test_cloudtrail_shows_which_program_called() -> None:
    assert client("kms").meta.config.user_agent.split()[0] == f"link-webhook/{VERSION}"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ClientError({"Error": {"Code": "ThrottlingException", "Message": "a secret"}}, "Get"), "ThrottlingException"),
        (ClientError({"Error": {}}, "Get"), "ClientError"),
        (ClientError({}, "Get"), "ClientError"),
        (EndpointConnectionError(endpoint_url="https://secret.example"), "EndpointConnectionError"),
        # botocore gives it the attribute `response` with the value None.
        (ReadTimeoutError(endpoint_url="https://secret.example", response=None), "ReadTimeoutError"),
        (TimeoutError("a secret"), "TimeoutError"),
    ],
    ids=str,
)
def test_an_error_is_named_by_one_word_without_anything_of_the_request(error: Exception, code: str) -> None:
    assert error_code(error) == code
    assert isinstance(error, FAULTS) is (code != "TimeoutError")
