"""The `linkctl` program: its global options and its exit status.

Exit status 0: done; 1: the API refused, or the command failed (the reason is on standard error); 2: usage error;
3: the API, AWS or the stack could not be reached.
"""

from __future__ import annotations

import copy
import importlib.metadata
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
import typer.main
from botocore.exceptions import BotoCoreError

from linkctl.api import Deployment, open_session
from linkctl.commands import agent, endpoints, importing, resources, top_level
from linkctl.errors import Failed, Unreachable
from linkctl.invocation import Invocation, Output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(top_level.app)
app.add_typer(importing.app)
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(resources.app, name="resources")
app.add_typer(agent.app, name="agent")


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            print(importlib.metadata.version("linkctl"))
        except importlib.metadata.PackageNotFoundError:
            print("not installed: this is a checkout")
        raise typer.Exit


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
        str | None,
        typer.Option(envvar="AWS_ENDPOINT_URL", help="URL of the local cloud, instead of AWS; default: the profile's."),
    ] = None,
    region: Annotated[str | None, typer.Option(envvar="AWS_REGION", help="AWS region; default: the profile's.")] = None,
    profile: Annotated[str | None, typer.Option(envvar="AWS_PROFILE", help="AWS profile.")] = None,
    profile_file: Annotated[
        Path | None,
        typer.Option(
            envvar="LINKCTL_PROFILE_FILE",
            help="Take region, keys and URL from this AWS profile file only, such as .local/aws of `make local`.",
        ),
    ] = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", envvar="LINKCTL_OUTPUT", help="Tables, or JSON for programs.")
    ] = Output.table,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print linkctl's own version.")
    ] = False,
) -> None:
    """Operate a deployment of link-webhook: one active endpoint per resource."""
    if profile_file is not None:
        if not profile_file.is_file():
            raise _wrong(
                "--profile-file", f"{profile_file} is not a file: `make local` writes .local/aws while it runs"
            )
        # What the environment says is about another cloud.
        endpoint_url, region, profile = (
            value if _on_the_command_line(ctx, name) else None
            for name, value in (("endpoint_url", endpoint_url), ("region", region), ("profile", profile))
        )
    for name, url in (("--api-url", api_url), ("--endpoint-url", endpoint_url)):
        _check_url(name, url)
    try:
        session = open_session(profile, region, profile_file)
        endpoint_url = endpoint_url or session._session.get_scoped_config().get("endpoint_url")
    except BotoCoreError as error:
        raise _wrong("--profile-file" if profile_file else "--profile", str(error)) from None
    ctx.obj = Invocation(Deployment(stack, api_url, event_bus, endpoint_url, session), output)


def _on_the_command_line(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _check_url(option: str, url: str | None) -> None:
    if url is None:
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _wrong(option, f"{url!r} is not a URL: it has to be like https://api.example.com/v3")


def _wrong(option: str, text: str) -> typer.BadParameter:
    return typer.BadParameter(text, param_hint=option)


def command() -> Any:
    """Return the command with all of its subcommands; each also takes `--output`, because people write it last."""
    root: Any = typer.main.get_command(app)
    [output] = [copy.copy(one) for one in root.params if one.name == "output"]
    output.default = output.envvar = None
    output.expose_value = False
    output.callback = _choose_output

    def extend(group: Any) -> None:
        for one in group.commands.values():
            if hasattr(one, "commands"):
                extend(one)
            else:
                one.params.append(output)

    extend(root)
    return root


def _choose_output(ctx: typer.Context, _: object, value: str | None) -> None:
    if value is not None:
        ctx.obj = replace(ctx.obj, output=Output(value))


def main() -> None:
    """Run linkctl and exit."""
    try:
        command()(standalone_mode=True)
    except (Failed, Unreachable) as error:
        print(f"linkctl: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # The reader of the output closed it, such as `head`; without this, Python would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(130)
