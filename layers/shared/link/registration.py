"""Registrations: what `POST` and `PATCH /endpoints` take. Pure: standard library only.

What cannot be sent later is refused here, with every problem at once. Where LinK refuses too, its message
comes first; each message of ours has the value, the rule and the way out, but never a secret, a header's
value or more of a url than scheme, host and port.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from link import address
from link.errors import Invalid
from link.settings import Network
from link.webhook import CONTENT_TYPE, PLUGIN

RESOURCE_ID_CHARACTERS = 256
SECRET_CHARACTERS = 4_096
"""More never fits into one kms:Encrypt, whose limit in bytes is told by `link.encryption`."""
HEADERS = 50
HEADER_NAME_CHARACTERS = 256
HEADER_VALUE_BYTES = 8_192
HOST_CHARACTERS = 253
CHECKS = 32
HEALTHCHECK_INTERVAL = (0, 3_600)
PRIORITY = (-1_000, 1_000)
LEASE_SECONDS = (5, 3_600)

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile("[\t\x20-\x7e\x80-\ud7ff\ue000-\U0010ffff]*")
_RESERVED = re.compile(
    "host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|http2-settings|expect|proxy-.*|content-.*"
    "|x-link-webhook-.*|webhook-.*"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_JSON_TYPES = {type(None): "null", dict: "an object", list: "a list", str: "a string", bool: "a boolean"}

_FIELDS = ("plugin", "plugin_config", "checks", "healthcheck_interval", "host", "priority", "lease_seconds")
_CONFIG_FIELDS = ("url", "resource_id", "secret", "headers")

_CHANGE_FIELDS = (
    "plugin",
    "plugin_config",
    "healthchecks",
    "checks",
    "healthcheck_interval",
    "host",
    "priority",
    "lease_seconds",
)
PREVIOUS_SECRET_MS = 30 * 86_400_000
"""How long an old secret may sign beside its successor."""

_Errors = defaultdict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Registration:
    """A valid registration; `host` is empty and `lease_seconds` None when it names none."""

    plugin: str
    url: str
    resource_id: str
    secret: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    checks: list[dict[str, Any]]
    healthcheck_interval: int
    host: str
    priority: int
    lease_seconds: int | None


@dataclass(frozen=True, slots=True)
class StorablePluginConfig:
    """A registration as stored: one row of the endpoints table, secrets in `ciphertext` only."""

    endpoint_id: str
    revision: int
    plugin: str
    resource_id: str
    url: str
    ciphertext: bytes
    header_names: tuple[str, ...] = ()
    checks: tuple[dict[str, Any], ...] = ()
    healthcheck_interval: int = 0
    host: str = ""
    priority: int = 0
    lease_seconds: int | None = None
    created_at: int = 0
    encrypted_at: int = 0
    """When the ciphertext was made, or made anew by a key rotation. Unix milliseconds."""
    previous_ciphertext: bytes | None = None
    """What `ciphertext` was before the last change of the secret: its secrets sign, too, until `previous_until`."""
    previous_until: int | None = None


def parse(body: object, *, allowed_networks: Collection[Network] = (), require_https: bool = False) -> Registration:
    """The registration in a decoded JSON body; raises Invalid with every problem, by field. null means absent."""
    errors: _Errors = defaultdict(list)
    fields = _object(body, "body", _FIELDS, errors)
    config = _object(fields.get("plugin_config"), "plugin_config", _CONFIG_FIELDS, errors)
    if fields.get("plugin") != PLUGIN:
        errors["plugin"].append("plugin not found")
    registration = Registration(
        plugin=PLUGIN,
        url=_url(config.get("url"), allowed_networks, require_https, errors),
        resource_id=_resource_id(config.get("resource_id"), errors),
        secret=_secret(config.get("secret"), errors),
        headers=_headers(config.get("headers"), errors),
        checks=_checks(fields.get("checks"), errors),
        healthcheck_interval=_healthcheck_interval(fields.get("healthcheck_interval"), errors),
        host=_host(fields.get("host"), errors),
        priority=_in_range(fields.get("priority"), *PRIORITY, errors["priority"]) or 0,
        lease_seconds=_in_range(fields.get("lease_seconds"), *LEASE_SECONDS, errors["lease_seconds"]),
    )
    if any(errors.values()):
        raise Invalid({name: problems for name, problems in errors.items() if problems})
    return registration


@dataclass(frozen=True, slots=True)
class Change:
    """A valid change: what becomes of the row's `fields`, and the `secret` to encrypt anew with `headers`, if any.

    `previous_until` (Unix ms): until when the secret of now signs beside the new one; None: from now on no more.
    """

    fields: dict[str, Any]
    secret: str | None = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    previous_until: int | None


def parse_change(
    body: object,
    stored: StorablePluginConfig,
    now: int,
    *,
    allowed_networks: Collection[Network] = (),
    require_https: bool = False,
) -> Change:
    """The change in a decoded JSON body; raises Invalid with every problem, by field.

    What is absent stays. null is absence, too, but where it means "none": `lease_seconds` and `previous_secret_until`.
    """
    errors: _Errors = defaultdict(list)
    given = _object(body, "body", _CHANGE_FIELDS, errors)
    config = _object(given.get("plugin_config"), "plugin_config", (*_CONFIG_FIELDS, "previous_secret_until"), errors)
    for name, value, is_now in (
        ("plugin", given.get("plugin"), stored.plugin),
        ("host", given.get("host"), stored.host),
        ("plugin_config.resource_id", config.get("resource_id"), stored.resource_id),
    ):
        if value is not None and value != is_now:
            errors[name].append("cannot change: register another endpoint and delete this one")
    fields: dict[str, Any] = {}
    # LinK's name for it, and the one under which it is shown.
    for name in ("healthchecks", "checks"):
        if given.get(name) is not None:
            fields["checks"] = tuple(_checks(given[name], errors))
    if given.get("healthcheck_interval") is not None:
        fields["healthcheck_interval"] = _healthcheck_interval(given["healthcheck_interval"], errors)
    if given.get("priority") is not None:
        fields["priority"] = _in_range(given["priority"], *PRIORITY, errors["priority"])
    if "lease_seconds" in given:
        fields["lease_seconds"] = _in_range(given["lease_seconds"], *LEASE_SECONDS, errors["lease_seconds"])
    if config.get("url") is not None:
        fields["url"] = _url(config["url"], allowed_networks, require_https, errors)
    moves = fields.get("url", stored.url) != stored.url
    headers = _headers(config.get("headers"), errors)
    secret = None if config.get("secret") is None else _secret(config["secret"], errors)
    if secret is None and (moves or config.get("headers") is not None):
        errors["plugin_config.secret"].append("missing secret: it is encrypted with url and headers, give it again")
    if stored.header_names and config.get("headers") is None and (moves or secret is not None):
        errors["plugin_config.headers"].append(
            f"{', '.join(stored.header_names)[:200]} are encrypted with url and secret: give all of them again, or {{}}"
        )
    previous_until = _previous_until(config.get("previous_secret_until"), now, secret is None, moves, errors)
    if moves or ("previous_secret_until" in config and previous_until is None):
        fields |= {"previous_ciphertext": None, "previous_until": None}
    if any(errors.values()):
        raise Invalid({name: problems for name, problems in errors.items() if problems})
    return Change(fields, secret, headers, previous_until)


def _previous_until(value: object, now: int, no_secret: bool, moves: bool, errors: _Errors) -> int | None:
    found = errors["plugin_config.previous_secret_until"]
    until = _in_range(value, now + 1, now + PREVIOUS_SECRET_MS, found)
    if until is not None and no_secret:
        found.append("is for a new secret: give plugin_config.secret, too")
    if until is not None and moves:
        found.append("the old secret belongs to the old url: change one after the other")
    return until


def _url(value: object, allowed: Collection[Network], require_https: bool, errors: _Errors) -> str:
    found = errors["plugin_config.url"]
    url = _text(value, found)
    if found:
        return ""
    try:
        target = address.target(url)
    except address.BadUrl as bad:
        found.extend(bad.problems)
        return ""
    if require_https and target.scheme != "https":
        found.append(f"scheme {target.scheme!r} is not allowed here: use https, or deploy with RequireHttps=false")
    # A name is judged when it is called, by every address it has then.
    ip = address.literal(target.host)
    if ip is not None and (block := address.refusing_block(ip, allowed)) is not None:
        found.append(
            f"address {target.host} ({ip}) may not be called, {block} is not public: "
            "use a public address, or deploy with a network in AllowedNetworks that opens it"
        )
    return url


def _resource_id(value: object, errors: _Errors) -> str:
    found = errors["plugin_config.resource_id"]
    resource_id = _text(value, found)
    if not resource_id and not found:
        found.append("missing resource ID")
    if len(resource_id) > RESOURCE_ID_CHARACTERS:
        found.append(f"{len(resource_id)} characters are too many: use 1 to {RESOURCE_ID_CHARACTERS}")
    # It is a header's value too, and what a receiver reads there must be what the body says.
    if resource_id != resource_id.strip(" \t"):
        found.append(f"{resource_id[:80]!r} begins or ends with a blank, which a header would lose: remove it")
    if problem := _control_character(resource_id):
        found.append(problem)
    return resource_id


def _secret(value: object, errors: _Errors) -> str:
    found = errors["plugin_config.secret"]
    secret = _text(value, found)
    if not secret and not found:
        found.append("missing secret")
    if len(secret) > SECRET_CHARACTERS:
        found.append(f"{len(secret)} characters are too many: 32 random bytes, as hex or base64, are enough")
    return secret


def _headers(value: object, errors: _Errors) -> dict[str, str]:
    given = _object(value, "plugin_config.headers", (), errors)
    if len(given) > HEADERS:
        errors["plugin_config.headers"].append(f"{len(given)} headers are too many: use at most {HEADERS}")
        return {}
    headers = {}
    seen: dict[str, str] = {}
    for name, raw in given.items():
        name = _SURROGATE.sub("\ufffd", name)
        found = errors[f"plugin_config.headers.{name[:80]}"]
        text = _text(raw, found).strip(" \t")
        if len(name) > HEADER_NAME_CHARACTERS:
            found.append(f"the name has {len(name)} characters: use at most {HEADER_NAME_CHARACTERS}")
        if not HEADER_NAME.fullmatch(name):
            found.append(f"{name[:80]!r} is not a header name: use letters, digits and hyphens")
        if _is_reserved(name) and (name.lower(), text) != ("content-type", CONTENT_TYPE):
            found.append(f"{name[:80]!r} is set by the sender or means something to proxies: leave it out")
        if name.lower() in seen:
            found.append(f"{name[:80]!r} and {seen[name.lower()][:80]!r} are one header: give it once")
        if problem := _control_character(text):
            found.append(problem)
        if (size := len(text.encode())) > HEADER_VALUE_BYTES:
            found.append(f"the value has {size} bytes: use at most {HEADER_VALUE_BYTES}")
        seen[name.lower()] = name
        headers[name] = text
    return headers


def _is_reserved(name: str) -> bool:
    # CGI and WSGI servers take `_` for `-`.
    return _RESERVED.fullmatch(name.lower().replace("_", "-")) is not None


def _checks(value: object, errors: _Errors) -> list[dict[str, Any]]:
    """The health checks; LinK names them by their position alone and puts the field into the message."""
    if value is None:
        return []
    if not isinstance(value, list):
        errors["checks"].append(f"{_json_type(value)} is not a list: use [{{type, host, port}}, …]")
        return []
    if len(value) > CHECKS:
        errors["checks"].append(f"{len(value)} health checks are too many: use at most {CHECKS}")
        return []
    return [_check(check, errors[str(position)]) for position, check in enumerate(value)]


def _check(check: object, found: list[str]) -> dict[str, Any]:
    if not isinstance(check, dict):
        found.append(f"{_json_type(check)} is not a health check: use {{type, host, port}}")
        return {}
    host, port = check.get("host"), check.get("port")
    if check.get("type") != "TCP":
        found.append("type=Health check type is not supported")
    if not host:
        found.append("host=Host is required")
    elif not isinstance(host, str) or len(host) > HOST_CHARACTERS or _control_character(_text(host, [])):
        found.append(f"host=Host must be a text of 1 to {HOST_CHARACTERS} characters, none of them a control character")
    if type(port) is not int or not 1 <= port <= 65_535:
        found.append("port=Port must be between 1 and 65535")
    return {"type": "TCP", "host": _text(host, []), "port": port}


def _healthcheck_interval(value: object, errors: _Errors) -> int:
    found = errors["healthcheck_interval"]
    seconds = _integer(value, found) or 0
    # LinK's words; it does accept 0.
    if seconds < HEALTHCHECK_INTERVAL[0]:
        found.append("Health check interval must be greater than 0")
    if seconds > HEALTHCHECK_INTERVAL[1]:
        found.append("Health check interval must be less than or equal to 3600 seconds")
    return seconds


def _host(value: object, errors: _Errors) -> str:
    if value is None:
        return ""
    found = errors["host"]
    host = _text(value, found)
    if not found and not 1 <= len(host) <= HOST_CHARACTERS:
        found.append(f"{len(host)} characters: use 1 to {HOST_CHARACTERS}, or leave it out")
    if problem := _control_character(host):
        found.append(problem)
    return host


def _in_range(value: object, lowest: int, highest: int, found: list[str]) -> int | None:
    number = _integer(value, found)
    if number is not None and not lowest <= number <= highest:
        found.append(f"{str(number)[:20]} is outside {lowest} to {highest}")
    return number


def _integer(value: object, found: list[str]) -> int | None:
    if value is None or type(value) is int:
        return value
    shown = str(value) if isinstance(value, float) else _json_type(value)
    found.append(f"{shown} is not a whole number")
    return None


def _object(value: object, name: str, known: tuple[str, ...], errors: _Errors) -> dict[str, Any]:
    if isinstance(value, dict):
        # LinK's JSON reader takes any case; ignoring it, as it ignores unknown fields, would lose headers.
        for key in value.keys() - set(known):
            if key.lower() in known:
                errors[name].append(f"field {key!r} is not known: write {key.lower()!r}")
        return value
    if value is not None:
        errors[name].append(f"invalid JSON: {_json_type(value)} is not an object")
    return {}


def _text(value: object, found: list[str]) -> str:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if value is not None:
        found.append(f"{_json_type(value)} is not a string: put it in quotes")
    return ""


def _control_character(text: str) -> str:
    """The problem with the first character that a header may not hold; the text itself may be secret."""
    allowed = HEADER_VALUE.match(text)
    assert allowed is not None
    if allowed.end() == len(text):
        return ""
    return f"control character U+{ord(text[allowed.end()]):04X} at position {allowed.end() + 1}: remove it"


def _json_type(value: object) -> str:
    return _JSON_TYPES.get(type(value), "a number")
