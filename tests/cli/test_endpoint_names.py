"""An endpoint is named by its id, by the beginning of its id, or by HOST@RESOURCE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from linkctl.api import Deployment as Stack
from tests.support.functions import Deployment
from tests.support.ids import LONDON, PARIS, RESOURCE

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hosts(deployment: Deployment) -> Deployment:
    """Return a deployment in which paris is active and london is on standby, with their hosts."""
    deployment.register(PARIS, host="paris")
    deployment.register(LONDON, host="london")
    deployment.report("status_winner", "status_loser")
    return deployment


@pytest.mark.parametrize("name", [PARIS, "vip-1", PARIS[:-1], f"paris@{RESOURCE}"])
def test_each_name_means_the_endpoint(hosts: Deployment, linkctl: Run, name: str) -> None:
    status, out, err = linkctl("endpoints", "show", name)
    assert status == 0 and PARIS in out
    assert (f"{name} is {PARIS}" in err) is (name != PARIS)


def test_the_beginning_of_two_ids_names_neither(hosts: Deployment, linkctl: Run) -> None:
    status, out, err = linkctl("endpoints", "show", "vip-")
    assert (status, out) == (1, "")
    assert f"{PARIS} paris@{RESOURCE}" in err and f"{LONDON} london@{RESOURCE}" in err


@pytest.mark.parametrize("name", ["vip-3", f"rome@{RESOURCE}"])
def test_a_name_of_no_endpoint_is_an_error(hosts: Deployment, linkctl: Run, name: str) -> None:
    status, _, err = linkctl("endpoints", "redeliver", name)
    assert status == 1 and f"there is no endpoint {name}" in err


def test_a_whole_id_costs_no_call(hosts: Deployment, linkctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    forward = Stack.forward

    def noted(self: Stack, method: str, url: str, data: bytes, headers: dict[str, str]) -> Any:
        called.append(url.removeprefix(self.url))
        return forward(self, method, url, data, headers)

    monkeypatch.setattr(Stack, "forward", noted)
    assert linkctl("endpoints", "redeliver", PARIS)[0] == 0
    assert called == [f"/endpoints/{PARIS}/redeliver"]


@pytest.mark.parametrize(
    "command",
    [
        ("endpoints", "delete"),
        ("endpoints", "drain"),
        ("endpoints", "end-overlap"),
        ("failover",),
        ("endpoints", "rotate-secret", "--secret-file", "/dev/null"),
    ],
)
def test_a_command_that_destroys_shows_what_a_name_means_and_asks(
    hosts: Deployment, linkctl: Run, command: tuple[str, ...]
) -> None:
    status, _, err = linkctl(*command, f"paris@{RESOURCE}", stdin="n\n")
    assert status == 1 and f"paris@{RESOURCE} is {PARIS} (ACTIVATED)" in err and "Go on?" in err
    assert hosts.statuses() == {PARIS: "ACTIVATED", LONDON: "STANDBY"}


def test_a_failover_by_names_hands_over_when_the_user_agrees(hosts: Deployment, linkctl: Run) -> None:
    names = (f"paris@{RESOURCE}", "--to", f"london@{RESOURCE}")
    status, out, err = linkctl("failover", *names, "--dry-run")
    assert status == 0 and "Go on?" not in err
    assert f"active would be london ({LONDON})" in out and "paris" in out
    status, out, _ = linkctl("failover", *names, stdin="y\n")
    assert status == 0 and f"paris@{RESOURCE} has handed over" in out
    assert hosts.statuses() == {PARIS: "STANDBY", LONDON: "ACTIVATED"}
    assert linkctl("failover", "vip-2", "--yes")[0] == 0
    assert hosts.statuses() == {PARIS: "ACTIVATED", LONDON: "STANDBY"}


def test_lists_and_transitions_name_hosts(hosts: Deployment, linkctl: Run) -> None:
    assert f"paris@{RESOURCE}" in linkctl("endpoints", "list")[1]
    [line] = [line for line in linkctl("resources", "list")[1].splitlines() if line.startswith(RESOURCE)]
    assert line.split()[1] == "paris"
    assert "paris BOOTING → ACTIVATED (elected)" in linkctl("transitions", RESOURCE)[1]
