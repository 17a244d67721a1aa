"""A deployment's environment, settings and tables, as template.yaml has them."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from link import settings as link_settings
from link.settings import Settings
from scripts import cloud


def environment(
    suffix: str = "", *, key: str = "key", refresh_ms: int = 300_000, handover_ms: int = 1_000
) -> dict[str, str]:
    """The environment of a deployment's functions; the names of its tables end in `suffix`."""
    return {
        "LOCKS_TABLE": f"locks{suffix}",
        "ENDPOINTS_TABLE": f"endpoints{suffix}",
        "TRANSITIONS_TABLE": f"transitions{suffix}",
        "STATUS_QUEUE_URL": "status",
        "WAKE_UP_QUEUE_URL": "wake-up",
        "REJECTED_EVENTS_QUEUE_URL": "rejected",
        "SECRETS_KEY_ARN": key,
        "KEY_ROTATION_FUNCTION": "key-rotation",
        "PROBE_FUNCTION": "probe",
        "WEBHOOK_REFRESH_INTERVAL": f"{refresh_ms}ms",
        "HANDOVER_TIMEOUT": f"{handover_ms}ms",
        "MAX_ENDPOINTS": "0",
        "PROBES_TABLE": f"probes{suffix}",
        "PROBE_QUEUE_URL": "probe",
        "SIGNALS_TABLE": f"signals{suffix}",
        "SIGNAL_QUEUE_URL": "signal",
        "SIGNAL_TYPES": "alarm,ec2,ecs,target,zone",
        "EVENT_BUS_NAME": "events",
        "PROBE_REFERENCES": "reference.example.com:443",
    }


def settings(suffix: str = "", **more: Any) -> Settings:
    """The settings of that deployment, with some of them replaced."""
    return replace(link_settings.load(environment(suffix), probes=True, signals=True), **more)


def create_tables(dynamodb: Any, settings: Settings) -> None:
    """Creates the tables of template.yaml under the names of the settings."""
    names = {
        "LocksTable": settings.locks_table,
        "EndpointsTable": settings.endpoints_table,
        "TransitionsTable": settings.transitions_table,
        "ProbesTable": settings.probes_table,
        "SignalsTable": settings.signals_table,
    }
    for logical_id, definition in _tables().items():
        dynamodb.create_table(TableName=names[logical_id], **definition)


@functools.cache
def _tables() -> dict[str, dict[str, Any]]:
    """The properties of each table in template.yaml. Cached, because reading the file takes half a second."""
    known = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    return {
        logical_id: {name: value for name, value in resource["Properties"].items() if name in known}
        for logical_id, resource in cloud.template()["Resources"].items()
        if resource["Type"] == "AWS::DynamoDB::Table"
    }
