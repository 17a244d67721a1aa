"""Starts MiniStack with what it gets wrong about our policies and template put right.

Run by scripts/cloud.py with the interpreter of .local/cloud.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import sys
import tempfile
import threading
import types
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

from ministack.core import iam_actions, iam_evaluator, lambda_runtime
from ministack.services import eventbridge
from ministack.services.cloudformation import provisioners

VERSION = "1.5.33"
if importlib.metadata.version("ministack") != VERSION:
    raise SystemExit(f"this file mends MiniStack {VERSION}: look again whether it is still needed")

_conditions = iam_evaluator._conditions_met
_context = iam_actions.request_tag_context
_action = iam_actions.extract_iam_action


def _with_more_keys(service: str, action: str, body: bytes, params: dict[str, Any]) -> dict[str, Any]:
    """AWS offers the encryption context of a KMS call, and what an event says, to policies; MiniStack does not."""
    keys: dict[str, Any] = _context(service, action, body, params)
    if action == "events:PutEvents":
        entries = json.loads(body or b"{}").get("Entries", [])
        keys = {
            **keys,
            "events:source": [str(entry.get("Source", "")) for entry in entries],
            "events:detail-type": [str(entry.get("DetailType", "")) for entry in entries],
        }
    if service == "kms":
        context = json.loads(body or b"{}").get("EncryptionContext") or {}
        keys = {**keys, **{f"kms:EncryptionContext:{name}": value for name, value in context.items()}}
        if context:
            keys["kms:EncryptionContextKeys"] = list(context)
    return keys


def _as_aws_authorizes(*arguments: Any) -> str | None:
    """AWS has no permission of its own for batches: SendMessageBatch needs sqs:SendMessage."""
    action: str | None = _action(*arguments)
    return "sqs:SendMessage" if action == "sqs:SendMessageBatch" else action


def _with_variables(conditions: dict[str, Any], context: Any) -> bool:
    """AWS replaces ${aws:PrincipalTag/…} and the like in a condition; MiniStack compares the text as it stands."""

    def value(variable: re.Match[str]) -> str:
        found = iam_evaluator._resolve_condition_key(variable[1], context)
        # On AWS a condition with an unknown variable does not match; no value of a request has a NUL.
        return "\0" if found is None else str(found)

    text = re.sub(r"\$\{([\w:/-]+)\}", value, json.dumps(conditions))
    return bool(_conditions(json.loads(text, strict=False), context))


class _ExtractedOnce(zipfile.ZipFile):
    """MiniStack extracts a function and its layers for every process. Here equal archives share one folder.

    Otherwise a minute's work is 400 MB in 15,000 files, and each process compiles all of them again.
    """

    _lock = threading.Lock()

    def extractall(self, path: Any = None, members: Any = None, pwd: bytes | None = None) -> None:
        content = Path(str(self.filename)).read_bytes()
        shared = Path(tempfile.gettempdir()) / f"extracted-{hashlib.sha256(content).hexdigest()}"
        with self._lock:
            if not shared.exists():
                super().extractall(shared.with_suffix(".unfinished"))
                shared.with_suffix(".unfinished").rename(shared)
        os.rmdir(path)
        os.symlink(shared, path)
        os.remove(str(self.filename))


lambda_runtime.zipfile = types.SimpleNamespace(**(vars(zipfile) | {"ZipFile": _ExtractedOnce}))
iam_evaluator._conditions_met = _with_variables
iam_actions.request_tag_context = _with_more_keys
iam_actions.extract_iam_action = _as_aws_authorizes
# MiniStack refuses a stack with a saved query of CloudWatch Logs Insights. Only AWS's console uses one.
provisioners._RESOURCE_HANDLERS["AWS::Logs::QueryDefinition"] = {
    "create": lambda logical_id, properties, stack: (logical_id, {}),
    "delete": lambda physical_id, properties: None,
}

# As on AWS, nobody may put events of AWS's services. But MiniStack's services send none, so that a test has to.
eventbridge._put_events = partial(eventbridge._put_events, allow_aws_source=True)

if __name__ == "__main__":
    from ministack.app import main

    sys.argv = sys.argv[:1]
    main()
