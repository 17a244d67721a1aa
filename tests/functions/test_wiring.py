"""Each parameter of template.yaml changes what leaves or what is refused: from the template through the functions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from scripts.cloud import ROOT
from tests.hostile.certificates import Authority
from tests.support.functions import Deployment, event
from tests.support.ids import RESOURCE
from tests.support.receiver import LoopbackReceiver
from tests.support.stack import PARAMETERS, VARIABLES, Stack, batch, environment, parameters_in

FOR_AWS_ALONE = {
    "OrganizationId",
    "VpcSubnetIds",
    "VpcSecurityGroupIds",
    "VpcIpv6",
    "AlarmTopicArn",
    "LogRetentionDays",
    "ApiAccessLog",
    "MaximumConcurrency",
    "ReservedApiConcurrency",
    "DeletionProtection",
    "SafeDeployment",
    "SnapStart",
    "Architecture",
}
"""Parameters that no function reads: tests/test_template.py has what they do."""
PARIS = {"type": "TCP", "host": "paris.example.com", "port": 443}
AUTHORITY = "the path of the authority's certificate"


@dataclass(frozen=True)
class Wired:
    """What is seen for each value of a parameter."""

    parameter: str
    seen: Callable[[Stack, str], object]
    values: dict[str, object]


@pytest.fixture
def stack(deployment: Deployment) -> Stack:
    return Stack(deployment)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def registration(stack: Stack, parameter: str, value: str) -> object:
    """The status with which the API answers a registration of the receiver."""
    stack.deploy(**{parameter: value})
    return stack.register()[0]


def registration_with_a_signal(stack: Stack, parameter: str, value: str) -> object:
    """The status with which the API answers a registration with the signals of an instance."""
    stack.deploy(**{parameter: value})
    return stack.register(signals=[{"type": "ec2", "instance_id": "i-0123456789abcdef0"}])[0]


def attempt(stack: Stack, parameter: str, value: str) -> object:
    """How attempts for an endpoint end that was registered before; whether its receiver got anything."""
    paris = stack.registered()
    stack.deploy(**{parameter: value})
    stack.report(paris, "ACTIVATED")
    entry = stack.item()["endpoints"]["M"][paris]["M"]
    return [entry[name]["S"] for name in ("fk", "fr") if name in entry], bool(stack.functions.receiver.requests)


def until_the_new_holder_is_active(stack: Stack, parameter: str, value: str) -> object:
    """Milliseconds from the STANDBY of a holder whose receiver fails to the ACTIVATED of the next one."""
    stack.deploy(**{parameter: value})
    paris, london = stack.registered(host="paris"), stack.registered(host="london")
    stack.report(paris, "ACTIVATED")
    stack.report(london, "ACTIVATED")
    receiver, arrivals = stack.functions.receiver, list[int]()
    receiver.requests.clear()

    def fails() -> int:
        arrivals.append(stack.clock.at)
        return 500

    receiver.answer = fails
    stack.report(paris, "FAILING")
    told = [("STANDBY", paris), ("ACTIVATED", london)]

    def first(status: str, endpoint_id: str) -> int | None:
        briefs = [request.brief() for request in receiver.requests]
        return next((n for n, brief in enumerate(briefs) if brief[:2] == (endpoint_id, status)), None)

    for _ in range(20):
        if first(*told[1]) is not None:
            break
        stack.wake_up()
    standby, activated = (first(*one) for one in told)
    assert standby is not None and activated is not None
    return arrivals[activated] - arrivals[standby]


def until_the_refresh(stack: Stack, parameter: str, value: str) -> object:
    """Milliseconds from the 2xx of an ACTIVATED until a sweep wakes its resource up and it is sent again."""
    stack.deploy(**{parameter: value})
    stack.report(stack.registered(), "ACTIVATED")
    delivered_at = stack.clock.at
    # The message for the end of the claim; only then the refresh is what is due next.
    stack.wake_up()
    due_at, woken = stack.due_at(), []
    for ahead_ms in (60_001, 60_000):
        stack.clock.at = due_at - ahead_ms
        woken.append(stack.functions.invoke("refresh", event("schedule_tick"))["woken"])
    assert woken == [0, 1]
    stack.wake_up()
    reasons = [request.brief()[-1] for request in stack.functions.receiver.requests]
    assert reasons == ["elected", "refresh"]
    return stack.clock.at - delivered_at


def after_a_command(stack: Stack, parameter: str, value: str) -> object:
    """Milliseconds from a 2xx until the refresh that a command of the API finds due next."""
    stack.deploy(**{parameter: value})
    paris = stack.registered()
    stack.report(paris, "ACTIVATED")
    delivered_at, stack.clock.at = stack.clock.at, stack.due_at()
    path = {"pathParameters": {"id": paris}}
    assert stack.call("api_change", {"priority": 7}, **path)[0] == 200
    return stack.due_at() - delivered_at


def after_three_losses(stack: Stack, parameter: str, value: str) -> object:
    """What another endpoint is sent when it reports after one that has lost the lock three times and is up again."""
    stack.deploy(**{parameter: value})
    paris, london = stack.registered(host="paris"), stack.registered(host="london")
    for status in ("ACTIVATED", "FAILING") * 3:
        stack.report(paris, status)
        stack.clock.at += 1_000
    stack.report(paris, "ACTIVATED")
    path = {"pathParameters": {"id": paris}}
    assert stack.call("api_change", {"priority": 7}, **path)[0] == 200, "the API commits by the same rules"
    stack.report(london, "ACTIVATED")
    return [request.brief()[1] for request in stack.functions.receiver.requests if request.brief()[0] == london]


def three_registrations(stack: Stack, parameter: str, value: str) -> object:
    """The statuses with which the API answers three registrations."""
    stack.deploy(**{parameter: value})
    return [stack.register(host=host)[0] for host in ("paris", "london", "rome")]


ROTATION = """
import json, sys
import boto3
from tests.simulation.store import Store, refused
from tests.support.deployed import settings
from tests.support.functions import Context
from tests.support.registrations import STORED

class Keys:
    def re_encrypt(self, **_):
        raise refused("DisabledException", "ReEncrypt")

store = Store(settings())
store.put_item(TableName="endpoints", Item=STORED)
boto3.client = lambda service, **_: Keys() if service == "kms" else store
from functions.key_rotation.app import handler
try:
    handler({}, Context())
except Exception as error:
    assert type(error).__name__ == "Unfinished", error
"""


def lines_of_a_rotation(stack: Stack, parameter: str, value: str) -> object:
    """The levels of what a key rotation logs, one of whose endpoints fails."""
    variables = {**os.environ, **environment(**{parameter: value}), "PYTHONPATH": f"{ROOT / 'layers/shared'}:{ROOT}"}
    ran = subprocess.run([sys.executable, "-c", ROTATION], env=variables, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    return [line["level"] for line in lines if line["message"].startswith("key_rotation.")]


def report_without_identity(stack: Stack, parameter: str, value: str) -> object:
    """The status of an endpoint after a report with the source `link`."""
    endpoint_id = stack.registered()
    stack.deploy(**{parameter: value})
    stack.report(endpoint_id, "ACTIVATED")
    path = {"path": f"/endpoints/{endpoint_id}", "pathParameters": {"id": endpoint_id}}
    return stack.call("api_show", None, **path)[1]["endpoint"]["status"]


def registration_of_a_private_check(stack: Stack, parameter: str, value: str) -> object:
    """The status with which the API answers a registration whose check is in a private network."""
    stack.deploy(**{parameter: value})
    return stack.register(checks=[{**PARIS, "host": "10.0.0.1"}])[0]


def probe_of_a_private_address(stack: Stack, parameter: str, value: str) -> object:
    """What is told about an endpoint on loopback that was registered before and answers."""
    port = urlsplit(stack.functions.receiver.url).port
    stack.registered(checks=[{**PARIS, "host": "127.0.0.1", "port": port}])
    stack.deploy(**{"ProbeReferences": f"127.0.0.1:{port}", parameter: value})
    told = stack.told()
    stack.probe()
    return [json.loads(entry["Detail"])["status"] for entry in told]


def looked_at_with_an_endpoint(stack: Stack, parameter: str, value: str) -> object:
    """The other targets that a probe looks at."""
    stack.deploy(**{parameter: value})
    stack.registered(checks=[PARIS])
    stack.told()
    seen = stack.look(lambda check: "")
    stack.probe()
    return sorted((check.host, check.port) for check in seen if check.host != PARIS["host"])


def told_about_the_last_endpoint(stack: Stack, parameter: str, value: str) -> object:
    """What is told about the only endpoint of a resource when its probe passes, and then fails."""
    stack.deploy(**{parameter: value})
    stack.registered(checks=[PARIS])
    told = stack.told()
    stack.look(lambda check: "")
    stack.probe()
    stack.pass_on(told[0])
    stack.look(lambda check: "refused" if check.host == PARIS["host"] else "")
    stack.probe()
    return [json.loads(entry["Detail"])["status"] for entry in told]


def bus_that_is_told(stack: Stack, parameter: str, value: str) -> object:
    """The name of the bus on which a probe puts its event."""
    stack.deploy(**{parameter: value})
    stack.registered(checks=[PARIS])
    told = stack.told()
    stack.look(lambda check: "")
    stack.probe()
    return told[0]["EventBusName"]


def shards_of_a_minute(stack: Stack, parameter: str, value: str) -> object:
    """Into how many shards the slots of a minute, of which the first has begun, divide the endpoints."""
    stack.deploy(**{parameter: value})
    stack.registered(checks=[PARIS])
    assert stack.functions.invoke("probe_clock", stack.next_minute()) == {"slots": 6}
    return [message["of"] for message in stack.functions.messages("probe")]


NOTHING: list[str] = []
WIRED = (
    Wired("RequireHttps", registration, {"false": 201, "true": 422}),
    Wired("RequireHttps", attempt, {"false": (NOTHING, True), "true": (["refused", "https_required"], False)}),
    Wired("AllowedNetworks", registration, {"127.0.0.0/8": 201, "": 422}),
    Wired(
        "AllowedNetworks",
        attempt,
        {"10.0.0.0/8,127.0.0.0/8": (NOTHING, True), "10.0.0.0/8": (["refused", "address_refused"], False)},
    ),
    Wired(
        "CaBundle",
        attempt,
        {
            AUTHORITY: (NOTHING, True),
            "/opt/nowhere.pem": (["refused", "certificate"], False),
            "": (["refused", "certificate"], False),
        },
    ),
    Wired("HandoverTimeout", until_the_new_holder_is_active, {"0s": 0, "250ms": 250, "1.5s": 1_500, "5s": 5_000}),
    Wired("RefreshInterval", until_the_refresh, {"90s": 90_000, "1h30m": 5_400_000}),
    Wired("RefreshInterval", after_a_command, {"90s": 90_000, "1h30m": 5_400_000}),
    Wired("FlapDamping", after_three_losses, {"true": ["ACTIVATED"], "false": ["STANDBY"]}),
    Wired("RequireHostIdentity", report_without_identity, {"false": "ACTIVATED", "true": "BOOTING"}),
    Wired("ProbeNetworks", registration_of_a_private_check, {"10.0.0.0/8": 201, "192.168.0.0/16": 422, "": 422}),
    Wired("AllowedNetworks", registration_of_a_private_check, {"10.0.0.0/8,127.0.0.0/8": 201, "127.0.0.0/8": 422}),
    Wired(
        "ProbeNetworks",
        probe_of_a_private_address,
        {"127.0.0.0/8": ["ACTIVATED"], "10.0.0.0/8": NOTHING, "": ["ACTIVATED"]},
    ),
    Wired(
        "ProbeReferences",
        looked_at_with_an_endpoint,
        {
            "one.example.com:53,[fd00::1]:443": [("fd00::1", 443), ("one.example.com", 53)],
            "": [("dynamodb.eu-west-1.amazonaws.com", 443), ("sqs.eu-west-1.amazonaws.com", 443)],
        },
    ),
    Wired(
        "ProbeWhenAllFail",
        told_about_the_last_endpoint,
        {"keep": ["ACTIVATED"], "release": ["ACTIVATED", "FAILING"]},
    ),
    Wired("EventBusName", bus_that_is_told, {"": "link-webhook-events", "theirs": "theirs"}),
    Wired("SignalTypes", registration_with_a_signal, {"ec2": 201, "alarm,ec2": 201, "alarm": 422, "": 422}),
    Wired("ProbeShards", shards_of_a_minute, {"1": [1], "200": [200]}),
    Wired("MaxEndpoints", three_registrations, {"1": [201, 409, 409], "2": [201, 201, 409], "0": [201, 201, 201]}),
    Wired(
        "LogLevel",
        lines_of_a_rotation,
        {"DEBUG": ["ERROR", "INFO"], "INFO": ["ERROR", "INFO"], "WARNING": ["ERROR"], "ERROR": ["ERROR"]},
    ),
)


@pytest.mark.parametrize(
    ("wired", "value"),
    [
        pytest.param(wired, value, id=f"{wired.parameter}: {value or 'empty'}, {wired.seen.__name__}")
        for wired in WIRED
        for value in wired.values
    ],
)
def test_a_parameter_changes_what_leaves_or_is_refused(
    stack: Stack, authority: Authority, wired: Wired, value: str
) -> None:
    given = str(authority.path) if value == AUTHORITY else value
    tls = authority.server_context() if wired.parameter == "CaBundle" else None
    with LoopbackReceiver(tls=tls) as receiver:
        stack.functions.receiver = receiver
        assert wired.seen(stack, wired.parameter, given) == wired.values[value]


def test_every_parameter_that_a_function_reads_is_in_the_table() -> None:
    read = parameters_in(VARIABLES)
    assert {wired.parameter for wired in WIRED} == read
    assert PARAMETERS.keys() - read == FOR_AWS_ALONE


def test_each_table_and_queue_is_used_for_what_it_is(stack: Stack) -> None:
    stack.report(stack.registered(), "ACTIVATED")
    assert stack.functions.invoke("endpoint_status", batch("no event")) == {"batchItemFailures": []}
    tables = {name: stack.functions.dynamodb.scan(TableName=name)["Count"] for name in ("locks", "endpoints")}
    assert tables == {"locks": 1, "endpoints": 1}
    (transition,) = stack.functions.dynamodb.scan(TableName="transitions")["Items"]
    assert transition["cause"]["M"]["kind"] == {"S": "report"}
    assert [message["reason"] for message in stack.functions.messages("rejected")] == ["malformed"]
    stack.clock.at = stack.due_at()
    assert stack.functions.invoke("refresh", event("schedule_tick")) == {"woken": 1}
    assert stack.functions.messages("wake-up")[-1]["resource_id"] == RESOURCE
    assert stack.functions.messages("status") == []


def test_the_table_and_the_queue_of_probes_are_used_for_what_they_are(stack: Stack) -> None:
    stack.registered(checks=[PARIS])
    stack.look(lambda check: "")
    told = stack.told()
    assert stack.functions.invoke("probe_clock", stack.next_minute()) == {"slots": 6}
    assert {message["shard"] for message in stack.functions.messages("probe")} == {0}
    stack.probe()
    (states,) = stack.functions.dynamodb.scan(TableName="probes")["Items"]
    assert (states["shard"], len(told)) == ({"S": "0/1"}, 1)


def test_a_key_rotation_is_started_in_the_function_of_the_stack(stack: Stack) -> None:
    assert stack.functions.invoke("endpoints_api", event("api_rotate_key"))["statusCode"] == 204
    (invocation,) = stack.functions.awslambda.invocations
    assert invocation["FunctionName"] == environment()["KEY_ROTATION_FUNCTION"]
