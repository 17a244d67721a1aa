"""`python -m tests.performance.ours FUNCTION EVENT [CALLS]`: a fresh process of a function and its first event.

With CALLS it writes the AWS calls made into that file, for the floor to repeat.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
from pathlib import Path
from typing import Any


class Context:
    """What Lambda hands to a handler."""

    function_name = "bench"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:eu-west-1:000000000000:function:bench"
    aws_request_id = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


def recorded() -> list[list[Any]]:
    """The calls of every client made from now on."""
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
    """The calls as the budget lists them, its POST among them. Writes go to a table that takes everything."""
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
    """What the function answers; raises when it did not succeed."""
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
