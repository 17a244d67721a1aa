"""The agent's metrics file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from linkctl.agent.textfile import render, write
from tests.support.agent import Host, config
from tests.support.ids import LONDON, NOW, PARIS


def values(host: Host) -> dict[str, str]:
    lines = [line for line in render(host.core).splitlines() if not line.startswith("#")]
    return dict(line.rsplit(" ", 1) for line in lines)


def test_the_metrics_say_what_the_agent_knows() -> None:
    host = Host(config(f"{PARIS}:5432", LONDON), down={5432})
    host.offset = -3.0
    host.run(10)
    found = values(host)
    ids = f'endpoint_id="{PARIS}",resource_id="ip of {PARIS}"'
    assert found[f'linkctl_agent_endpoint_status{{{ids},status="FAILING"}}'] == "1"
    assert found[f'linkctl_agent_endpoint_status{{{ids},status="ACTIVATED"}}'] == "0"
    check = f'endpoint_id="{PARIS}",check="TCP localhost:5432"'
    assert found[f"linkctl_agent_check_passed{{{check}}}"] == "0"
    assert found[f"linkctl_agent_check_duration_seconds{{{check}}}"] == "0.010000"
    assert float(found["linkctl_agent_last_put_timestamp_seconds"]) == NOW / 1_000 + 10
    assert found["linkctl_agent_clock_offset_seconds"] == "-3.0"
    assert found["linkctl_agent_puts_failed_total"] == "0"
    host.cloud = "refused"
    host.core.reload(lambda: config(PARIS))
    host.run(1)
    assert values(host)["linkctl_agent_puts_failed_total"] == "2"
    assert values(host)['linkctl_agent_reloads_total{result="used"}'] == "1"


def test_what_is_not_known_yet_is_not_there() -> None:
    found = render(Host(config(f"{PARIS}:1")).core)
    assert "last_put" not in found and "clock_offset" not in found and PARIS not in found


def test_the_file_is_replaced_at_once_and_everyone_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.prom"
    write(path, "one\n")
    with path.open() as old:
        write(path, "two\n")
        assert old.read() == "one\n"
    assert path.read_text() == "two\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "agent.prom").mkdir()
    with pytest.raises(OSError):
        write(tmp_path / "agent.prom", "one\n")
    assert [path.name for path in tmp_path.iterdir()] == ["agent.prom"]
