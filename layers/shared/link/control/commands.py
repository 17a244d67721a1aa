"""Commands: what operators change. A command commits and puts a wake-up message; it never claims or sends.

AWS calls. Create: 1 Encrypt, 1 GetItem, 1 TransactWriteItems, and 1 Scan if endpoints are limited; with a token 1
GetItem more; a repeated call only 3 GetItem. Change: 3 GetItem, 1 TransactWriteItems, and 1 Encrypt for a new secret.
A change's outlook: 2 GetItem, and 1 Encrypt for a new secret.
Delete, failover, redeliver: 2 GetItem, 1 write. Freeze and unfreeze: 1 GetItem, 1 TransactWriteItems. Each of these:
1 SendMessage if it makes something due within a minute. Create and change of a probed endpoint: 1 Query more. Signals
add writes to a transaction and no call. Key rotation: 1 Invoke.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from link.chance import Chance
from link.clock import Clock
from link.control import views
from link.election import rules
from link.election.state import Endpoint, Resource
from link.election.wake_up import settle
from link.errors import Conflict, NotFound
from link.fields import Problems
from link.plugins.seam import PluginConfig, Plugins
from link.registration import Registration, read_body, read_change, read_drained, read_new
from link.settings import Settings
from link.store.endpoints import Registrations
from link.store.locks import Cause, Committed, Locks, Step
from link.store.probes import Targets
from link.store.queues import Queues
from link.store.signals import Signals

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

_ENDPOINT_ID = re.compile(r"vip-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class _AlreadyRegistered(Exception):
    """The endpoint exists.

    An exception, not a return value: a step that returns may change something else that is due, and then `_commit`
    would write the second registration, too.
    """

    def __init__(self, endpoint_id: str) -> None:
        self.endpoint_id = endpoint_id


class Commands:
    """Registers, changes, fails over, freezes and deletes. `by` is the ARN of the operator, for the audit."""

    def __init__(
        self,
        locks: Locks,
        registrations: Registrations,
        targets: Targets,
        signals: Signals,
        queues: Queues,
        plugins: Plugins,
        settings: Settings,
        clock: Clock,
        chance: Chance,
        start_key_rotation: Callable[[], None],
    ) -> None:
        self._locks = locks
        self._registrations = registrations
        self._targets = targets
        self._signals = signals
        self._queues = queues
        self._plugins = plugins
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._start_key_rotation = start_key_rotation

    def create(self, body: Any, request_id: str, token: str | None = None, *, by: str = "") -> dict[str, Any]:
        """Registers an endpoint; raises Invalid or Conflict. It stays BOOTING until its first report.

        With the `token` of an earlier call, returns the endpoint of that call, while it exists. The last group of the
        endpoint's id is a hash of the token, so no table of tokens is needed.
        """
        factory = self._plugins[body.get("plugin") if isinstance(body, dict) else None]
        problems = Problems()
        given = read_body(body, problems)
        config = problems.collect(lambda: factory.validate(given.get("plugin_config")))
        fields = read_new(given, problems, self._settings.probe_networks, self._settings.signal_types)
        drained = read_drained(given, problems)
        problems.raise_if_any()
        assert config is not None
        suffix = _token_suffix(token)
        if suffix and (known := _with_suffix(self._locks.read(config.resource_id), suffix)):
            return self._repeated(known, given["plugin"], config, fields["host"])
        self._check_limit()
        endpoint_id = f"vip-{self._chance.uuid()}"
        if suffix:
            endpoint_id = endpoint_id[: -len(suffix)] + suffix
        now = self._clock.now()
        registration = Registration(
            endpoint_id=endpoint_id,
            plugin=given["plugin"],
            resource_id=config.resource_id,
            config=factory.mutate(config, endpoint_id, now),
            created_at=now,
            **fields,
        )
        entry = replace(registration.new_entry(), drained_at=now if drained else 0)

        def register(resource: Resource, now: int) -> Resource:
            # It exists if the answer to our own write was lost, or if a repetition of this call was faster.
            if known := endpoint_id if endpoint_id in resource.endpoints else _with_suffix(resource, suffix):
                raise _AlreadyRegistered(known)
            plugin = self._plugins.stored_name(registration.plugin)
            return rules.register(resource, endpoint_id, entry=entry, plugin=plugin)

        try:
            writes = [self._registrations.put(registration), *self._signals.registered(None, registration)]
            self._commit(registration.resource_id, Cause("register", request_id, by), register, writes)
        except _AlreadyRegistered as already:
            return self._repeated(already.endpoint_id, registration.plugin, config, registration.host)
        return self._view(registration, entry)

    def _view(self, registration: Registration, entry: Endpoint) -> dict[str, Any]:
        """The endpoint as it is now registered, with `warnings` if there are any."""
        view = views.endpoint(self._plugins, registration, entry)
        if registration.probed and (warnings := self._shared_addresses(registration)):
            view["warnings"] = warnings
        return view

    def _shared_addresses(self, registration: Registration) -> list[str]:
        """A warning for each address at which another endpoint of the resource is checked, too."""
        own = {(check["host"], check["port"]) for check in registration.checks}
        others: dict[tuple[str, int], str] = {}
        for target in self._targets.of_resource(registration.resource_id):
            if target.endpoint_id != registration.endpoint_id:
                others |= {(check.host, check.port): target.endpoint_id for check in target.checks}
        return [
            f"{host}:{port} is also checked for {others[host, port]}: a check of an address that moves with the active "
            "host finds each of them healthy; check each host at an address of its own"
            for host, port in sorted(own & others.keys())
        ]

    def _repeated(self, endpoint_id: str, plugin: str, config: PluginConfig, host: str) -> dict[str, Any]:
        """What an earlier call with the same token registered; raises Conflict when that was something else."""
        stored = self._registrations.existing(endpoint_id)
        entry = rules.registered(self._locks.read(stored.resource_id), endpoint_id)
        same = (stored.plugin, stored.resource_id, stored.host) == (plugin, config.resource_id, host)
        if not same or not self._plugins[plugin].same(stored, config):
            raise Conflict(f"the Idempotency-Key was used for another registration, {endpoint_id}: use a new one")
        return views.endpoint(self._plugins, stored, entry)

    def _check_limit(self) -> None:
        maximum = self._settings.max_endpoints
        # The count is cheap, but includes endpoints being deleted. Only at the limit is the list needed, too.
        if maximum and self._registrations.count() >= maximum:
            found = [(one.resource_id, one.endpoint_id) for one in self._registrations.scan()]
            resources = self._locks.read_all({resource_id for resource_id, _ in found})
            registered = sum(rules.is_registered(resources.get(resource_id), i) for resource_id, i in found)
            if registered >= maximum:
                raise Conflict(f"Too many endpoints configured: {registered}, max allowed: {maximum}", "limit")

    def change(
        self, endpoint_id: str, body: Any, request_id: str, *, force: bool = False, by: str = ""
    ) -> dict[str, Any]:
        """Changes a registration, or drains the endpoint; raises Invalid, NotFound or Conflict.

        Fields that the body does not name stay. `force` drains the last ready endpoint of a resource, too.
        """
        stored = self._registrations.existing(endpoint_id)
        entry = rules.registered(self._locks.read(stored.resource_id), endpoint_id)
        changed, command = self._changed(stored, body, force)
        if command is None:
            return views.endpoint(self._plugins, stored, entry)
        writes: list[TransactWriteItemTypeDef] = []
        if changed != stored:
            writes = [self._registrations.update(stored, changed), *self._signals.registered(stored, changed)]
        committed = self._commit_for(stored, Cause("change", request_id, by), command, writes)
        return self._view(changed, committed.after.endpoints[endpoint_id])

    def outlook(self, endpoint_id: str, body: Any, *, force: bool = False) -> dict[str, Any]:
        """The holder and the webhooks if this change was made now. Raises what the change would raise."""
        stored = self._registrations.existing(endpoint_id)
        before = self._locks.read(stored.resource_id)
        rules.registered(before, endpoint_id)
        _, command = self._changed(stored, body, force)
        after = before if command is None else command(before, endpoint_id, self._clock.now())
        return views.outlook(before, after)

    def _changed(
        self, stored: Registration, body: Any, force: bool
    ) -> tuple[Registration, Callable[[Resource, str, int], Resource] | None]:
        """The changed registration, and what happens to its lock item; None: nothing. Raises Invalid."""
        problems = Problems()
        given = read_body(body, problems, change=True)
        fields = read_change(given, stored, problems, self._settings.probe_networks, self._settings.signal_types)
        drained = read_drained(given, problems)
        factory, now = self._plugins[stored.plugin], self._clock.now()
        replacement = problems.collect(lambda: factory.change(stored, given.get("plugin_config"), now))
        problems.raise_if_any()
        assert replacement is not None
        changed = replace(stored, config=replacement.config, **fields)
        commands: list[Callable[[Resource, str, int], Resource]] = []
        if changed != stored:
            changed = replace(changed, revision=stored.revision + 1)
            change = partial(
                rules.change,
                revision=stored.revision,
                priority=changed.priority,
                lease_seconds=changed.lease_seconds,
                observers=changed.observers,
                ready_when=changed.ready_when,
                new_receiver=replacement.new_receiver,
            )
            commands.append(change)
        if drained is not None:
            commands.append(partial(rules.drain, drained=drained, force=force))
        if not commands:
            return stored, None

        def command(resource: Resource, endpoint_id: str, now: int) -> Resource:
            for one in commands:
                resource = one(resource, endpoint_id, now)
            return resource

        return changed, command

    def redeliver(self, endpoint_id: str, request_id: str, *, by: str = "") -> None:
        """Requests another delivery of the current status; raises NotFound or Conflict."""
        self._commit_for(self._registrations.existing(endpoint_id), Cause("redeliver", request_id, by), rules.redeliver)

    def delete(self, endpoint_id: str, request_id: str, *, force: bool = False, by: str = "") -> None:
        """Deletes an endpoint. If its receiver may believe it active, it gets a STANDBY first, except with `force`.

        Its signals are not heard any more from now on; the registration goes with the entry.
        """
        stored = self._registrations.existing(endpoint_id)
        command = partial(rules.delete, force=force)
        self._commit_for(stored, Cause("delete", request_id, by), command, self._signals.registered(stored, None))

    def failover(self, endpoint_id: str, request_id: str, *, to: str | None = None, by: str = "") -> None:
        """Hands the lock of the holder `endpoint_id` to another ready endpoint; raises NotFound or Conflict."""
        command = partial(rules.failover, to=to, command=request_id)
        self._commit_for(self._registrations.existing(endpoint_id), Cause("failover", request_id, by), command)

    def freeze(self, resource_id: str, frozen: bool, request_id: str, *, by: str = "") -> dict[str, Any]:
        """Freezes or unfreezes a resource; raises NotFound or Conflict."""

        def command(resource: Resource, now: int) -> Resource:
            if not resource.endpoints:
                raise NotFound("Resource not found")
            return rules.freeze(resource, now) if frozen else rules.unfreeze(resource, now)

        committed = self._commit(resource_id, Cause("freeze" if frozen else "unfreeze", request_id, by), command)
        return views.resource(committed.after, self._clock.now())

    def rotate_key(self) -> None:
        """Starts a key rotation and does not wait for its end."""
        self._start_key_rotation()

    def _commit_for(
        self,
        registration: Registration,
        cause: Cause,
        command: Callable[[Resource, str, int], Resource],
        writes: Sequence[TransactWriteItemTypeDef] = (),
    ) -> Committed:
        """Commits an election command about one endpoint."""
        endpoint_id = registration.endpoint_id
        return self._commit(registration.resource_id, cause, lambda item, now: command(item, endpoint_id, now), writes)

    def _commit(
        self,
        resource_id: str,
        cause: Cause,
        command: Callable[[Resource, int], Resource],
        writes: Sequence[TransactWriteItemTypeDef] = (),
    ) -> Committed:
        def step(resource: Resource, nonce: str) -> Step:
            now = self._clock.now()
            resource = command(resource, now)
            refresh_ms = self._plugins[self._plugins.name(resource.plugin)].config().refresh_every
            return Step(*settle(resource, now, refresh_ms=refresh_ms, damping=self._settings.flap_damping))

        committed = self._locks.update(resource_id, step, cause, registration=writes)
        due_at = committed.after.due_at
        if committed.needs_wake_up and due_at is not None:
            self._queues.wake_up(resource_id, due_at, self._clock.now())
        return committed


def is_endpoint_id(text: str) -> bool:
    """Whether this can be an endpoint's id: `vip-` and a UUID."""
    return _ENDPOINT_ID.fullmatch(text) is not None


def _token_suffix(token: str | None) -> str:
    """The end of the id of an endpoint that is registered with this token: 12 hex digits, or nothing without token."""
    return "" if token is None else hashlib.sha256(token.encode()).hexdigest()[:12]


def _with_suffix(resource: Resource, suffix: str) -> str | None:
    """The endpoint that was registered with a token. One that is being deleted does not count."""
    if not suffix:
        return None
    return next((i for i, e in resource.endpoints.items() if i.endswith(suffix) and not e.deleting), None)
