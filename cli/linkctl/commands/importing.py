"""`linkctl import-link`: from LinK's API to registrations."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from linkctl import link_import, show
from linkctl.errors import Failed, Refused
from linkctl.invocation import Invocation, read_headers, read_secret

app = typer.Typer()


@app.command()
def import_link(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The answer of LinK's GET /endpoints on one host; - reads a pipe.")],
    host: Annotated[str, typer.Option(help="The host whose LinK gave the answer; each LinK lists its own endpoints.")],
    url: Annotated[str, typer.Option(help="URL of the receiver, the same for all endpoints of the answer.")],
    apply: Annotated[bool, typer.Option("--apply", help="Register them; needs --secret-file.")] = False,
    secret_file: Annotated[
        Path | None, typer.Option(help="With --apply: file with the secret of all endpoints of the answer.")
    ] = None,
    header_file: Annotated[
        Path | None, typer.Option(help="With --apply: file with a JSON object of headers to send with each webhook.")
    ] = None,
) -> None:
    """Turn LinK's endpoints of one host into registrations: print them, or register them with --apply.

    What cannot come along is told on standard error. With --apply a repeat registers nothing twice.
    """
    run = Invocation.of(ctx)
    if apply and secret_file is None:
        raise typer.BadParameter("--apply needs --secret-file: LinK's API does not show secrets")
    try:
        answer = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text())
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{file} cannot be read as JSON: {error}") from None
    found = link_import.convert(answer, host=host, url=url)
    for note in (*found.notes, *link_import.NEVER):
        print(f"· {note}", file=sys.stderr)
    if not apply:
        show.as_json(found.registrations)
        return
    assert secret_file is not None
    more = {"secret": read_secret(secret_file)} | ({"headers": read_headers(header_file)} if header_file else {})
    made, refused = [], []
    for body in found.registrations:
        body["plugin_config"] |= more
        try:
            # The same key for the same host: a repeat after an error in the middle goes on where it ended.
            key = f"import-link-{host.encode().hex()}"[:256]
            made.append(run.deployment.call("POST", "/endpoints", body, idempotency_key=key)["endpoint"])
        except Refused as error:
            refused.append(f"{host}@{body['plugin_config']['resource_id']}: {error}")
    run.print(made, lambda all: "\n".join(f"{one['id']} is registered: {show.place(one)}" for one in all))
    if refused:
        raise Failed("\n".join([f"{len(refused)} of {len(found.registrations)} are not registered:", *refused]))
