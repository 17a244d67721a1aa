"""The switches in examples/ do what they say, once, on moto or against the protocol of a vendor."""

from __future__ import annotations

import importlib.util
import json
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from link.receiver import TURN_SECONDS, Target
from tests.support.ids import LONDON, PARIS, RESOURCE, SECRETS
from tests.support.receiver import create_slots_table
from tests.support.webhooks import announced, sent

SWITCHES = Path(__file__).parents[2] / "examples/switches"
AT_PARIS, NOWHERE = Target(RESOURCE, PARIS, "paris", 2), Target(RESOURCE, None, None, 3)
AT_LONDON, AT_ROME = Target(RESOURCE, LONDON, "london", 4), Target(RESOURCE, "vip-3", "rome", 6)
Load = Callable[..., ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Import a switch, or a receiver, with its variables set."""

    def imported(name: str, **variables: str) -> ModuleType:
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        spec = importlib.util.spec_from_file_location(Path(name).name, SWITCHES / f"{name}.py")
        assert spec is not None and spec.loader is not None
        switch = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(switch)
        return switch

    return imported


# On AWS


class Calls(list[str]):
    """The calls that a client makes, by the name of the permission that they need."""

    def __init__(self, client: Any) -> None:
        prefix = client.meta.service_model.signing_name
        client.meta.events.register("before-call", lambda model, **_: self.append(f"{prefix}:{model.name}"))

    def writes(self) -> list[str]:
        return [call for call in self if not call.partition(":")[2].startswith(("Describe", "List"))]


def permitted(switch: str) -> set[str]:
    policy = json.loads((SWITCHES / f"{switch}.policy.json").read_text())
    actions = [statement["Action"] for statement in policy["Statement"]]
    return {action for some in actions for action in ([some] if isinstance(some, str) else some)}


def seconds_at_most(client: Any, calls: int) -> float:
    config = client.meta.config
    return calls * config.retries["total_max_attempts"] * (config.connect_timeout + config.read_timeout)


@pytest.fixture
def interfaces(aws: None) -> dict[str, str]:
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    made = {host: ec2.create_network_interface(SubnetId=subnet) for host in ("paris", "london")}
    return {host: interface["NetworkInterface"]["NetworkInterfaceId"] for host, interface in made.items()}


def test_an_elastic_ip_is_at_the_active_host_and_nowhere_else(load: Load, interfaces: dict[str, str]) -> None:
    ec2 = boto3.client("ec2")
    allocation = ec2.allocate_address(Domain="vpc")["AllocationId"]
    switch = load("elastic_ip", ALLOCATION_ID=allocation, INTERFACES=json.dumps(interfaces))
    calls, seen = Calls(switch.ec2), []

    for target in (NOWHERE, AT_PARIS, AT_PARIS, AT_LONDON, NOWHERE, NOWHERE, AT_LONDON):
        switch.switch_to(target)
        (address,) = ec2.describe_addresses(AllocationIds=[allocation])["Addresses"]
        seen.append(address.get("NetworkInterfaceId") or None)

    paris, london = interfaces["paris"], interfaces["london"]
    assert seen == [None, paris, paris, london, None, None, london]
    assert len(calls.writes()) == 4, "a repetition changes nothing"
    assert set(calls) == permitted("elastic_ip")
    assert seconds_at_most(switch.ec2, calls=2) < TURN_SECONDS
    with pytest.raises(KeyError, match="rome"):
        switch.switch_to(AT_ROME)


def test_a_secondary_address_is_at_the_active_host(load: Load, interfaces: dict[str, str]) -> None:
    ec2 = boto3.client("ec2")
    switch = load("secondary_address", ADDRESS="10.0.0.50", INTERFACES=json.dumps(interfaces))
    calls = Calls(switch.ec2)

    def holders() -> list[str]:
        described = ec2.describe_network_interfaces(NetworkInterfaceIds=list(interfaces.values()))["NetworkInterfaces"]
        return [
            interface["NetworkInterfaceId"]
            for interface in described
            if "10.0.0.50" in [address["PrivateIpAddress"] for address in interface["PrivateIpAddresses"]]
        ]

    seen = []
    # moto does not take a reassigned address away from the other interface: no handover without a STANDBY here.
    for target in (NOWHERE, AT_PARIS, AT_PARIS, NOWHERE, NOWHERE, AT_LONDON):
        switch.switch_to(target)
        seen.append(holders())

    paris, london = interfaces["paris"], interfaces["london"]
    assert seen == [[], [paris], [paris], [], [], [london]]
    assert len(calls.writes()) == 3, "a repetition changes nothing"
    assert set(calls) == permitted("secondary_address")
    assert seconds_at_most(switch.ec2, calls=2) < TURN_SECONDS
    with pytest.raises(KeyError, match="rome"):
        switch.switch_to(AT_ROME)


@pytest.fixture
def zone(aws: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """A hosted zone that, unlike moto's, deletes only exactly what is there."""
    from moto.route53.models import FakeZone

    def exactly(zone: Any, changed: dict[str, Any]) -> None:
        (there,) = [one for one in zone.rrsets if (one.name, one.type) == (changed["Name"], changed["Type"])]
        if there.records != [one["Value"] for one in changed["ResourceRecords"]]:
            raise ClientError({"Error": {"Code": "InvalidChangeBatch"}}, "ChangeResourceRecordSets")
        delete(zone, changed)

    delete = FakeZone.delete_rrset
    monkeypatch.setattr(FakeZone, "delete_rrset", exactly)
    return boto3.client("route53").create_hosted_zone(Name="example.com", CallerReference="1")["HostedZone"]["Id"]


def records(zone: str) -> dict[str, str]:
    sets = boto3.client("route53").list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    return {one["Name"]: one["ResourceRecords"][0]["Value"] for one in sets if one["Type"] in ("A", "TXT")}


def test_a_record_points_at_the_active_host(load: Load, zone: str) -> None:
    addresses = {"paris": "192.0.2.1", "london": "192.0.2.2"}
    switch = load("route53", ZONE_ID=zone, RECORD="web.example.com", ADDRESSES=json.dumps(addresses))
    calls, seen = Calls(switch.route53), []

    for target in (NOWHERE, AT_PARIS, AT_PARIS, NOWHERE, AT_LONDON, AT_PARIS):
        switch.switch_to(target)
        seen.append(records(zone).get("web.example.com."))

    assert seen == [None, "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"]
    assert records(zone)["_fence.web.example.com."] == '"4"', "paris' fence was lower"
    assert len(calls.writes()) == 2, "a repetition changes nothing"
    assert set(calls) == permitted("route53")
    assert seconds_at_most(switch.route53, calls=3) < TURN_SECONDS
    with pytest.raises(KeyError, match="rome"):
        switch.switch_to(AT_ROME)


def test_a_record_that_another_process_changes_meanwhile_is_left_alone(
    load: Load, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = {"paris": "192.0.2.1", "london": "192.0.2.2", "rome": "192.0.2.3"}
    switch = load("route53", ZONE_ID=zone, RECORD="web.example.com", ADDRESSES=json.dumps(addresses))
    switch.switch_to(AT_PARIS)
    before = switch._stored(switch.FENCE, "TXT")
    switch.switch_to(AT_ROME)

    monkeypatch.setattr(switch, "_stored", lambda name, kind: before)
    with pytest.raises(ClientError, match="InvalidChangeBatch"):
        switch.switch_to(AT_LONDON)
    assert records(zone) == {"web.example.com.": "192.0.2.3", "_fence.web.example.com.": '"6"'}


def test_a_receiver_in_lambda_moves_the_address_by_signed_webhooks(
    load: Load, interfaces: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ec2, secrets = boto3.client("ec2"), {"paris": SECRETS[PARIS], "london": SECRETS[LONDON]}
    create_slots_table(boto3.client("dynamodb"))
    allocation = ec2.allocate_address(Domain="vpc")["AllocationId"]
    switch = load("elastic_ip", ALLOCATION_ID=allocation, INTERFACES=json.dumps(interfaces))
    monkeypatch.setitem(sys.modules, "switch", switch)
    function = "../receivers/lambda_function"
    receiver = load(function, RESOURCE_ID=RESOURCE, SLOTS_TABLE="slots", SECRETS=json.dumps(secrets))
    calls = Calls(receiver.store._client)
    paris, london = (PARIS, "ACTIVATED", 1, 1), (LONDON, "ACTIVATED", 2, 2)

    answers = []
    for endpoint_id, *announcement in (paris, london, (PARIS, "STANDBY", 1, 2), paris):
        host = "paris" if endpoint_id == PARIS else "london"
        announcing = replace(announced(endpoint_id, *announcement), host=host)
        body, headers = sent(announcing, [secrets[host]], timestamp=int(time.time()))
        answers.append(receiver.handler({"headers": headers, "body": body.decode()}, None))

    assert answers == [{"statusCode": 204}] * 4
    (address,) = ec2.describe_addresses(AllocationIds=[allocation])["Addresses"]
    assert address["NetworkInterfaceId"] == interfaces["london"]
    assert set(calls) == permitted(function)


# On hosts


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[[Callable[[Any], None]], str]]:
    """Serve a protocol on a Unix socket, and return the socket's path."""
    servers = []

    def serve(talk: Callable[[Any], None]) -> str:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                talk(self)

        path = str(tmp_path / "socket")
        servers.append(socketserver.ThreadingUnixStreamServer(path, Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,)).start()
        return path

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


class HAProxy:
    """The part of HAProxy 2.6's runtime API that the switch uses. Answers were recorded from 2.6.12."""

    def __init__(self) -> None:
        self.state = {"web/paris": "maint", "web/london": "maint"}
        self.commands: list[str] = []

    def talk(self, connection: Any) -> None:
        command = connection.rfile.readline().decode().strip()
        self.commands.append(command)
        words = command.split()
        if words[:2] == ["set", "server"] and words[3] == "state":
            if words[2] not in self.state:
                connection.wfile.write(b"No such server.\n\n")
                return
            self.state[words[2]] = words[4]
        else:
            assert words[:3] == ["shutdown", "sessions", "server"] and words[3] in self.state
        connection.wfile.write(b"\n")


def test_haproxy_has_one_server_that_is_ready_and_breaks_before_it_makes(load: Load, listening: Any) -> None:
    haproxy = HAProxy()
    path = listening(haproxy.talk)
    switch = load("haproxy", HAPROXY_SOCKET=path, BACKEND="web", SERVERS="paris,london")
    seen = []

    for target in (AT_PARIS, AT_PARIS, AT_LONDON, NOWHERE):
        switch.switch_to(target)
        seen.append([server for server, state in haproxy.state.items() if state == "ready"])

    assert seen == [["web/paris"], ["web/paris"], ["web/london"], []]
    assert haproxy.commands[6:9] == [
        "set server web/paris state maint",
        "shutdown sessions server web/paris",
        "set server web/london state ready",
    ]
    commands = 2 * (len(switch.SERVERS) - 1) + 1
    assert commands * switch.TIMEOUT_SECONDS < TURN_SECONDS
    with pytest.raises(LookupError, match="'rome' is not a server of web: add it to SERVERS"):
        switch.switch_to(AT_ROME)


def test_what_haproxy_refuses_is_an_error_that_says_why(load: Load, listening: Any) -> None:
    path = listening(HAProxy().talk)
    switch = load("haproxy", HAPROXY_SOCKET=path, BACKEND="web", SERVERS="paris,berlin")

    with pytest.raises(RuntimeError, match="set server web/berlin state maint: No such server"):
        switch.switch_to(AT_PARIS)


class Bird:
    """The part of BIRD's control socket that the switch uses. Answers were recorded from 2.0.12."""

    def __init__(self) -> None:
        self.enabled, self.changes = False, 0

    def talk(self, connection: Any) -> None:
        connection.wfile.write(b"0001 BIRD 2.0.12 ready.\n")
        verb, protocol = connection.rfile.readline().decode().split()
        if protocol != "floating":
            connection.wfile.write(b"9001 syntax error, unexpected CF_SYM_UNDEFINED\n")
            return
        enable = {"enable": True, "disable": False}[verb]
        done = {True: b"0011-floating: enabled\n", False: b"0009-floating: disabled\n"}
        already = {True: b"0010-floating: already enabled\n", False: b"0008-floating: already disabled\n"}
        answer = (already if enable == self.enabled else done)[enable]
        self.changes += enable != self.enabled
        self.enabled = enable
        connection.wfile.write(answer + b"0000 \n")


def test_bird_announces_the_route_while_this_host_is_active(load: Load, listening: Any) -> None:
    bird = Bird()
    switch = load("bird", BIRD_SOCKET=listening(bird.talk), PROTOCOL="floating", HOST="paris")
    seen = []

    for target in (NOWHERE, AT_PARIS, AT_PARIS, AT_LONDON):
        switch.switch_to(target)
        seen.append(bird.enabled)

    assert (seen, bird.changes) == ([False, True, True, False], 2)


def test_what_bird_refuses_is_an_error_that_says_why(load: Load, listening: Any) -> None:
    switch = load("bird", BIRD_SOCKET=listening(Bird().talk), PROTOCOL="another", HOST="paris")

    with pytest.raises(RuntimeError, match="BIRD, enable another: 9001 syntax error"):
        switch.switch_to(AT_PARIS)


@pytest.mark.parametrize("said", [b"", b"hello\n", b"0001 BIRD 2.0.12 ready.\n0011-floating"])
def test_a_socket_that_is_not_birds_is_an_error(load: Load, listening: Any, said: bytes) -> None:
    switch = load("bird", BIRD_SOCKET=listening(lambda c: c.wfile.write(said)), PROTOCOL="floating", HOST="paris")

    with pytest.raises((RuntimeError, OSError)):
        switch.switch_to(AT_PARIS)


def test_keepalived_reads_a_fault_unless_this_host_is_active(load: Load, tmp_path: Path) -> None:
    tracked = tmp_path / "standby"
    switch = load("keepalived", TRACK_FILE=str(tracked), HOST="paris")
    seen = []

    for target in (NOWHERE, AT_PARIS, AT_PARIS, AT_LONDON):
        switch.switch_to(target)
        seen.append(tracked.read_text())

    assert seen == ["1\n", "0\n", "0\n", "1\n"]
    assert list(tmp_path.iterdir()) == [tracked]


def test_the_log_says_which_host_is_active(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    load("log").switch_to(AT_PARIS)

    assert capsys.readouterr().out == f"active: paris ({PARIS}), fence 2\n"


def test_each_switch_says_how_it_is_started_and_has_a_test() -> None:
    tests = Path(__file__).read_text()

    for switch in SWITCHES.glob("*.py"):
        head = switch.read_text().partition('"""\n\nfrom')[0]
        assert "as switch.py beside" in head, switch.name
        assert f'load("{switch.stem}"' in tests, switch.name
