"""The lock item of one resource, and what a sender found out. Pure: standard library only.

Times are integers in Unix milliseconds. The names are those of the protocol (docs/protocol.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

NEVER = 2**53 - 1
"""Later than any time; still exact as an IEEE double, so every JSON reader agrees on it."""


class Status(StrEnum):
    """What an endpoint is. A host reports the last three of them."""

    BOOTING = "BOOTING"
    ACTIVATED = "ACTIVATED"
    STANDBY = "STANDBY"
    FAILING = "FAILING"


class Reason(StrEnum):
    """Why a status was announced: the value of `X-Link-Webhook-Reason`."""

    ELECTED = "elected"
    REFRESH = "refresh"
    DEMOTED = "demoted"
    FAILING = "failing"
    LEASE_EXPIRED = "lease_expired"
    FAILOVER = "failover"
    DELETED = "deleted"
    RECOVERED = "recovered"
    JOINED = "joined"


@dataclass(frozen=True, slots=True)
class Claim:
    """One sender's right to one attempt. `token` is the nonce of the commit that made it."""

    token: str
    until: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint's entry in the lock item of its resource."""

    joined: int
    """When it was registered."""
    revision: int = 1
    """Revision of the registration this entry goes with."""
    host: str = ""
    priority: int = 0
    lease_seconds: int | None = None

    reported: Status | None = None
    reported_at: int = 0
    lease_expires_at: int | None = None

    status: Status = Status.BOOTING
    epoch: int = 0
    sequence: int = 0
    reason: str = ""
    announced_at: int = 0

    delivered_sequence: int = 0
    delivered_at: int = 0
    attempt: int = 0
    next_attempt_at: int = 0
    failure: str = ""
    """Kind and reason of this sequence's last failed attempt, "not_sent dns"; empty once it succeeded."""
    claim: Claim | None = None
    believed_until: int | None = None
    """Until when its receiver must be assumed to believe it active; None: it does not."""
    asked_at: int = 0
    """When somebody asked for its status once more, until that is delivered; 0: nobody did."""
    deleting: bool = False

    @property
    def wire(self) -> Status:
        """The status its receiver is told."""
        return Status.ACTIVATED if self.status is Status.ACTIVATED else Status.STANDBY

    @property
    def owed(self) -> bool:
        """Whether its latest status has not been delivered, or not since it was asked for."""
        return self.delivered_sequence < self.sequence or self.asked_at > 0

    @property
    def owed_since(self) -> int:
        """Since when, if it is owed."""
        return self.announced_at if self.delivered_sequence < self.sequence else self.asked_at

    def ready(self, now: int) -> bool:
        """Whether it may be elected."""
        return (
            self.reported is Status.ACTIVATED
            and not self.deleting
            and (self.lease_expires_at is None or now < self.lease_expires_at)
        )


@dataclass(frozen=True, slots=True)
class Resource:
    """The lock item: everything an election needs. Version 0: not stored yet."""

    resource_id: str
    version: int = 0
    nonce: str = ""
    epoch: int = 0
    holder: str | None = None
    commands: tuple[str, ...] = ()
    """Ids of the last failovers, newest first, so that a repeated one is recognised."""
    due_at: int | None = None
    frozen: bool = False
    """Whether the holder stays whatever is reported, until it is unfrozen or failed over by hand."""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)


class Kind(StrEnum):
    """How an attempt ended. `NEXT_STEPS` says what follows."""

    DELIVERED = "delivered"
    """Answered with 200-299."""
    ANSWERED = "answered"
    """Answered with another status."""
    NOT_SENT = "not_sent"
    """No byte left: DNS, connect, TLS."""
    MAYBE_RECEIVED = "maybe_received"
    """Bytes left, no answer came."""
    REFUSED = "refused"
    """Address, certificate or stored registration do not allow it."""
    UNREADABLE = "unreadable"
    """Registration or secret could not be read; never sent unsigned."""
    TOO_LATE = "too_late"
    """The claim was about to end before a byte left: not an attempt."""


_REPEATED = "repeated with backoff, at most 10 minutes apart, until it gets its 2xx"
NEXT_STEPS = {
    Kind.DELIVERED: "nothing is owed any more",
    Kind.ANSWERED: f"{_REPEATED}; mend the receiver",
    Kind.NOT_SENT: f"{_REPEATED}; mend the receiver's name, port or TLS",
    Kind.MAYBE_RECEIVED: f"{_REPEATED}; the receiver may see it twice",
    Kind.REFUSED: f"{_REPEATED}; mend DNS, certificate, registration or AllowedNetworks",
    Kind.UNREADABLE: f"{_REPEATED}; give the function its KMS key and tables, or register the endpoint again",
    Kind.TOO_LATE: "claimed anew within a second",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What one attempt came to. `reason` is one short word for log, metric and API, never a secret."""

    kind: Kind
    reason: str = ""
    status_code: int | None = None
    retry_after_seconds: int | None = None

    def __str__(self) -> str:
        """Kind and reason in one line.

        >>> str(Result(Kind.NOT_SENT, "dns")), str(Result(Kind.DELIVERED))
        ('not_sent dns', 'delivered')
        """
        return f"{self.kind} {self.reason}".rstrip()
