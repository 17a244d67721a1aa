"""One way to build a process: what each role needs, makes and may call."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

import link
from link import deployment
from link.chance import Chance
from link.clock import Clock
from link.control.commands import Commands
from link.control.queries import Queries
from link.election.result import Result, ResultKind
from link.key_rotation import KeyRotation
from link.plugins.webhook import sender
from link.reconcile import Reconciler
from link.reports import parse
from link.settings import Settings, SettingsError, load
from link.sweep import Sweep
from tests.simulation.store import Keys, Store
from tests.support.deployed import create_tables, environment, settings
from tests.support.hands import FixedChance, HeldClock
from tests.support.ids import NOW, RESOURCE, SECRETS, URL

ROLES: dict[str, Callable[..., Any]] = {
    "reconciler": deployment.reconciler,
    "control_plane": deployment.control_plane,
    "sweep": deployment.sweep,
    "key_rotation": deployment.key_rotation,
}
REQUIRED = (
    "LOCKS_TABLE",
    "ENDPOINTS_TABLE",
    "TRANSITIONS_TABLE",
    "STATUS_QUEUE_URL",
    "WAKE_UP_QUEUE_URL",
    "REJECTED_EVENTS_QUEUE_URL",
    "SECRETS_KEY_ARN",
)
SECRET = next(iter(SECRETS.values()))


class Only:
    """A client that may do only these operations, and remembers which it did."""

    def __init__(self, client: Any, *allowed: str) -> None:
        self.client, self.allowed = client, allowed
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        assert name in self.allowed, f"this process may not call {name}"

        def call(**arguments: Any) -> Any:
            self.calls.append((name, arguments))
            return getattr(self.client, name)(**arguments)

        return call


class Clients:
    """Makes the clients of a process, by service, and remembers which."""

    def __init__(self, **services: Any) -> None:
        self.services = services
        self.made: list[str] = []

    def __call__(self, service: str) -> Any:
        self.made.append(service)
        return self.services[service]


def anything() -> Clients:
    """Clients for a process that is built and not used."""
    return Clients(dynamodb=object(), kms=object(), sqs=object(), **{"lambda": object()})


class Accepts:
    """A client of SQS or Lambda that accepts everything."""

    def send_message(self, **_: Any) -> dict[str, Any]:
        return {}

    def invoke(self, **_: Any) -> dict[str, Any]:
        return {"StatusCode": 202}


# Settings


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("role", ROLES)
def test_a_missing_setting_fails_at_start_with_its_name(role: str, name: str) -> None:
    env = environment()
    del env[name]
    clients = anything()
    with pytest.raises(SettingsError, match=f"^{name} is missing: set it under Environment"):
        ROLES[role](env, client=clients)
    assert clients.made == [], "nothing is made before all settings are there"


def test_only_the_api_fails_at_start_without_the_function_that_it_starts() -> None:
    env = environment()
    del env["KEY_ROTATION_FUNCTION"]
    for role in ROLES.keys() - {"control_plane"}:
        ROLES[role](env, client=anything())
    with pytest.raises(SettingsError, match="KEY_ROTATION_FUNCTION is missing"):
        deployment.control_plane(env, client=anything())


def test_every_setting_without_a_default_is_required() -> None:
    without_default = [one.name for one in dataclasses.fields(Settings) if one.default is dataclasses.MISSING]
    assert without_default == [name.lower() for name in REQUIRED]


@pytest.mark.parametrize("role", ROLES)
def test_a_complete_environment_is_enough(role: str) -> None:
    built = ROLES[role](environment(), client=anything())
    expected = {"reconciler": Reconciler, "sweep": Sweep, "key_rotation": KeyRotation}
    if role == "control_plane":
        assert isinstance(built.commands, Commands) and isinstance(built.queries, Queries)
    else:
        assert isinstance(built, expected[role])


@pytest.mark.parametrize("role", ROLES)
def test_a_start_holds_nothing_that_a_snapshot_of_the_process_could_not_hold(
    role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SnapStart continues copies of a started process, hours later: no connection, no time, nothing unique.
    def too_early(*_: object) -> None:
        raise AssertionError("only when there is an event")

    for kind, names in {
        socket.socket: ("connect",),
        Clock: ("now", "monotonic"),
        Chance: ("jitter", "nonce", "uuid"),
        threading.Thread: ("start",),
    }.items():
        for name in names:
            monkeypatch.setattr(kind, name, too_early)
    ROLES[role](environment())


def test_copies_of_a_process_draw_different_numbers() -> None:
    chance, drawn = Chance(), []
    for _ in range(2):
        random.seed(1)  # As in each copy of one snapshot.
        drawn.append((chance.jitter(), chance.nonce(), chance.uuid()))
    first, second = drawn
    assert [one for one, other in zip(first, second, strict=True) if one == other] == []


# Clients and modules


@pytest.mark.parametrize(
    ("role", "services"),
    [
        pytest.param("reconciler", ["dynamodb", "kms", "sqs"], id="the reconciler: tables, queues and key"),
        pytest.param("control_plane", ["dynamodb", "kms", "sqs"], id="the control plane: Lambda when it is needed"),
        pytest.param("sweep", ["dynamodb", "sqs"], id="the sweep: no key"),
        pytest.param("key_rotation", ["dynamodb", "kms"], id="the key rotation: no queue"),
    ],
)
def test_a_process_makes_the_clients_that_it_needs_once(role: str, services: list[str]) -> None:
    clients = anything()
    ROLES[role](environment(), client=clients)
    assert sorted(clients.made) == services


LOADED = """
import json, sys
from link import deployment
getattr(deployment, sys.argv[1])(json.loads(sys.argv[2]), client=lambda service: object())
print(json.dumps([name for name in sys.modules if name.startswith("link.") or name == "requests"]))
"""
WEBHOOK = "link.plugins.webhook"
SENDING = {"requests", f"{WEBHOOK}.sender", f"{WEBHOOK}.adapter", f"{WEBHOOK}.connection"}
API = {"link.control.commands", "link.control.queries"}
PLUGINS = {"link.plugins.seam", "link.plugins.webhook.factory", "link.store.vault"}


@pytest.mark.parametrize(
    ("role", "needs", "leaves_out"),
    [
        ("reconciler", {"link.reconcile"} | SENDING | PLUGINS, API | {"link.sweep", "link.key_rotation"}),
        ("control_plane", API | PLUGINS, SENDING | {"link.reconcile", "link.sweep"}),
        ("sweep", {"link.sweep"}, SENDING | API | PLUGINS | {"link.reconcile", "link.key_rotation"}),
        ("key_rotation", {"link.key_rotation"} | PLUGINS, SENDING | API | {"link.reconcile", "link.sweep"}),
    ],
)
def test_a_process_loads_no_other_roles_modules(role: str, needs: set[str], leaves_out: set[str]) -> None:
    env = {
        "PYTHONPATH": str(Path(link.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.environ["PATH"],
    }
    command = [sys.executable, "-c", LOADED, role, json.dumps(environment())]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    loaded = set(json.loads(ran.stdout))
    assert (needs - loaded, leaves_out & loaded) == (set(), set())


# The control plane


@pytest.fixture
def dynamodb() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("dynamodb")
        create_tables(client, settings())
        yield client


def test_the_control_plane_starts_a_key_rotation_by_invoking_the_configured_function() -> None:
    invoked = Only(Accepts(), "invoke")
    clients = Clients(dynamodb=object(), kms=object(), sqs=object(), **{"lambda": invoked})
    plane = deployment.control_plane(environment() | {"KEY_ROTATION_FUNCTION": "ours-key-rotation"}, client=clients)
    assert "lambda" not in clients.made
    plane.commands.rotate_key()
    # An event: the call returns before the rotation is over.
    assert invoked.calls == [("invoke", {"FunctionName": "ours-key-rotation", "InvocationType": "Event"})]


def test_the_control_plane_encrypts_and_never_decrypts_or_sends(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the control plane makes no sender")

    monkeypatch.setattr(sender, "Sender", refuse)
    kms = Only(Keys(), "encrypt")
    clients = Clients(dynamodb=dynamodb, kms=kms, sqs=Only(Accepts(), "send_message"), **{"lambda": Accepts()})
    clock = HeldClock()
    commands, queries = deployment.control_plane(environment(), client=clients, clock=clock)

    def register(host: str, token: str | None = None) -> str:
        config = {"url": URL, "resource_id": RESOURCE, "secret": SECRET, "headers": {"X-Site": host}}
        body = {"plugin": "webhook", "plugin_config": config, "host": host}
        endpoint_id: str = commands.create(body, f"register-{host}", token)["id"]
        return endpoint_id

    paris, london = register("paris", "key"), register("london")
    assert register("paris", "key") == paris
    report_by_another_process(dynamodb, paris, london)
    commands.change(paris, {"priority": 3, "plugin_config": {"secret": SECRET[::-1], "headers": {}}}, "change")
    commands.redeliver(paris, "redeliver")
    commands.freeze(RESOURCE, True, "freeze")
    commands.freeze(RESOURCE, False, "unfreeze")
    queries.outlook(paris, to=london)
    commands.failover(paris, "failover")
    for look in (queries.show, queries.hosts, queries.preview):
        assert look(london)
    assert queries.endpoints() and queries.resource(RESOURCE)
    assert queries.resources() and queries.transitions(RESOURCE, 10, None) and queries.key_rotation(0)
    commands.delete(london, "delete")
    commands.delete(paris, "delete", force=True)
    commands.rotate_key()
    assert [name for name, _ in kms.calls] == ["encrypt"] * 3, "two registrations and a new secret"


def report_by_another_process(dynamodb: Any, *endpoint_ids: str) -> None:
    """Make a reconciler elect the first endpoint; its deliveries fail."""
    clients = Clients(dynamodb=dynamodb, kms=Keys(), sqs=Accepts())
    reconciler = deployment.reconciler(
        environment(), client=clients, clock=HeldClock(), post=lambda *_, **__: Result(ResultKind.NOT_SENT, "dns")
    )
    for endpoint_id in endpoint_ids:
        detail = {"endpoint_id": endpoint_id, "resource_id": RESOURCE, "status": "ACTIVATED", "reported_at": NOW}
        reconciler.receive(parse({"id": "event", "source": "link", "detail": detail}), lambda: 11.0)


# The reconciler


def test_the_reconciler_sends_with_the_settings_of_the_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    class Sender:
        def __init__(self, **arguments: Any) -> None:
            made.append(arguments)

        def post(self) -> None:
            raise AssertionError("nothing is sent here")

    monkeypatch.setattr(sender, "Sender", Sender)
    env = environment() | {"ALLOWED_NETWORKS": "10.0.0.0/8", "REQUIRE_HTTPS": "true", "CA_BUNDLE": "/opt/ours.pem"}
    clock = HeldClock()
    deployment.reconciler(env, client=anything(), clock=clock)
    assert made == [
        {
            "allowed_networks": load(env).allowed_networks,
            "require_https": True,
            "ca_bundle": "/opt/ours.pem",
            "clock": clock,
        }
    ]


def test_the_reconciler_uses_the_clock_the_chance_and_the_sender_that_it_is_given() -> None:
    posted: list[tuple[str, int, dict[str, str]]] = []

    def post(url: str, body: bytes, headers: dict[str, str], *, not_after: int) -> Result:
        posted.append((url, not_after, deployed_entry(store, paris)["na"]))
        return Result(ResultKind.NOT_SENT, "dns")

    store, clock = Store(settings()), HeldClock()
    clients = Clients(dynamodb=store, kms=Keys(), sqs=Accepts())
    plane = deployment.control_plane(environment(), client=clients, clock=clock)
    config = {"url": URL, "resource_id": RESOURCE, "secret": SECRET}
    paris = plane.commands.create({"plugin": "webhook", "plugin_config": config}, "request")["id"]
    reconciler = deployment.reconciler(environment(), client=clients, clock=clock, chance=FixedChance(1.0), post=post)
    detail = {"endpoint_id": paris, "resource_id": RESOURCE, "status": "ACTIVATED", "reported_at": NOW}
    left = iter([30.0] * 3)
    reconciler.receive(parse({"id": "event", "source": "link", "detail": detail}), lambda: next(left, 0.0))
    # The highest jitter: the whole second of a first backoff, set by the claim and again by the outcome.
    next_attempt_at = {"N": str(NOW + 1_000)}
    # A claim takes 15 s, and nothing is sent in its last 7 s.
    assert posted[0] == (URL, NOW + 8_000, next_attempt_at)
    assert deployed_entry(store, paris)["na"] == next_attempt_at


def deployed_entry(store: Store, endpoint_id: str) -> dict[str, Any]:
    """The endpoint's entry as stored."""
    item = store.get_item(TableName=settings().locks_table, Key={"resource_id": {"S": RESOURCE}})["Item"]
    entry: dict[str, Any] = item["endpoints"]["M"][endpoint_id]["M"]
    return entry
