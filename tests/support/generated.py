"""Requests generated from the OpenAPI document, and the checks for every answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
Known = tuple[list[str], str]
"""Ids of existing endpoints, and the id of an existing resource."""


def known(case: schemathesis.Case[Any], there: Known, choose: Callable[[list[Any]], Any]) -> None:
    """Give most cases an id that exists, because the API answers 404 to any other id."""
    if "id" in case.path_parameters and choose([True, True, True, False]):
        case.path_parameters["id"] = choose(there[0])
    if "resource_id" in (case.query or {}) and choose([True, True, False]):
        case.query["resource_id"] = there[1]


def try_all(
    operation: Any,
    mode: GenerationMode,
    examples: int,
    there: Known,
    answers: Counter[tuple[str, int]],
    **transport: Any,
) -> None:
    """Send `examples` requests of one operation, and check each answer against the document."""

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    @hypothesis.settings(
        max_examples=examples, deadline=None, suppress_health_check=SLOW, database=None, derandomize=True,
        phases=[Phase.explicit, Phase.generate], verbosity=Verbosity.quiet,
    )  # fmt: skip
    def one(case: schemathesis.Case[Any], data: st.DataObject) -> None:
        known(case, there, lambda among: data.draw(st.sampled_from(among)))
        response = case.call(**transport)
        answers[operation.label, response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    one()
