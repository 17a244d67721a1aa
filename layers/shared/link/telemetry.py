"""The logger and the metrics of a function. A log line is one decision: `noun.verbed` with the same keys everywhere."""

from __future__ import annotations

import json
import sys

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

__all__ = ["MetricUnit", "logger", "metric"]

logger = Logger()


def metric(name: str, value: float = 1, *, unit: MetricUnit = MetricUnit.Count, **dimensions: str) -> None:
    """Writes one EMF line; namespace and service come from the environment. Threads can share it."""
    one = EphemeralMetrics()
    for key, text in dimensions.items():
        one.add_dimension(name=key, value=text)
    one.add_metric(name=name, unit=unit, value=value)
    # In one write: `print` writes text and newline apart, and another thread's line would come between.
    sys.stdout.write(json.dumps(one.serialize_metric_set(), separators=(",", ":")) + "\n")
