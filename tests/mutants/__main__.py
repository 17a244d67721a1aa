"""`make prove WHAT=mutants`: apply every mutant of the catalogue; its check must fail as the catalogue says.

Exit 1 when a check passes, fails for another reason, or fails without the mutant. Each mutant runs in its own process,
two at a time. `--search` also requires that a rule's history is the first one that finds it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants import catalogue
from tests.mutants.catalogue import CATALOGUE, Mutant
from tests.mutants.verdict import Verdict, judge

ROOT = Path(__file__).parents[2]
AT_ONCE = 2
SECONDS = 900
"""More than the longest search takes."""
_ANSWERS = {0: True, 1: False}


def in_a_process(mutant: Mutant, search: bool) -> Verdict:
    """The verdict on a mutant, from its own process."""
    command = [sys.executable, "-m", "tests.mutants", "--judge", mutant.name, *(["--search"] if search else [])]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Verdict(False, f"no verdict within {SECONDS} s")
    lines = done.stdout.strip().splitlines()
    if done.returncode not in _ANSWERS or not lines:
        return Verdict(False, f"no verdict, exit {done.returncode}: {done.stderr[-2_000:]}")
    return Verdict(_ANSWERS[done.returncode], lines[-1])


def main(arguments: list[str] | None = None, mutants: tuple[Mutant, ...] = CATALOGUE) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only the mutants whose names begin with one of these")
    parser.add_argument("--promises", action="store_true", help="only those that a promise's own test finds")
    parser.add_argument("--rules", action="store_true", help="only those of the rules marked ● in docs/protocol.md")
    parser.add_argument("--search", action="store_true", help="also play every history before the one that finds it")
    parser.add_argument("--list", action="store_true", help="print the names of the mutants and end")
    parser.add_argument("--judge", metavar="NAME", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.judge is not None:
        (one,) = [mutant for mutant in mutants if mutant.name == args.judge]
        verdict = judge(one, search=args.search)
        print(verdict.how)
        return 0 if verdict.found else 1

    chosen = (catalogue.PROMISES if args.promises else ()) + (catalogue.RULES if args.rules else ()) or mutants
    if args.names:
        chosen = tuple(mutant for mutant in chosen if mutant.name.startswith(tuple(args.names)))
    if not chosen:
        parser.error(f"no mutant has a name that begins with {' or '.join(args.names)}: --list names them")
    if args.list:
        print("\n".join(f"{mutant.name}: {mutant.breaks} [{mutant.instead}], {mutant.caught_by}" for mutant in chosen))
        return 0

    began, wrong = time.monotonic(), 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for mutant, verdict in zip(chosen, pool.map(lambda one: in_a_process(one, args.search), chosen), strict=True):
            wrong += not verdict.found
            found = "found" if verdict.found else "WRONG"
            print(f"{found}  {mutant.name} [{mutant.instead}]: {verdict.how}", flush=True)
    print(f"{len(chosen)} mutants, {wrong} not found as the catalogue says; {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
