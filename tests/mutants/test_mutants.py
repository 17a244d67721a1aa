"""The runner rejects a mutant that is not found as stated, and the catalogue has one for each promise and each rule."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from link.election import rules
from link.election.state import Status, Word
from tests.mutants import catalogue
from tests.mutants.__main__ import ROOT, in_a_process, main
from tests.mutants.catalogue import CATALOGUE, PROMISES, RULES, Attribute, Function, History, Mutant, Promise
from tests.mutants.verdict import Verdict, applied, judge, places

FOUND = next(mutant for mutant in RULES if mutant.name == "report: rank within a second")
_supersedes = rules.supersedes


def harmless(word: Word | None, status: Status, at: int) -> bool:
    return _supersedes(word, status, at)


def wrong(word: Word | None, status: Status, at: int) -> bool:
    raise TypeError("an error in the mutant")


def with_variant(variant: object) -> Mutant:
    return replace(FOUND, replaced=(Function(rules.supersedes, variant),))  # type: ignore[arg-type]


def test_a_mutant_that_breaks_its_rule_is_found() -> None:
    assert judge(FOUND).found


def test_a_harmless_mutant_is_reported() -> None:
    verdict = judge(with_variant(harmless))
    assert not verdict.found and verdict.how.startswith("passes with the mutant")


def test_a_mutant_with_an_error_in_it_is_reported() -> None:
    verdict = judge(with_variant(wrong))
    assert not verdict.found and "another reason" in verdict.how and "TypeError" in verdict.how


def test_a_mutant_that_breaks_another_promise_than_stated_is_reported() -> None:
    verdict = judge(replace(FOUND, caught_by=History(11, promise=5)))
    assert not verdict.found and "promise 6" in verdict.how


def test_a_mutant_that_an_earlier_history_finds_is_reported_by_a_search() -> None:
    late = replace(with_variant(catalogue.any_report_supersedes), caught_by=History(12, promise=6))
    verdict = judge(late, search=True)
    assert not verdict.found and "history 0" in verdict.how


def test_a_check_that_fails_without_the_mutant_is_reported() -> None:
    with applied(FOUND):
        verdict = judge(replace(FOUND, replaced=()))
    assert not verdict.found and verdict.how.startswith("fails without the mutant: history 11: promise 6")


SAMPLES = {
    # The variant, what the test asserts, whether the mutant is found, and how.
    "found": ("lambda *_: True", "not supersedes", True, "AssertionError"),
    "found by an error that does not come": (
        "lambda *_: True",
        'pytest.raises(ValueError, int, "1" if supersedes else "no number")',
        True,
        "DID NOT RAISE",
    ),
    "harmless": ("lambda *all: original(*all)", "not supersedes", False, "passes with the mutant"),
    "an error in the variant": ("lambda: True", "not supersedes", False, "another reason"),
    "red before": ("lambda *_: True", "supersedes", False, "fails without the mutant"),
    "an error in the test": ("lambda *_: True", "no_such_name", False, "fails without the mutant"),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bool, str]]:
    """The verdicts on the samples, from a process of its own: pytest does not run inside pytest."""
    folder = tmp_path_factory.mktemp("samples")
    program = """
import json, sys
from link.election import rules
from tests.mutants.catalogue import Function, Mutant, Node
from tests.mutants.verdict import judge

original, found = rules.supersedes, {}
for name, node, variant in json.loads(sys.argv[1]):
    found[name] = judge(Mutant(name, "", "", Node(node), (Function(original, eval(variant)),)))
print()
print(json.dumps(found))
"""
    samples = []
    for number, (name, (variant, asserts, _, _)) in enumerate(SAMPLES.items()):
        file = folder / f"test_sample_{number}.py"
        file.write_text(f"""
import pytest
from link.election import rules
from link.election.state import Status, Word

def test_it() -> None:
    word = Word(Status.STANDBY, 1)
    supersedes = rules.supersedes(word, word.status, word.at)
    assert {asserts}
""")
        samples.append((name, str(file), variant))
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(samples)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "layers/shared"},
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, tuple[bool, str]] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_test_has_to_fail_by_its_own_assertion(verdicts: dict[str, tuple[bool, str]], sample: str) -> None:
    _, _, found, how = SAMPLES[sample]
    assert verdicts[sample][0] is found
    assert how in verdicts[sample][1]


def test_the_command_fails_for_one_wrong_mutant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = {"good": Verdict(True, "history 11"), "bad": Verdict(False, "passes with the mutant")}
    monkeypatch.setattr("tests.mutants.__main__.in_a_process", lambda mutant, search: verdicts[mutant.name])
    good, bad = replace(FOUND, name="good"), replace(FOUND, name="bad")
    assert main([], (good,)) == 0
    assert main([], (bad, good)) == 1
    assert "2 mutants, 1 not found as the catalogue says" in capsys.readouterr().out


def test_a_mutant_without_a_verdict_is_not_found() -> None:
    verdict = in_a_process(replace(FOUND, name="no such mutant"), False)
    assert not verdict.found and "no verdict" in verdict.how


def test_a_mutant_is_gone_after_its_verdict() -> None:
    with applied(FOUND):
        assert rules.supersedes is not _supersedes
    assert rules.supersedes is _supersedes


def test_the_catalogue_has_every_promise_and_names_each_mutant_once() -> None:
    assert [mutant.caught_by for mutant in PROMISES] == [Promise(number) for number in range(1, 10)]
    assert len({mutant.name for mutant in CATALOGUE}) == len(CATALOGUE)


def test_the_catalogue_has_every_marked_rule_of_the_protocol() -> None:
    _, _, text = re.sub(r"\s+", " ", (ROOT / "docs/protocol.md").read_text()).partition("## ")
    marked = [part for part in text.split("● ")[1:]]
    known = {mutant.protocol for mutant in RULES}
    assert [part[:60] for part in marked if not part.startswith(tuple(known))] == []
    assert {rule for rule in known if not any(part.startswith(rule) for part in marked)} == set()
    assert "" not in known


@pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: mutant.name)
def test_every_mutant_replaces_something_of_the_package(mutant: Mutant) -> None:
    for one in mutant.replaced:
        if isinstance(one, Attribute):
            assert one.owner.__dict__[one.name] != one.variant
        else:
            assert places(one)
            assert one.variant.__doc__, "a variant says what it does instead"
