"""How long the agent takes to leave, and what it costs: `PYTHONPATH=cli python -m tests.e2e.agent_runs [RUNS]`.

It runs against an EventBridge on loopback. `make test` does not run it: the times say how busy the machine is, too.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.support.agent import SECONDS, running
from tests.support.event_bus import EventBus

ENDPOINTS = 100
COST_SECONDS = 60


def configured(endpoints: int, port: int | None = None) -> str:
    text = 'host = "paris"\nevent_bus = "bus"\nregion = "eu-west-1"\n'
    for number in range(endpoints):
        text += f'[[endpoints]]\nendpoint_id = "vip-{number}"\nresource_id = "r{number}"\nlease_seconds = 60\n'
        if port is not None:
            text += f'[[endpoints.checks]]\ntype = "TCP"\nhost = "127.0.0.1"\nport = {port}\n'
    return text


def leave(file: Path, mode: str) -> tuple[float | None, float]:
    """Return the seconds from SIGTERM to the event with STANDBY, None without one, and to the exit."""
    with EventBus() as bus, running(file, bus.url) as agent:
        bus.wait_for(lambda puts: bool(puts))
        bus.mode = mode
        began = time.monotonic()
        agent.send(signal.SIGTERM)
        status = agent.process.wait(SECONDS)
        ended = time.monotonic()
        assert status == 0, agent.log.read_text()
        standby = [put.arrived - began for put in bus.puts if set(put.statuses.values()) == {"STANDBY"}]
        return (standby[0] if standby else None), ended - began


def spread(seconds: list[float]) -> str:
    return f"{min(seconds):.2f} / {statistics.median(seconds):.2f} / {max(seconds):.2f} s"


def cost(file: Path) -> str:
    """Return what an agent with checks costs when nothing changes."""
    with EventBus() as bus, socket.create_server(("127.0.0.1", 0), backlog=1_000) as listening:
        file.write_text(configured(ENDPOINTS, listening.getsockname()[1]))
        with running(file, bus.url) as agent:
            bus.wait_for(lambda puts: bool(puts))
            proc = Path(f"/proc/{agent.process.pid}")
            before, events = cpu_seconds(proc), bus.requests
            # The backlog of a listener that accepts nothing fills in the meantime.
            until = time.monotonic() + COST_SECONDS
            listening.settimeout(0.5)
            while time.monotonic() < until:
                try:
                    listening.accept()[0].close()
                except TimeoutError:
                    continue
            used = cpu_seconds(proc) - before
            memory = next(line for line in (proc / "status").read_text().splitlines() if line.startswith("VmRSS"))
            return f"{used:.2f} s of CPU, {int(memory.split()[1]) // 1_024} MB, {bus.requests - events} events"


def cpu_seconds(proc: Path) -> float:
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "agent.toml"
        file.write_text(configured(2))
        for mode, words in (("ok", "AWS answers"), ("hang", "AWS hangs"), ("close", "AWS closes every connection")):
            found = [leave(file, mode) for _ in range(runs)]
            told = [standby for standby, _ in found if standby is not None]
            text = f", STANDBY put in {len(told)} of {runs}" + (f" after {spread(told)}" if told else "")
            print(f"SIGTERM, {words}: exit after {spread([ended for _, ended in found])}{text}", flush=True)
        print(f"{ENDPOINTS} endpoints with a TCP check each, {COST_SECONDS} s without a change: {cost(file)}")
    print("Times: minimum / median / maximum.")


if __name__ == "__main__":
    main()
