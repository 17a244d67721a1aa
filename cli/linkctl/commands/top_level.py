"""The commands outside of a group: fail over, report, follow, and those about the deployment as a whole."""

from __future__ import annotations

import enum
import sys
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.progress import Progress

from linkctl import console as page
from linkctl import proxy as signing_proxy
from linkctl import show
from linkctl.commands.resources import all_resources
from linkctl.doctor import examine
from linkctl.errors import Failed, Refused, Unreachable
from linkctl.invocation import EndpointId, Invocation, Output, ResourceId, Yes, endpoint_path, finite
from linkctl.watched import Watched

app = typer.Typer()


class Status(enum.StrEnum):
    ACTIVATED = "ACTIVATED"
    STANDBY = "STANDBY"
    FAILING = "FAILING"


@app.command()
def rotate_encryption_key(
    ctx: typer.Context,
    patience: Annotated[
        float, typer.Option(callback=finite, min=1, help="Seconds to wait until all endpoints are done.")
    ] = 900.0,
) -> None:
    """Re-encrypt all stored secrets with the current key material, and wait until it is done."""
    path = "/encrypted_storage/key_rotation"
    run = Invocation.of(ctx)
    if run.deployment.endpoint_url is not None:
        print(
            "The local cloud cannot do this: its KMS has no ReEncrypt, so nothing will be re-encrypted.",
            file=sys.stderr,
        )
    since = run.call("GET", path)["key_rotation"]["now"]
    run.call("POST", path)
    until = time.monotonic() + patience
    with Progress(console=show.console(), transient=True) as progress:
        task = progress.add_task("re-encrypting", total=None)
        while True:
            seen: dict[str, Any] = run.call("GET", path, since=str(since))["key_rotation"]
            progress.update(task, total=seen["endpoints"], completed=seen["encrypted_since"])
            if seen["encrypted_since"] == seen["endpoints"]:
                break
            if time.monotonic() > until:
                raise Failed(
                    f"{seen['encrypted_since']} of {seen['endpoints']} endpoints are re-encrypted after "
                    f"{patience:g} s: see key_rotation.failed in the log of the key rotation function"
                )
            time.sleep(1)
    run.print(seen, lambda one: f"{one['endpoints']} endpoints are re-encrypted")


@app.command()
def transitions(
    ctx: typer.Context,
    resource_id: ResourceId,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to show.")] = 20,
) -> None:
    """List what happened to a resource and who caused it, newest first."""
    run = Invocation.of(ctx)
    # Also because an unknown resource has no transitions, and that is not an error.
    known = show.hosts(run.resource(resource_id))
    answer = run.call("GET", "/transitions", resource_id=resource_id, limit=str(limit))
    run.print(answer["transitions"], lambda found: show.transitions(found, known))


@app.command()
def failover(
    ctx: typer.Context,
    endpoint: EndpointId,
    to: Annotated[str | None, typer.Option(help="The successor, named like ENDPOINT; default: the best one.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Print what would happen and write nothing.")] = False,
    yes: Yes = False,
) -> None:
    """Hand over from the active endpoint to another one that is ready."""
    run = Invocation.of(ctx)
    body = None if to is None else {"to": run.endpoint_id(to)}
    endpoint_id = run.endpoint_id(endpoint, ask=not (yes or dry_run))
    query = "true" if dry_run else None
    answer = run.call("POST", endpoint_path(endpoint_id, "/failover"), body, dry_run=query)
    if answer is None:
        run.print({"handed_over": endpoint_id}, lambda _: f"{endpoint} has handed over")
    else:
        run.print(answer["failover"], lambda outlook: show.outlook(outlook, run.hosts(endpoint_id)))


@app.command()
def report(
    ctx: typer.Context,
    endpoint: EndpointId,
    status: Annotated[Status, typer.Argument(help="The status to report.", show_default=False)],
    resource_id: Annotated[
        str | None, typer.Option(help="The resource of the endpoint; saves the function one read.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the report counts; needs the API.")] = False,
    patience: Annotated[float, typer.Option(callback=finite, min=1, help="With --wait: seconds.")] = 30.0,
) -> None:
    """Send a status event, as a host does. ACTIVATED is also the heartbeat."""
    run = Invocation.of(ctx)
    endpoint_id = run.endpoint_id(endpoint)
    resource = show.resource_id(run.call("GET", endpoint_path(endpoint_id))["endpoint"]) if wait else ""
    detail: dict[str, Any] = {"endpoint_id": endpoint_id, "status": status.value, "plugin": "webhook"}
    if resource_id is not None:
        detail["resource_id"] = resource_id
    detail["reported_at"] = time.time_ns() // 1_000_000
    run.deployment.report(detail)
    if wait:
        _counted(run, resource, detail, patience)
        run.print({"reported": status.value, "counts": True}, lambda _: f"{status.value} of {endpoint} counts")
    else:
        run.print(
            {"reported": status.value},
            lambda _: (
                f"EventBridge took {status.value} for {endpoint}. Whether it counts is decided after that: an "
                "unknown endpoint or a wrong resource is rejected later. --wait waits until it counts"
            ),
        )


def _counted(run: Invocation, resource_id: str, detail: dict[str, Any], patience: float) -> None:
    """Return once the host's word is at least as new as the report."""
    until = time.monotonic() + patience
    while True:
        for one in run.resource(resource_id)["candidates"]:
            if one["id"] == detail["endpoint_id"] and (one["reported_at"] or 0) >= detail["reported_at"]:
                return
        if time.monotonic() > until:
            raise Failed(
                f"the report does not count after {patience:g} s. If it was rejected, the reason is in the queue of "
                "the stack's output RejectedEventsQueueUrl, and in the log as event.rejected. Is `host` among the "
                "observers of the endpoint (`linkctl endpoints show`)?"
            )
        time.sleep(0.2)


@app.command()
def watch(
    ctx: typer.Context,
    resource_id: Annotated[str | None, typer.Argument(help="One resource; default: all of them.")] = None,
    interval: Annotated[float, typer.Option(callback=finite, min=0.2, help="Seconds between two looks.")] = 2.0,
    times: Annotated[int, typer.Option(min=0, help="Number of looks; 0: until Ctrl-C.")] = 0,
) -> None:
    """Show a table and keep it up to date; changes are highlighted. A look that fails is repeated."""
    run = Invocation.of(ctx)

    def look() -> Any:
        return all_resources(run) if resource_id is None else run.resource(resource_id)

    # A resource that is not there, or credentials that are not valid, are an error and not an outage.
    watched = Watched(show.resources if resource_id is None else show.resource, look())
    with Live(watched.shown(), console=show.console(), auto_refresh=False) as live:
        shown = 1
        while times == 0 or shown < times:
            time.sleep(interval)
            try:
                watched.saw(look())
            except (Refused, Unreachable) as error:
                watched.failed(str(error))
            live.update(watched.shown(), refresh=True)
            shown += 1


@app.command()
def drill(
    ctx: typer.Context,
    resource_id: ResourceId,
    patience: Annotated[
        float, typer.Option(callback=finite, min=1, help="Seconds to wait for each of the two failovers.")
    ] = 30.0,
) -> None:
    """Fail over and back, and print how long each failover took until all webhooks were delivered."""
    run = Invocation.of(ctx)
    before = run.resource(resource_id)
    first = before["holder"]
    if first is None:
        raise Failed(f"{resource_id} has no active endpoint to fail over from: `linkctl resources show` has the reason")
    if before["undelivered"]:
        raise Failed(
            f"{resource_id} has undelivered webhooks, which a drill would measure, too: "
            "wait until `linkctl resources show` has none"
        )
    times = []
    holder = first
    for to in (None, first):
        began = time.monotonic()
        body = None if to is None else {"to": to}
        run.call("POST", endpoint_path(holder, "/failover"), body)
        after = _settled(run, resource_id, began + patience)
        times.append({"from": holder, "to": after["holder"], "seconds": round(time.monotonic() - began, 2)})
        holder = after["holder"]
    known = show.hosts(before)

    def lines(all: list[dict[str, Any]]) -> str:
        return "\n".join(
            f"{known.get(one['from'], one['from'])} → {known.get(one['to'], one['to'])} in {one['seconds']:.2f} s"
            for one in all
        )

    run.print(times, lines)


def _settled(run: Invocation, resource_id: str, until: float) -> dict[str, Any]:
    """Return the resource once it has no undelivered webhook."""
    while True:
        found = run.resource(resource_id)
        if not found["undelivered"]:
            return found
        if time.monotonic() > until:
            raise Failed(
                f"{resource_id} still has undelivered webhooks: `linkctl resources show` has the reason, "
                "--patience waits longer"
            )
        time.sleep(0.1)


@app.command()
def doctor(ctx: typer.Context) -> None:
    """Check credentials, permissions, clock, version, alarms, bus and hosts; say what to do. Changes nothing."""
    run = Invocation.of(ctx)
    findings = []
    for finding in examine(run):
        findings.append(finding)
        if run.output is Output.table:
            show.console().print(show.finding(finding))
    if run.output is Output.json:
        show.as_json([asdict(finding) for finding in findings])
    failed = sum(finding.result == "failed" for finding in findings)
    if failed:
        raise Failed(f"{failed} of {len(findings)} checks failed")


@app.command()
def proxy(
    ctx: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 1313,
) -> None:
    """Serve the API on loopback without authentication and sign each request: for LinK's client, curl, a browser."""
    signing_proxy.serve(Invocation.of(ctx).deployment, port)


@app.command()
def console(
    ctx: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 0,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show everything and change nothing.")] = False,
) -> None:
    """Serve a page on loopback that shows who is active and why, and fails over. Opens with the printed link only."""
    page.serve(Invocation.of(ctx).deployment, port, read_only=read_only)


@app.command()
def version(ctx: typer.Context) -> None:
    """Print the version of the deployment."""
    run = Invocation.of(ctx)
    run.print(run.call("GET", "/version"), lambda one: one["version"])
