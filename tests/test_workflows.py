"""GitHub's workflows call commands that exist, the same as people do, and may do no more than they need."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from typing import Any

import pytest
import yaml

from scripts import release
from scripts.cloud import ROOT

WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
FORMS = {
    path.name: yaml.safe_load(path.read_text()) for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
}
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(
    itertools.chain(*(line.split() for line in re.findall(r"^([a-z][a-z -]*):(?!=)", MAKEFILE, re.MULTILINE)))
)
PROOFS = set(re.findall(r"^prove-([a-z-]+):", MAKEFILE, re.MULTILINE))


def jobs(workflow: str) -> dict[str, dict[str, Any]]:
    return dict(WORKFLOWS[workflow]["jobs"])


def commands(workflow: str) -> set[str]:
    """The lines that its jobs run, with every value of the matrix filled in."""
    found = set()
    for job in jobs(workflow).values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for values in itertools.product(*matrix.values()):
            for step in job["steps"]:
                text = step.get("run", "")
                for name, value in zip(matrix, values, strict=True):
                    text = text.replace(f"${{{{ matrix.{name} }}}}", value)
                found |= set(text.splitlines())
    return found


def make_targets(lines: set[str]) -> set[str]:
    """The targets of the make commands among the lines."""
    words = itertools.chain(*(line.split()[1:] for line in lines if line.startswith("make ")))
    return {word for word in words if "=" not in word}


def test_there_are_three_workflows() -> None:
    assert set(WORKFLOWS) == {"ci.yml", "nightly.yml", "release.yml"}


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_every_make_target_of_a_workflow_exists(workflow: str) -> None:
    called = make_targets(commands(workflow))
    assert called
    assert called - TARGETS == set()


def test_every_make_target_of_the_release_script_exists() -> None:
    assert set(release.MAKE_TARGETS) - TARGETS == set()


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Without the flags of a make that runs these tests.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def proofs(lines: set[str]) -> set[str]:
    return {what for line in lines for what in re.findall(r"WHAT=(\S+)", line)}


def test_every_proof_of_a_workflow_exists() -> None:
    named = proofs(commands("nightly.yml") | commands("ci.yml"))
    assert len(named) > 5
    for what in named:
        done = make("--dry-run", "prove", f"WHAT={what}")
        assert (done.returncode, done.stderr) == (0, "")
        assert ".local/" in done.stdout, "a command of its own"


def test_an_unknown_proof_lists_the_known_ones() -> None:
    done = make("prove", "WHAT=nothing")
    assert done.returncode == 2
    assert set(done.stderr.split()) >= PROOFS


def test_help_fits_on_a_screen_and_names_every_proof() -> None:
    done = make("help")
    lines = done.stdout.splitlines()
    assert len(lines) < 24 and max(map(len, lines)) <= 80, "with the prompt that follows"
    assert PROOFS | {"release", "check", "test", "demo", "lint"} <= set(re.findall(r"[a-z-]+", done.stdout))


def test_ci_runs_every_command_that_has_to_pass_before_a_merge() -> None:
    required = {line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("make ")}
    assert required
    assert required - commands("ci.yml") == set()


def test_ci_runs_the_checks_and_the_tests_on_the_oldest_and_the_newest_python() -> None:
    for job in ("check", "test"):
        assert {"3.11", "3.13"} <= set(jobs("ci.yml")[job]["strategy"]["matrix"]["python"])
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()
    assert "Runtime: python3.13" in (ROOT / "template.yaml").read_text()


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_workflow_may_only_read(workflow: str) -> None:
    assert WORKFLOWS[workflow]["permissions"] == {"contents": "read"}
    more = {name: job["permissions"] for name, job in jobs(workflow).items() if "permissions" in job}
    assert more == ({"draft": {"contents": "write"}} if workflow == "release.yml" else {})


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_every_job_ends_and_runs_of_one_group_do_not_overlap(workflow: str) -> None:
    assert all(0 < job["timeout-minutes"] <= 180 for job in jobs(workflow).values())
    assert set(WORKFLOWS[workflow]["concurrency"]) == {"group", "cancel-in-progress"}


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_actions_are_githubs_own_and_pinned(workflow: str) -> None:
    used = [step["uses"] for job in jobs(workflow).values() for step in job["steps"] if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", action)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_text_from_outside_is_not_part_of_a_command(workflow: str) -> None:
    steps = [step.get("run", "") for job in jobs(workflow).values() for step in job["steps"]]
    assert [step for step in steps if re.search(r"\$\{\{(?! matrix\.)", step)] == []


@pytest.mark.parametrize("form", sorted(set(FORMS) - {"config.yml"}))
def test_an_issue_form_has_what_github_asks_for(form: str) -> None:
    assert {"name", "description", "body"} <= set(FORMS[form])
    fields = [field for field in FORMS[form]["body"] if field["type"] != "markdown"]
    assert all(field["type"] in {"input", "textarea", "dropdown"} and field["attributes"]["label"] for field in fields)
    names = [field["id"] for field in fields]
    assert len(set(names)) == len(names) > 0


def test_dependabot_looks_into_folders_that_hold_requirements() -> None:
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    folders = {update["package-ecosystem"]: update.get("directories", [update.get("directory")]) for update in updates}
    locks = {f"/{path.parent.relative_to(ROOT)}" for folder in ("requirements", "layers") for path in
             (ROOT / folder).rglob("*.in")}  # fmt: skip
    assert folders["github-actions"] == ["/"]
    assert set(folders["pip"]) == locks
