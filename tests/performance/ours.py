"""`python -m tests.performance.ours FUNCTION EVENT [CALLS]`: handle a first event in a new process of a function.

With CALLS it writes its AWS calls to that file, for the floor to repeat.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
from pathlib import Path
from typing import Any


class Context:
    """The context that Lambda passes to a handler."""

    function_name = "bench"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:eu-west-1:000000000000:function:bench"
    aws_request_id = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


def recorded() -> list[list[Any]]:
    """Return a list to which every client that is made from now on adds its calls."""
    import boto3
    from botocore import xform_name

    calls: list[list[Any]] = []

    def record(params: dict[str, Any], model: Any, **_: Any) -> None:
        text = json.dumps(params, default=lambda blob: base64.b64encode(blob).decode())
        calls.append([model.service_model.service_name, xform_name(model.name), json.loads(text)])

    boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    boto3.DEFAULT_SESSION.events.register("provide-client-params.*.*", record)
    return calls


def in_order(calls: list[list[Any]], methods: list[str]) -> list[list[Any]]:
    """Return the calls in the order of the budget, with its POST; writes go to a table that accepts every write."""
    left, ordered = list(calls), []
    for method in methods:
        if method == "POST":
            ordered.append(["", "POST", {}])
            continue
        one = next((call for call in left if call[1] == method), None)
        assert one is not None, f"the budget has {method}, the path makes {[name for _, name, _ in calls]}"
        left.remove(one)
        if method in ("put_item", "transact_write_items"):
            one = json.loads(json.dumps(one).replace('"locks"', '"taken"').replace('"transitions"', '"taken"'))
        ordered.append(one)
    assert not left, f"the path makes {[name for _, name, _ in left]} beyond its budget"
    return ordered


def handle(function: str, event: dict[str, Any]) -> Any:
    """Return the answer of the function; fails when the function did not succeed."""
    answer = importlib.import_module(f"functions.{function}.app").handler(event, Context())
    assert not answer.get("batchItemFailures") and answer.get("statusCode", 200) == 200, answer
    return answer


def main() -> None:
    calls = recorded() if len(sys.argv) > 3 else []
    handle(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(json.dumps(calls))


if __name__ == "__main__":
    main()
