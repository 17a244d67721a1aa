"""Queries: what operators look at. They neither write nor decrypt.

AWS calls. One endpoint, hosts, preview, a failover's outlook: 2 GetItem; one endpoint that is probed or has signals: 1
more for each; a look 2 and 1 Invoke. Page of endpoints: 1 Scan and 1 BatchGetItem per 100 resources. One resource: 1
GetItem. Page of resources: 1 Scan. Page of transitions: 1 Query. Progress of a key rotation: 1 Scan per MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from link.clock import Clock
from link.control import views
from link.election import rules
from link.election.deliveries import next_delivery
from link.election.state import Endpoint, Resource
from link.errors import Conflict, NotFound
from link.key_rotation import encrypted
from link.plugins.seam import Plugins
from link.probing.states import Probed
from link.registration import Registration
from link.settings import Settings
from link.store.endpoints import Registrations
from link.store.locks import Locks
from link.store.probes import ProbeStates, shard_of
from link.store.signals import Signals

PAGE_SIZE = 1_000
"""The largest page. DynamoDB ends a page after 1 MB of items, too, so that its JSON is smaller than Lambda's 6 MB."""


class Queries:
    """Shows endpoints, resources and transitions."""

    def __init__(
        self,
        locks: Locks,
        registrations: Registrations,
        probe_states: ProbeStates,
        signals: Signals,
        plugins: Plugins,
        settings: Settings,
        clock: Clock,
        look: Callable[[list[dict[str, Any]]], list[str]],
    ) -> None:
        self._locks = locks
        self._registrations = registrations
        self._probe_states = probe_states
        self._signals = signals
        self._plugins = plugins
        self._shards = settings.probe_shards
        self._clock = clock
        self._look = look

    def endpoints(self, limit: int = PAGE_SIZE, after: str | None = None) -> tuple[list[dict[str, Any]], str | None]:
        """Up to `limit` endpoints that are not being deleted, oldest first, and the id to continue after.

        The pages themselves are in no order.
        """
        found, more = self._registrations.page(limit, after)
        return self._views(sorted(found, key=lambda one: (one.created_at, one.endpoint_id))), more

    def _views(self, found: list[Registration]) -> list[dict[str, Any]]:
        resources = self._locks.read_all({one.resource_id for one in found})
        return [
            views.endpoint(self._plugins, one, rules.registered(resources[one.resource_id], one.endpoint_id))
            for one in found
            if rules.is_registered(resources.get(one.resource_id), one.endpoint_id)
        ]

    def show(self, endpoint_id: str) -> dict[str, Any]:
        """One endpoint; raises NotFound."""
        registration, _, entry = self._endpoint(endpoint_id)
        view = views.endpoint(self._plugins, registration, entry)
        if registration.probed:
            known = self._probe_states.read(shard_of(registration.resource_id, self._shards), self._shards)
            probed = known.endpoints.get(endpoint_id, Probed())
            view["probe"] = views.probe(probed, registration, self._clock.now())
        if registration.signalled and (observed := self._signals.read(endpoint_id)):
            view["signal"] = views.signal(observed, self._clock.now())
        return view

    def probe(self, endpoint_id: str) -> dict[str, Any]:
        """One look at each of its checks, which changes nothing; raises NotFound, or Conflict if it has none."""
        registration, _, _ = self._endpoint(endpoint_id)
        if not registration.probed:
            raise Conflict("no probe looks at this endpoint: it needs checks, and probe among its observers")
        reasons = self._look(list(registration.checks))
        checks = [{**check, "reason": why} for check, why in zip(registration.checks, reasons, strict=True)]
        return {"up": not any(reasons), "checks": checks}

    def hosts(self, endpoint_id: str) -> list[dict[str, Any]]:
        """The hosts of all endpoints of its resource. An endpoint without a host is shown by its id."""
        _, resource, _ = self._endpoint(endpoint_id)
        return [{"hostname": e.host or i} for i, e in sorted(resource.endpoints.items()) if not e.deleting]

    def preview(self, endpoint_id: str) -> Mapping[str, Any]:
        """What the next attempt would send; raises NotFound, or Conflict when nothing would be sent."""
        registration, resource, entry = self._endpoint(endpoint_id)
        if not entry.sequence:
            raise Conflict("nothing has been announced for this endpoint yet: its host has not reported")
        delivery = next_delivery(resource, endpoint_id)
        if delivery is None:
            raise Conflict("nothing is due for this endpoint: it is not active, and its last status is delivered")
        return self._plugins[registration.plugin].create(registration).preview(delivery)

    def outlook(self, endpoint_id: str, *, to: str | None = None) -> dict[str, Any]:
        """The next holder and the webhooks if the failover ran now. Raises what the failover would raise."""
        before = self._locks.read(self._registrations.existing(endpoint_id).resource_id)
        after = rules.failover(before, endpoint_id, self._clock.now(), to=to, command="dry-run")
        return views.outlook(before, after)

    def resource(self, resource_id: str) -> dict[str, Any]:
        """The holder, since when and why, all candidates, and what is undelivered; raises NotFound."""
        resource = self._locks.read(resource_id)
        if not resource.endpoints:
            raise NotFound("Resource not found")
        return views.resource(resource, self._clock.now())

    def resources(self, limit: int = PAGE_SIZE, after: str | None = None) -> tuple[list[dict[str, Any]], str | None]:
        """Summaries of up to `limit` resources in no order, and the id to continue after."""
        found, more = self._locks.page(limit, after)
        return [views.summary(resource) for resource in found if resource.endpoints], more

    def transitions(self, resource_id: str, limit: int, before: int | None) -> tuple[list[dict[str, Any]], int | None]:
        """The audit of a resource, newest first, and the version to continue before."""
        found, more = self._locks.transitions(resource_id, limit, before)
        return [views.transition(item) for item in found], more

    def key_rotation(self, since: int) -> dict[str, int | None]:
        """The progress of a key rotation: how many endpoints were encrypted at `since` (Unix ms) or later."""
        encrypted_at = [at for _, at, _ in encrypted(self._registrations, self._plugins)]
        return {
            "now": self._clock.now(),
            "since": since,
            "endpoints": len(encrypted_at),
            "encrypted_since": sum(at >= since for at in encrypted_at),
            "oldest_encrypted_at": min(encrypted_at, default=None),
        }

    def _endpoint(self, endpoint_id: str) -> tuple[Registration, Resource, Endpoint]:
        """An endpoint's registration, lock item and entry; raises NotFound."""
        registration = self._registrations.existing(endpoint_id)
        resource = self._locks.read(registration.resource_id)
        return registration, resource, rules.registered(resource, endpoint_id)
