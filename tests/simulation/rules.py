"""`make simulate-rules`: the rules that look too careful, each replaced by the simpler one, must be found out.

Looks for the first history that does it, among `SEEDS`; with `--known` only at the one that is written in rules.toml
beside the rule. Exit 1 when a rule is not found out, or by another history than the written one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
RULES = Path(__file__).parent / "rules.toml"
SEEDS = 100_000
SECONDS = 900


def main() -> int:
    """Applies every variant to a copy of the core and looks for the history that finds it out."""
    known, wrong = sys.argv[1:] == ["--known"], 0
    for rule in tomllib.loads(RULES.read_text())["rule"]:
        searched = ["--from", str(rule["history"]), "--seeds", "1"] if known else ["--seeds", str(SEEDS)]
        with tempfile.TemporaryDirectory(prefix="link-rule-") as folder:
            core = Path(folder) / "link"
            shutil.copytree(ROOT / "layers/shared/link", core, ignore=shutil.ignore_patterns("__pycache__"))
            patched(core / rule["file"], rule["patch"])
            if "also" in rule:
                patched(core / rule["also"], rule["also_patch"])
            done = subprocess.run(
                [sys.executable, "-m", "tests.simulation", "--first", *searched],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        lines = done.stdout.splitlines()
        if done.returncode not in (0, 1) or not lines:
            raise SystemExit(f"{rule['rule']}: ended with {done.returncode}\n{done.stdout}{done.stderr}")
        # The second line is "  <seed>: promise …".
        how = lines[1].strip()[:110] if done.returncode == 1 else "NOT FOUND OUT"
        as_written = how.startswith(f"{rule['history']}: promise ")
        wrong += not as_written
        print(f"{'found' if as_written else 'WRONG':5} {rule['rule']} [{rule['variant']}]: {how}", flush=True)
    print(f"{wrong} not found out as rules.toml says")
    return 1 if wrong else 0


def patched(file: Path, patches: list[list[str]]) -> None:
    """Replaces texts of which each is there exactly once."""
    text = file.read_text()
    for old, new in patches:
        if text.count(old) != 1:
            raise SystemExit(f"{file.name}: {old!r} is there {text.count(old)} times: mend the patch")
        text = text.replace(old, new)
    file.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
