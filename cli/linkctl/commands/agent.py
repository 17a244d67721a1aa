"""`linkctl agent`: reports the health of this host's endpoints."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from linkctl.agent import files
from linkctl.api import open_session
from linkctl.errors import Failed
from linkctl.invocation import Invocation

if TYPE_CHECKING:
    from linkctl.agent.config import Config

app = typer.Typer(no_args_is_help=True, help="Run local checks on a host and report their results for its endpoints.")

ConfigFile = Annotated[Path, typer.Option("--config", help="The agent's configuration, TOML.")]


@app.command()
def run(
    ctx: typer.Context,
    config: ConfigFile = files.CONFIG,
    textfile: Annotated[Path | None, typer.Option(help="Write metrics for node_exporter into this file.")] = None,
) -> None:
    """Check and report until SIGTERM or SIGINT, then report STANDBY. SIGHUP reads the configuration again."""
    # Imported here: no other command needs it.
    from linkctl.agent import process
    from linkctl.agent.bus import CLIENT_CONFIG

    deployment = Invocation.of(ctx).deployment
    given = ctx.find_root().params

    def make_client(config: Config) -> Any:
        # A session of its own, since sessions are not for threads.
        session = open_session(given["profile"], config.region, given["profile_file"])
        return session.client("events", endpoint_url=deployment.endpoint_url, config=CLIENT_CONFIG)

    process.run(config, textfile, make_client)
    # A thread may hang in the look-up of a name, or write to the log while the interpreter shuts down.
    os._exit(0)


@app.command()
def check(ctx: typer.Context, config: ConfigFile = files.CONFIG) -> None:
    """Run every check of the configuration once and print the results; exit status 1 if one fails. Report nothing."""
    from concurrent.futures import ThreadPoolExecutor

    from linkctl.agent import checks
    from linkctl.agent.config import load

    loaded = load(config)
    todo = [(endpoint, check) for endpoint in loaded.endpoints for check in endpoint.checks]
    commands = checks.Commands()
    with ThreadPoolExecutor(max(len(todo), 1)) as threads:
        results = list(threads.map(lambda one: checks.run(one[1], commands), todo))
    found = [
        {
            "endpoint_id": endpoint.endpoint_id,
            "check": str(check),
            "passed": result.passed,
            "reason": result.reason,
            "seconds": round(result.seconds, 3),
        }
        for (endpoint, check), result in zip(todo, results, strict=True)
    ]
    Invocation.of(ctx).print(found, _table)
    failed = sum(not result.passed for result in results)
    if failed:
        raise Failed(f"{failed} of {len(todo)} checks failed")


@app.command()
def init(
    ctx: typer.Context,
    host: Annotated[
        str | None, typer.Option(help="The host as registered; its endpoints are taken from the API.")
    ] = None,
    config: ConfigFile = files.CONFIG,
    unit: Annotated[Path, typer.Option(help="The systemd unit.")] = files.UNIT,
    force: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
) -> None:
    """Write a configuration with comments and a hardened systemd unit."""
    invocation = Invocation.of(ctx)
    existing = [str(path) for path in (config, unit) if path.exists()]
    if existing and not force:
        raise Failed(f"{' and '.join(existing)}: exists already, --force replaces it")
    deployment = invocation.deployment
    if host is None:
        endpoints = [files.EXAMPLE]
        event_bus = deployment.event_bus or deployment.stack
    else:
        shown = invocation.pages("/endpoints", "endpoints")
        endpoints = [files.Registered.of(one) for one in shown if one.get("host") == host]
        if not endpoints:
            raise Failed(f"no endpoint is registered with the host {host!r}: `linkctl endpoints list` shows the hosts")
        event_bus = deployment.event_bus or deployment.output("EventBusName")
    region = deployment.session.region_name or "eu-west-1"
    text = files.config(host or socket.gethostname(), event_bus, region, endpoints)
    for path, content in ((config, text), (unit, files.unit(_program(), config.absolute()))):
        try:
            if not path.parent.exists():
                path.parent.mkdir(parents=True)
                path.parent.chmod(0o755)
            path.write_text(content)
            # Whatever the umask is: the agent has a user of its own. There is no secret in it.
            path.chmod(0o644)
        except OSError as error:
            raise Failed(f"{path} cannot be written: {error.strerror}") from None
    invocation.print({"config": str(config), "unit": str(unit)}, lambda _: f"wrote {config} and {unit}")


def _program() -> str:
    """Return the command of the linkctl that runs now."""
    program = Path(sys.argv[0]).absolute()
    return str(program) if program.name == "linkctl" else f"{sys.executable} -m linkctl"


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table("endpoint", "check", "result", "seconds")
    for one in found:
        result = "[green]passed[/]" if one["passed"] else f"[red]{one['reason']}[/]"
        table.add_row(one["endpoint_id"], one["check"], result, f"{one['seconds']:.3f}")
    return table
