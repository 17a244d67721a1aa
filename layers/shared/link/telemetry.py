"""The one logger and the metrics of a function. A log line is one decision: `noun.verbed` and the same keys."""

from __future__ import annotations

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit, single_metric

__all__ = ["MetricUnit", "logger", "metric"]

logger = Logger()


def metric(name: str, value: float = 1, *, unit: MetricUnit = MetricUnit.Count, **dimensions: str) -> None:
    """One EMF line; namespace and service come from the environment. Safe in threads, unlike a shared Metrics."""
    with single_metric(name=name, unit=unit, value=value) as one:
        for key, text in dimensions.items():
            one.add_dimension(name=key, value=text)
