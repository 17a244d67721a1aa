"""The resources that SAM's transform makes of template.yaml, and how CloudWatch evaluates its alarms."""

from __future__ import annotations

import functools
import operator
from typing import Any

import pytest
from samtranslator.translator.transform import transform

from scripts.cloud import template

Resource = dict[str, Any]


class _NoManagedPolicies:
    """No managed policy to look up in IAM: the template writes its policies out."""

    def load(self) -> dict[str, str]:
        return {}


@functools.cache
def resources_of_template() -> dict[str, Resource]:
    source = template()
    for resource in source["Resources"].values():
        for place in ("CodeUri", "ContentUri"):
            if place in resource.get("Properties", {}):
                resource["Properties"][place] = "s3://bucket/key"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")  # The transform needs a region.
        transformed: dict[str, Resource] = transform(source, {}, _NoManagedPolicies())["Resources"]
    return transformed


def of_type(resources: dict[str, Resource], kind: str) -> dict[str, Resource]:
    return {name: each["Properties"] for name, each in resources.items() if each["Type"] == kind}


def raised_by(alarm: Resource, values: list[float | None]) -> bool:
    """Whether one value a period, None for missing data, brings the alarm into ALARM, as CloudWatch evaluates it."""
    compare = {"GreaterThanThreshold": operator.gt, "LessThanThreshold": operator.lt}[alarm["ComparisonOperator"]]
    missing = {"breaching": True, "notBreaching": False}[alarm["TreatMissingData"]]
    last = values[-alarm["EvaluationPeriods"] :]
    return all(missing if value is None else compare(value, alarm["Threshold"]) for value in last)
