"""`linkctl resources`: which endpoint is active, since when and why."""

from __future__ import annotations

from typing import Any

import typer

from linkctl import show
from linkctl.invocation import Invocation, ResourceId

app = typer.Typer(no_args_is_help=True, help="Show which endpoint is active, since when and why; freeze and unfreeze.")


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List all resources with their active endpoint."""
    run = Invocation.of(ctx)
    run.print(all_resources(run), show.resources)


@app.command("show")
def show_(ctx: typer.Context, resource_id: ResourceId) -> None:
    """Show one resource: its candidates and its undelivered webhooks."""
    run = Invocation.of(ctx)
    run.print(one_resource(run, resource_id), show.resource)


@app.command()
def freeze(ctx: typer.Context, resource_id: ResourceId) -> None:
    """For maintenance: keep the active endpoint, whatever its host reports. An alarm stays on until you unfreeze."""
    _freeze(ctx, resource_id, True)


@app.command()
def unfreeze(ctx: typer.Context, resource_id: ResourceId) -> None:
    """Elect again, with everything that hosts reported in the meantime."""
    _freeze(ctx, resource_id, False)


def _freeze(ctx: typer.Context, resource_id: str, frozen: bool) -> None:
    run = Invocation.of(ctx)
    changed = run.call("PATCH", "/resources", {"frozen": frozen}, resource_id=resource_id)
    run.print(changed["resource"], show.resource)


def all_resources(run: Invocation) -> list[dict[str, Any]]:
    """Return all resources, sorted by id."""
    return sorted(run.pages("/resources", "resources"), key=lambda one: str(one["resource_id"]))


def one_resource(run: Invocation, resource_id: str) -> dict[str, Any]:
    """Return one resource."""
    found: dict[str, Any] = run.call("GET", "/resources", resource_id=resource_id)["resource"]
    return found
