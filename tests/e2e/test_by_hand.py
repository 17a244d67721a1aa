"""The commands that `make local` prints do what they say."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import demo
from scripts.cloud import LOCAL, ROOT, Cloud
from tests.support.receiver import LoopbackReceiver


@pytest.mark.skipif(shutil.which("curl") is None, reason="the commands need curl")
def test_the_printed_commands_register_report_and_delete(cloud: Cloud, receiver: LoopbackReceiver) -> None:
    registering, deleting = demo.by_hand(cloud, receiver.url).split("# Look at it")
    registering = registering.replace(demo.RESOURCE, "by-hand")
    done = subprocess.run(
        ["bash", "-euc", registering + 'echo "id $PARIS"'], capture_output=True, text=True, timeout=60, check=True
    )
    paris = done.stdout.split()[-1]
    receiver.wait_for(lambda requests: len(requests) == 1)
    assert receiver.requests[0].brief() == (paris, "ACTIVATED", 1, 1, "elected")
    functions = registering.split("# Register")[0]
    subprocess.run(["bash", "-euc", f"{functions}\nPARIS={paris}\n# Look at it{deleting}"], timeout=60, check=True)
    receiver.wait_for(lambda requests: len(requests) == 2)
    assert receiver.requests[1].brief() == (paris, "STANDBY", 1, 2, "deleted")
    assert cloud.call("GET", f"/endpoints/{paris}")[0] == 404


@pytest.fixture
def make_local() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield what `make local` runs, with what it printed until it waits for webhooks."""
    command = [str(LOCAL / "cloud/bin/python"), "-m", "scripts.demo", "--serve"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = ""
        while "waiting for webhooks" not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        yield process, printed
        if process.poll() is None:
            process.send_signal(signal.SIGINT)


def test_linkctl_works_with_what_make_local_prints_and_it_ends_at_ctrl_c(
    make_local: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    process, printed = make_local
    commands = printed.split("# Once:")[1].split("# The same with curl:")[0]
    commands = commands[commands.index("linkctl() {") :].replace(
        f"{LOCAL}/linkctl/bin/linkctl", f"{sys.executable} -m linkctl"
    )
    # Another account's settings do not count.
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT / "cli"),
        "AWS_PROFILE": "production",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "another",
        "AWS_SECRET_ACCESS_KEY": "another",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "HTTP_PROXY": "http://127.0.0.1:1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"ACTIVATED of paris@{demo.RESOURCE} counts" in done.stdout
    assert f"paris@{demo.RESOURCE} is being deleted" in done.stdout or "is deleted" in done.stdout
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate()
    assert (process.returncode, rest.splitlines()[-1]) == (0, "· stopping the local cloud and removing its files")
    assert not demo.PROFILE_FILE.exists()
