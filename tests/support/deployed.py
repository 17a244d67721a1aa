"""A deployment's environment, settings and tables, as template.yaml has them."""

from __future__ import annotations

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
        "WAKE_UP_QUEUE_URL": "wake-up",
        "REJECTED_EVENTS_QUEUE_URL": "rejected",
        "SECRETS_KEY_ARN": key,
        "KEY_ROTATION_FUNCTION": "key-rotation",
        "WEBHOOK_REFRESH_INTERVAL": f"{refresh_ms}ms",
        "HANDOVER_TIMEOUT": f"{handover_ms}ms",
        "MAX_ENDPOINTS": "0",
    }


def settings(suffix: str = "", **more: Any) -> Settings:
    """The settings of that deployment, with some of them replaced."""
    return replace(link_settings.load(environment(suffix)), **more)


def create_tables(dynamodb: Any, settings: Settings) -> None:
    """Creates the tables of template.yaml under the names of the settings."""
    resources = cloud.template()["Resources"]
    for logical_id, name in (
        ("LocksTable", settings.locks_table),
        ("EndpointsTable", settings.endpoints_table),
        ("TransitionsTable", settings.transitions_table),
    ):
        properties = resources[logical_id]["Properties"]
        known = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
        dynamodb.create_table(TableName=name, **{key: properties[key] for key in known if key in properties})
