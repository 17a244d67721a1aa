"""The agent's metrics, in Prometheus' text format, for node_exporter's textfile collector."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from linkctl.agent.core import Core
from linkctl.agent.health import Status

PREFIX = "linkctl_agent_"


def render(core: Core) -> str:
    """Return the metrics. Times are Unix seconds: `time() - linkctl_agent_last_put_timestamp_seconds` is an age."""
    return "".join(f"{line}\n" for line in _lines(core))


def _lines(core: Core) -> Iterator[str]:
    yield from _head("endpoint_status", "gauge", "1 for the endpoint's word.")
    for endpoint_id, word in core.words.items():
        for status in Status:
            labels = _labels(endpoint_id=endpoint_id, resource_id=word.resource_id, status=status.value)
            yield f"{PREFIX}endpoint_status{labels} {int(word.status is status)}"
    checks = [
        (_labels(endpoint_id=endpoint_id, check=str(check)), result)
        for (endpoint_id, check), result in core.results.items()
    ]
    yield from _head("check_passed", "gauge", "Whether the check passed when it ran last.")
    yield from (f"{PREFIX}check_passed{labels} {int(result.passed)}" for labels, result in checks)
    yield from _head("check_duration_seconds", "gauge", "How long the check took when it ran last.")
    yield from (f"{PREFIX}check_duration_seconds{labels} {result.seconds:.6f}" for labels, result in checks)
    if core.last_put_ms is not None:
        yield from _head("last_put_timestamp_seconds", "gauge", "When the event bus last accepted an event.")
        yield f"{PREFIX}last_put_timestamp_seconds {core.last_put_ms / 1000}"
    yield from _head("puts_failed_total", "counter", "Attempts to put events that failed.")
    yield f"{PREFIX}puts_failed_total {core.puts_failed}"
    if core.clock_offset is not None:
        yield from _head("clock_offset_seconds", "gauge", "How far this clock is ahead of AWS's, at least.")
        yield f"{PREFIX}clock_offset_seconds {core.clock_offset}"
    yield from _head("reloads_total", "counter", "Reloads of the configuration.")
    yield f'{PREFIX}reloads_total{{result="used"}} {core.reloads}'
    yield f'{PREFIX}reloads_total{{result="refused"}} {core.reloads_refused}'


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {PREFIX}{name} {text}", f"# TYPE {PREFIX}{name} {kind}"


def _labels(**labels: str) -> str:
    r"""Return labels with their values escaped.

    >>> print(_labels(check='command /a"b'))
    {check="command /a\"b"}
    """
    escaped = {
        name: value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") for name, value in labels.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"


def write(path: Path, text: str) -> None:
    """Replace a file at once: the collector never reads half of it."""
    # The collector reads names that end in .prom only.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            os.fchmod(descriptor, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
