"""One POST: over in five seconds at most and sent to public addresses only, whatever the other side does."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from requests import Response

from link import trust
from link.clock import Clock
from link.election.result import Result, ResultKind
from link.fields import HEADER_VALUE
from link.networks import AddressInfo
from link.plugins.webhook import connection
from link.plugins.webhook import url as urls
from link.plugins.webhook.adapter import Ended, GuardedAdapter, WebhookRequest
from link.plugins.webhook.config import HEADER_NAME
from link.plugins.webhook.connection import Deadline
from link.settings import Network

MAX_RETRY_AFTER_SECONDS = 600

_FRAMING = {"host", "content-length", "connection", "transfer-encoding"}


class Sender:
    """Sends webhooks. Holds only the deployment's settings and trust store, so threads can share it.

    `ca_bundle` is the path of a PEM file, trusted in addition to certifi's. `look_up` and `connect` are the network;
    the simulator replaces them.
    """

    def __init__(
        self,
        *,
        allowed_networks: Sequence[Network] = (),
        require_https: bool = False,
        ca_bundle: str = "",
        seconds: float = 5.0,
        clock: Clock | None = None,
        look_up: Callable[[urls.Target, Deadline], list[AddressInfo]] = connection.look_up,
        connect: Callable[[list[AddressInfo], Deadline], socket.socket] = connection.connect,
    ) -> None:
        self._require_https = require_https
        self._seconds = seconds
        self._clock = clock or Clock()
        # Made once: loading the trust store costs 30 ms of CPU.
        tls = trust.context(ca_bundle)
        self._adapter = GuardedAdapter(tls, allowed_networks, self._clock, look_up, connect)

    def post(self, url: str, body: bytes, headers: Mapping[str, str], *, not_after: int) -> Result:
        """Makes one attempt. Its bytes leave in one write, at `not_after` (Unix ms) at the latest, or never."""
        deadline = Deadline(self._clock, self._seconds)
        try:
            target = urls.target(url)
        except urls.BadUrl:
            return Result(ResultKind.REFUSED, "url_invalid")
        if self._require_https and target.scheme != "https":
            return Result(ResultKind.REFUSED, "https_required")
        if not _sendable(headers):
            return Result(ResultKind.REFUSED, "header_invalid")
        try:
            # Without a Session, which would ask for proxies and .netrc, keep cookies and read the body of a redirect.
            response = self._adapter.send(WebhookRequest(target, body, headers, deadline=deadline, not_after=not_after))
        except Ended as ended:
            return ended.result
        return _result(response, self._clock.now())


def _sendable(headers: Mapping[str, str]) -> bool:
    """Whether these headers arrive as they are, even if they came into the table without our validation."""
    names = [name.lower() for name in headers]
    return (
        all(HEADER_NAME.fullmatch(name) and HEADER_VALUE.fullmatch(value) for name, value in headers.items())
        and len(set(names)) == len(names)
        and _FRAMING.isdisjoint(names)
    )


def _result(response: Response, now: int) -> Result:
    status = response.status_code
    if 200 <= status < 300:
        return Result(ResultKind.DELIVERED, status_code=status)
    retry_after = response.headers.get("Retry-After") if status in (429, 503) else None
    return Result(
        ResultKind.ANSWERED,
        "redirect" if 300 <= status < 400 else f"status_{status}",
        status_code=status,
        retry_after_seconds=None if retry_after is None else _seconds(retry_after, now),
    )


def _seconds(retry_after: str, now: int) -> int | None:
    """Seconds to wait from `now` (Unix ms) on, out of a number or an HTTP date; None when it is neither.

    >>> [_seconds(value, 784111757000) for value in ("120 ", "86400", "Sun, 06 Nov 1994 08:49:37 GMT", "soon")]
    [120, 600, 20, None]
    """
    text = retry_after.strip(" \t")
    if re.fullmatch("[0-9]{1,9}", text):
        return min(int(text), MAX_RETRY_AFTER_SECONDS)
    try:
        at = datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        return None
    return min(max(0, round(at.timestamp() - now / 1000)), MAX_RETRY_AFTER_SECONDS)
