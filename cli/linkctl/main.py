"""The `linkctl` program: its global options and its exit status.

Exit status 0: done; 1: the API refused, or the command failed (the reason is on standard error); 2: usage error;
3: the API, AWS or the stack could not be reached.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import boto3
import typer

from linkctl.api import Deployment
from linkctl.commands import agent, endpoints, resources, top_level
from linkctl.errors import Failed, Unreachable
from linkctl.invocation import Invocation, Output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(top_level.app)
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(resources.app, name="resources")
app.add_typer(agent.app, name="agent")


@app.callback()
def options(
    ctx: typer.Context,
    stack: Annotated[str, typer.Option(envvar="LINKCTL_STACK", help="Name of the stack.")] = "link-webhook",
    api_url: Annotated[
        str | None, typer.Option(envvar="LINKCTL_API_URL", help="URL of the API; default: the stack's output.")
    ] = None,
    event_bus: Annotated[
        str | None, typer.Option(envvar="LINKCTL_EVENT_BUS", help="Event bus for reports; default: the stack's output.")
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(envvar="AWS_ENDPOINT_URL", help="URL of the local cloud, instead of AWS.")
    ] = None,
    region: Annotated[str | None, typer.Option(envvar="AWS_REGION", help="AWS region.")] = None,
    profile: Annotated[str | None, typer.Option(envvar="AWS_PROFILE", help="AWS profile.")] = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", envvar="LINKCTL_OUTPUT", help="Tables, or JSON for programs.")
    ] = Output.table,
) -> None:
    """Operate a deployment of link-webhook: one active endpoint per resource."""
    session = boto3.Session(region_name=region, profile_name=profile)
    ctx.obj = Invocation(Deployment(stack, api_url, event_bus, endpoint_url, session), output)


def main() -> None:
    """Run linkctl and exit."""
    try:
        app(standalone_mode=True)
    except (Failed, Unreachable) as error:
        print(f"linkctl: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # The reader of the output closed it, such as `head`; without this, Python would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(130)
