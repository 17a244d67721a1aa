"""What SAM's transform makes of template.yaml, and how CloudWatch evaluates its alarms.

    python -m tests.support.transformed > transformed.json

prints it, for tools that read CloudFormation only.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from typing import Any

import pytest
from samtranslator.translator.transform import transform  # type: ignore[import-untyped]

from scripts.cloud import template

Resource = dict[str, Any]


class _NoManagedPolicies:
    """No managed policy to look up in IAM: the template writes its policies out."""

    def load(self) -> dict[str, str]:
        return {}


def transformed_template(code: Mapping[str, str] = {}, **parameters: str) -> dict[str, Any]:
    """Return the template of a deployment with these parameters; `code` has the keys of artifacts that changed."""
    source = template()
    for name, resource in source["Resources"].items():
        for place in ("CodeUri", "ContentUri"):
            if place in resource.get("Properties", {}):
                resource["Properties"][place] = f"s3://bucket/{code.get(name, 'key')}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")  # The transform needs a region.
        transformed: dict[str, Any] = transform(source, parameters, _NoManagedPolicies())
    return transformed


def deployed(code: Mapping[str, str] = {}, **parameters: str) -> dict[str, Resource]:
    """Return the resources of such a deployment."""
    resources: dict[str, Resource] = transformed_template(code, **parameters)["Resources"]
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
