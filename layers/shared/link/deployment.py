"""Builds a process: one function per role. Nothing is built by importing this module.

`functions/*/app.py` call these functions once, when Lambda starts the process. Tests and the simulator call them with
clients, clock, chance and sender of their own. A role's modules are imported when the role is built, so that a cold
start loads only what its own function needs.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from link import settings
from link.chance import Chance
from link.clock import Clock
from link.settings import Settings
from link.store import aws

if TYPE_CHECKING:
    from link.control.commands import Commands
    from link.control.queries import Queries
    from link.key_rotation import KeyRotation
    from link.plugins.seam import Plugins
    from link.plugins.webhook.factory import Post
    from link.prober import Look, ProbeClock, Prober
    from link.reconcile import Reconciler, Sends
    from link.signaller import AtOnce, Signaller
    from link.signaller import Look as SignalsLook
    from link.sweep import Sweep

Clients = Callable[..., Any]
"""Makes a client of an AWS service; a second argument is how long to wait for an answer, in seconds."""
LOOK_SECONDS = 15
"""A look with one try takes 5 s, and the function may have to start."""


class ControlPlane(NamedTuple):
    """What the API does, without HTTP."""

    commands: Commands
    queries: Queries


def reconciler(
    env: Mapping[str, str] = os.environ,
    *,
    client: Clients = aws.client,
    clock: Clock | None = None,
    chance: Chance | None = None,
    post: Post | None = None,
    sends: Callable[[], Sends] | None = None,
) -> Reconciler:
    """The process that applies reports, elects and sends. It alone decrypts."""
    from link.plugins.webhook.sender import Sender
    from link.reconcile import MAX_SENDS, Reconciler, Sends
    from link.store.endpoints import Registrations
    from link.store.locks import Locks
    from link.store.queues import Queues

    configured, clock, chance = settings.load(env), clock or Clock(), chance or Chance()
    dynamodb = client("dynamodb")
    if post is None:
        post = Sender(
            allowed_networks=configured.allowed_networks,
            require_https=configured.require_https,
            ca_bundle=configured.ca_bundle,
            clock=clock,
        ).post
    return Reconciler(
        Locks(dynamodb, configured, clock, chance),
        Registrations(dynamodb, configured),
        Queues(client("sqs"), configured),
        plugins(configured, client, clock, post),
        configured,
        clock,
        chance,
        sends or partial(Sends, threading.Semaphore(MAX_SENDS)),
    )


def control_plane(
    env: Mapping[str, str] = os.environ,
    *,
    client: Clients = aws.client,
    clock: Clock | None = None,
    chance: Chance | None = None,
) -> ControlPlane:
    """The process behind the API. It encrypts and never decrypts, claims or sends."""
    from link.control.commands import Commands
    from link.control.queries import Queries
    from link.store.endpoints import Registrations
    from link.store.locks import Locks
    from link.store.probes import ProbeStates, Targets
    from link.store.queues import Queues
    from link.store.signals import Signals

    configured = settings.load(env, api=True)
    clock, chance = clock or Clock(), chance or Chance()
    dynamodb = client("dynamodb")
    locks = Locks(dynamodb, configured, clock, chance)
    registrations = Registrations(dynamodb, configured)
    queues = Queues(client("sqs"), configured)
    signals = Signals(dynamodb, configured)
    known = plugins(configured, client, clock)

    def start_key_rotation() -> None:
        # This client is made when a rotation starts, about once a year.
        client("lambda").invoke(FunctionName=configured.key_rotation_function, InvocationType="Event")

    def look(checks: list[dict[str, Any]]) -> list[str]:
        answer = client("lambda", LOOK_SECONDS).invoke(
            FunctionName=configured.probe_function, Payload=json.dumps({"checks": checks}).encode()
        )
        if "FunctionError" in answer:
            raise RuntimeError("the probe function failed: read its log")
        return list(json.loads(answer["Payload"].read()))

    return ControlPlane(
        Commands(
            locks,
            registrations,
            Targets(dynamodb, configured),
            signals,
            queues,
            known,
            configured,
            clock,
            chance,
            start_key_rotation,
        ),
        Queries(locks, registrations, ProbeStates(dynamodb, configured), signals, known, configured, clock, look),
    )


def sweep(env: Mapping[str, str] = os.environ, *, client: Clients = aws.client, clock: Clock | None = None) -> Sweep:
    """The process that runs every minute and wakes up what is due. It reads the due index and nothing else."""
    from link.store.locks import Locks
    from link.store.queues import Queues
    from link.sweep import Sweep

    configured, clock = settings.load(env), clock or Clock()
    return Sweep(Locks(client("dynamodb"), configured, clock, Chance()), Queues(client("sqs"), configured), clock)


def prober(
    env: Mapping[str, str] = os.environ,
    *,
    client: Clients = aws.client,
    clock: Clock | None = None,
    look: Look | None = None,
) -> Prober:
    """The process that looks at endpoints. It reports what it finds like any host, and decides nothing."""
    from link.prober import SOURCE, Prober
    from link.store.bus import Bus
    from link.store.locks import Locks
    from link.store.probes import ProbeStates, Targets

    configured, clock = settings.load(env, probes=True), clock or Clock()
    dynamodb = client("dynamodb")
    if look is None:
        from link.probing.looks import Looker

        look = Looker(configured.probe_networks).look
    return Prober(
        Targets(dynamodb, configured),
        ProbeStates(dynamodb, configured),
        Locks(dynamodb, configured, clock, Chance()),
        Bus(client("events"), configured, SOURCE),
        look,
        configured,
        clock,
    )


def probe_clock(
    env: Mapping[str, str] = os.environ, *, client: Clients = aws.client, clock: Clock | None = None
) -> ProbeClock:
    """The process that puts the slots of a minute."""
    from link.prober import ProbeClock
    from link.store.probes import ProbeQueue, Targets

    configured = settings.load(env, probes=True)
    return ProbeClock(
        Targets(client("dynamodb"), configured), ProbeQueue(client("sqs"), configured), configured, clock or Clock()
    )


def signaller(
    env: Mapping[str, str] = os.environ,
    *,
    client: Clients = aws.client,
    clock: Clock | None = None,
    look: SignalsLook | None = None,
    at_once: AtOnce = map,
) -> Signaller:
    """The process that follows AWS's own signals. It reports what it hears like any host, and decides nothing."""
    from link.signaller import SOURCE, Signaller
    from link.store.bus import Bus
    from link.store.locks import Locks
    from link.store.queues import Queues
    from link.store.signals import Signals

    configured, clock, chance = settings.load(env, signals=True), clock or Clock(), Chance()
    dynamodb = client("dynamodb")
    if look is None:
        from link.signal_look import SignalLook

        look = SignalLook(client, clock, chance).look
    return Signaller(
        Signals(dynamodb, configured),
        Locks(dynamodb, configured, clock, chance),
        Bus(client("events"), configured, SOURCE),
        Queues(client("sqs"), configured),
        look,
        # Few groups have a hook of ours.
        partial(client, "autoscaling"),
        clock,
        at_once,
    )


def key_rotation(
    env: Mapping[str, str] = os.environ, *, client: Clients = aws.client, clock: Clock | None = None
) -> KeyRotation:
    """The process that renews ciphertexts. It neither encrypts nor decrypts."""
    from link.key_rotation import KeyRotation
    from link.store.endpoints import Registrations

    configured, clock = settings.load(env), clock or Clock()
    registrations = Registrations(client("dynamodb"), configured)
    return KeyRotation(registrations, plugins(configured, client, clock), clock)


def plugins(configured: Settings, client: Clients, clock: Clock, post: Post | None = None) -> Plugins:
    """The plugins of this deployment; the first one is the default. Without `post` they cannot send."""
    from link.plugins.seam import Plugins
    from link.plugins.webhook.factory import PLUGIN, WebhookFactory
    from link.store.vault import Vault

    known = Plugins()
    known.register(PLUGIN, WebhookFactory(Vault(client("kms"), configured, clock), configured, clock, post))
    return known
