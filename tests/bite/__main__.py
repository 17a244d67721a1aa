"""`make bite`: breaks each promise with its one-line patch and wants its test red. Exit 1 if one stays green."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = [
    "layers/shared",
    "functions",
    "tests",
    "events",
    "scripts",
    "template.yaml",
    "pyproject.toml",
    "layers/dependencies",
]
SECONDS = 300


def promise(tree: Path, number: int) -> tuple[bool, str]:
    """Runs one promise's test in a tree; (whether it passed, pytest's last line)."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-k",
            f"test_promise_{number}_",
            "tests/test_promises.py",
        ],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if done.returncode not in (0, 1):
        raise SystemExit(
            f"promise {number}: pytest ended with {done.returncode}, not with a verdict\n{done.stdout[-2000:]}"
        )
    if done.returncode == 1 and " failed" not in done.stdout:
        raise SystemExit(f"promise {number}: red for another reason than a failed test\n{done.stdout[-2000:]}")
    return done.returncode == 0, done.stdout.strip().splitlines()[-1]


def main() -> int:
    patches = tomllib.loads((ROOT / "tests/bite/patches.toml").read_text())["patch"]
    if sorted({patch["promise"] for patch in patches}) != list(range(1, 10)):
        raise SystemExit("tests/bite/patches.toml must have a patch for each of the nine promises")
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            (tree / part).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / part, tree / part)
        for patch in patches:
            number, file = patch["promise"], tree / patch["file"]
            passed, line = promise(tree, number)
            if not passed:
                raise SystemExit(f"promise {number} is red before its patch: {line}")
            sound = file.read_text()
            if sound.count(patch["old"]) != 1:
                raise SystemExit(
                    f"promise {number}: the patch's old text stands {sound.count(patch['old'])} times in {file}"
                )
            file.write_text(sound.replace(patch["old"], patch["new"]))
            passed, line = promise(tree, number)
            file.write_text(sound)
            survived += passed
            print(
                f"{'GREEN, DOES NOT BITE' if passed else 'red'}  promise {number}: {patch['what']}  ({line})",
                flush=True,
            )
    print(f"{len(patches) - survived} passed, {survived} failed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
