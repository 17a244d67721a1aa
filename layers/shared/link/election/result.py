"""How an attempt to deliver ended, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ResultKind(StrEnum):
    """How an attempt ended. `next_step` says what follows."""

    DELIVERED = "delivered"
    """Answered with 200-299."""
    ANSWERED = "answered"
    """Answered with another status."""
    NOT_SENT = "not_sent"
    """No byte left: DNS, connect or TLS failed."""
    MAYBE_RECEIVED = "maybe_received"
    """Bytes left, no answer came."""
    REFUSED = "refused"
    """The address, the certificate or the stored registration does not allow it."""
    UNREADABLE = "unreadable"
    """The registration or its secret could not be read; a delivery is never sent unsigned."""
    TOO_LATE = "too_late"
    """Nothing was sent: the claim was about to end, or the registration had changed. Does not count as an attempt."""


_RETRYING = "Retrying with backoff, at most 10 minutes apart."
_NEXT_STEPS = {
    ResultKind.DELIVERED: "Nothing is pending.",
    ResultKind.ANSWERED: f"{_RETRYING} Check the receiver.",
    ResultKind.NOT_SENT: f"{_RETRYING} Check the receiver's DNS name, port and TLS.",
    ResultKind.MAYBE_RECEIVED: f"{_RETRYING} The receiver may get it twice.",
    ResultKind.REFUSED: f"{_RETRYING} Check DNS, certificate, registration and AllowedNetworks.",
    ResultKind.UNREADABLE: (
        f"{_RETRYING} Check the function's access to its KMS key and tables, or register the endpoint again."
    ),
    ResultKind.TOO_LATE: "Claimed again within a second.",
}
_UNAUTHORIZED = f"{_RETRYING} Check that the receiver has this endpoint's secret, a right clock and the raw body."


def next_step(kind: ResultKind, reason: str) -> str:
    """What an operator reads beside a result, in log lines and in the API's `next_step`."""
    return _UNAUTHORIZED if reason in ("status_401", "status_403") else _NEXT_STEPS[kind]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one attempt. `reason` is one short word for log, metric and API, never a secret."""

    kind: ResultKind
    reason: str = ""
    status_code: int | None = None
    retry_after_seconds: int | None = None

    @property
    def category(self) -> str:
        """The reason as a metric's dimension, with a bounded number of values: CloudWatch bills each one.

        >>> Result(ResultKind.ANSWERED, "status_503", 503).category, Result(ResultKind.DELIVERED).category
        ('status_5xx', 'delivered')
        """
        if self.status_code is not None and self.reason.startswith("status_"):
            return f"status_{self.status_code // 100}xx"
        for prefix in ("secret_unreadable", "registration_unreadable", "crashed"):
            if self.reason.startswith(prefix):
                return prefix
        return self.reason or str(self.kind)
