"""`make prove WHAT=mutation`: run the tests against each of Cosmic Ray's mutants of the core.

`--module store/locks` is for one module.

A mutant is the module with one operator, constant or decision changed. First the module's own tests run, then those of
the whole, each in a fork of a process that has already imported the slow packages. survivors.toml explains each
survivor. Exit 1 if it does not, if an explained mutant was killed, or if the score is too low.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import functools
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# Slow to import and the same for every mutant. Nothing of ours may be imported here.
import boto3
import greenlet
import hypothesis.stateful
import moto.dynamodb.models
import moto.kms.models
import pytest
import standardwebhooks
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import single_metric
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from hypothesis import Phase

PRELOADED = (boto3, greenlet, hypothesis, moto, standardwebhooks, Logger, single_metric)
ROOT = Path(__file__).parents[2]
CORE = ROOT / "layers/shared/link"
SURVIVORS = Path(__file__).parent / "survivors.toml"
SCORE = 0.95
SLOWER, SPARE_SECONDS = 5, 10
"""The limit for a mutant's tests: this many times what they take without the mutant, plus the spare seconds."""
LAYERS = "tests/link/test_layers.py"
HISTORIES = "tests/mutation/test_histories.py"
RULES = [["tests/link/election", LAYERS], [HISTORIES], ["tests/test_model.py"]]
STORE = [["tests/link/store", LAYERS], [HISTORIES]]
TESTS = {
    "election/rules": RULES,
    "election/deliveries": RULES,
    "election/wake_up": RULES,
    "election/audit": RULES,
    "store/locks": STORE,
    "store/lock_item": STORE,
    "reconcile": [["tests/link/test_reconcile.py", LAYERS], [HISTORIES], ["tests/functions/endpoint_status"]],
    "receiver": [
        ["tests/link/test_receiver.py", LAYERS],
        ["tests/examples/test_conformance.py", "tests/link/test_switching.py"],
    ],
    "plugins/webhook/wire": [
        ["tests/link/plugins/webhook/test_wire.py", "tests/link/test_receiver.py", LAYERS],
        [HISTORIES],
    ],
}
"""The quick tests come first: they kill most mutants within a second."""
LEFT_OUT = {
    "core/VariableInserter",  # These two need a setting that says what to insert.
    "core/VariableReplacer",
    # The code compares only None, booleans and members of an enum by identity: equality gives the same result.
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
    # Nor can it matter here: whether two equal numbers or texts are one object depends on CPython's caches only.
    *(
        f"core/ReplaceComparisonOperator_{one}_{other}"
        for one in ("Eq", "NotEq", "Lt", "LtE", "Gt", "GtE")
        for other in ("Is", "IsNot")
    ),
    # None and members of an enum have no order: most of these raise a TypeError, and the score would only look better.
    *(
        f"core/ReplaceComparisonOperator_{one}_{other}"
        for one in ("Is", "IsNot")
        for other in ("Lt", "LtE", "Gt", "GtE")
    ),
}


@dataclass(frozen=True)
class Mutant:
    module: str
    operator: str
    occurrence: int
    source: str
    change: str
    """The changed lines, before and after."""


def mutants(module: str) -> Iterator[Mutant]:
    """The mutants of a module that differ from it and from each other in what they do."""
    source = (CORE / f"{module}.py").read_text()
    original, seen = meaning(source), set()
    for name in sorted(set(operator_names()) - LEFT_OUT):
        operator = get_operator(name)()
        for occurrence in range(10_000):
            mutated = mutate_code(source, operator, occurrence)
            if mutated is None:
                break
            try:
                means = meaning(mutated)
            except SyntaxError:
                continue
            # Cosmic Ray treats a bare * in a signature as a multiplication.
            if means != original and means not in seen and "posonlyargs=[arg" not in means:
                seen.add(means)
                yield Mutant(module, name.removeprefix("core/"), occurrence, mutated, difference(source, mutated))


def meaning(source: str) -> str:
    """The syntax tree of a module without annotations, which have no effect."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def difference(before: str, after: str) -> str:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    changed = [line for line in lines if line[0] in "+-"]
    return " => ".join(line[2:].strip() for line in changed)


def survives(mutant: Mutant, limits: list[int]) -> bool:
    """Whether every test passes, each list of tests within its limit of seconds."""
    with tempfile.TemporaryDirectory(prefix="link-mutant-") as folder:
        core = Path(folder) / "link"
        shutil.copytree(CORE, core, ignore=shutil.ignore_patterns("__pycache__"))
        (core / f"{mutant.module}.py").write_text(mutant.source)
        return all(passes(Path(folder), *each) for each in zip(TESTS[mutant.module], limits, strict=True))


def limits_of(module: str) -> list[int]:
    """How long each list of a module's tests may take, in seconds: measured without a mutant."""
    limits = []
    for tests in TESTS[module]:
        began = time.monotonic()
        if not passes(ROOT / "layers/shared", tests, 600):
            raise SystemExit(f"{tests}: fails without a mutant")
        limits.append(SPARE_SECONDS + math.ceil(SLOWER * (time.monotonic() - began)))
    return limits


def passes(folder: Path, tests: list[str], limit: int) -> bool:
    """Whether these tests pass with the core in the folder. They run in a fork, so this process stays as it is."""
    child = os.fork()
    if child == 0:
        # A mutant that never ends is killed by its CPU time, which does not depend on other load of the machine, or by
        # an alarm if it only waits.
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(2 * limit)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.chdir(ROOT)
        sys.dont_write_bytecode = True
        # One failing example is enough.
        os.environ["MODEL_EXAMPLES"] = "60"
        quick = hypothesis.settings(
            phases=[Phase.explicit, Phase.generate], database=None, derandomize=True, deadline=None
        )
        hypothesis.settings.register_profile("mutation", quick)
        options = [
            "--hypothesis-profile=mutation",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-o",
            f"pythonpath=. {folder}",
        ]
        os._exit(int(pytest.main([*options, "--no-header", "--tb=no", *tests])))
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) not in (0, 1, 2):
        raise SystemExit(f"{tests}: pytest ended with {os.WEXITSTATUS(status)}, not with a verdict")
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0


def explained() -> dict[tuple[str, str], str]:
    entries = tomllib.loads(SURVIVORS.read_text()).get("survivor", [])
    return {(entry["module"], entry["change"]): entry["why"] for entry in entries}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--module", choices=TESTS, action="append", help="only this module")
    parser.add_argument("--list", action="store_true", help="name the mutants and end")
    args = parser.parse_args()
    began, why, poor = time.monotonic(), explained(), 0
    for module in args.module or TESTS:
        all_of_it = list(mutants(module))
        if args.list:
            print("\n".join(f"{m.module} {m.operator} {m.occurrence}: {m.change}" for m in all_of_it))
            continue
        limits = limits_of(module)
        alive = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for m, lives in zip(
                all_of_it, pool.map(functools.partial(survives, limits=limits), all_of_it), strict=True
            ):
                if lives:
                    alive.append(m)
                    known = "explained" if (module, m.change) in why else "SURVIVED"
                    print(f"  {known} {module} {m.operator}: {m.change}", flush=True)
        score = 1 - len(alive) / len(all_of_it)
        print(f"{module}: {len(all_of_it)} mutants, {len(alive)} survived, {score:.1%} killed", flush=True)
        changes = {(m.module, m.change) for m in alive}
        for m in alive:
            print(
                f"  {'explained' if (m.module, m.change) in why else 'SURVIVED'} {m.operator}: {m.change}", flush=True
            )
        gone = [change for of, change in why if of == module and (of, change) not in changes]
        for change in gone:
            print(f"  KILLED, and explained: {change}")
        poor += score < SCORE or bool(gone) or any((m.module, m.change) not in why for m in alive)
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if poor else 0


if __name__ == "__main__":
    sys.exit(main())
