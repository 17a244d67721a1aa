"""What one invocation of linkctl works with, and the checks and arguments that its commands share."""

from __future__ import annotations

import enum
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from linkctl import show
from linkctl.api import Deployment
from linkctl.errors import Failed

EndpointId = Annotated[
    str, typer.Argument(help="The endpoint: its id, the beginning of its id, or HOST@RESOURCE.", show_default=False)
]
ResourceId = Annotated[str, typer.Argument(help="The id of a resource, as registered.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask first.")]

_WHOLE_ID = re.compile(r"vip-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BEGINNING = re.compile(r"vip-[0-9a-f-]*")
_NAMED = 5
"""How many endpoints an error names."""


class Output(enum.StrEnum):
    table = "table"
    json = "json"


@dataclass(frozen=True)
class Invocation:
    """The deployment and the output format that the options chose."""

    deployment: Deployment
    output: Output

    @staticmethod
    def of(ctx: typer.Context) -> Invocation:
        """Return the invocation that the options left in the context."""
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

    def resource(self, resource_id: str) -> dict[str, Any]:
        """Return one resource."""
        found: dict[str, Any] = self.call("GET", "/resources", resource_id=resource_id)["resource"]
        return found

    def endpoint_id(self, text: str, *, ask: bool = False) -> str:
        """Return the id of the endpoint that a text means; a text that is not the whole id is told on standard error.

        The beginning of an id is looked for in `GET /endpoints`, `HOST@RESOURCE` in `GET /resources?resource_id=…`.
        With `ask` the user has to agree unless the text is the whole id.
        """
        if _WHOLE_ID.fullmatch(text):
            return text
        host, at, resource_id = text.partition("@")
        if _BEGINNING.fullmatch(text):
            found = [one for one in self.pages("/endpoints", "endpoints") if one["id"].startswith(text)]
            places = {one["id"]: show.place(one) for one in found}
        elif host and at and resource_id:
            found = [one for one in self.resource(resource_id)["candidates"] if one["host"] == host]
            places = dict.fromkeys((one["id"] for one in found), text)
        else:
            raise typer.BadParameter(
                f"{text!r} is not an endpoint: give its id (`linkctl endpoints list` shows it), the beginning of its "
                "id like vip-1a2b, or HOST@RESOURCE"
            )
        if not found:
            raise Failed(f"there is no endpoint {text}: `linkctl endpoints list` shows all")
        if len(found) > 1:
            lines = [f"  {id} {place}" for id, place in sorted(places.items())[:_NAMED]]
            lines += [f"  and {len(found) - _NAMED} more"] if len(found) > _NAMED else []
            raise Failed("\n".join([f"{len(found)} endpoints are meant by {text}, give more of the id:", *lines]))
        [one] = found
        told = "" if places[one["id"]] == text else f"{places[one['id']]}, "
        print(f"{text} is {one['id']} ({told}{one['status']})", file=sys.stderr)
        if ask:
            typer.confirm("Go on?", abort=True, err=True)
        return str(one["id"])

    def hosts(self, endpoint_id: str) -> dict[str, str]:
        """Return the hosts of all endpoints of the same resource by id; nothing for JSON, which has ids only."""
        if self.output is Output.json:
            return {}
        return show.hosts(self.resource(show.resource_id(self.call("GET", endpoint_path(endpoint_id))["endpoint"])))

    def print(self, value: Any, as_table: Callable[[Any], Any]) -> None:
        """Print a value as JSON, or as the table or line that `as_table` makes of it."""
        if self.output is Output.json:
            show.as_json(value)
        else:
            show.console().print(as_table(value))


def endpoint_path(endpoint_id: str, rest: str = "") -> str:
    """Return the API path of an endpoint."""
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
