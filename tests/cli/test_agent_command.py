"""`linkctl agent check` and `linkctl agent init`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linkctl.agent.config import load
from linkctl.invocation import Invocation
from linkctl.main import main
from tests.support.ids import LONDON, PARIS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def linkctl(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs linkctl and returns its exit status, output and errors."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, program: str = "/opt/linkctl/bin/linkctl") -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
                status = 0
            except SystemExit as ended:
                status = int(ended.code or 0)
        return status, out.getvalue(), err.getvalue()

    return run


@pytest.fixture
def umask_of_root() -> Iterator[None]:
    """The umask of a hardened host."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with a check that passes and one that fails."""
    path = tmp_path / "agent.toml"
    path.write_text(
        'host = "paris"\nevent_bus = "bus"\nregion = "eu-west-1"\n'
        f'[[endpoints]]\nendpoint_id = "{PARIS}"\nresource_id = "r"\n'
        '[[endpoints.checks]]\ntype = "command"\ncommand = ["/bin/true"]\n'
        f'[[endpoints]]\nendpoint_id = "{LONDON}"\nresource_id = "r"\n'
        '[[endpoints.checks]]\ntype = "command"\ncommand = ["/bin/false"]\n'
    )
    return path


def test_check_runs_every_check_once_and_fails_if_one_does(linkctl: Run, file: Path) -> None:
    status, out, err = linkctl("agent", "check", "--config", str(file))
    assert status == 1 and "linkctl: 1 of 2 checks failed" in err
    assert PARIS in out and "passed" in out and LONDON in out and "exit status 1" in out
    file.write_text(file.read_text().replace("/bin/false", "/bin/true"))
    assert linkctl("agent", "check", "--config", str(file))[0] == 0


def test_check_prints_json_for_programs(linkctl: Run, file: Path) -> None:
    _, out, _ = linkctl("-o", "json", "agent", "check", "--config", str(file))
    first, second = json.loads(out)
    assert first.pop("seconds") >= 0
    assert first == {"endpoint_id": PARIS, "check": "command /bin/true", "passed": True, "reason": ""}
    assert (second["passed"], second["reason"]) == (False, "exit status 1")


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_configuration_that_cannot_be_used_is_named_with_its_line(linkctl: Run, file: Path, command: str) -> None:
    file.write_text(file.read_text().replace("event_bus", "event_buss"))
    status, _, err = linkctl("agent", command, "--config", str(file))
    assert status == 1
    assert f"linkctl: {file}:1: event_bus: missing" in err and f"{file}:2: event_buss: unknown key, did you" in err


def test_init_writes_a_configuration_and_a_unit_and_never_replaces_them_without_force(
    linkctl: Run, tmp_path: Path, umask_of_root: None
) -> None:
    config, unit = tmp_path / "etc/agent.toml", tmp_path / "linkctl-agent.service"
    arguments = ["--region", "eu-west-2", "agent", "init", "--config", str(config), "--unit", str(unit)]
    assert linkctl(*arguments)[0] == 0
    written = load(config)
    assert (written.host, written.event_bus, written.region) == (socket.gethostname(), "link-webhook", "eu-west-2")
    assert f"ExecStart=/opt/linkctl/bin/linkctl agent run --config {config}" in unit.read_text()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (config, unit, config.parent)] == [0o644, 0o644, 0o755]
    config.write_text("mine")
    status, _, err = linkctl(*arguments)
    assert status == 1 and "exists already, --force replaces it" in err and config.read_text() == "mine"
    unit.unlink()
    assert linkctl(*arguments)[0] == 1 and not unit.exists()
    assert linkctl(*arguments, "--force")[0] == 0 and load(config) == written


def test_init_takes_the_endpoints_of_a_host_from_the_api(
    linkctl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [
        {"id": PARIS, "host": "paris", "election_key": "webhook/r/1", "lease_seconds": 30, "checks": [
            {"type": "TCP", "host": "10.0.0.1", "port": 80}, {"type": "FUTURE"}]},
        {"id": LONDON, "host": "london", "election_key": "webhook/r/1", "lease_seconds": None},
    ]  # fmt: skip
    monkeypatch.setattr(Invocation, "pages", lambda *_: shown)
    config = tmp_path / "agent.toml"
    arguments = ["--event-bus", "bus", "agent", "init", "--config", str(config), "--unit", str(tmp_path / "unit")]
    assert linkctl(*arguments, "--host", "paris")[0] == 0
    (endpoint,) = load(config).endpoints
    assert (endpoint.endpoint_id, endpoint.resource_id, endpoint.lease_seconds) == (PARIS, "r/1", 30)
    assert [str(check) for check in endpoint.checks] == ["TCP 10.0.0.1:80"]
    status, _, err = linkctl(*arguments, "--host", "rome", "--force")
    assert status == 1 and "no endpoint is registered with the host 'rome'" in err


def test_the_unit_of_a_linkctl_that_runs_as_a_module_runs_it_so(linkctl: Run, tmp_path: Path) -> None:
    unit = tmp_path / "unit"
    linkctl("agent", "init", "--config", str(tmp_path / "config"), "--unit", str(unit), program="/x/__main__.py")
    assert f"ExecStart={sys.executable} -m linkctl agent run" in unit.read_text()


def test_init_says_which_file_it_cannot_write(linkctl: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, _, err = linkctl("agent", "init", "--config", str(tmp_path / "file/agent.toml"))
    assert status == 1 and "file/agent.toml cannot be written" in err


def test_other_commands_import_nothing_of_the_agent_that_takes_time() -> None:
    code = (
        "import sys, linkctl.main; "
        "print([name for name in sys.modules if name.startswith('linkctl.agent.') and name != 'linkctl.agent.files'])"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2] / "cli")}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
