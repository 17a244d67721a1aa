"""`linkctl`: endpoints, resources, failover, reports. `linkctl --help` shows all of it.

Exit status 0: done; 1: refused, with the reason; 2: typed wrongly; 3: nobody could be asked.
"""

from __future__ import annotations

import enum
import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Optional

import boto3
import typer
from rich.live import Live
from rich.progress import Progress

from linkctl import proxy as signing_proxy
from linkctl import show
from linkctl.api import Deployment, Refused, Unreachable

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
endpoints = typer.Typer(no_args_is_help=True, help="Register, look at and delete endpoints.")
resources = typer.Typer(no_args_is_help=True, help="Who is active, since when and why.")
app.add_typer(endpoints, name="endpoints")
app.add_typer(resources, name="resources")


class Output(str, enum.Enum):
    table = "table"
    json = "json"


class Status(str, enum.Enum):
    ACTIVATED = "ACTIVATED"
    STANDBY = "STANDBY"
    FAILING = "FAILING"


_chosen: ContextVar[tuple[Deployment, Output]] = ContextVar("chosen")

EndpointId = Annotated[str, typer.Argument(help="An endpoint's id, vip-…", show_default=False)]
ResourceId = Annotated[str, typer.Argument(help="A resource's id, as it was registered", show_default=False)]


@app.callback()
def options(
    stack: Annotated[str, typer.Option(envvar="LINKCTL_STACK", help="Name of the stack.")] = "link-webhook",
    api_url: Annotated[Optional[str], typer.Option(envvar="LINKCTL_API_URL", help="Instead of its output.")] = None,
    event_bus: Annotated[Optional[str], typer.Option(envvar="LINKCTL_EVENT_BUS", help="Instead of its output.")] = None,
    endpoint_url: Annotated[
        Optional[str], typer.Option(envvar="AWS_ENDPOINT_URL", help="The local cloud's address.")
    ] = None,
    region: Annotated[Optional[str], typer.Option(envvar="AWS_REGION")] = None,
    profile: Annotated[Optional[str], typer.Option(envvar="AWS_PROFILE")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", envvar="LINKCTL_OUTPUT")] = Output.table,
) -> None:
    """Operate link-webhook: one active endpoint per resource."""
    session = boto3.Session(region_name=region, profile_name=profile)
    _chosen.set((Deployment(stack, api_url, event_bus, endpoint_url, session), output))


def _deployment() -> Deployment:
    return _chosen.get()[0]


def _say(value: Any, as_table: Callable[[Any], Any]) -> None:
    if _chosen.get()[1] is Output.json:
        show.as_json(value)
    else:
        show.console().print(as_table(value))


def _path(endpoint_id: str, rest: str = "") -> str:
    if not endpoint_id.startswith("vip-") or "/" in endpoint_id:
        raise typer.BadParameter(f"{endpoint_id!r} is not an endpoint's id: `linkctl endpoints list` shows them")
    return f"/endpoints/{endpoint_id}{rest}"


def _all(path: str, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = None
    while True:
        answer = _deployment().call("GET", path, limit="500", after=after)
        found += answer[name]
        after = answer.get("next")
        if after is None:
            return found


@endpoints.command("list")
def endpoints_list() -> None:
    """Every endpoint with its status and what its receiver knows."""
    found = _all("/endpoints", "endpoints")
    _say(sorted(found, key=lambda one: (one["election_key"], one["id"])), show.endpoints)


@endpoints.command("show")
def endpoints_show(endpoint_id: EndpointId) -> None:
    """One endpoint."""
    _say(_deployment().call("GET", _path(endpoint_id))["endpoint"], lambda one: show.endpoints([one]))


@endpoints.command("create")
def endpoints_create(
    url: Annotated[str, typer.Option(help="Where its webhooks go.")],
    resource_id: Annotated[str, typer.Option(help="What it competes for.")],
    secret_file: Annotated[Path, typer.Option(help="File with the secret, - for standard input.")],
    host: Annotated[Optional[str], typer.Option(help="One endpoint per host and resource.")] = None,
    header_file: Annotated[
        Optional[Path], typer.Option(help="JSON object of headers to send along; a file, since values are secret.")
    ] = None,
    priority: Annotated[int, typer.Option(min=-1000, max=1000, help="The higher wins an election.")] = 0,
    lease_seconds: Annotated[
        Optional[int], typer.Option(min=5, max=3600, help="Without a report in that time it counts as failing.")
    ] = None,
    idempotency_key: Annotated[
        Optional[str], typer.Option(help="Registers once, however often it is run with the same key.")
    ] = None,
) -> None:
    """Registers an endpoint. It is BOOTING until its host reports."""
    config: dict[str, Any] = {"url": url, "resource_id": resource_id, "secret": _read(secret_file)}
    if header_file is not None:
        config["headers"] = _headers(header_file)
    body: dict[str, Any] = {"plugin": "webhook", "plugin_config": config, "priority": priority}
    if host is not None:
        body["host"] = host
    if lease_seconds is not None:
        body["lease_seconds"] = lease_seconds
    # The same for both tries: an answer that got lost does not register it twice.
    key = idempotency_key or str(uuid.uuid4())
    try:
        created = _deployment().call("POST", "/endpoints", body, idempotency_key=key)["endpoint"]
    except Unreachable:
        created = _deployment().call("POST", "/endpoints", body, idempotency_key=key)["endpoint"]
    _say(
        created, lambda one: f"{one['id']} is registered. Its host has to report: linkctl report {one['id']} ACTIVATED"
    )


@endpoints.command("change")
def endpoints_change(
    endpoint_id: EndpointId,
    priority: Annotated[Optional[int], typer.Option(min=-1000, max=1000, help="Counts at the next election.")] = None,
    lease_seconds: Annotated[Optional[int], typer.Option(min=0, max=3600, help="0: no lease any more.")] = None,
    healthcheck: Annotated[
        Optional[list[str]], typer.Option(help="HOST:PORT, repeated; all of them, replaces what there is.")
    ] = None,
    healthcheck_interval: Annotated[Optional[int], typer.Option(min=0, max=3600, help="Seconds.")] = None,
    url: Annotated[Optional[str], typer.Option(help="On standby only; takes the secret again.")] = None,
    secret_file: Annotated[Optional[Path], typer.Option(help="File with the secret, - for standard input.")] = None,
    header_file: Annotated[Optional[Path], typer.Option(help="JSON object with all headers, {} for none.")] = None,
) -> None:
    """Changes what is named and nothing else. To change the secret only, see rotate-secret."""
    body: dict[str, Any] = {}
    if priority is not None:
        body["priority"] = priority
    if lease_seconds is not None:
        body["lease_seconds"] = lease_seconds or None
    if healthcheck is not None:
        body["healthchecks"] = [_healthcheck(one) for one in healthcheck]
    if healthcheck_interval is not None:
        body["healthcheck_interval"] = healthcheck_interval
    config: dict[str, Any] = {} if url is None else {"url": url}
    if secret_file is not None:
        config["secret"] = _read(secret_file)
    if header_file is not None:
        config["headers"] = _headers(header_file)
    if config:
        body["plugin_config"] = config
    if not body:
        raise typer.BadParameter("nothing to change: name what, see --help")
    _say(_deployment().call("PATCH", _path(endpoint_id), body), lambda one: show.endpoints([one]))


def _healthcheck(text: str) -> dict[str, Any]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise typer.BadParameter(f"{text!r} is not HOST:PORT")
    return {"type": "TCP", "host": host, "port": int(port)}


@endpoints.command("rotate-secret")
def endpoints_rotate_secret(
    endpoint_id: EndpointId,
    secret_file: Annotated[Path, typer.Option(help="File with the new secret, - for standard input.")],
    overlap_hours: Annotated[float, typer.Option(min=0, max=720, help="How long the old one signs beside it.")] = 24.0,
    header_file: Annotated[Optional[Path], typer.Option(help="JSON object with all headers, if it has any.")] = None,
) -> None:
    """A new secret; until the overlap ends, every webhook carries signatures of both."""
    config: dict[str, Any] = {"secret": _read(secret_file), "previous_secret_until": None}
    if overlap_hours:
        config["previous_secret_until"] = time.time_ns() // 1_000_000 + round(overlap_hours * 3_600_000)
    if header_file is not None:
        config["headers"] = _headers(header_file)
    until = config["previous_secret_until"]
    changed = _deployment().call("PATCH", _path(endpoint_id), {"plugin_config": config})
    _say(
        changed,
        lambda one: (
            f"{endpoint_id} has a new secret; "
            + ("the old one is gone" if until is None else f"the old one signs, too, for {overlap_hours:g} h")
        ),
    )


@endpoints.command("redeliver")
def endpoints_redeliver(endpoint_id: EndpointId) -> None:
    """Its receiver is told the current status once more."""
    _deployment().call("POST", _path(endpoint_id, "/redeliver"))
    _say({"redelivers": endpoint_id}, lambda _: f"{endpoint_id}: its receiver is told once more")


def _headers(file: Path) -> Any:
    try:
        return json.loads(_read(file))
    except ValueError as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}") from None


def _read(file: Path) -> str:
    if str(file) == "-":
        if sys.stdin.isatty():
            return str(typer.prompt("secret", hide_input=True))
        return sys.stdin.read().removesuffix("\n")
    try:
        return file.read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from None


@endpoints.command("delete")
def endpoints_delete(
    endpoint_id: EndpointId,
    force: Annotated[bool, typer.Option(help="At once, without telling its receiver.")] = False,
) -> None:
    """Takes an endpoint out; its receiver is told first if it may believe it active."""
    _deployment().call("DELETE", _path(endpoint_id), force="true" if force else None)
    _say({"deleted": endpoint_id}, lambda _: f"{endpoint_id} is deleted")


@endpoints.command("hosts")
def endpoints_hosts(endpoint_id: EndpointId) -> None:
    """The hosts it competes with."""
    _say(
        _deployment().call("GET", _path(endpoint_id, "/hosts"))["hosts"],
        lambda hosts: "\n".join(one["hostname"] for one in hosts),
    )


@endpoints.command("preview")
def endpoints_preview(endpoint_id: EndpointId) -> None:
    """Its next webhook; nothing is sent, secret values are not shown."""
    show.as_json(_deployment().call("GET", _path(endpoint_id, "/preview"))["request"])


@resources.command("list")
def resources_list() -> None:
    """Every resource: who is active, since when, why."""
    _say(sorted(_all("/resources", "resources"), key=lambda one: str(one["resource_id"])), show.resources)


@resources.command("show")
def resources_show(resource_id: ResourceId) -> None:
    """One resource: its candidates, and what is undelivered."""
    _say(_resource(resource_id), show.resource)


def _resource(resource_id: str) -> dict[str, Any]:
    found: dict[str, Any] = _deployment().call("GET", "/resources", resource_id=resource_id)["resource"]
    return found


@resources.command("freeze")
def resources_freeze(resource_id: ResourceId) -> None:
    """Its active endpoint stays, whatever is reported: for maintenance. An alarm reminds you."""
    _freeze(resource_id, True)


@resources.command("unfreeze")
def resources_unfreeze(resource_id: ResourceId) -> None:
    """Elects again, and makes up for what was reported in the meantime."""
    _freeze(resource_id, False)


def _freeze(resource_id: str, frozen: bool) -> None:
    found = _deployment().call("PATCH", "/resources", {"frozen": frozen}, resource_id=resource_id)
    _say(found["resource"], show.resource)


@app.command("rotate-encryption-key")
def rotate_encryption_key(
    patience: Annotated[float, typer.Option(min=1, help="Seconds to wait for the end of it.")] = 900.0,
) -> None:
    """Has every stored secret encrypted anew, and waits until it is done."""
    path = "/encrypted_storage/key_rotation"
    since = _deployment().call("GET", path)["key_rotation"]["now"]
    _deployment().call("POST", path)
    until = time.monotonic() + patience
    with Progress(console=show.console(), transient=True) as progress:
        task = progress.add_task("encrypting anew", total=None)
        while True:
            seen: dict[str, Any] = _deployment().call("GET", path, since=str(since))["key_rotation"]
            progress.update(task, total=seen["endpoints"], completed=seen["encrypted_since"])
            if seen["encrypted_since"] == seen["endpoints"]:
                break
            if time.monotonic() > until:
                text = f"{seen['encrypted_since']} of {seen['endpoints']} endpoints are encrypted anew"
                raise Refused(504, {"error": f"{text}: read key_rotation.failed in the function's log"})
            time.sleep(1)
    _say(seen, lambda one: f"{one['endpoints']} endpoints are encrypted anew")


@app.command()
def transitions(
    resource_id: ResourceId, limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20
) -> None:
    """What happened to a resource, newest first."""
    answer = _deployment().call("GET", "/transitions", resource_id=resource_id, limit=str(limit))
    _say(answer["transitions"], show.transitions)


@app.command()
def failover(
    endpoint_id: EndpointId,
    to: Annotated[Optional[str], typer.Option(help="To this endpoint, not to the best one.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Say who would win, write nothing.")] = False,
) -> None:
    """The active endpoint hands over to another one that is ready."""
    body = None if to is None else {"to": to}
    answer = _deployment().call("POST", _path(endpoint_id, "/failover"), body, dry_run="true" if dry_run else None)
    if answer is None:
        _say({"handed_over": endpoint_id}, lambda _: f"{endpoint_id} has handed over")
    else:
        _say(answer["failover"], show.outlook)


@app.command()
def report(
    endpoint_id: EndpointId,
    status: Annotated[Status, typer.Argument(help="What the host reports.", show_default=False)],
    resource_id: Annotated[Optional[str], typer.Option(help="Saves the function a read.")] = None,
) -> None:
    """Sends a status event as a host does. ACTIVATED is also the heartbeat."""
    _path(endpoint_id)
    detail = {"endpoint_id": endpoint_id, "status": status.value, "plugin": "webhook"}
    if resource_id is not None:
        detail["resource_id"] = resource_id
    _deployment().report({**detail, "reported_at": time.time_ns() // 1_000_000})
    _say({"reported": status.value}, lambda _: f"reported {status.value} for {endpoint_id}")


@app.command()
def watch(
    resource_id: Annotated[Optional[str], typer.Argument(help="One resource; none: all of them.")] = None,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    times: Annotated[int, typer.Option(min=0, help="So many looks; 0: until Ctrl-C.")] = 0,
) -> None:
    """A table that follows what happens."""

    def look() -> Any:
        if resource_id is not None:
            return show.resource(_resource(resource_id))
        return show.resources(sorted(_all("/resources", "resources"), key=lambda one: str(one["resource_id"])))

    with Live(look(), console=show.console(), auto_refresh=False) as live:
        looks = 1
        while times == 0 or looks < times:
            time.sleep(interval)
            live.update(look(), refresh=True)
            looks += 1


@app.command()
def drill(
    resource_id: ResourceId,
    patience: Annotated[float, typer.Option(min=1, help="Seconds to wait for each side.")] = 30.0,
) -> None:
    """Fails over and back, and says how long each took until every receiver knew."""
    before = _resource(resource_id)
    first = before["holder"]
    if first is None:
        raise Refused(409, {"error": f"{resource_id} has no active endpoint to fail over from"})
    if before["undelivered"]:
        raise Refused(
            409, {"error": "something is undelivered, see `linkctl resources show`: a drill would measure that"}
        )
    times = []
    holder = first
    for to in (None, first):
        began = time.monotonic()
        body = None if to is None else {"to": to}
        _deployment().call("POST", _path(holder, "/failover"), body)
        after = _settled(resource_id, began + patience)
        times.append({"from": holder, "to": after["holder"], "seconds": round(time.monotonic() - began, 2)})
        holder = after["holder"]
    _say(times, lambda all: "\n".join(f"{one['from']} → {one['to']} in {one['seconds']:.2f} s" for one in all))


def _settled(resource_id: str, until: float) -> dict[str, Any]:
    while True:
        found = _resource(resource_id)
        if not found["undelivered"]:
            return found
        if time.monotonic() > until:
            raise Refused(504, {"error": f"{resource_id} still owes webhooks: `linkctl resources show` says why"})
        time.sleep(0.1)


@app.command()
def proxy(port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 1313) -> None:
    """Serves the API on loopback without authentication, signing every request: for LinK's client, curl, a browser."""
    signing_proxy.serve(_deployment(), port)


@app.command()
def version() -> None:
    """The deployment's version."""
    _say(_deployment().call("GET", "/version"), lambda one: one["version"])


def main() -> None:
    """The program."""
    try:
        app(standalone_mode=True)
    except Refused as refused:
        _fail(str(refused), 1)
    except Unreachable as unreachable:
        _fail(str(unreachable), 3)
    except BrokenPipeError:
        # Whoever read it has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(text: str, status: int) -> None:
    print(f"linkctl: {text}", file=sys.stderr)
    sys.exit(status)
