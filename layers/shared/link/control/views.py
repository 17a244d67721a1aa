"""Views: how endpoints, resources and transitions are shown as JSON. Times are Unix milliseconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from link.election import rules
from link.election.result import ResultKind, next_step
from link.election.state import Endpoint, Resource, Status
from link.plugins.seam import Plugins
from link.probing.states import Probed, next_look
from link.registration import Registration
from link.signals.words import Observed, Word


def endpoint(plugins: Plugins, registration: Registration, entry: Endpoint) -> dict[str, Any]:
    """LinK's JSON of an endpoint; host, priority, lease_seconds, delivery and what the plugin adds are ours."""
    plugin = plugins[registration.plugin].create(registration)
    view: dict[str, Any] = {"id": registration.endpoint_id, "status": entry.status}
    if registration.checks:
        view["checks"] = list(registration.checks)
    if registration.signals:
        view["signals"] = list(registration.signals)
    return view | {
        "healthcheck_interval": registration.healthcheck_interval,
        "plugin": registration.plugin,
        "election_key": plugin.election_key(),
        "host": registration.host,
        "priority": registration.priority,
        "lease_seconds": registration.lease_seconds,
        "observers": list(registration.observers),
        "ready_when": registration.ready_when,
        "drained": entry.drained_at > 0,
        **plugin.view(),
        "delivery": delivery(entry),
    }


def probe(probed: Probed, registration: Registration, now: int) -> dict[str, Any]:
    """What the probe knows about an endpoint. `up` is None before the first look that counts."""
    position, _, reason = probed.reason.partition(":")
    failed = int(position) if position else None
    return {
        "up": probed.up,
        "since": probed.since or None,
        # A check that was removed since has no place any more.
        "failed_check": registration.checks[failed]
        if failed is not None and failed < len(registration.checks)
        else None,
        "reason": reason or None,
        "held_until": probed.held_until if probed.held_until > now else None,
        "next_look_at": next_look(registration.endpoint_id, probed, registration.healthcheck_interval, now),
    }


def signal(observed: Observed, now: int) -> dict[str, Any]:
    """What an endpoint's signals come to, and what each said last. `status` is None while it said nothing."""
    said = []
    for one in observed.signals:
        word = observed.words.get(one.key, Word())
        said.append(
            {
                "signal": one.key,
                "status": word.verdict(now),
                "since": word.since(now) or None,
                "reason": word.why(now) or None,
                "warned_until": word.warned_until if word.warns(now) else None,
            }
        )
    return {"status": observed.status, "since": observed.at or None, "said": said}


def delivery(entry: Endpoint) -> dict[str, Any] | None:
    """The last status for the endpoint's receiver: when it was delivered, or why it is pending."""
    if not entry.sequence:
        return None
    view: dict[str, Any] = {
        "status": entry.wire,
        "epoch": entry.epoch,
        "sequence": entry.sequence,
        "reason": entry.reason,
        "announced_at": entry.announced_at,
        "delivered_at": None if entry.pending else entry.delivered_at,
    }
    # A refresh can fail, too: then nothing is pending, but the receiver did not accept the last attempt.
    if entry.failure_kind:
        view |= {
            "attempt": entry.attempt,
            "failure": f"{entry.failure_kind} {entry.failure_reason}".rstrip(),
            "next_attempt_at": entry.next_attempt_at,
            "next_step": next_step(ResultKind(entry.failure_kind), entry.failure_reason),
        }
    return view


def summary(resource: Resource) -> dict[str, Any]:
    """A resource in a list."""
    holder = resource.endpoints.get(resource.holder or "")
    return {
        "resource_id": resource.resource_id,
        "holder": resource.holder,
        "holder_host": holder.host if holder else None,
        "epoch": resource.epoch,
        "since": holder.announced_at if holder else None,
        "reason": holder.reason if holder else None,
        "frozen": resource.frozen,
        "endpoints": sum(not e.deleting for e in resource.endpoints.values()),
        "undelivered": sum(e.pending for e in resource.endpoints.values()),
    }


def resource(item: Resource, now: int) -> dict[str, Any]:
    """A resource with its candidates and everything undelivered."""
    candidates = [
        {
            "id": i,
            "host": e.host,
            "status": e.status,
            "ready": e.ready(now),
            "reported": _reported(e),
            "reported_at": max((word.at for word in e.words.values()), default=None),
            "observers": list(e.observers),
            "ready_when": e.ready_when,
            "words": {observer: {"status": word.status, "at": word.at} for observer, word in e.words.items()},
            "waits_for": e.waits_for(now),
            "drained_at": e.drained_at or None,
            "lease_seconds": e.lease_seconds,
            "lease_expires_at": e.lease_expires_at,
            "held_until": rules.held_until(e) if rules.on_hold(e, now) else None,
            "priority": e.priority,
            "joined_at": e.joined,
        }
        for i, e in item.endpoints.items()
        if not e.deleting
    ]
    undelivered = [
        {"id": i, "deleting": e.deleting, **(delivery(e) or {})}
        for i, e in item.endpoints.items()
        if e.pending or e.deleting
    ]
    return {
        **summary(item),
        "candidates": sorted(candidates, key=lambda one: (one["joined_at"], one["id"])),
        "undelivered": sorted(undelivered, key=lambda one: (one.get("announced_at", 0), one["id"])),
    }


def _reported(e: Endpoint) -> Status | None:
    """What was reported, whatever an operator or a lease made of it."""
    return replace(e, drained_at=0, lease_expires_at=None).verdict(0)


def outlook(before: Resource, after: Resource) -> dict[str, Any]:
    """What a failover would do: the next holder and the webhooks."""
    webhooks = [
        {"id": i, "status": e.wire, "epoch": e.epoch, "sequence": e.sequence, "reason": e.reason}
        for i, e in after.endpoints.items()
        if e.sequence != before.endpoints[i].sequence
    ]
    # In the order in which they would be sent: break before make.
    return {
        "holder": after.holder,
        "epoch": after.epoch,
        "webhooks": sorted(webhooks, key=lambda one: (one["status"] == Status.ACTIVATED, one["id"])),
    }


def transition(item: dict[str, Any]) -> dict[str, Any]:
    """One item of the audit, from its stored form."""
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
