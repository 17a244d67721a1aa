"""`.local/console/bin/python -m tests.console.first_minutes`: how long a new user needs, by README and tutorial alone.

It types their commands in a fresh clone of this checkout and looks at what they show. It is no test: the minutes say
how fast the machine and its package registry are, too.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from scripts.cloud import ROOT
from tests.e2e.test_documents import NOT_RUN, blocks, section

PATIENCE_SECONDS = 900
FIRST_FAILOVER = re.compile("then london gets ACTIVATED with a higher epoch")
CONSOLE = re.compile(r"http://127\.0\.0\.1:\d+/#\S+")


def until(process: subprocess.Popen[str], seen: re.Pattern[str]) -> re.Match[str]:
    """Read what a process prints until it has this."""
    assert process.stdout
    for line in process.stdout:
        if found := seen.search(line):
            return found
    raise AssertionError(f"{process.args} ended with {process.wait()}")


@contextmanager
def typed(command: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command of the shell; at the end press Ctrl-C, and end what it left in the background."""
    with subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            # As a terminal does it: to the whole group. What runs in the background ignores it.
            for ended_by in (signal.SIGINT, signal.SIGTERM):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, ended_by)
                process.wait(PATIENCE_SECONDS)


def main() -> None:
    tutorial = section((ROOT / "docs/tutorial.md").read_text(), "On the local cloud")
    lines = "".join(blocks(tutorial, "sh")).splitlines()
    first_report = next(number for number, line in enumerate(lines) if line.startswith("linkctl report "))
    until_the_first_webhook = "\n".join(line for line in lines[: first_report + 2] if line != "make local")
    assert set(NOT_RUN) <= set(lines)
    with tempfile.TemporaryDirectory(prefix="first-") as parent, sync_playwright() as playwright:
        folder, began = Path(parent) / "clone", time.monotonic()

        def show(what: str) -> None:
            print(f"{(time.monotonic() - began) / 60:.1f} min: {what}", flush=True)

        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        with typed("exec make demo", folder) as demo:
            until(demo, FIRST_FAILOVER)
            show("the first failover is seen (make demo)")
            demo.communicate(timeout=PATIENCE_SECONDS)
            assert demo.returncode == 0
        show("make demo has ended")
        with typed("exec make local", folder) as local:
            until(local, re.compile("linkctl"))
            show("make local is ready")
            script = f"set -euo pipefail\n{until_the_first_webhook}\nexec linkctl console\n"
            with typed(script, folder) as console:
                link = until(console, CONSOLE)[0]
                assert "paris" in (folder / ".local/tutorial/receiver.log").read_text()
                show("an own receiver has its first webhook")
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                page = browser.new_page()
                page.goto(link)
                page.get_by_role("link", name="floating-ip").click()
                expect(page.get_by_text("paris is active since")).to_be_visible(timeout=30_000)
                show("the console shows it")
                browser.close()


if __name__ == "__main__":
    main()
