"""docs/real-account.md has every finding of the review, and names only tests that exist."""

from __future__ import annotations

import re

import pytest

from scripts.cloud import ROOT

PAGE = ROOT / "docs/real-account.md"
FINDINGS = [f"B{n}" for n in range(1, 4)] + [f"M{n}" for n in range(1, 12)] + [f"m{n}" for n in range(1, 21)]
FINDINGS += [f"p{n}" for n in range(1, 7)]


def rows() -> dict[str, list[str]]:
    """Return four columns by the number of the finding: severity, finding, what we do, tests."""
    cells = [re.split(r" *\| *", line.strip("|\n ")) for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return {number: [*rest, ""][:4] for number, *rest in cells if re.fullmatch(r"[BMmp][0-9]+", number)}


def test_the_page_has_every_finding_once_and_in_order() -> None:
    assert list(rows()) == FINDINGS


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_finding_is_done_only_with_tests_that_exist(finding: str) -> None:
    _, _, what_we_do, tests = rows()[finding]
    named = re.findall(r"`(test_\w+)`", tests)
    code = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in named if f"def {name}(" not in code] == []
    state = what_we_do.split(":")[0]
    assert state in ("done", "part", "open")
    if state == "done":
        assert named
    if state == "open":
        assert not named
    if state == "part":
        assert "Open:" in what_we_do
