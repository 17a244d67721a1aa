"""Whether a mutant's check passes without it, and fails with it for the reason that the catalogue states."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

import link
from tests.mutants.catalogue import Attribute, Function, History, Mutant, Node, Promise

PRODUCT = Path(link.__file__).parent


class Verdict(NamedTuple):
    """Whether the check found the mutant as stated, and what was seen."""

    found: bool
    how: str


class Failure(NamedTuple):
    """How a check failed. `broken`: a promise or an assertion did not hold, and the code raised no error."""

    broken: bool
    how: str


def judge(mutant: Mutant, *, search: bool = False) -> Verdict:
    """The verdict on one mutant. Without `search` only the history of the catalogue is played."""
    before = check(mutant.caught_by, search=search)
    if before is not None:
        return Verdict(False, f"fails without the mutant: {before.how}")
    with applied(mutant):
        failure = check(mutant.caught_by, search=search)
    if failure is None:
        return Verdict(False, f"passes with the mutant: {mutant.caught_by}")
    return Verdict(failure.broken, failure.how if failure.broken else f"fails for another reason: {failure.how}")


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Run the block with the mutant in the product."""
    with ExitStack() as stack:
        for one in mutant.replaced:
            for owner, name in [(one.owner, one.name)] if isinstance(one, Attribute) else places(one):
                stack.enter_context(mock.patch.object(owner, name, one.variant))
        yield


def places(function: Function) -> list[tuple[Any, str]]:
    """The modules of the package that have the function, each with the name that it has there."""
    for module in pkgutil.walk_packages(link.__path__, "link."):
        importlib.import_module(module.name)
    modules = [module for name, module in sys.modules.items() if name == "link" or name.startswith("link.")]
    return [(module, name) for module in modules for name, value in vars(module).items() if value is function.original]


def check(caught_by: Promise | History | Node, *, search: bool = False) -> Failure | None:
    """How the check fails; None when it passes."""
    if isinstance(caught_by, History):
        return _history(caught_by, search=search)
    if isinstance(caught_by, Promise):
        return _test("tests/test_promises.py", "-k", f"test_promise_{caught_by.number}_")
    return _test(caught_by.node)


def _history(stated: History, *, search: bool) -> Failure | None:
    from tests.simulation.__main__ import FAMILIES
    from tests.simulation.cloud import simulated

    history = FAMILIES[stated.family]
    with simulated():
        for seed in range(0 if search else stated.number, stated.number + 1):
            broken = history(seed).broken
            if broken is not None:
                as_stated = seed == stated.number and broken.startswith(f"promise {stated.promise} ")
                return Failure(as_stated, f"history {seed}: {broken[:100]}")
    return None


@dataclass
class _Failures:
    """A plugin of pytest that notes how the first failed test failed, and how many passed."""

    passed: int = 0
    first: Failure | None = None

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.excinfo is None:
            self.passed += call.when == "call"
        elif self.first is None and not call.excinfo.errisinstance(pytest.skip.Exception):
            # An AssertionError from the product itself would be an error in the code.
            where = Path(str(call.excinfo.traceback[-1].path))
            # The second is that of `pytest.raises` when nothing was raised.
            failed = call.excinfo.errisinstance((AssertionError, pytest.fail.Exception))
            broken = call.when == "call" and failed and PRODUCT not in where.parents
            self.first = Failure(broken, f"{item.name}: {call.excinfo.exconly().splitlines()[0][:100]}")


def _test(*which: str) -> Failure | None:
    seen = _Failures()
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no", "--no-header", "--no-summary"]
    ended = pytest.main([*options, *which], plugins=[seen])
    if seen.first is None and (ended != pytest.ExitCode.OK or not seen.passed):
        return Failure(False, f"pytest ended with {ended!r} and {seen.passed} passed tests")
    return seen.first
