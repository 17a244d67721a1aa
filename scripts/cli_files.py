"""Writes linkctl's man page and completion scripts from its commands: `make cli-files`.

The package installs them (cli/pyproject.toml); a test compares them with the commands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.completion import get_completion_script  # type: ignore[attr-defined]

from linkctl.main import command

SHARE = Path(__file__).parents[1] / "cli/share"
COMPLETIONS = {
    "bash": "bash-completion/completions/linkctl",
    "zsh": "zsh/site-functions/_linkctl",
    "fish": "fish/vendor_completions.d/linkctl.fish",
}
EXIT_STATUS = (
    ("0", "done"),
    ("1", "the API refused, or the command failed; the reason is on standard error"),
    ("2", "usage error"),
    ("3", "the API, AWS or the stack could not be reached; the message says what to do"),
)


def files() -> dict[str, str]:
    """Return the content of each file by its path below `share`."""
    found = {"man/man1/linkctl.1": manual()}
    for shell, path in COMPLETIONS.items():
        script = get_completion_script(prog_name="linkctl", complete_var="_LINKCTL_COMPLETE", shell=shell)
        found[path] = script.strip() + "\n"
    return found


def manual() -> str:
    """Return the man page in troff, man(7)."""
    root = command()
    lines = [".TH LINKCTL 1", ".SH NAME", "linkctl \\- operate a deployment of link\\-webhook", ".SH SYNOPSIS"]
    lines += [".B linkctl", "[OPTIONS] COMMAND [ARGUMENTS]", ".SH DESCRIPTION", _text(root.help), ".SH OPTIONS"]
    lines += _options(root)
    lines.append(".SH COMMANDS")
    for path, one in _commands(root, "linkctl"):
        arguments = [_argument(param) for param in one.params if param.param_type_name == "argument"]
        lines += [f".SS {_text(' '.join([path, *arguments]))}", _text(one.help), *_options(one, but="output")]
    lines.append(".SH EXIT STATUS")
    for status, text in EXIT_STATUS:
        lines += [".TP", status, text]
    lines.append(".SH ENVIRONMENT")
    for param in root.params:
        if getattr(param, "envvar", None):
            lines += [".TP", f".B {param.envvar}", f"for {_text(param.opts[0])}"]
    return "\n".join(lines) + "\n"


def _argument(param: Any) -> str:
    name = str(param.name).upper()
    return name if param.required else f"[{name}]"


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from _commands(one, f"{path} {name}")
        else:
            yield f"{path} {name}", one


def _options(one: Any, *, but: str = "") -> list[str]:
    lines = []
    for param in one.params:
        if param.param_type_name == "option" and not param.hidden and param.name != but:
            names = ", ".join([*param.opts, *param.secondary_opts])
            value = "" if param.is_flag else f" {param.name.upper()}"
            lines += [".TP", f".B {_text(names + value)}", _text(param.help)]
    return lines


def _text(text: str | None) -> str:
    """Return a text on one line, so that troff reads nothing in it as a request.

    >>> _text("--yes\\n.not a request")
    '\\\\-\\\\-yes .not a request'
    >>> _text(".at the beginning")
    '\\\\&.at the beginning'
    """
    plain = re.sub(r"\s+", " ", text or "").strip().replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


def main() -> None:
    for path, content in files().items():
        (SHARE / path).parent.mkdir(parents=True, exist_ok=True)
        (SHARE / path).write_text(content)


if __name__ == "__main__":
    main()
