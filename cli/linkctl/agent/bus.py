"""The event bus: PutEvents with bounded times, what went wrong in one line, and how far our clock is off."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError

from linkctl.agent.outbox import Outcome

DETAIL_TYPE = "Host Report"
# One attempt each: the agent tries again itself, with what is true by then.
CLIENT_CONFIG = ClientConfig(connect_timeout=1.0, read_timeout=1.5, retries={"total_max_attempts": 1})


class Bus:
    """Puts events of one source on one bus. The client is made in the thread that uses it first."""

    def __init__(self, make_client: Callable[[], Any], event_bus: str, source: str) -> None:
        self._make_client = make_client
        self._client: Any = None
        self._names = {"EventBusName": event_bus, "Source": source, "DetailType": DETAIL_TYPE}

    def put(self, details: Sequence[str]) -> Outcome:
        """Put one event per detail, each in a request of its own: together they may exceed a request's limit."""
        offset = None
        for detail in details:
            began = time.time()
            try:
                if self._client is None:
                    self._client = self._make_client()
                answer = self._client.put_events(Entries=[{**self._names, "Detail": detail}])
            except ClientError as error:
                return Outcome(_one_line(_refusal(error)), clock_offset(error.response, began, time.time()))
            except (BotoCoreError, OSError, ValueError) as error:
                # Its text may repeat what a credential process printed.
                return Outcome(type(error).__name__)
            offset = clock_offset(answer, began, time.time())
            if answer["FailedEntryCount"]:
                entry = answer["Entries"][0]
                return Outcome(_one_line(f"{entry.get('ErrorCode')}: {entry.get('ErrorMessage')}"), offset)
        return Outcome("", offset)


def clock_offset(answer: Any, began: float, ended: float) -> float | None:
    """Return by how many seconds our clock is ahead of the answer's Date, at least; negative: behind.

    The Date has whole seconds and was written between `began` and `ended` (Unix seconds).
    """
    try:
        date = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
        written = parsedate_to_datetime(date).timestamp()
    except (KeyError, TypeError, ValueError):
        return None
    return max(began - (written + 1), 0.0) + min(ended - written, 0.0)


def _refusal(error: ClientError) -> str:
    reason = error.response.get("Error", {})
    return f"{reason.get('Code')}: {reason.get('Message')}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
