"""The unit that `linkctl agent init` writes, under a real systemd.

As root, with a linkctl that is installed as docs/agent.md says (not below /home or /root), in two minutes:
`PYTHONPATH=cli:layers/shared python -m tests.e2e.agent_systemd /opt/linkctl/bin/linkctl`. It needs systemd's binaries
and a mounted control group v2. systemd is the first process of new namespaces, with a read-only file system, only
loopback for a network, and a control group of its own. `make test` does not run it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.site import eventually
from tests.support.agent import Supervisor
from tests.support.event_bus import EventBus

UNIT = "linkctl-agent.service"
UNITS = Path("/run/systemd/system")
CONFIG = Path("/run/linkctl/agent.toml")
LOG = Path("/run/agent.log")
CHECKED_PORT = 5432  # of the example that `init` writes
WATCHDOG_SECONDS = 30
ROOT = Path(__file__).parents[2]

ISOLATE = """
set -eu
mount --make-rprivate /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -o remount,bind,ro /
for folder in /run /tmp /var/tmp; do mount -t tmpfs tmpfs "$folder"; done
touch /run/console && mount --bind /run/console /dev/console && mount --bind /dev/null /dev/kmsg
ip link set lo up
exec "$@"
"""
# Without a read-only /proc/sys, the first process raises limits of the whole machine.
BOOT = """
set -eu
mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys
exec env -i container=other PATH="$PATH" NOTIFY_SOCKET=/run/booted \\
  /lib/systemd/systemd --system --unit=only.target --show-status=no
"""


@dataclass
class Systemd:
    """A running systemd. `pid` is its process id outside."""

    pid: int

    def ctl(self, *arguments: str) -> str:
        """Run systemctl beside it; return what it prints."""
        command = ["nsenter", "-t", str(self.pid), "-p", "-m", "systemctl", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout.strip()

    def show(self, name: str) -> str:
        return self.ctl("show", UNIT, "--property", name, "--value")


def main(linkctl: str) -> int:
    """Make the control group and the namespaces, and run `inside` in them."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    group = Path(next(fields[1] for fields in mounts if fields[2] == "cgroup2")) / f"linkctl-{os.getpid()}"
    group.mkdir()
    namespaces = ["unshare", "--mount", "--uts", "--ipc", "--net", "--cgroup", "sh", "-c", ISOLATE, "sh"]
    # The shell enters the group first, since the group's namespace begins where its process is.
    enter = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)]
    try:
        return subprocess.run(
            [*enter, *namespaces, sys.executable, "-m", "tests.e2e.agent_systemd", linkctl, "inside"],
            cwd=ROOT,
            timeout=600,
        ).returncode
    finally:
        (group / "cgroup.kill").write_text("1")
        eventually("all have ended", lambda: "populated 0" in (group / "cgroup.events").read_text())
        for folder in sorted(group.rglob("*/"), key=lambda path: -len(path.parts)):
            folder.rmdir()
        group.rmdir()


@contextlib.contextmanager
def systemd() -> Iterator[Systemd]:
    UNITS.mkdir(parents=True)
    (UNITS / "only.target").write_text("[Unit]\nDefaultDependencies=no\n")
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", BOOT]
    with Supervisor(Path("/run/booted")) as booted, subprocess.Popen(command) as process:
        try:
            booted.wait_for(lambda notes: "READY=1" in notes)
            yield Systemd(int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()))
        finally:
            process.kill()


def inside(linkctl: str) -> None:
    with EventBus() as bus, socket.create_server(("127.0.0.1", CHECKED_PORT), backlog=1_000), systemd() as manager:
        subprocess.run(
            [linkctl, "agent", "init", "--config", str(CONFIG), "--unit", str(UNITS / UNIT)], check=True, timeout=60
        )
        given = {
            "AWS_ENDPOINT_URL": bus.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        added = UNITS / f"{UNIT}.d/test.conf"
        added.parent.mkdir()
        variables = "".join(f"Environment={name}={value}\n" for name, value in given.items())
        added.write_text(f"[Service]\n{variables}StandardError=append:{LOG}\n")
        manager.ctl("daemon-reload")
        try:
            play(bus, manager)
        finally:
            print(f"The agent's log:\n{LOG.read_text()}", flush=True)


def play(bus: EventBus, manager: Systemd) -> None:
    began = time.monotonic()
    manager.ctl("start", UNIT)
    print(f"start: {state(manager)} after {time.monotonic() - began:.1f} s, {manager.show('StatusText')}", flush=True)
    bus.wait_for(lambda puts: bool(puts) and set(puts[-1].statuses.values()) == {"ACTIVATED"})
    pid = manager.show("MainPID")

    manager.ctl("reload", UNIT)
    print(f"reload: {state(manager)}", flush=True)

    bus.mode = "close"
    fed = int(manager.show("WatchdogTimestampMonotonic"))
    time.sleep(2 * WATCHDOG_SECONDS)
    assert manager.show("MainPID") == pid and int(manager.show("WatchdogTimestampMonotonic")) > fed
    print(f"AWS away for {2 * WATCHDOG_SECONDS} s: {state(manager)}, the same process", flush=True)
    bus.mode = "ok"

    began = time.monotonic()
    manager.ctl("kill", "--kill-whom=main", "--signal", "SIGSTOP", UNIT)
    eventually("systemd replaces it", lambda: manager.show("MainPID") not in (pid, "0"))
    eventually("it is active", lambda: manager.show("ActiveState") == "active")
    print(f"SIGSTOP: the watchdog replaced it, {state(manager)} after {time.monotonic() - began:.1f} s", flush=True)

    began = time.monotonic()
    manager.ctl("stop", UNIT)
    seconds = time.monotonic() - began
    assert set(bus.puts[-1].statuses.values()) == {"STANDBY"}
    print(f"stop: {state(manager)} after {seconds:.2f} s, status {manager.show('ExecMainStatus')}, STANDBY was put")


def state(manager: Systemd) -> str:
    return f"{manager.show('ActiveState')} ({manager.show('SubState')}), {manager.show('NRestarts')} restarts"


if __name__ == "__main__":
    if sys.argv[2:] == ["inside"]:
        inside(sys.argv[1])
    else:
        sys.exit(main(sys.argv[1]))
