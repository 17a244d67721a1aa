"""`linkctl import-link` with answers in the form of LinK v3.3.0's API, and of v2's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linkctl import link_import
from linkctl.errors import Failed
from tests.support.functions import Deployment

Run = Callable[..., tuple[int, str, str]]


def links(id: str, resource_id: str, **more: Any) -> dict[str, Any]:
    """Return an endpoint as LinK v3 shows it."""
    return {
        "id": id,
        "status": "ACTIVATED",
        "healthcheck_interval": 5,
        "plugin": "webhook",
        "election_key": f"webhook/{resource_id}",
        **more,
    }


def notes(answer: Any) -> str:
    return "\n".join(link_import.convert(answer, host="paris", url="https://x.example").notes)


def test_an_endpoint_keeps_its_resource_and_its_checks() -> None:
    checks = [{"type": "TCP", "host": "203.0.113.7", "port": 443}]
    answer = {"endpoints": [links("vip-1", "ip/ü", checks=checks)]}
    found = link_import.convert(answer, host="paris", url="https://switch.example.com?host=paris")
    assert found.registrations == [
        {
            "plugin": "webhook",
            "host": "paris",
            "plugin_config": {
                "url": "https://switch.example.com?host=paris",
                "resource_id": "ip/ü",
                "secret": None,
            },
            "checks": checks,
            "observers": ["probe"],
            "healthcheck_interval": 5,
        }
    ]


def test_checks_that_only_the_host_can_reach_stay_there() -> None:
    answer = {"endpoint": links("vip-1", "ip", checks=[{"type": "TCP", "host": "127.0.0.1", "port": 80}])}
    [body] = link_import.convert(answer, host="paris", url="https://x.example").registrations
    assert (body["observers"], "checks" in body) == (["host"], False)
    assert "only its own host can reach 127.0.0.1:80" in notes(answer)


def test_an_endpoint_without_checks_needs_a_host_that_reports() -> None:
    assert "vip-1: it has no checks, so its host has to report" in notes([links("vip-1", "ip")])


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ([links("vip-1", "", plugin="arp", election_key="10.0.0.1_32")], "vip-1: the plugin arp adds an address"),
        ({"ips": [{"id": "vip-1", "ip": "10.0.0.1/32", "healthcheck_interval": 0}]}, "vip-1: the plugin arp"),
        ([links("vip-1", "", plugin="outscale_public_ip")], "only LinK does"),
        ([links("vip-1", "", election_key="")], "its resource is not known"),
    ],
    ids=["arp", "version 2", "Outscale", "no election key"],
)
def test_what_cannot_come_along_is_told(answer: Any, text: str) -> None:
    assert text in notes(answer)
    assert link_import.convert(answer, host="paris", url="https://x.example").registrations == []


@pytest.mark.parametrize("answer", ["text", {"error": "Endpoint not found"}, [1], {"endpoints": [{}]}])
def test_something_else_is_refused(answer: Any) -> None:
    with pytest.raises(Failed, match="not an answer of LinK's API"):
        link_import.convert(answer, host="paris", url="https://x.example")


def test_without_apply_the_registrations_are_printed_and_nothing_is_registered(
    deployment: Deployment,
    linkctl: Run,
    tmp_path: Path,
) -> None:
    (tmp_path / "paris.json").write_text(json.dumps({"endpoints": [links("vip-1", "ip")]}))
    arguments = ("import-link", str(tmp_path / "paris.json"), "--host", "paris", "--url", deployment.receiver.url)
    status, out, err = linkctl(*arguments)
    assert (status, [body["host"] for body in json.loads(out)]) == (0, ["paris"])
    assert "Secrets, URLs and headers: LinK's API does not show them" in err
    assert deployment.dynamodb.scan(TableName="endpoints")["Count"] == 0
    status, _, err = linkctl(*arguments, "--apply")
    assert status == 2 and "--apply needs --secret-file" in err


def test_apply_registers_each_endpoint_once_and_never_prints_a_secret(
    deployment: Deployment,
    linkctl: Run,
    tmp_path: Path,
) -> None:
    (tmp_path / "paris.json").write_text(json.dumps([links("vip-1", "ip-1"), links("vip-2", "ip-2")]))
    (tmp_path / "secret").write_text("hidden-secret")
    arguments = ("import-link", str(tmp_path / "paris.json"), "--host", "paris", "--url", deployment.receiver.url)
    for _ in range(2):
        status, out, err = linkctl(*arguments, "--apply", "--secret-file", str(tmp_path / "secret"))
        assert status == 0, err
        assert "paris@ip-1" in out and "paris@ip-2" in out and "hidden" not in out + err
    assert deployment.dynamodb.scan(TableName="endpoints")["Count"] == 2


def test_the_others_are_registered_when_one_is_refused(
    deployment: Deployment,
    linkctl: Run,
    tmp_path: Path,
) -> None:
    answer = [links("vip-1", "ip-1", healthcheck_interval=-1, checks=[{"type": "UDP"}]), links("vip-2", "ip-2")]
    (tmp_path / "paris.json").write_text(json.dumps(answer))
    (tmp_path / "secret").write_text("hidden-secret")
    arguments = ("import-link", str(tmp_path / "paris.json"), "--host", "paris", "--url", deployment.receiver.url)
    status, out, err = linkctl(*arguments, "--apply", "--secret-file", str(tmp_path / "secret"))
    assert status == 1 and "paris@ip-2" in out
    assert "1 of 2 are not registered:\nparis@ip-1: " in err
