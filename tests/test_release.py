"""One version, and `make release`: in a repository of its own, with the real script and the real git."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from link import VERSION
from scripts.cloud import ROOT

CHANGELOG = """# Changelog

## [Unreleased]

### Added

- A bell.

## [0.2.0] - 2026-11-24

### Fixed

- A leak.
"""
# Stands for the real targets: each writes the version it finds in the source.
MAKEFILE = """SOURCE := layers/shared/link/__init__.py
openapi:
	@sed -n 's/^VERSION = \\(.*\\)/{"info": {"version": \\1}}/p' $(SOURCE) > docs/openapi.json
conformance:
	@cp $(SOURCE) examples/receivers/conformance.json
"""
FILES = {
    "CHANGELOG.md": CHANGELOG,
    "Makefile": MAKEFILE,
    "layers/shared/link/__init__.py": 'VERSION = "0.2.0"\n',
    "cli/pyproject.toml": '[project]\nname = "linkctl"\nversion = "0.2.0"\n',
    "template.yaml": "Metadata:\n  Application:\n    SemanticVersion: 0.2.0\n",
    "docs/openapi.json": '{"info": {"version": "0.2.0"}}\n',
    "examples/receivers/conformance.json": 'VERSION = "0.2.0"\n',
}


class Repository:
    """A repository with one commit, and the release script in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in FILES.items():
            self.write(name, text)
        (root / "scripts").mkdir()
        shutil.copy(ROOT / "scripts/release.py", root / "scripts")
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "start")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def edit(self, name: str, old: str, new: str) -> None:
        """A committed change."""
        assert old in self.read(name)
        self.write(name, self.read(name).replace(old, new))
        self.git("commit", "--quiet", "--all", "--message", "edit")

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=paris", "-c", "user.email=paris@example.com", *arguments]
        return subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout.strip()

    def release(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        identity = {f"GIT_{who}_{what}": "paris" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        command = [sys.executable, "scripts/release.py", *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, env=os.environ | identity)

    def refused(self, *arguments: str) -> str:
        """What a refused release says; afterwards everything is as it was."""
        before = [self.git(*command) for command in (("rev-parse", "HEAD"), ("status", "--porcelain"), ("tag",))]
        done = self.release(*arguments)
        after = [self.git(*command) for command in (("rev-parse", "HEAD"), ("status", "--porcelain"), ("tag",))]
        assert (done.returncode, done.stdout, after) == (1, "", before)
        assert done.stderr.startswith("release: ")
        return done.stderr


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    for name in [name for name in os.environ if name.startswith(("GIT_", "MAKE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    return Repository(tmp_path)


def test_the_version_is_that_of_the_change_logs_newest_release() -> None:
    headings = re.findall(r"^## \[(.*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(name for name in headings if name != "Unreleased") == VERSION


def test_every_release_of_the_change_log_has_a_date() -> None:
    headings = re.findall(r"^## \[(?!Unreleased).*", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert [heading for heading in headings if not re.search(r" - \d{4}-\d\d-\d\d$", heading)] == []
    assert headings


def test_both_distributions_have_the_version_of_the_source() -> None:
    link = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in link["project"]
    assert link["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "link.VERSION"}
    assert tomllib.loads((ROOT / "cli/pyproject.toml").read_text())["project"]["version"] == VERSION


def test_this_repository_passes_the_check_of_the_release_workflow() -> None:
    done = subprocess.run([sys.executable, "scripts/release.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_release_is_one_commit_and_one_tag(repository: Repository) -> None:
    done = repository.release("0.3.0")
    assert (done.returncode, done.stderr) == (0, "")
    assert repository.git("log", "--format=%s") == "release: 0.3.0\nstart"
    assert repository.git("rev-parse", "v0.3.0^{commit}") == repository.git("rev-parse", "HEAD")
    assert repository.git("status", "--porcelain") == ""
    assert "git push --atomic origin main v0.3.0" in done.stdout


def test_a_release_dates_the_unreleased_section_and_opens_an_empty_one(repository: Repository) -> None:
    days = {datetime.now(UTC).date()}
    repository.release("0.3.0")
    days.add(datetime.now(UTC).date())
    expected = {CHANGELOG.replace("[Unreleased]", f"[Unreleased]\n\n## [0.3.0] - {day}") for day in days}
    assert repository.read("CHANGELOG.md") in expected


def test_a_release_sets_the_version_wherever_it_stands(repository: Repository) -> None:
    repository.release("0.3.0")
    for name in FILES:
        if name not in ("CHANGELOG.md", "Makefile"):
            assert repository.read(name) == FILES[name].replace("0.2.0", "0.3.0"), name


@pytest.mark.parametrize("version", ["", "0.3", "v0.3.0", "0.3.0-rc1", "0.03.0", "0.3.0\n", "next"])
def test_a_version_has_three_numbers(repository: Repository, version: str) -> None:
    assert f"V={version!r} is not a version: use MAJOR.MINOR.PATCH, for example V=0.3.0" in repository.refused(version)


@pytest.mark.parametrize("version", ["0.2.0", "0.1.9"])
def test_a_version_only_grows(repository: Repository, version: str) -> None:
    assert f"V={version} is not after the current version 0.2.0" in repository.refused(version)


def test_ten_is_after_nine(repository: Repository) -> None:
    assert repository.release("0.9.0").returncode == 0
    repository.edit("CHANGELOG.md", "[Unreleased]", "[Unreleased]\n\n- A whistle.")
    assert repository.release("0.10.0").returncode == 0


def test_a_breaking_change_takes_more_than_a_patch(repository: Repository) -> None:
    repository.edit("CHANGELOG.md", "- A bell.", "- **Breaking** No bell.")
    assert "after 0.2.0 the version is at least 0.3.0" in repository.refused("0.2.1")
    assert repository.release("0.3.0").returncode == 0


def test_a_release_has_changes(repository: Repository) -> None:
    repository.edit("CHANGELOG.md", "### Added\n\n- A bell.\n\n", "")
    assert "CHANGELOG.md has no changes under '## [Unreleased]'" in repository.refused("0.3.0")


def test_a_changed_or_new_file_is_in_the_way(repository: Repository) -> None:
    repository.write("CHANGELOG.md", CHANGELOG + "\n")
    repository.write("notes.txt", "")
    refusal = repository.refused("0.3.0")
    assert "the working tree is not clean" in refusal and "M CHANGELOG.md" in refusal and "?? notes.txt" in refusal


def test_a_tag_that_exists_is_not_moved(repository: Repository) -> None:
    repository.git("tag", "v0.3.0")
    assert "the tag v0.3.0 exists" in repository.refused("0.3.0")


def test_a_release_needs_a_branch(repository: Repository) -> None:
    repository.git("checkout", "--quiet", "--detach")
    assert "no branch is checked out" in repository.refused("0.3.0")


def test_a_failing_step_leaves_everything_as_it_was(repository: Repository) -> None:
    repository.edit("Makefile", "	@cp ", "	@echo no receivers here && false && cp ")
    assert "no receivers here" in repository.refused("0.3.0")


def test_a_file_that_was_not_regenerated_is_found_before_the_commit(repository: Repository) -> None:
    repository.edit("Makefile", "> docs/openapi.json", "> /dev/null")
    assert "docs/openapi.json: 0.2.0" in repository.refused("0.3.0")


def test_the_check_of_a_tag_prints_the_releases_notes(repository: Repository) -> None:
    repository.release("0.3.0")
    done = repository.release("--check", "v0.3.0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "### Added\n\n- A bell.\n", "")


@pytest.mark.parametrize(("tag", "found"), [("v0.3.1", "tag: 0.3.1"), ("0.3.0", "tag: 0.3.0 (no leading v)")])
def test_a_tag_has_the_version_of_its_commit(repository: Repository, tag: str, found: str) -> None:
    repository.release("0.3.0")
    assert found in repository.refused("--check", tag)


@pytest.mark.parametrize(
    "name", ["layers/shared/link/__init__.py", "cli/pyproject.toml", "template.yaml", "docs/openapi.json"]
)
def test_the_check_names_the_place_that_differs(repository: Repository, name: str) -> None:
    repository.edit(name, "0.2.0", "0.2.1")
    assert f"\n  {name}: 0.2.1\n" in repository.refused("--check") + "\n"


def test_the_check_wants_a_date(repository: Repository) -> None:
    repository.edit("CHANGELOG.md", " - 2026-11-24", "")
    assert "release 0.2.0 has no date" in repository.refused("--check")


def test_unreleased_changes_are_allowed_but_not_under_a_tag(repository: Repository) -> None:
    assert repository.release("--check").returncode == 0
    assert "CHANGELOG.md has unreleased changes at v0.2.0" in repository.refused("--check", "v0.2.0")
