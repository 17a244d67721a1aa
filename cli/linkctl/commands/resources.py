"""`linkctl resources`: which endpoint is active, since when and why."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from linkctl import show
from linkctl.invocation import Invocation, ResourceId

app = typer.Typer(no_args_is_help=True, help="Show which endpoint is active, since when and why; freeze and unfreeze.")


@app.command("list")
def list_(
    ctx: typer.Context,
    undelivered: Annotated[bool, typer.Option("--undelivered", help="Only with an undelivered webhook.")] = False,
    frozen: Annotated[bool, typer.Option("--frozen", help="Only frozen ones.")] = False,
    without_holder: Annotated[bool, typer.Option("--without-holder", help="Only without an active endpoint.")] = False,
) -> None:
    """List the resources with their active endpoint: all, or those for which every given option is true."""
    run = Invocation.of(ctx)
    found = [
        one
        for one in all_resources(run)
        if (one["undelivered"] or not undelivered)
        and (one["frozen"] or not frozen)
        and (one["holder"] is None or not without_holder)
    ]
    run.print(found, show.resources)


@app.command("show")
def show_(ctx: typer.Context, resource_id: ResourceId) -> None:
    """Show one resource: its candidates and its undelivered webhooks."""
    run = Invocation.of(ctx)
    run.print(run.resource(resource_id), show.resource)


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
