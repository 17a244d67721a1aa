"""The control plane: what the API does, without HTTP. It commits and wakes up; it never claims or sends.

AWS calls: create 1 Encrypt, 1 GetItem, 1 TransactWriteItems (with a token 1 GetItem more, repeated 3 GetItem alone;
and a Scan for the limit); change 2 GetItem, 1 TransactWriteItems, 1 Encrypt for a secret, 1 SendMessage when
something is due sooner; show, hosts, preview and a dry run 2 GetItem; list 1 Scan a MiB and 1 BatchGetItem per 100
resources; delete, failover and redeliver 2 GetItem, 1 write, 1 SendMessage; one resource 1 GetItem, all of them 1
Scan a MiB; freezing 1 GetItem, 1 TransactWriteItems; transitions 1 Query; a key rotation 1 Invoke, its progress 1
Scan a MiB.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from link import election, webhook
from link.clock import Clock
from link.delivery import election_key
from link.endpoint import NEXT_STEPS, Endpoint, Kind, Reason, Resource, Status
from link.errors import Conflict, NotFound
from link.lock import Cause, Committed, Locks, Step
from link.plugin import PluginConfig, StorablePluginConfig, factory
from link.queues import Queues
from link.reconcile import log_changes
from link.registry import Registry
from link.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

PAGE = 1_000
_ENDPOINT_ID = re.compile(r"vip-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class _Registered(Exception):
    """The endpoint is there already. Not the step's answer: what else is due must not be written with its row."""

    def __init__(self, endpoint_id: str) -> None:
        self.endpoint_id = endpoint_id


class ControlPlane:
    """Registers, shows, fails over and deletes endpoints."""

    def __init__(
        self,
        locks: Locks,
        registry: Registry,
        queues: Queues,
        settings: Settings,
        clock: Clock,
        invoke: Callable[[str], None] = lambda function: None,
    ) -> None:
        self._invoke = invoke
        self._locks = locks
        self._registry = registry
        self._queues = queues
        self._settings = settings
        self._clock = clock

    def create(self, body: Any, request_id: str, token: str | None = None) -> dict[str, Any]:
        """Registers an endpoint; raises Invalid or Conflict. It stays BOOTING until its first report.

        With the `token` of an earlier call, returns what that one registered, as long as it is there: the token's
        hash is the last group of the endpoint's id, so that nothing more has to be stored or looked up.
        """
        plugin = factory(body.get("plugin") if isinstance(body, dict) else None)
        config = plugin.validate(body)
        mark = "" if token is None else hashlib.sha256(token.encode()).hexdigest()[:12]
        if mark and (known := _marked(self._locks.read(config.resource_id), mark)):
            return self._repeated(config, known)
        maximum = self._settings.max_endpoints
        # The count is cheap and counts what is being deleted too; only at the limit the list is worth its price.
        if maximum and self._registry.count() >= maximum and (alive := len(self.endpoints())) >= maximum:
            raise Conflict(f"create endpoint: Too many endpoints configured: {alive}, max allowed: {maximum}")
        endpoint_id = f"vip-{uuid.uuid4()}"
        if mark:
            endpoint_id = endpoint_id[: -len(mark)] + mark
        now = self._clock.now()
        row = plugin.mutate(config, endpoint_id, now)
        entry = Endpoint(joined=now, host=row.host, priority=row.priority, lease_seconds=row.lease_seconds)

        def register(resource: Resource) -> Resource:
            # By a write of ours whose answer was lost, or by the same call, repeated before this one was answered.
            if known := endpoint_id if endpoint_id in resource.endpoints else _marked(resource, mark):
                raise _Registered(known)
            try:
                return election.register(resource, endpoint_id, entry)
            except Conflict as conflict:
                raise Conflict(f"start scheduler: endpoint already assigned: {conflict}") from None

        try:
            self._commit(row.resource_id, register, Cause("register", request_id), row=self._registry.put(row))
        except _Registered as registered:
            return self._repeated(config, registered.endpoint_id)
        return shown(row, entry)

    def _repeated(self, config: PluginConfig, endpoint_id: str) -> dict[str, Any]:
        row, entry = self._found(endpoint_id)
        then = (row.plugin, row.url, row.resource_id, row.host, frozenset(row.header_names))
        if then != (config.plugin, config.url, config.resource_id, config.host, frozenset(config.headers)):
            raise Conflict(f"the Idempotency-Key was used for another registration, {row.endpoint_id}: use a new one")
        return shown(row, entry)

    def endpoints(self) -> list[dict[str, Any]]:
        """Every endpoint that is not being deleted, oldest first."""
        return self._shown(sorted(self._registry.scan(), key=lambda row: (row.created_at, row.endpoint_id)))

    def page(self, limit: int, after: str | None) -> tuple[list[dict[str, Any]], str | None]:
        """Up to `limit` endpoints in no order, fewer while some are being deleted, and the id to go on after."""
        rows, more = self._registry.page(limit, after)
        return self._shown(rows), more

    def _shown(self, rows: list[StorablePluginConfig]) -> list[dict[str, Any]]:
        resources = self._locks.read_all({row.resource_id for row in rows})
        found = ((row, _alive(resources.get(row.resource_id), row.endpoint_id)) for row in rows)
        return [shown(row, entry) for row, entry in found if entry is not None]

    def show(self, endpoint_id: str) -> dict[str, Any]:
        """One endpoint; raises NotFound."""
        return shown(*self._found(endpoint_id))

    def change(self, endpoint_id: str, body: Any, request_id: str) -> dict[str, Any]:
        """Changes a registration; raises Invalid, NotFound or Conflict. What the body does not name stays."""
        row, entry = self._found(endpoint_id)
        changed = factory(row.plugin).change(row, body, self._clock.now())
        if changed is row:
            return shown(row, entry)

        def change(resource: Resource) -> Resource:
            if _alive(resource, endpoint_id) is None:
                raise NotFound("Endpoint not found")
            return election.change(
                resource,
                endpoint_id,
                self._clock.now(),
                revision=row.revision,
                priority=changed.priority,
                lease_seconds=changed.lease_seconds,
                moves=changed.url != row.url,
            )

        update = self._registry.update(row, changed)
        committed = self._commit(row.resource_id, change, Cause("change", request_id), row=update)
        return shown(changed, committed.after.endpoints[endpoint_id])

    def redeliver(self, endpoint_id: str, request_id: str) -> None:
        """Has the current status told once more; raises NotFound or Conflict."""
        row = self._row(endpoint_id, "")

        def redeliver(resource: Resource) -> Resource:
            if _alive(resource, endpoint_id) is None:
                raise NotFound("Endpoint not found")
            return election.redeliver(resource, endpoint_id, self._clock.now())

        self._commit(row.resource_id, redeliver, Cause("redeliver", request_id))

    def hosts(self, endpoint_id: str) -> list[dict[str, Any]]:
        """The hosts that compete with this endpoint, itself included; one registered without a host by its id."""
        resource = self._locks.read(self._row(endpoint_id, "").resource_id)
        if _alive(resource, endpoint_id) is None:
            raise NotFound("Endpoint not found")
        return [{"hostname": e.host or i} for i, e in sorted(resource.endpoints.items()) if not e.deleting]

    def preview(self, endpoint_id: str) -> dict[str, Any]:
        """The next attempt's request, nothing sent or decrypted: None for what is secret or depends on the time."""
        return _preview(*self._found(endpoint_id))

    def resource(self, resource_id: str) -> dict[str, Any]:
        """Who holds it, since when and why, who else could, and what is undelivered; raises NotFound."""
        resource = self._locks.read(resource_id)
        if not resource.endpoints:
            raise NotFound("Resource not found")
        return _resource(resource, self._clock.now())

    def freeze(self, resource_id: str, frozen: bool, request_id: str) -> dict[str, Any]:
        """Freezes or unfreezes a resource; raises NotFound, or Conflict when nobody holds it."""

        def freeze(resource: Resource) -> Resource:
            if not resource.endpoints:
                raise NotFound("Resource not found")
            return election.freeze(resource) if frozen else election.unfreeze(resource, self._clock.now())

        committed = self._commit(resource_id, freeze, Cause("freeze" if frozen else "unfreeze", request_id))
        return _resource(committed.after, self._clock.now())

    def resources(self, limit: int | None, after: str | None) -> tuple[list[dict[str, Any]], str | None]:
        """Summaries of up to `limit` resources in no order (None: of all), and the id to go on after."""
        found: list[Resource] = []
        while True:
            page, after = self._locks.page(limit or PAGE, after)
            found += (resource for resource in page if resource.endpoints)
            if limit or after is None:
                return [_summary(resource) for resource in found], after

    def transitions(self, resource_id: str, limit: int, before: int | None) -> tuple[list[dict[str, Any]], int | None]:
        """The audit of a resource, newest first, and the version to go on before."""
        rows = [_transition(item) for item in self._locks.transitions(resource_id, limit, before)]
        return rows, rows[-1]["version"] if len(rows) == limit else None

    def delete(self, endpoint_id: str, request_id: str, *, force: bool = False) -> None:
        """Takes an endpoint out of the election; its receiver is told first unless `force`."""
        prefix = "stop endpoint manager: "
        row = self._row(endpoint_id, prefix)

        def delete(resource: Resource) -> Resource:
            entry = resource.endpoints.get(endpoint_id)
            if entry is None or (entry.deleting and not force):
                raise NotFound(f"{prefix}Endpoint not found")
            try:
                return election.delete(resource, endpoint_id, self._clock.now(), force=force)
            except Conflict as conflict:
                raise Conflict(f"{prefix}{conflict}") from None

        self._commit(row.resource_id, delete, Cause("delete", request_id))

    def failover(
        self, endpoint_id: str, request_id: str, *, to: str | None = None, dry_run: bool = False
    ) -> dict[str, Any] | None:
        """Hands the lock of the holder `endpoint_id` to another ready endpoint; raises Conflict.

        With `dry_run` nothing is written: returns who would win and what would be told to whom.
        """
        prefix = "fail to failover endpoint: "
        row = self._row(endpoint_id, prefix)

        def failover(resource: Resource) -> Resource:
            if _alive(resource, endpoint_id) is None:
                raise NotFound(f"{prefix}Endpoint not found")
            try:
                return election.failover(resource, endpoint_id, to, request_id, self._clock.now())
            except Conflict as conflict:
                raise Conflict(f"{prefix}fail to failover the endpoint {endpoint_id}: {conflict}") from None

        if dry_run:
            before = election.elect(self._locks.read(row.resource_id), self._clock.now())
            return _outlook(before, failover(before))
        self._commit(row.resource_id, failover, Cause("failover", request_id))
        return None

    def rotate_key(self) -> None:
        """Starts a key rotation, which goes on by itself."""
        self._invoke(self._settings.key_rotation_function)

    def key_rotation(self, since: int) -> dict[str, int | None]:
        """How far key rotations came: how many endpoints were encrypted at `since` (Unix ms) or later."""
        encrypted_at = [row.encrypted_at for row in self._registry.scan()]
        return {
            "now": self._clock.now(),
            "since": since,
            "endpoints": len(encrypted_at),
            "encrypted_since": sum(at >= since for at in encrypted_at),
            "oldest_encrypted_at": min(encrypted_at, default=None),
        }

    def _found(self, endpoint_id: str) -> tuple[StorablePluginConfig, Endpoint]:
        """An endpoint's row and entry; raises NotFound."""
        row = self._row(endpoint_id, "")
        entry = _alive(self._locks.read(row.resource_id), endpoint_id)
        if entry is None:
            raise NotFound("Endpoint not found")
        return row, entry

    def _row(self, endpoint_id: str, prefix: str) -> StorablePluginConfig:
        row = self._registry.get(endpoint_id)
        if row is None:
            raise NotFound(f"{prefix}Endpoint not found")
        return row

    def _commit(
        self,
        resource_id: str,
        command: Callable[[Resource], Resource],
        cause: Cause,
        *,
        row: TransactWriteItemTypeDef | None = None,
    ) -> Committed:
        refresh_ms = self._settings.refresh_ms

        def step(resource: Resource, nonce: str) -> Step:
            now = self._clock.now()
            resource = election.drop_told(election.elect(command(resource), now))
            return Step(*election.keep_due_at(resource, now, carried=None, refresh_ms=refresh_ms))

        committed = self._locks.update(resource_id, step, cause, row=row)
        log_changes(committed, cause)
        due_at = committed.after.due_at
        if committed.owes_wake_up and due_at is not None:
            self._queues.wake_up(resource_id, due_at, self._clock.now())
        return committed


def is_endpoint_id(text: str) -> bool:
    """Whether this can be an endpoint's id: `vip-` and a UUID."""
    return _ENDPOINT_ID.fullmatch(text) is not None


def shown(row: StorablePluginConfig, entry: Endpoint) -> dict[str, Any]:
    """LinK's JSON of an endpoint; host, priority, lease_seconds and delivery are ours. Never url, headers or secret."""
    view: dict[str, Any] = {"id": row.endpoint_id, "status": entry.status}
    if row.checks:
        view["checks"] = list(row.checks)
    view |= {
        "healthcheck_interval": row.healthcheck_interval,
        "plugin": row.plugin,
        "election_key": election_key(row),
        "host": row.host,
        "priority": row.priority,
        "lease_seconds": row.lease_seconds,
        "previous_secret_until": row.previous_until,
        "delivery": _delivery(entry),
    }
    return view


def _delivery(entry: Endpoint) -> dict[str, Any] | None:
    """What the endpoint's receiver was told last, or is still owed. Times are Unix milliseconds."""
    if not entry.sequence:
        return None
    view: dict[str, Any] = {
        "status": entry.wire,
        "epoch": entry.epoch,
        "sequence": entry.sequence,
        "reason": entry.reason,
        "announced_at": entry.announced_at,
        "delivered_at": None if entry.owed else entry.delivered_at,
    }
    # A refresh can fail, too: then nothing is owed, but the receiver has not heard of it lately.
    if entry.failure:
        view |= {
            "attempt": entry.attempt,
            "failure": entry.failure,
            "next_attempt_at": entry.next_attempt_at,
            "next_step": NEXT_STEPS[Kind(entry.failure.partition(" ")[0])],
        }
    return view


def _summary(resource: Resource) -> dict[str, Any]:
    holder = resource.endpoints.get(resource.holder or "")
    alive = [e for e in resource.endpoints.values() if not e.deleting]
    return {
        "resource_id": resource.resource_id,
        "holder": resource.holder,
        "epoch": resource.epoch,
        "since": holder.announced_at if holder else None,
        "reason": holder.reason if holder else None,
        "frozen": resource.frozen,
        "endpoints": len(alive),
        "undelivered": sum(e.owed for e in resource.endpoints.values()),
    }


def _resource(resource: Resource, now: int) -> dict[str, Any]:
    candidates = [
        {
            "id": i,
            "host": e.host,
            "status": e.status,
            "ready": e.ready(now),
            "reported": e.reported,
            "reported_at": e.reported_at or None,
            "lease_seconds": e.lease_seconds,
            "lease_expires_at": e.lease_expires_at,
            "priority": e.priority,
            "joined_at": e.joined,
        }
        for i, e in resource.endpoints.items()
        if not e.deleting
    ]
    undelivered = [
        {"id": i, "deleting": e.deleting, **(_delivery(e) or {})}
        for i, e in resource.endpoints.items()
        if e.owed or e.deleting
    ]
    return {
        **_summary(resource),
        "candidates": sorted(candidates, key=lambda one: (one["joined_at"], one["id"])),
        "undelivered": sorted(undelivered, key=lambda one: (one.get("announced_at", 0), one["id"])),
    }


def _outlook(before: Resource, after: Resource) -> dict[str, Any]:
    webhooks = [
        {"id": i, "status": e.wire, "epoch": e.epoch, "sequence": e.sequence, "reason": e.reason}
        for i, e in after.endpoints.items()
        if e.sequence != before.endpoints[i].sequence
    ]
    # In the order in which they would go: break before make.
    return {
        "holder": after.holder,
        "epoch": after.epoch,
        "webhooks": sorted(webhooks, key=lambda one: (one["status"] == Status.ACTIVATED, one["id"])),
    }


def _preview(row: StorablePluginConfig, entry: Endpoint) -> dict[str, Any]:
    if not entry.sequence:
        raise Conflict("nothing has been announced for this endpoint yet: it has not reported")
    refreshes = not entry.owed
    if refreshes and entry.status is not Status.ACTIVATED:
        raise Conflict("nothing is due for this endpoint: it is not active, and its receiver knows")
    announcement = webhook.Announcement(
        endpoint_id=row.endpoint_id,
        resource_id=row.resource_id,
        plugin=row.plugin,
        status=entry.wire,
        epoch=entry.epoch,
        sequence=entry.sequence,
        reason=Reason.REFRESH if refreshes else entry.reason,
        attempt=entry.attempt + 1,
        refreshed_at=entry.delivered_at if refreshes else None,
    )
    body, headers = webhook.request(announcement, ["-"], dict.fromkeys(row.header_names, ""), timestamp=0)
    hidden = {*row.header_names, *webhook.SIGNED_ANEW}
    parts = urlsplit(row.url)
    return {
        "method": "POST",
        "url": f"{parts.scheme}://{parts.netloc}",
        "headers": {name: None if name in hidden else value for name, value in headers.items()},
        "body": body.decode(),
    }


def _transition(item: dict[str, Any]) -> dict[str, Any]:
    changes = (one["M"] for one in item["changes"]["L"])
    return {
        "resource_id": item["resource_id"]["S"],
        "version": int(item["version"]["N"]),
        "at": int(item["at"]["N"]),
        "epoch": int(item["epoch"]["N"]),
        "holder": item["holder"]["S"] if "holder" in item else None,
        "changes": [
            {name: one[name]["S"] for name in ("endpoint_id", "from", "to", "reason")}
            | {"sequence": int(one["sequence"]["N"])}
            for one in changes
        ],
        "cause": {name: value["S"] for name, value in item["cause"]["M"].items()},
    }


def _marked(resource: Resource, mark: str) -> str | None:
    """The endpoint that was registered with a token, unless it is being deleted: its id must not come back."""
    if not mark:
        return None
    return next((i for i, e in resource.endpoints.items() if i.endswith(mark) and not e.deleting), None)


def _alive(resource: Resource | None, endpoint_id: str) -> Endpoint | None:
    entry = resource.endpoints.get(endpoint_id) if resource else None
    return None if entry is None or entry.deleting else entry
