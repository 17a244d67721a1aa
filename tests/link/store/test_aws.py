"""Faults of AWS, in one word for log and metric."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from link.store.aws import error_code


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (ClientError({"Error": {"Code": "ThrottlingException", "Message": "x"}}, "Get"), "ThrottlingException"),
        (TimeoutError("secret"), "TimeoutError"),
    ],
)
def test_a_fault_is_one_word_without_its_message(fault: Exception, code: str) -> None:
    assert error_code(fault) == code
