"""Cold starts: a new process of a function against one that imports the same packages and makes the same calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tests.performance import ours, situation
from tests.performance.stub import ROOT, Stub
from tests.performance.warm import compared

Times = dict[str, dict[str, tuple[float, float, float]]]
GROUPS = (
    "boto3",
    "botocore",
    "aws_lambda_powertools",
    "urllib3",
    "requests",
    "charset_normalizer",
    "idna",
    "certifi",
    "dateutil",
    "jmespath",
    "s3transfer",
    "link",
)


def measured(stub: Stub, first: dict[str, list[str]], rounds: int) -> Times:
    """Return the CPU seconds of each function's first event, in alternating rounds of ours and the floor."""
    taken: dict[str, dict[str, list[float]]] = {name: {"floor": [], "ours": []} for name in first}
    with tempfile.TemporaryDirectory(prefix="link-cold-") as folder:
        event, calls = Path(folder) / "event.json", Path(folder) / "calls.json"
        for number in range(-1, rounds):
            for function, methods in first.items():
                recording = Path(folder) / f"{function}.json"
                for who, times in taken[function].items():
                    stub.seed(1, situation.first_tables(function))
                    event.write_text(json.dumps(situation.first_event(function)))
                    if number < 0:
                        # This round also writes the bytecode files, so that no measured process does.
                        cpu_seconds(stub, "ours", function, str(event), str(calls))
                        recording.write_text(json.dumps(ours.in_order(json.loads(calls.read_text()), methods)))
                        continue
                    module, file = ("floor", recording) if who == "floor" else ("ours", event)
                    times.append(cpu_seconds(stub, module, function, str(file)))
    return {f"first {name} cpu": compared(*taken[name].values()) for name in first}


def cpu_seconds(stub: Stub, module: str, *arguments: str) -> float:
    """Return the CPU seconds of a process, including the start of the interpreter."""
    command = [sys.executable, "-m", f"tests.performance.{module}", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=stub.environment(), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def shares(stub: Stub, function: str) -> dict[str, float]:
    """Return the import time in milliseconds by package, without the modules that a module imports in turn."""
    command = [sys.executable, "-X", "importtime", "-c", f"import functions.{function}.app"]
    done = subprocess.run(command, cwd=ROOT, env=stub.environment(), capture_output=True, text=True, check=True)
    found: dict[str, float] = defaultdict(float)
    for line in done.stderr.splitlines():
        if line.startswith("import time:") and "|" in line and "self [us]" not in line:
            own, _, name = line.removeprefix("import time:").split("|")
            package = name.strip().partition(".")[0]
            found[package if package in GROUPS else "standard library"] += int(own) / 1000
    return dict(found)
