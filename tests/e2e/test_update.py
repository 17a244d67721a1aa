"""An update of the stack: what a changed parameter changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.cloud import STACK, Cloud, local_cloud


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with local_cloud(name="update") as running:
        yield running


def live(cloud: Cloud, function: str) -> dict[str, Any]:
    """Return the configuration of the version that the function's alias has."""
    name = cloud.outputs[f"{function}FunctionName"]
    found: dict[str, Any] = cloud.client("lambda").get_function_configuration(FunctionName=name, Qualifier="live")
    return found


def update(cloud: Cloud, **parameters: str) -> None:
    """Update the stack with other parameters and the same template."""
    cloudformation = cloud.client("cloudformation")
    cloudformation.update_stack(
        StackName=STACK,
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    until = time.monotonic() + 120
    while (status := cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"]).endswith("PROGRESS"):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert status == "UPDATE_COMPLETE"


def test_a_changed_parameter_reaches_the_functions_behind_their_aliases(cloud: Cloud) -> None:
    changed = {
        "EndpointStatus": ("HANDOVER_TIMEOUT", "2s"),
        "Reconcile": ("HANDOVER_TIMEOUT", "2s"),
        "EndpointsApi": ("HANDOVER_TIMEOUT", "2s"),
        "Probe": ("PROBE_WHEN_ALL_FAIL", "release"),
        "ProbeClock": ("PROBE_SHARDS", "2"),
    }
    unchanged = ("Refresh", "KeyRotation")
    before = {function: live(cloud, function)["Version"] for function in (*changed, *unchanged)}
    update(cloud, HandoverTimeout="2s", ProbeWhenAllFail="release", ProbeShards="2")
    for function, (name, value) in changed.items():
        after = live(cloud, function)
        assert after["Environment"]["Variables"][name] == value, function
        assert after["Version"] != before[function]
    assert {function: live(cloud, function)["Version"] for function in unchanged}.items() <= before.items()
    assert cloud.call("GET", "/version")[0] == 200
