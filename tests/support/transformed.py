"""What SAM's transform makes of template.yaml, and how CloudWatch evaluates its alarms.

    python -m tests.support.transformed > transformed.json

prints it, for tools that read CloudFormation only.
"""

from __future__ import annotations

import functools
import json
import operator
from typing import Any

import pytest
from samtranslator.translator.transform import transform  # type: ignore[import-untyped]

from scripts.cloud import template

Resource = dict[str, Any]


class _NoManagedPolicies:
    """No managed policy to look up in IAM: the template writes its policies out."""

    def load(self) -> dict[str, str]:
        return {}


@functools.cache
def transformed_template() -> dict[str, Any]:
    source = template()
    for resource in source["Resources"].values():
        for place in ("CodeUri", "ContentUri"):
            if place in resource.get("Properties", {}):
                resource["Properties"][place] = "s3://bucket/key"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")  # The transform needs a region.
        transformed: dict[str, Any] = transform(source, {}, _NoManagedPolicies())
    return transformed


def resources_of_template() -> dict[str, Resource]:
    resources: dict[str, Resource] = transformed_template()["Resources"]
    return resources


def of_type(resources: dict[str, Resource], kind: str) -> dict[str, Resource]:
    return {name: each["Properties"] for name, each in resources.items() if each["Type"] == kind}


def raised_by(alarm: Resource, values: list[float | None]) -> bool:
    """Whether one value a period, None for missing data, brings the alarm into ALARM, as CloudWatch evaluates it."""
    compare = {"GreaterThanThreshold": operator.gt, "LessThanThreshold": operator.lt}[alarm["ComparisonOperator"]]
    missing = {"breaching": True, "notBreaching": False}[alarm["TreatMissingData"]]
    last = values[-alarm["EvaluationPeriods"] :]
    return all(missing if value is None else compare(value, alarm["Threshold"]) for value in last)


if __name__ == "__main__":
    print(json.dumps(transformed_template(), indent=2))
