"""The commands that `make local` prints do what they say."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from scripts import demo
from scripts.cloud import Cloud
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
