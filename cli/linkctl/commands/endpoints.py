"""`linkctl endpoints`: registrations and their deliveries."""

from __future__ import annotations

import enum
import re
import sys
import time
import uuid
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from linkctl import show
from linkctl.errors import Refused, Unreachable
from linkctl.invocation import EndpointId, Invocation, Yes, endpoint_path, read_headers, read_secret

app = typer.Typer(no_args_is_help=True, help="Register, show, change, drain and delete endpoints.")


class Observer(enum.StrEnum):
    host = "host"
    probe = "probe"
    signal = "signal"


class ReadyWhen(enum.StrEnum):
    all = "all"
    any = "any"


Observers = Annotated[list[Observer] | None, typer.Option(help="Whose word counts; repeat it for each observer.")]
Ready = Annotated[ReadyWhen | None, typer.Option(help="Whether all observers have to call it ready, or any one.")]

Healthchecks = Annotated[
    list[str] | None,
    typer.Option(help="HOST:PORT, or a URL like https://paris.example.com/healthy; repeat it for each check."),
]
Interval = Annotated[int | None, typer.Option(min=0, max=3600, help="Seconds between two looks of the probe.")]

Signals = Annotated[
    list[str] | None,
    typer.Option(help="What of AWS speaks for it, like ec2:i-0123456789abcdef0; repeat it for each signal."),
]


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List all endpoints with their status and their last delivery."""
    run = Invocation.of(ctx)
    found = run.pages("/endpoints", "endpoints")
    run.print(sorted(found, key=lambda one: (one["election_key"], one["id"])), show.endpoints)


@app.command("show")
def show_(ctx: typer.Context, endpoint: EndpointId) -> None:
    """Show one endpoint with all of its settings and its last delivery."""
    run = Invocation.of(ctx)
    path = endpoint_path(run.endpoint_id(endpoint))
    found = run.call("GET", path)["endpoint"]

    def shown(one: dict[str, Any]) -> Any:
        try:
            return show.endpoint(one, run.call("GET", f"{path}/preview")["request"]["url"] + " (its path is not shown)")
        except Refused:
            # There is a preview only while something was, or is to be, sent.
            return show.endpoint(one)

    run.print(found, shown)


@app.command()
def create(
    ctx: typer.Context,
    url: Annotated[str, typer.Option(help="URL of the receiver.")],
    resource_id: Annotated[str, typer.Option(help="The resource for which the endpoint is a candidate.")],
    secret_file: Annotated[Path, typer.Option(help="File with the secret; - reads standard input.")],
    host: Annotated[str | None, typer.Option(help="The host; a resource has at most one endpoint per host.")] = None,
    header_file: Annotated[
        Path | None,
        typer.Option(help="File with a JSON object of headers to send with each webhook."),
    ] = None,
    priority: Annotated[int, typer.Option(min=-1000, max=1000, help="The highest priority wins an election.")] = 0,
    lease_seconds: Annotated[
        int | None, typer.Option(min=5, max=3600, help="The endpoint fails after this time without a report.")
    ] = None,
    healthcheck: Healthchecks = None,
    healthcheck_interval: Interval = None,
    signal: Signals = None,
    observer: Observers = None,
    ready_when: Ready = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeating the command with the same key registers only one endpoint.")
    ] = None,
) -> None:
    """Register an endpoint. It stays BOOTING until its observers report: its host, the probe of its checks, or AWS."""
    config: dict[str, Any] = {"url": url, "resource_id": resource_id, "secret": read_secret(secret_file)}
    if header_file is not None:
        config["headers"] = read_headers(header_file)
    body: dict[str, Any] = {"plugin": "webhook", "plugin_config": config, "priority": priority}
    if host is not None:
        body["host"] = host
    if lease_seconds is not None:
        body["lease_seconds"] = lease_seconds
    if healthcheck is not None:
        body["checks"] = [_healthcheck(one) for one in healthcheck]
    if healthcheck_interval is not None:
        body["healthcheck_interval"] = healthcheck_interval
    if signal is not None:
        body["signals"] = [_signal(one) for one in signal]
    body |= _readiness(observer, ready_when)
    # Both calls have the same key: if only the answer was lost, the second call does not register again.
    key = idempotency_key or str(uuid.uuid4())
    run = Invocation.of(ctx)
    try:
        answer = run.deployment.call("POST", "/endpoints", body, idempotency_key=key)
    except Unreachable:
        answer = run.deployment.call("POST", "/endpoints", body, idempotency_key=key)
    run.print(answer["endpoint"], _next_step)


def _next_step(one: dict[str, Any]) -> str:
    # A deployment of version 0.1 sends no observers.
    if "host" in one.get("observers", ["host"]):
        return f"{one['id']} is registered. Its host must report: linkctl report {one['id']} ACTIVATED"
    if "probe" in one["observers"]:
        return f"{one['id']} is registered. The probe looks at it within a minute: linkctl endpoints show {one['id']}"
    return f"{one['id']} is registered. AWS is asked about it within a minute: linkctl endpoints show {one['id']}"


@app.command()
def change(
    ctx: typer.Context,
    endpoint: EndpointId,
    priority: Annotated[int | None, typer.Option(min=-1000, max=1000, help="Used from the next election on.")] = None,
    lease_seconds: Annotated[int | None, typer.Option(min=0, max=3600, help="0 removes the lease.")] = None,
    healthcheck: Healthchecks = None,
    healthcheck_interval: Interval = None,
    signal: Signals = None,
    observer: Observers = None,
    ready_when: Ready = None,
    url: Annotated[
        str | None, typer.Option(help="Only on standby; needs --secret-file, and --header-file if it has headers.")
    ] = None,
    secret_file: Annotated[Path | None, typer.Option(help="File with the secret; - reads standard input.")] = None,
    header_file: Annotated[
        Path | None, typer.Option(help="JSON object with all headers; {} removes all of them.")
    ] = None,
) -> None:
    """Change only the given settings; health checks and signals replace the old ones. The secret: rotate-secret."""
    body: dict[str, Any] = {}
    if priority is not None:
        body["priority"] = priority
    if lease_seconds is not None:
        body["lease_seconds"] = lease_seconds or None
    if healthcheck is not None:
        body["healthchecks"] = [_healthcheck(one) for one in healthcheck]
    if healthcheck_interval is not None:
        body["healthcheck_interval"] = healthcheck_interval
    if signal is not None:
        body["signals"] = [_signal(one) for one in signal]
    body |= _readiness(observer, ready_when)
    config: dict[str, Any] = {} if url is None else {"url": url}
    if secret_file is not None:
        config["secret"] = read_secret(secret_file)
    if header_file is not None:
        config["headers"] = read_headers(header_file)
    if config:
        body["plugin_config"] = config
    if not body:
        raise typer.BadParameter("nothing to change: give at least one option, see --help")
    run = Invocation.of(ctx)
    run.print(run.call("PATCH", endpoint_path(run.endpoint_id(endpoint)), body), show.endpoint)


def _readiness(observers: list[Observer] | None, ready_when: ReadyWhen | None) -> dict[str, Any]:
    """Return the fields of a body for the options that were given."""
    given: dict[str, Any] = {"observers": observers, "ready_when": ready_when}
    return {name: value for name, value in given.items() if value is not None}


def _healthcheck(text: str) -> dict[str, Any]:
    """Return the check that `HOST:PORT` or a URL stands for."""
    wrong = typer.BadParameter(f"{text!r} is neither HOST:PORT nor a URL like https://paris.example.com/healthy")
    if "://" not in text:
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal():
            raise wrong
        return {"type": "TCP", "host": host, "port": int(port)}
    try:
        url = urlsplit(text)
        number = url.port or {"http": 80, "https": 443}[url.scheme]
    except (ValueError, KeyError):
        raise wrong from None
    if not url.hostname or url.scheme not in ("http", "https") or url.username is not None:
        raise wrong
    path = url.path + (f"?{url.query}" if url.query else "")
    return {"type": url.scheme.upper(), "host": url.hostname, "port": number} | ({"path": path} if path else {})


_SIGNAL = re.compile(
    r"(?:alarm:(?P<arn>arn:.+?)(?:,insufficient_data=(?P<insufficient_data>last|ok|alarm))?"
    r"|ec2:(?P<instance_id>[^,]+)(?:,rebalance=(?P<rebalance>ignore|standby))?"
    r"|(?P<ecs>ecs|ecs-task):(?P<cluster>[^/]+)/(?P<what>[^/]+)"
    r"|target:(?P<target_group_arn>arn:.+?:targetgroup/[^/]+/[^/]+)/(?P<target_id>.+)"
    r"|zone:(?P<zone_id>.+))"
)


def _signal(text: str) -> dict[str, Any]:
    """Return the signal that a text like `ec2:i-0123456789abcdef0` stands for; the API checks what it names.

    >>> _signal("ec2:i-0123456789abcdef0,rebalance=standby")
    {'type': 'ec2', 'instance_id': 'i-0123456789abcdef0', 'rebalance': 'standby'}
    >>> _signal("ecs:shop/web")
    {'type': 'ecs', 'cluster': 'shop', 'service': 'web'}
    """
    parts = _SIGNAL.fullmatch(text)
    if parts is None:
        raise typer.BadParameter(
            f"{text!r} is none of alarm:ARN, ec2:INSTANCE, ecs:CLUSTER/SERVICE, ecs-task:CLUSTER/TASK, "
            "target:GROUP_ARN/TARGET, zone:ZONE_ID"
        )
    given = {name: value for name, value in parts.groupdict().items() if value is not None}
    kind = given.pop("ecs", None)
    if kind is not None:
        given["service" if kind == "ecs" else "task"] = given.pop("what")
    return {"type": text.partition(":")[0].partition("-")[0], **given}


@app.command()
def drain(
    ctx: typer.Context,
    endpoint: EndpointId,
    force: Annotated[bool, typer.Option(help="Drain the last ready endpoint of its resource, too.")] = False,
    yes: Yes = False,
) -> None:
    """Keep an endpoint from being active until `undrain`, whatever is reported. Shows first what would follow."""
    _drain(ctx, endpoint, True, yes, force="true" if force else None)


@app.command()
def undrain(
    ctx: typer.Context,
    endpoint: EndpointId,
    yes: Yes = False,
) -> None:
    """Let an endpoint be elected again. Shows first what would follow."""
    _drain(ctx, endpoint, False, yes)


def _drain(ctx: typer.Context, endpoint: str, drained: bool, yes: bool, **query: str | None) -> None:
    run = Invocation.of(ctx)
    endpoint_id = run.endpoint_id(endpoint)
    path, body = endpoint_path(endpoint_id), {"drained": drained}
    if not yes:
        preview = run.call("PATCH", path, body, dry_run="true", **query)
        show.console(stderr=True).print(show.outlook(preview["change"], run.hosts(endpoint_id)))
        typer.confirm("Go on?", abort=True, err=True)
    changed = run.call("PATCH", path, body, **query)
    run.print(changed, lambda _: f"{endpoint} is {'drained' if drained else 'no longer drained'}")


@app.command()
def rotate_secret(
    ctx: typer.Context,
    endpoint: EndpointId,
    secret_file: Annotated[Path, typer.Option(help="File with the new secret; - reads standard input.")],
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=720, help="Hours in which the old secret also signs.")
    ] = 24.0,
    header_file: Annotated[
        Path | None, typer.Option(help="JSON object with all headers, if the endpoint has any.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Replace the secret. Until the overlap ends, every webhook is signed with both secrets."""
    config: dict[str, Any] = {"secret": read_secret(secret_file), "previous_secret_until": None}
    if overlap_hours:
        config["previous_secret_until"] = time.time_ns() // 1_000_000 + round(overlap_hours * 3_600_000)
    if header_file is not None:
        config["headers"] = read_headers(header_file)
    run = Invocation.of(ctx)
    path = endpoint_path(run.endpoint_id(endpoint, ask=not yes))
    try:
        changed = run.call("PATCH", path, {"plugin_config": config})
    except Refused as error:
        until = run.call("GET", path)["endpoint"]["previous_secret_until"] or 0
        if until < time.time() * 1000:
            raise
        raise Refused(
            f"{error}\nThe overlap of the last rotation ends at {show.utc(until)}. "
            f"To end it now: linkctl endpoints end-overlap {endpoint}"
        ) from None
    old = f"also signs for {overlap_hours:g} h, until {show.utc(config['previous_secret_until'])}"
    old = old if overlap_hours else "is no longer used"
    run.print(changed, lambda _: f"{endpoint} has a new secret; the old secret {old}")


@app.command()
def end_overlap(ctx: typer.Context, endpoint: EndpointId, yes: Yes = False) -> None:
    """End the overlap of a rotated secret now: from then on only the newest secret signs."""
    run = Invocation.of(ctx)
    path = endpoint_path(run.endpoint_id(endpoint, ask=not yes))
    changed = run.call("PATCH", path, {"plugin_config": {"previous_secret_until": None}})
    run.print(changed, lambda _: f"{endpoint}: only the newest secret signs")


@app.command()
def probe(ctx: typer.Context, endpoint: EndpointId) -> None:
    """Let the service look at an endpoint's checks once, now. It changes nothing."""
    run = Invocation.of(ctx)
    run.print(run.call("POST", endpoint_path(run.endpoint_id(endpoint), "/probe"))["probe"], show.look)


@app.command()
def redeliver(ctx: typer.Context, endpoint: EndpointId) -> None:
    """Send the current status to the receiver again."""
    run = Invocation.of(ctx)
    endpoint_id = run.endpoint_id(endpoint)
    run.call("POST", endpoint_path(endpoint_id, "/redeliver"))
    run.print({"redelivers": endpoint_id}, lambda _: f"{endpoint}: the current status is being sent again")


@app.command()
def delete(
    ctx: typer.Context,
    endpoint: EndpointId,
    force: Annotated[bool, typer.Option(help="Delete at once, without a STANDBY for the receiver.")] = False,
    yes: Yes = False,
) -> None:
    """Delete an endpoint. If its receiver may treat it as active, the receiver gets STANDBY first."""
    run = Invocation.of(ctx)
    endpoint_id = run.endpoint_id(endpoint, ask=not yes)
    resource_id = show.resource_id(run.call("GET", endpoint_path(endpoint_id))["endpoint"])
    run.call("DELETE", endpoint_path(endpoint_id), force="true" if force else None)
    run.print({"deleted": endpoint_id}, lambda _: _deleted(run, endpoint, endpoint_id, resource_id))


def _deleted(run: Invocation, endpoint: str, endpoint_id: str, resource_id: str) -> str:
    try:
        pending = run.resource(resource_id)["undelivered"]
    except Refused:
        pending = []
    if any(one["id"] == endpoint_id for one in pending):
        return (
            f"{endpoint} is being deleted: its receiver gets STANDBY first. See: linkctl resources show {resource_id}"
        )
    return f"{endpoint} is deleted"


@app.command()
def hosts(ctx: typer.Context, endpoint: EndpointId) -> None:
    """List the hosts of all endpoints of the same resource."""
    run = Invocation.of(ctx)
    run.print(
        run.call("GET", endpoint_path(run.endpoint_id(endpoint), "/hosts"))["hosts"],
        lambda hosts: "\n".join(one["hostname"] for one in hosts),
    )


@app.command()
def preview(ctx: typer.Context, endpoint: EndpointId) -> None:
    """Print the next webhook as JSON, without sending it, without secret values and without the path of its URL."""
    run = Invocation.of(ctx)
    print("The path of the URL is not shown: it may be secret.", file=sys.stderr)
    show.as_json(run.call("GET", endpoint_path(run.endpoint_id(endpoint), "/preview"))["request"])
