"""Make a release: date the change log, set the version, regenerate what contains it, commit and tag. It never pushes.

`make release V=0.3.0` calls it. The release workflow runs `python scripts/release.py --check v0.3.0`, which prints the
release's notes if tag, version and change log agree. It uses the standard library only: nothing is installed there yet.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHANGELOG = "CHANGELOG.md"
# The first is the source. linkctl is built without `link`, the template is data: both repeat it.
VERSION_LINES = {
    "layers/shared/link/__init__.py": re.compile(r'^VERSION = "([^"]*)"$', re.MULTILINE),
    "cli/pyproject.toml": re.compile(r'^version = "([^"]*)"$', re.MULTILINE),
    "template.yaml": re.compile(r"^    SemanticVersion: (.*)$", re.MULTILINE),
}
SOURCE = next(iter(VERSION_LINES))
OPENAPI = "docs/openapi.json"
# They write the files that contain the version.
MAKE_TARGETS = ("openapi", "conformance")

HEADING = re.compile(r"^## \[([^\]]+)\](?: - (\S+))?$", re.MULTILINE)
UNRELEASED = "Unreleased"
BREAKING = "**Breaking**"


class ReleaseError(Exception):
    """Why there is no release; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Section:
    """One release of the change log, or its Unreleased section."""

    name: str
    date: str | None
    text: str


def sections(changelog: str) -> list[Section]:
    """The sections of the change log, newest first."""
    found = list(HEADING.finditer(changelog))
    ends = [heading.start() for heading in found[1:]] + [len(changelog)]
    return [
        Section(heading[1], heading[2], changelog[heading.end() : end].strip())
        for heading, end in zip(found, ends, strict=True)
    ]


def parse(version: str) -> tuple[int, int, int]:
    """The three numbers of a version.

    >>> parse("0.10.2")
    (0, 10, 2)
    """
    number = "(0|[1-9][0-9]*)"
    match = re.fullmatch(rf"{number}\.{number}\.{number}", version)
    if not match:
        raise ReleaseError(f"V={version!r} is not a version: use MAJOR.MINOR.PATCH, for example V=0.3.0")
    major, minor, patch = map(int, match.groups())
    return major, minor, patch


def least_after_breaking(current: str) -> str:
    """The lowest version that may contain a breaking change, by Semantic Versioning.

    >>> least_after_breaking("0.2.1"), least_after_breaking("1.2.1")
    ('0.3.0', '2.0.0')
    """
    major, minor, _ = parse(current)
    return f"{major + 1}.0.0" if major else f"0.{minor + 1}.0"


def dated(changelog: str, version: str, date: str) -> str:
    """The change log with its Unreleased section turned into a release, and an empty one above it."""
    heading = f"## [{UNRELEASED}]"
    return changelog.replace(heading, f"{heading}\n\n## [{version}] - {date}", 1)


def check(root: Path, tag: str | None = None) -> Section:
    """The newest release of the change log; raises ReleaseError if a place or the tag has another version."""
    log = sections((root / CHANGELOG).read_text())
    releases = [section for section in log if section.name != UNRELEASED]
    if not releases:
        raise ReleaseError(f"{CHANGELOG} has no release: a heading is '## [0.3.0] - 2026-11-24'")
    newest = releases[0]
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", newest.date or ""):
        raise ReleaseError(f"{CHANGELOG}: release {newest.name} has no date: write '## [{newest.name}] - 2026-11-24'")
    places = {f"{CHANGELOG}, newest release": newest.name}
    places |= {file: _version(root, file) for file in VERSION_LINES}
    places[OPENAPI] = str(json.loads((root / OPENAPI).read_text())["info"]["version"])
    if tag is not None:
        places["tag"] = tag.removeprefix("v") if tag.startswith("v") else f"{tag} (no leading v)"
    if len(set(places.values())) > 1:
        lines = "".join(f"\n  {place}: {version}" for place, version in places.items())
        raise ReleaseError(f"these versions must be the same; `make release` sets all of them:{lines}")
    if tag is not None and any(section.text for section in log if section.name == UNRELEASED):
        raise ReleaseError(f"{CHANGELOG} has unreleased changes at {tag}: the tag belongs on the commit of the release")
    return newest


def release(root: Path, version: str) -> str:
    """Make the release; returns what to do next. A failure leaves the working tree as it was."""
    tag = f"v{version}"
    current = _version(root, SOURCE)
    if parse(version) <= parse(current):
        raise ReleaseError(f"V={version} is not after the current version {current}")
    branch = _run(root, "git", "branch", "--show-current")
    if not branch:
        raise ReleaseError("no branch is checked out, so the commit would belong to none: git switch main")
    if changed := _run(root, "git", "status", "--porcelain"):
        raise ReleaseError(f"the working tree is not clean; commit or remove these first:\n{changed}")
    if _run(root, "git", "tag", "--list", tag):
        raise ReleaseError(f"the tag {tag} exists: choose another version, or delete it with `git tag -d {tag}`")
    changelog = (root / CHANGELOG).read_text()
    changes = next((section.text for section in sections(changelog) if section.name == UNRELEASED), "")
    if not changes:
        raise ReleaseError(f"{CHANGELOG} has no changes under '## [{UNRELEASED}]': write down what the release changes")
    least = least_after_breaking(current)
    if BREAKING in changes and parse(version) < parse(least):
        raise ReleaseError(f"{CHANGELOG} marks a breaking change: after {current} the version is at least {least}")
    try:
        (root / CHANGELOG).write_text(dated(changelog, version, datetime.now(UTC).date().isoformat()))
        for file in VERSION_LINES:
            _set_version(root, file, version)
        _run(root, "make", "--no-print-directory", *MAKE_TARGETS)
        check(root, tag)
        _run(root, "git", "commit", "--quiet", "--all", "--message", f"release: {version}")
    except BaseException:
        _run(root, "git", "restore", "--staged", "--worktree", ".")
        raise
    _run(root, "git", "tag", "--annotate", tag, "--message", version)
    return (
        f"Release {version} is the last commit on {branch}, tagged {tag}. Nothing was pushed. Next:\n"
        f"  .ci/run                                   # every check, on this commit\n"
        f"  git push --atomic origin {branch} {tag}   # the release workflow builds it and drafts the release\n"
        f"To undo it before that: git tag -d {tag} && git reset --keep HEAD~1"
    )


def _version(root: Path, file: str) -> str:
    found = VERSION_LINES[file].findall((root / file).read_text())
    if len(found) != 1:
        raise ReleaseError(f"{file} has {len(found)} lines like {VERSION_LINES[file].pattern}, expected 1")
    return str(found[0])


def _set_version(root: Path, file: str, version: str) -> None:
    old = _version(root, file)
    text = (root / file).read_text()
    (root / file).write_text(VERSION_LINES[file].sub(lambda line: line[0].replace(old, version), text))


def _run(root: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout.strip()


def main(arguments: list[str]) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(prog="release.py", description="Make a release, or check one.")
    parser.add_argument("version", nargs="?", help="make this release, for example 0.3.0")
    parser.add_argument("--check", nargs="?", const="", metavar="TAG", help="only check, and print the release's notes")
    given = parser.parse_args(arguments)
    if (given.version is None) == (given.check is None):
        parser.error("give a version or --check")
    try:
        if given.check is None:
            print(release(ROOT, given.version))
        else:
            print(check(ROOT, given.check or None).text)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
