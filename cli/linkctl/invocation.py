"""What one invocation of linkctl works with, and the checks and arguments that its commands share."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from linkctl import show
from linkctl.api import Deployment

EndpointId = Annotated[str, typer.Argument(help="The id of an endpoint, vip-…", show_default=False)]
ResourceId = Annotated[str, typer.Argument(help="The id of a resource, as registered", show_default=False)]


class Output(enum.StrEnum):
    table = "table"
    json = "json"


@dataclass(frozen=True)
class Invocation:
    """The deployment and the output format that the global options chose."""

    deployment: Deployment
    output: Output

    @staticmethod
    def of(ctx: typer.Context) -> Invocation:
        """Return the invocation that the global options left in the context."""
        found: Invocation = ctx.obj
        return found

    def call(self, method: str, path: str, body: object = None, **query: str | None) -> Any:
        """Call the API and return the JSON of its answer."""
        return self.deployment.call(method, path, body, **query)

    def pages(self, path: str, name: str) -> list[dict[str, Any]]:
        """Return the items of all pages of a list."""
        found: list[dict[str, Any]] = []
        after = None
        while True:
            answer = self.call("GET", path, limit="500", after=after)
            found += answer[name]
            after = answer.get("next")
            if after is None:
                return found

    def print(self, value: Any, as_table: Callable[[Any], Any]) -> None:
        """Print a value as JSON, or as the table or line that `as_table` makes of it."""
        if self.output is Output.json:
            show.as_json(value)
        else:
            show.console().print(as_table(value))


def endpoint_path(endpoint_id: str, rest: str = "") -> str:
    """Return the API path of an endpoint."""
    if not endpoint_id.startswith("vip-") or "/" in endpoint_id:
        raise typer.BadParameter(f"{endpoint_id!r} is not an endpoint's id: `linkctl endpoints list` shows them")
    return f"/endpoints/{endpoint_id}{rest}"


def read_secret(file: Path) -> str:
    """Return the content of a file, or of standard input for `-`, without its last line break."""
    if str(file) == "-":
        if sys.stdin.isatty():
            return str(typer.prompt("secret", hide_input=True))
        return sys.stdin.read().removesuffix("\n")
    try:
        return file.read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from None


def read_headers(file: Path) -> Any:
    """Return the JSON in a file of headers."""
    try:
        return json.loads(read_secret(file))
    except ValueError as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}") from None
