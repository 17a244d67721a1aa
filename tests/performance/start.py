"""`PYTHON=python3.13 python -m tests.performance.start`: CPU of a cold start as Lambda makes it, first event included.

The function's folder and the layers are as they are deployed. Python writes no bytecode and sees no other packages. In
each round every function starts twice: with the layers' bytecode and without it.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from scripts.cloud import built_layer
from tests.performance import situation, stub
from tests.performance.stub import ROOT, Stub

ROUNDS = 25
FIRST = """
import json, sys
from types import SimpleNamespace
sys.path[:0] = sys.argv[2:]
import app
context = SimpleNamespace(
    function_name="bench",
    memory_limit_in_mb=512,
    invoked_function_arn="arn:aws:lambda:eu-west-1:000000000000:function:bench",
    aws_request_id="00000000-0000-0000-0000-000000000000",
    get_remaining_time_in_millis=lambda: 30_000,
)
answer = app.handler(json.load(open(sys.argv[1])), context) or {}
assert not answer.get("batchItemFailures") and answer.get("statusCode", 200) == 200, answer
"""


def main() -> None:
    python = os.environ.get("PYTHON", "python3.13")
    functions = tomllib.loads((ROOT / "tests/performance/budget.toml").read_text())["first"]
    with tempfile.TemporaryDirectory(prefix="link-start-") as folder, stub.running() as aws:
        layers = {name: Path(folder) / name for name in ("with", "without")}
        for layer, source in (("DependenciesLayer", "dependencies"), ("SharedLayer", "shared")):
            built = built_layer(layer, ROOT / "layers" / source) / "python"
            for name in layers:
                shutil.copytree(built, layers[name] / source, ignore=shutil.ignore_patterns("__pycache__"))
        # As the layers' makefiles do it.
        compiling = ["-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        subprocess.run([python, *compiling, layers["with"]], check=True)
        event = Path(folder) / "event.json"
        print("| function | without bytecode, ms | with bytecode, ms | with / without |\n|---|---|---|---|")
        for function in (*functions, *situation.EMPTY):
            code = Path(folder) / function
            code.mkdir()
            shutil.copy(ROOT / "functions" / function / "app.py", code)
            taken: dict[str, list[float]] = {name: [] for name in layers}
            for _ in range(ROUNDS):
                for name, layer in layers.items():
                    aws.seed(int(function in functions), situation.first_tables(function))
                    event.write_text(json.dumps(situation.first_event(function)))
                    paths = [str(path) for path in (code, layer / "dependencies", layer / "shared")]
                    taken[name].append(cpu_ms(aws, [python, "-B", "-S", "-E", "-c", FIRST, str(event), *paths]))
            cells = [quartiles(taken[name]) for name in ("without", "with")]
            ratio = statistics.median(taken["with"]) / statistics.median(taken["without"])
            print(f"| {function} | {cells[0]} | {cells[1]} | {ratio:.2f} |", flush=True)


def cpu_ms(aws: Stub, command: list[str]) -> float:
    """Return the CPU milliseconds of a process, including the start of the interpreter."""
    process = subprocess.Popen(command, env=aws.environment(), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command[:4])} ended with {process.returncode}")
    return (used.ru_utime + used.ru_stime) * 1000


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.0f} [{low:.0f}, {high:.0f}]"


if __name__ == "__main__":
    main()
