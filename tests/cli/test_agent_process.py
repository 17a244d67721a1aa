"""The agent as a real process, with signals, a systemd that listens, and an EventBridge that can be away."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import SECONDS, Supervisor, running
from tests.support.event_bus import EventBus, Put
from tests.support.ids import LONDON, PARIS
from tests.support.instance import Instance


@pytest.fixture
def bus() -> Iterator[EventBus]:
    with EventBus() as listening:
        yield listening


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor(tmp_path / "notify") as listening:
        yield listening


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with two endpoints without checks, a round every second and a beat every five thirds."""
    path = tmp_path / "agent.toml"
    path.write_text(configured(PARIS, LONDON))
    return path


def configured(*endpoint_ids: str, top: str = "", checks: str = "", lease_seconds: int = 5) -> str:
    text = f'host = "paris"\nevent_bus = "bus"\nregion = "eu-west-1"\nhealthcheck_interval = 1\n{top}\n'
    for id in endpoint_ids:
        text += f'[[endpoints]]\nendpoint_id = "{id}"\nresource_id = "r"\nlease_seconds = {lease_seconds}\n{checks}\n'
    return text


def told(status: str, *endpoint_ids: str) -> dict[str, str]:
    return dict.fromkeys(endpoint_ids or (PARIS, LONDON), status)


def at_rises(puts: list[Put]) -> bool:
    ats = [put.detail["at"] for put in puts]
    return all(before < after for before, after in itertools.pairwise(ats))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_puts_standby_and_ends_the_process_with_status_0(bus: EventBus, file: Path, number: int) -> None:
    with running(file, bus.url) as agent:
        bus.wait_for(lambda puts: bool(puts))
        assert agent.end(number) == 0
    assert bus.puts[0].statuses == told("ACTIVATED") and bus.puts[-1].statuses == told("STANDBY")
    assert bus.puts[-1].source == "link.host.paris" and at_rises(bus.puts)


@pytest.mark.parametrize("mode", ["hang", "close"])
def test_the_process_ends_also_when_aws_is_away(bus: EventBus, file: Path, mode: str) -> None:
    with running(file, bus.url) as agent:
        bus.wait_for(lambda puts: bool(puts))
        bus.mode = mode
        agent.send(signal.SIGTERM)
        assert agent.end() == 0
        assert "the bus did not get STANDBY in time" in agent.log.read_text()


def test_a_credential_process_that_hangs_does_not_hold_the_process(bus: EventBus, file: Path) -> None:
    config = file.with_name("aws")
    config.write_text("[default]\ncredential_process = /bin/sleep 3600\n")
    with running(file, bus.url, AWS_CONFIG_FILE=str(config), AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="") as agent:
        agent.wait_for_log("earlier requests still hang")
        assert agent.end() == 0
    assert bus.requests == 0


def test_a_signal_at_any_moment_of_the_start_ends_the_process(bus: EventBus, file: Path) -> None:
    for delay in (0.0, 0.3, 0.6, 0.9):
        with running(file, bus.url) as agent:
            time.sleep(delay)
            assert agent.end() in (0, -signal.SIGTERM), agent.log.read_text()


def test_a_command_that_runs_is_killed_when_the_agent_stops(bus: EventBus, file: Path, tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; exec sleep 3600"
    checks = f'[[endpoints.checks]]\ntype = "command"\ntimeout = 10\ncommand = ["/bin/sh", "-c", "{script}"]'
    file.write_text(
        configured(PARIS, checks=checks).replace("healthcheck_interval = 1\n", "healthcheck_interval = 10\n")
    )
    with running(file, bus.url) as agent:
        until = time.monotonic() + SECONDS
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < until
            time.sleep(0.02)
        assert agent.end() == 0
        pid = int((tmp_path / "pid").read_text())
        while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
            assert time.monotonic() < until
            time.sleep(0.02)


def test_an_agent_that_was_killed_says_nothing_and_is_newer_when_it_is_back(bus: EventBus, file: Path) -> None:
    with running(file, bus.url) as agent:
        bus.wait_for(lambda puts: bool(puts))
        assert agent.end(signal.SIGKILL) == -signal.SIGKILL
    before = len(bus.puts)
    with running(file, bus.url):
        bus.wait_for(lambda puts: len(puts) > before)
    assert {tuple(put.statuses.items()) for put in bus.puts} == {tuple(told("ACTIVATED").items())}
    assert at_rises(bus.puts)


def test_an_agent_that_was_paused_goes_on(bus: EventBus, file: Path) -> None:
    with running(file, bus.url) as agent:
        bus.wait_for(lambda puts: bool(puts))
        agent.send(signal.SIGSTOP)
        os.waitid(os.P_PID, agent.process.pid, os.WSTOPPED | os.WNOWAIT)
        time.sleep(6)  # longer than the lease
        paused_until = time.time() * 1_000
        agent.send(signal.SIGCONT)
        bus.wait_for(lambda puts: puts[-1].detail["at"] >= paused_until)
        assert at_rises(bus.puts) and agent.end() == 0


def test_while_aws_is_away_nothing_restarts_the_agent_and_one_event_catches_up(
    bus: EventBus, file: Path, systemd: Supervisor
) -> None:
    with running(file, bus.url, NOTIFY_SOCKET=str(systemd.path), WATCHDOG_USEC="30000000") as agent:
        bus.wait_for(lambda puts: bool(puts))
        bus.mode = "close"
        tried, fed = bus.requests, systemd.notes.count("WATCHDOG=1")
        bus.wait_for(lambda _: bus.requests >= tried + 6)
        systemd.wait_for(lambda notes: notes.count("WATCHDOG=1") >= fed + 3)
        before = len(bus.puts)
        bus.mode = "ok"
        bus.wait_for(lambda puts: len(puts) > before)
        assert bus.puts[before].statuses == told("ACTIVATED") and at_rises(bus.puts)
        assert agent.process.poll() is None
        agent.wait_for_log("events can be put again")


def test_systemd_hears_of_start_rounds_reload_and_stop(bus: EventBus, file: Path, systemd: Supervisor) -> None:
    with running(file, bus.url, NOTIFY_SOCKET=str(systemd.path), WATCHDOG_USEC="30000000") as agent:
        systemd.wait_for(lambda notes: notes.count("WATCHDOG=1") >= 3)
        assert systemd.notes.index("READY=1") < systemd.notes.index("WATCHDOG=1")
        assert "STATUS=2 endpoints: 2 ACTIVATED" in systemd.notes
        file.write_text(configured(PARIS))
        began = time.monotonic_ns() // 1_000
        agent.send(signal.SIGHUP)
        systemd.wait_for(lambda notes: notes.count("READY=1") == 2)
        at = systemd.notes.index("RELOADING=1")
        assert systemd.notes[at + 2] == "READY=1"
        assert began <= int(systemd.notes[at + 1].removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1_000
        bus.wait_for(lambda puts: puts[-1].statuses == told("ACTIVATED", PARIS))
        assert {PARIS: "ACTIVATED", LONDON: "STANDBY"} in [put.statuses for put in bus.puts]
        file.write_text("host = ")
        agent.send(signal.SIGHUP)
        agent.wait_for_log("the new configuration is refused, the present one stays")
        agent.end()
        systemd.wait_for(lambda notes: "STOPPING=1" in notes)
    assert bus.puts[-1].statuses == told("STANDBY", PARIS)


def test_a_watchdog_that_is_too_impatient_is_refused_at_the_start(bus: EventBus, file: Path) -> None:
    with running(file, bus.url, WATCHDOG_USEC="9000000") as agent:
        assert agent.process.wait(SECONDS) == 1
    assert "healthcheck_interval: 1 needs WatchdogSec=10 or more, the unit has 9" in agent.log.read_text()


def test_a_hundred_endpoints_with_checks_are_one_event_a_beat(bus: EventBus, file: Path) -> None:
    ids = [f"vip-{number}" for number in range(100)]
    with socket.create_server(("127.0.0.1", 0), backlog=1_000) as listening:
        port = listening.getsockname()[1]
        checks = f'[[endpoints.checks]]\ntype = "TCP"\nhost = "127.0.0.1"\nport = {port}'
        file.write_text(configured(*ids, checks=checks))
        with running(file, bus.url) as agent:
            bus.wait_for(lambda puts: len(puts) >= 3)
            assert agent.end() == 0
    assert bus.puts[0].statuses == told("ACTIVATED", *ids) and bus.puts[-1].statuses == told("STANDBY", *ids)
    assert bus.requests == len(bus.puts)


def test_a_spot_notice_is_standby_for_all(bus: EventBus, file: Path, instance: str) -> None:
    file.write_text(configured(PARIS, LONDON, top="spot = true"))
    with running(file, bus.url, AWS_EC2_METADATA_DISABLED="false", AWS_EC2_METADATA_SERVICE_ENDPOINT=instance) as agent:
        bus.wait_for(lambda puts: bool(puts) and puts[-1].statuses == told("STANDBY"))
        assert "Spot interruption notice (terminate): STANDBY for all" in agent.log.read_text()


@pytest.fixture
def instance() -> Iterator[str]:
    """The URL of an instance metadata service that has a notice."""
    with Instance(notice='{"action": "terminate"}') as one:
        yield one.url


def test_metrics_are_written_and_a_place_that_is_missing_is_logged_once(
    bus: EventBus, file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "metrics/agent.prom"
    with running(file, bus.url, "--textfile", str(path)) as agent:
        bus.wait_for(lambda puts: len(puts) >= 3)
        path.parent.mkdir()
        assert agent.end() == 0
        assert agent.log.read_text().count("cannot be written: No such file") == 1
    assert f'endpoint_id="{PARIS}",resource_id="r",status="STANDBY"}} 1' in path.read_text()
