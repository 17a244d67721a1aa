"""The agent's configuration file: TOML, read whole, every problem with its line, its key and the way out."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linkctl.errors import Failed

MAX_ENDPOINTS = 1_000
MAX_TEXT = 256
"""Characters of an id or a host's name, as in the API."""
LEASE_SECONDS = (5, 3_600)
INTERVAL_SECONDS = (1, 10)
"""With WatchdogSec=30, two rounds can be late before systemd restarts the agent."""
PORTS = (1, 65_535)
DEFAULT_PORTS = {"HTTP": 80, "HTTPS": 443}

Where = tuple[str | int, ...]
"""Where a value is: ("endpoints", 0, "checks", 1, "port")."""

_REQUIRED: Any = object()
_FILE = (
    "host", "event_bus", "region", "host_identity", "keep_on_stop", "spot", "healthcheck_interval", "endpoints",
)  # fmt: skip
_ENDPOINT = ("endpoint_id", "resource_id", "lease_seconds", "checks")
_CHECKS = {
    "TCP": ("type", "host", "port", "timeout"),
    "HTTP": ("type", "host", "port", "path", "expect", "timeout"),
    "HTTPS": ("type", "host", "port", "path", "expect", "timeout"),
    "command": ("type", "command", "timeout"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One local check. A command has `command` only, TCP no `path` and no `expect`."""

    type: str
    timeout_seconds: float
    host: str = ""
    port: int = 0
    path: str = ""
    expect: tuple[int, int] = (200, 399)
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the name of the check for the log: TCP 127.0.0.1:5432."""
        if self.type == "command":
            return f"command {self.command[0]}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.type} {host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of the host. Without checks it is ready as long as the agent runs."""

    endpoint_id: str
    resource_id: str
    lease_seconds: int
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """What the file says."""

    host: str
    event_bus: str
    region: str
    host_identity: bool
    keep_on_stop: bool
    spot: bool
    interval_seconds: int
    endpoints: tuple[Endpoint, ...]

    @property
    def source(self) -> str:
        """The `source` of the events. IAM can bind it, so that a host can report for itself only."""
        return f"link.host.{self.host}" if self.host_identity else "link"

    @property
    def beat_seconds(self) -> float:
        """Seconds between two events when nothing changes: a third of the shortest lease."""
        return min(endpoint.lease_seconds for endpoint in self.endpoints) / 3


def load(path: Path) -> Config:
    """Return the configuration in a file."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{path} cannot be read: {error}") from None
    return parse(text, str(path))


def parse(text: str, name: str) -> Config:
    """Return the configuration in a text; raise Failed with one line per problem."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Failed(f"{name} is not TOML: {error}") from None
    reader = _Reader()
    config = _config(reader, given)
    if reader.problems:
        lines = [(line_of(text, path), dotted(path), problem) for path, problem in reader.problems]
        raise Failed("\n".join(f"{name}:{line}: {key}: {problem}" for line, key, problem in sorted(lines)))
    return config


class _Reader:
    """Reads values of tables and keeps every problem. After a problem, a value may have another type."""

    def __init__(self) -> None:
        self.problems: list[tuple[Where, str]] = []

    def known(self, table: dict[str, Any], path: Where, keys: tuple[str, ...]) -> None:
        """Refuse keys that are not known, and name the nearest."""
        for key in table.keys() - set(keys):
            nearest = difflib.get_close_matches(key, keys, 1, 0.6)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known here: {', '.join(keys)}"
            self.problems.append(((*path, key), f"unknown key, {hint}"))

    def value(self, table: dict[str, Any], path: Where, key: str, default: Any, kind: type, rule: str) -> Any:
        """Return a value of a kind. bool is not a number here."""
        if key not in table:
            if default is _REQUIRED:
                self.problems.append(((*path, key), f"missing: give {rule}"))
            return default
        found = table[key]
        if isinstance(found, kind) and (kind is bool or not isinstance(found, bool)):
            return found
        self.problems.append(((*path, key), f"{_shown(found)} is not {rule}"))
        return default

    def flag(self, table: dict[str, Any], key: str, default: bool) -> bool:
        found: bool = self.value(table, (), key, default, bool, "true or false")
        return found

    def number(
        self, table: dict[str, Any], path: Where, key: str, default: Any, limits: tuple[int, int], unit: str = ""
    ) -> int:
        rule = f"a whole number {unit}from {limits[0]} to {limits[1]}"
        found: int = self.value(table, path, key, default, int, rule)
        if found is not _REQUIRED and not limits[0] <= found <= limits[1]:
            self.problems.append(((*path, key), f"{found} is not {rule}"))
        return found

    def text(self, table: dict[str, Any], path: Where, key: str, default: Any = _REQUIRED) -> str:
        rule = f"a text of 1 to {MAX_TEXT} characters without control characters"
        found: str = self.value(table, path, key, default, str, rule)
        if isinstance(found, str) and key in table and not (1 <= len(found) <= MAX_TEXT and _printable(found)):
            self.problems.append(((*path, key), f"{_shown(found)} is not {rule}"))
        return found

    def tables(self, table: dict[str, Any], path: Where, key: str, header: str) -> Iterator[tuple[Where, Any]]:
        """Yield the tables of an array of tables, each with its path."""
        rule = f"tables: begin each with {header}"
        found: list[Any] = self.value(table, path, key, [], list, rule)
        for number, one in enumerate(found):
            if isinstance(one, dict):
                yield (*path, key, number), one
            else:
                self.problems.append(((*path, key), f"{_shown(one)} is not one of {rule}"))


def _config(reader: _Reader, given: dict[str, Any]) -> Config:
    reader.known(given, (), _FILE)
    interval = reader.number(given, (), "healthcheck_interval", 5, INTERVAL_SECONDS, "of seconds ")
    endpoints = [
        _endpoint(reader, table, path, interval)
        for path, table in reader.tables(given, (), "endpoints", "[[endpoints]]")
    ]
    if not endpoints:
        reader.problems.append((("endpoints",), "missing: add at least one [[endpoints]]"))
    if len(endpoints) > MAX_ENDPOINTS:
        reader.problems.append(
            (("endpoints", MAX_ENDPOINTS), f"{len(endpoints)} endpoints: at most {MAX_ENDPOINTS} fit in one file")
        )
    seen: set[str] = set()
    for number, endpoint in enumerate(endpoints):
        if endpoint.endpoint_id in seen:
            path = ("endpoints", number, "endpoint_id")
            reader.problems.append((path, f"{endpoint.endpoint_id} stands in the file twice: remove one"))
        seen.add(endpoint.endpoint_id)
    return Config(
        host=reader.text(given, (), "host"),
        event_bus=reader.text(given, (), "event_bus"),
        region=reader.text(given, (), "region"),
        host_identity=reader.flag(given, "host_identity", True),
        keep_on_stop=reader.flag(given, "keep_on_stop", False),
        spot=reader.flag(given, "spot", False),
        interval_seconds=interval,
        endpoints=tuple(endpoints),
    )


def _endpoint(reader: _Reader, table: dict[str, Any], path: Where, interval: int) -> Endpoint:
    reader.known(table, path, _ENDPOINT)
    endpoint_id = reader.text(table, path, "endpoint_id")
    if isinstance(endpoint_id, str) and not endpoint_id.startswith("vip-"):
        rule = "an endpoint's id: `linkctl endpoints list` shows them"
        reader.problems.append(((*path, "endpoint_id"), f"{_shown(endpoint_id)} is not {rule}"))
    checks = [
        _check(reader, one, where, interval)
        for where, one in reader.tables(table, path, "checks", "[[endpoints.checks]]")
    ]
    return Endpoint(
        endpoint_id=endpoint_id,
        resource_id=reader.text(table, path, "resource_id"),
        lease_seconds=reader.number(table, path, "lease_seconds", 60, LEASE_SECONDS, "of seconds "),
        checks=tuple(checks),
    )


def _check(reader: _Reader, table: dict[str, Any], path: Where, interval: int) -> Check:
    type_ = table.get("type")
    if not isinstance(type_, str) or type_ not in _CHECKS:
        given = f"{_shown(type_)} is not" if "type" in table else "missing: give"
        reader.problems.append(((*path, "type"), f"{given} one of {', '.join(_CHECKS)}"))
        return Check("", 0)
    reader.known(table, path, _CHECKS[type_])
    rule = f"a number of seconds, more than 0 and at most healthcheck_interval, which is {interval}"
    timeout = reader.value(table, path, "timeout", interval, int | float, rule)  # type: ignore[arg-type]
    if not 0 < timeout <= interval:
        reader.problems.append(((*path, "timeout"), f"{timeout} is not {rule}"))
    if type_ == "command":
        return Check(type_, timeout, command=_command(reader, table, path))
    return Check(
        type_,
        timeout,
        host=reader.text(table, path, "host"),
        port=reader.number(table, path, "port", DEFAULT_PORTS.get(type_, _REQUIRED), PORTS),
        path=_path(reader, table, path) if type_ != "TCP" else "",
        expect=_expect(reader, table, path),
    )


def _command(reader: _Reader, table: dict[str, Any], path: Where) -> tuple[str, ...]:
    rule = 'a list of texts, the program with its full path first: ["/usr/bin/pg_isready", "-q"]'
    found = reader.value(table, path, "command", _REQUIRED, list, rule)
    if found is _REQUIRED:
        return ()
    if not found or not all(isinstance(one, str) and "\0" not in one for one in found) or found[0][:1] != "/":
        reader.problems.append(((*path, "command"), f"{_shown(found)} is not {rule}"))
    return tuple(found)


def _path(reader: _Reader, table: dict[str, Any], path: Where) -> str:
    found = reader.text(table, path, "path", "/")
    if not re.fullmatch("/[!-~]*", found):
        rule = "a path that begins with / and has only visible ASCII characters: percent-encode the others"
        reader.problems.append(((*path, "path"), f"{_shown(found)} is not {rule}"))
    return found


def _expect(reader: _Reader, table: dict[str, Any], path: Where) -> tuple[int, int]:
    found = reader.text(table, path, "expect", "200-399")
    match = re.fullmatch(r"([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?", found)
    if match is None or int(match[1]) > int(match[2] or match[1]):
        rule = 'a status or a range of them, such as "204" or "200-399"'
        reader.problems.append(((*path, "expect"), f"{_shown(found)} is not {rule}"))
        return (200, 399)
    return int(match[1]), int(match[2] or match[1])


def _printable(text: str) -> bool:
    return not re.search("[\0-\x1f\x7f-\x9f]", text)


def _shown(value: Any) -> str:
    return repr(value)[:80]


def dotted(path: Where) -> str:
    """Return the path of a value as people write it.

    >>> dotted(("endpoints", 0, "checks", 1, "port"))
    'endpoints[0].checks[1].port'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


_HEADER = re.compile(r"\s*\[\[?\s*([A-Za-z0-9_.\s-]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"""\s*(?:([A-Za-z0-9_-]+)|"([^"]*)"|'([^']*)')\s*=""")


def line_of(text: str, path: Where) -> int:
    """Return the line of a value, or of the nearest table around it. tomllib keeps no lines.

    >>> text = 'host = "paris"\\n[[endpoints]]\\n[[endpoints.checks]]\\nport = 1\\n[[endpoints]]\\n'
    >>> [line_of(text, path) for path in [("endpoints", 0, "checks", 0, "port"), ("endpoints", 1), ("region",)]]
    [4, 5, 1]
    """
    found = 1
    table: Where = ()
    within = ""  # the quotes of a text of several lines
    for number, line in enumerate(text.splitlines(), 1):
        if within:
            within = "" if within in line else within
            continue
        if header := _HEADER.fullmatch(line):
            table = _entered(table, re.sub(r"\s", "", header[1]).split("."))
            at = table
        elif key := _KEY.match(line):
            at = (*table, key[1] or key[2] or key[3] or "")
        else:
            continue
        for quotes in ('"""', "'''"):
            within = quotes if line.count(quotes) % 2 else within
        if path[: len(at)] == at:
            found = number  # A table stands before its keys, so that the last one is the nearest.
    return found


def _entered(table: Where, header: list[str]) -> Where:
    """Return the path of the table that a header begins, after the one before it."""
    if header == ["endpoints", "checks"] and len(table) >= 2:
        last = table[3] if len(table) == 4 else -1
        assert isinstance(last, int)
        return (*table[:2], "checks", last + 1)
    if header == ["endpoints"]:
        last = table[1] if len(table) >= 2 else -1
        assert isinstance(last, int)
        return ("endpoints", last + 1)
    return tuple(header)
