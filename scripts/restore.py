"""Makes the lock items of a restored backup newer than everything that receivers have seen.

    python -m scripts.restore --stack link-webhook --region eu-west-1                    # prints, changes nothing
    python -m scripts.restore --stack link-webhook --region eu-west-1 --write
    python -m scripts.restore … --locks-from TABLE --endpoints-from TABLE [--write]      # copies from restored tables
    python -m scripts.restore … --signals [--write]                                      # only what signals need

docs/restore.md says when and how. The rule is `restore` in docs/protocol.md. Needs boto3 and the package link.
Exit status: 0, 1 if it stopped at an error or found nothing, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from link import settings
from link.chance import Chance
from link.clock import Clock
from link.election import rules
from link.election.state import Endpoint, Resource
from link.election.wake_up import settle
from link.errors import Contended
from link.settings import Settings
from link.store.endpoints import Registrations
from link.store.locks import Cause, Locks, Step
from link.store.signals import Signals

PAGE = 100
CAUSE = Cause("restore", "scripts.restore")


@dataclass
class Tables:
    """The tables of a deployment, and those of its backup."""

    locks: Locks
    registrations: Registrations
    settings: Settings
    clock: Clock
    old_locks: Locks | None = None
    """The lock items of the backup. None: the deployment's own are old."""
    old_registrations: Registrations | None = None
    """The registrations of the backup. They count where the deployment has none."""
    only: str = ""
    """The resource to restore; empty for all."""

    def resources(self) -> dict[str, set[str]]:
        """Every resource that has a lock item or a registration, with the ids of its registered endpoints."""
        found: dict[str, set[str]] = {}
        for registrations in filter(None, (self.registrations, self.old_registrations)):
            for registration in registrations.scan():
                found.setdefault(registration.resource_id, set()).add(registration.endpoint_id)
        for locks in filter(None, (self.locks, self.old_locks)):
            after: str | None = None
            while True:
                page, after = locks.page(PAGE, after)
                for resource in page:
                    found.setdefault(resource.resource_id, set())
                if after is None:
                    break
        return {i: ids for i, ids in found.items() if self.only in ("", i)}

    def step(self, resource_id: str, endpoint_ids: set[str]) -> Callable[[Resource, str], Step]:
        """The step that restores a resource, for `Locks.update`. `endpoint_ids` may have a registration."""
        source = self.old_locks.read(resource_id) if self.old_locks else None

        def step(current: Resource, nonce: str) -> Step:
            # A resource that is younger than the backup stays as it is, with higher numbers.
            backup = source if source and source.version else current
            candidates = sorted({*endpoint_ids, *backup.endpoints, *current.endpoints})
            registered = {i: new for i in candidates if (new := self._entry(i)) is not None}
            now = self.clock.now()
            restored = rules.restore(current, backup, now, registered=registered)
            return Step(*settle(restored, now, refresh_ms=self.settings.refresh_ms, damping=self.settings.flap_damping))

        return step

    def _entry(self, endpoint_id: str) -> Endpoint | None:
        """A new entry of an endpoint that is registered now; the API may have changed it."""
        stored = self.registrations.get(endpoint_id)
        if stored is None and self.old_registrations:
            stored = self.old_registrations.get(endpoint_id)
        return None if stored is None else stored.new_entry()


def restore(tables: Tables, *, write: bool) -> Iterator[str]:
    """Restores one resource after the other; yields a line for each. Without `write` nothing is changed."""
    for resource_id, endpoint_ids in sorted(tables.resources().items()):
        step = tables.step(resource_id, endpoint_ids)
        before = tables.locks.read(resource_id)
        if write:
            after = tables.locks.update(resource_id, step, CAUSE, known=before).after
        else:
            after, _ = step(before, "")
        yield _told(before, after)


def _told(before: Resource, after: Resource) -> str:
    gone = len([i for i, e in after.endpoints.items() if e.deleting and not e.pending])
    words = [f"{before.resource_id!r}: epoch {before.epoch} -> {after.epoch}", f"holder {after.holder or 'none'}"]
    words.append(f"{len(after.endpoints) - gone} endpoints are told again")
    if gone:
        words.append(f"{gone} without a registration are removed")
    if new := len(after.endpoints.keys() - before.endpoints.keys()):
        words.append(f"{new} that had no entry have one")
    return ", ".join(words)


def copy_registrations(dynamodb: Any, source: str, target: str, *, write: bool) -> Iterator[str]:
    """Puts back the registrations that the target lacks. Those that it has stay: the API changes them."""
    for page in dynamodb.get_paginator("scan").paginate(TableName=source):
        for item in page["Items"]:
            key = {"endpoint_id": item["endpoint_id"]}
            if "Item" in dynamodb.get_item(TableName=target, Key=key, ConsistentRead=True):
                continue
            if write:
                condition = "attribute_not_exists(endpoint_id)"
                dynamodb.put_item(TableName=target, Item=item, ConditionExpression=condition)
            yield f"{item['endpoint_id']['S']}: its registration is put back"


def put_back_signals(dynamodb: Any, tables: Tables, *, write: bool) -> Iterator[str]:
    """Puts back the items of signals that registrations have and the table of signals lacks."""
    signals = Signals(dynamodb, tables.settings)
    for registration in tables.registrations.scan():
        if registration.signalled and signals.read(registration.endpoint_id) is None:
            if write:
                dynamodb.transact_write_items(TransactItems=signals.registered(None, registration))
            yield f"{registration.endpoint_id}: its signals are put back"


def deployed(session: Any, stack: str, region: str) -> Settings:
    """The settings of a deployed stack, as its function for status events has them."""
    [described] = session.client("cloudformation", region_name=region).describe_stacks(StackName=stack)["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described.get("Outputs", [])}
    function = session.client("lambda", region_name=region).get_function_configuration(
        FunctionName=outputs["EndpointStatusFunctionName"]
    )
    variables = function["Environment"]["Variables"]
    # A stack of an older version has no table of signals. That function does not use it, so its output names it.
    return replace(settings.load(variables), signals_table=outputs.get("SignalsTableName", ""))


def main(arguments: list[str] | None = None, session: Any = None, clock: Clock | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--stack", required=True, help="the stack's name")
    parser.add_argument("--region", required=True, help="the stack's region")
    parser.add_argument("--locks-from", default="", metavar="TABLE", help="a restored lock table to copy items from")
    parser.add_argument("--endpoints-from", default="", metavar="TABLE", help="a restored table of registrations")
    parser.add_argument("--resource", default="", metavar="ID", help="only this resource")
    parser.add_argument("--signals", action="store_true", help="put back signals, and restore no lock item")
    parser.add_argument("--write", action="store_true", help="change the tables; without it, print what would change")
    options = parser.parse_args(arguments)
    session = session or boto3.Session()
    configured = deployed(session, options.stack, options.region)
    dynamodb = session.client("dynamodb", region_name=options.region)
    clock, chance = clock or Clock(), Chance()
    old_locks = replace(configured, locks_table=options.locks_from)
    old_endpoints = replace(configured, endpoints_table=options.endpoints_from)
    tables = Tables(
        locks=Locks(dynamodb, configured, clock, chance),
        registrations=Registrations(dynamodb, configured),
        settings=configured,
        clock=clock,
        old_locks=Locks(dynamodb, old_locks, clock, chance) if options.locks_from else None,
        old_registrations=Registrations(dynamodb, old_endpoints) if options.endpoints_from else None,
        only=options.resource,
    )
    try:
        if options.endpoints_from:
            for line in copy_registrations(
                dynamodb, options.endpoints_from, configured.endpoints_table, write=options.write
            ):
                print(line)
        if configured.signals_table:
            for line in put_back_signals(dynamodb, tables, write=options.write):
                print(line)
        if options.signals:
            return 0
        found = False
        for line in restore(tables, write=options.write):
            found = True
            print(line)
    except (ClientError, BotoCoreError, Contended) as error:
        print(f"stopped: {error}\nWhat was printed before is done. Run the command again: it begins anew.")
        return 1
    if not found:
        print("There is no such resource." if options.resource else "There is nothing to restore.")
        return 1
    if not options.write:
        print("Nothing was changed. Run it again with --write.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
