"""The event bus, as an observer of ours tells it: 1 PutEvents per ten status events."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from link.election.state import Status
from link.settings import Settings
from link.store.aws import FAULTS, error_code
from link.store.queues import BATCH_SIZE
from link.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

DETAIL_TYPE = "Endpoint Status Change"


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """What an observer of ours reports. `at` is its `reported_at`, Unix milliseconds."""

    endpoint_id: str
    resource_id: str
    status: Status
    at: int


class Bus:
    """Puts status events. `source` is the observer whose they are."""

    def __init__(self, events: EventBridgeClient, settings: Settings, source: str) -> None:
        self._events = events
        self._bus = settings.event_bus_name
        self._source = source

    def tell(self, found: Iterable[StatusEvent]) -> list[str]:
        """Puts each event; returns the endpoint ids of those that the bus took. Others are the caller's to repeat."""
        told, events = [], [*found]
        for start in range(0, len(events), BATCH_SIZE):
            batch = events[start : start + BATCH_SIZE]
            try:
                answers = self._events.put_events(Entries=[self._entry(event) for event in batch])["Entries"]
            except FAULTS as error:
                logger.warning("status.untold", source=self._source, count=len(batch), reason=error_code(error))
                continue
            for event, answer in zip(batch, answers, strict=True):
                if "ErrorCode" in answer:
                    logger.warning("status.untold", endpoint_id=event.endpoint_id, reason=answer["ErrorCode"])
                else:
                    told.append(event.endpoint_id)
        return told

    def _entry(self, event: StatusEvent) -> Any:
        detail = {
            "endpoint_id": event.endpoint_id,
            "resource_id": event.resource_id,
            "status": event.status,
            "reported_at": event.at,
        }
        return {
            "EventBusName": self._bus,
            "Source": self._source,
            "DetailType": DETAIL_TYPE,
            "Detail": json.dumps(detail),
        }
