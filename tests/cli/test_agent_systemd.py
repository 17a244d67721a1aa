"""systemd's notification protocol and the unit that `linkctl agent init` writes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import uuid
from pathlib import Path

import pytest

from linkctl.agent import files
from linkctl.agent.systemd import Notifier


@pytest.mark.parametrize("abstract", [False, True])
def test_a_notification_is_one_datagram(tmp_path: Path, abstract: bool) -> None:
    name = f"@{uuid.uuid4()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name[1:] if abstract else name)
        Notifier({"NOTIFY_SOCKET": name}).send("READY=1", "STATUS=2 endpoints")
        assert systemd.recv(1_024) == b"READY=1\nSTATUS=2 endpoints"


@pytest.mark.parametrize("name", ["", "/no/such/socket", "@no-such-socket"])
def test_without_systemd_nothing_happens(name: str) -> None:
    Notifier({"NOTIFY_SOCKET": name} if name else {}).send("READY=1")


def test_a_socket_that_nobody_reads_does_not_hold_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linkctl.agent.systemd.SEND_SECONDS", 0.0)
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        for _ in range(10_000):
            Notifier({"NOTIFY_SOCKET": name}).send("X" * 1_000)


def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    unit = tmp_path / "linkctl-agent.service"
    unit.write_text(files.unit("/bin/true", Path("/etc/linkctl/agent.toml")))
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    about_ours = [line for line in ran.stderr.splitlines() if "linkctl-agent" in line]
    assert about_ours == []


def test_the_unit_leaves_the_agent_the_time_it_takes() -> None:
    unit = dict(line.split("=", 1) for line in files.unit("/x", Path("/y")).splitlines() if "=" in line)
    assert unit["Type"] == "notify" and unit["Restart"] == "always" and unit["KillMode"] == "mixed"
    assert int(unit["TimeoutStopSec"]) > 3 and int(unit["WatchdogSec"]) >= 30
    assert unit["After"] == f"{unit['Wants']} nss-lookup.target" == "network-online.target nss-lookup.target"
    assert unit["ExecStart"] == "/x agent run --config /y"


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0),
    ],
)
def test_the_environment_says_whether_systemd_watches_this_process(environment: dict[str, str], seconds: float) -> None:
    assert Notifier(environment).watchdog_seconds == seconds
