"""The webhook's plugin_config: what `POST` and `PATCH /endpoints` take, and what is stored. Standard library only.

What cannot be sent later is refused here, with every problem at once. Where LinK refuses, too, its message comes
first; each message of ours has the value, the rule and the way out, but never a secret, a header's value or more of a
url than scheme, host and port.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any

from link import networks
from link.fields import SURROGATE, Problems, control_character, in_range, json_object, text
from link.plugins.webhook import url as urls
from link.plugins.webhook.wire import CONTENT_TYPE
from link.registration import MAX_RESOURCE_ID_CHARACTERS, Registration, StorablePluginConfig, unchanging
from link.settings import Network

MAX_SECRET_CHARACTERS = 4_096
"""More never fits into one kms:Encrypt; see `link.plugins.webhook.sealed` for the limit in bytes."""
MAX_HEADERS = 50
MAX_HEADER_NAME_CHARACTERS = 256
MAX_HEADER_VALUE_BYTES = 8_192
MAX_PREVIOUS_SECRET_MS = 30 * 86_400_000
"""How long an old secret may sign beside its successor."""

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RESERVED = re.compile(
    "host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|http2-settings|expect|proxy-.*|content-.*"
    "|x-link-webhook-.*|webhook-.*"
)
_LINE_END = re.compile("[\x80-\x9f\u2028\u2029]")
"""C1 controls and line ends of Unicode. HTTP allows their UTF-8, but a receiver that splits the head as text, as
`str.splitlines` does, would take what follows for another header."""
_FIELDS = ("url", "resource_id", "secret", "headers")


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """A valid plugin_config."""

    url: str
    resource_id: str
    secret: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredWebhook:
    """The stored form: the attributes of a registration that are the webhook's. Times are Unix milliseconds."""

    url: str
    ciphertext: bytes
    header_names: tuple[str, ...] = ()
    encrypted_at: int = 0
    """When the ciphertext was made, or renewed by a key rotation."""
    previous_ciphertext: bytes | None = None
    """What `ciphertext` was before the last change of the secret: its secret signs, too, until `previous_until`."""
    previous_until: int | None = None

    @classmethod
    def of(cls, registration: Registration) -> StoredWebhook:
        """The webhook's part of a registration."""
        known = {f.name: registration.config[f.name] for f in fields(cls) if f.name in registration.config}
        # Registrations of version 0.1 have no encrypted_at.
        return cls(**{"encrypted_at": registration.created_at, **known})  # type: ignore[arg-type]

    def attributes(self) -> StorablePluginConfig:
        """The same, as a registration's `config`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def parse(body: object, *, allowed_networks: Collection[Network] = (), require_https: bool = False) -> WebhookConfig:
    """The plugin_config of a new registration; raises Invalid with every problem, by field. null means absent."""
    problems = Problems()
    given = json_object(body, "plugin_config", _FIELDS, problems)
    config = WebhookConfig(
        url=_url(given.get("url"), allowed_networks, require_https, problems),
        resource_id=_resource_id(given.get("resource_id"), problems),
        secret=_secret(given.get("secret"), problems),
        headers=_headers(given.get("headers"), problems),
    )
    problems.raise_if_any()
    return config


@dataclass(frozen=True, slots=True)
class Change:
    """A valid change. `secret` None: secret and headers stay as they are."""

    url: str
    secret: str | None = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    previous_until: int | None
    """Until when the present secret signs beside a new one; None: not at all."""
    ends_previous: bool
    """Whether the secret before the present one signs no longer."""


def parse_change(
    body: object,
    registration: Registration,
    now: int,
    *,
    allowed_networks: Collection[Network] = (),
    require_https: bool = False,
) -> Change:
    """The change in a PATCH's plugin_config; raises Invalid with every problem, by field.

    What is absent stays. null means absent, too, except "none" for `previous_secret_until`.
    """
    stored = StoredWebhook.of(registration)
    problems = Problems()
    given = json_object(body, "plugin_config", (*_FIELDS, "previous_secret_until"), problems)
    unchanging(problems, "plugin_config.resource_id", given.get("resource_id"), registration.resource_id)
    url = stored.url
    if given.get("url") is not None:
        url = _url(given["url"], allowed_networks, require_https, problems)
    moves = url != stored.url
    headers = _headers(given.get("headers"), problems)
    secret = None if given.get("secret") is None else _secret(given["secret"], problems)
    if secret is None and (moves or given.get("headers") is not None):
        problems["plugin_config.secret"].append("missing secret: it is encrypted with url and headers, give it again")
    if stored.header_names and given.get("headers") is None and (moves or secret is not None):
        problems["plugin_config.headers"].append(
            f"{', '.join(stored.header_names)[:200]} are encrypted with url and secret: give all of them again, or {{}}"
        )
    previous_until = _previous_until(given.get("previous_secret_until"), now, secret is None, moves, problems)
    problems.raise_if_any()
    ends_previous = moves or ("previous_secret_until" in given and previous_until is None)
    return Change(url, secret, headers, previous_until, ends_previous)


def _previous_until(value: object, now: int, no_secret: bool, moves: bool, problems: Problems) -> int | None:
    found = problems["plugin_config.previous_secret_until"]
    until = in_range(value, now + 1, now + MAX_PREVIOUS_SECRET_MS, found)
    if until is not None and no_secret:
        found.append("is for a new secret: give plugin_config.secret, too")
    if until is not None and moves:
        found.append("the old secret belongs to the old url: change one after the other")
    return until


def _url(value: object, allowed: Collection[Network], require_https: bool, problems: Problems) -> str:
    found = problems["plugin_config.url"]
    url = text(value, found)
    if found:
        return ""
    try:
        target = urls.target(url)
    except urls.BadUrl as bad:
        found.extend(bad.problems)
        return ""
    if require_https and target.scheme != "https":
        found.append(f"scheme {target.scheme!r} is not allowed here: use https, or deploy with RequireHttps=false")
    # A name is judged when it is called, by every address that it has then.
    ip = networks.literal(target.host)
    if ip is not None and (block := networks.refusing_block(ip, allowed)) is not None:
        found.append(
            f"address {target.host} ({ip}) may not be called, {block} is not public: "
            "use a public address, or deploy with a network in AllowedNetworks that opens it"
        )
    return url


def _resource_id(value: object, problems: Problems) -> str:
    found = problems["plugin_config.resource_id"]
    resource_id = text(value, found)
    if not resource_id and not found:
        found.append("missing resource ID")
    if len(resource_id) > MAX_RESOURCE_ID_CHARACTERS:
        found.append(f"{len(resource_id)} characters are too many: use 1 to {MAX_RESOURCE_ID_CHARACTERS}")
    # It is a header's value, too, and a receiver must read there what the body says.
    if resource_id != resource_id.strip(" \t"):
        found.append(f"{resource_id[:80]!r} begins or ends with a blank, which a header would lose: remove it")
    if problem := control_character(resource_id):
        found.append(problem)
    return resource_id


def _secret(value: object, problems: Problems) -> str:
    found = problems["plugin_config.secret"]
    secret = text(value, found)
    if not secret and not found:
        found.append("missing secret")
    if len(secret) > MAX_SECRET_CHARACTERS:
        found.append(f"{len(secret)} characters are too many: 32 random bytes, as hex or base64, are enough")
    return secret


def _headers(value: object, problems: Problems) -> dict[str, str]:
    given = json_object(value, "plugin_config.headers", None, problems)
    if len(given) > MAX_HEADERS:
        problems["plugin_config.headers"].append(f"{len(given)} headers are too many: use at most {MAX_HEADERS}")
        return {}
    headers: dict[str, str] = {}
    seen: dict[str, str] = {}
    for raw_name, raw in given.items():
        name = SURROGATE.sub("\ufffd", raw_name)
        found = problems[f"plugin_config.headers.{name[:80]}"]
        headers[name] = _header(name, raw, found)
        if name.lower() in seen:
            found.append(f"{name[:80]!r} and {seen[name.lower()][:80]!r} are one header: give it once")
        seen[name.lower()] = name
    return headers


def _header(name: str, raw: Any, found: list[str]) -> str:
    """The value of one header."""
    value = text(raw, found).strip(" \t")
    if len(name) > MAX_HEADER_NAME_CHARACTERS:
        found.append(f"the name has {len(name)} characters: use at most {MAX_HEADER_NAME_CHARACTERS}")
    if not HEADER_NAME.fullmatch(name):
        found.append(f"{name[:80]!r} is not a header name: use letters, digits and hyphens")
    # CGI and WSGI servers take `_` for `-`.
    reserved = _RESERVED.fullmatch(name.lower().replace("_", "-")) is not None
    if reserved and (name.lower(), value) != ("content-type", CONTENT_TYPE):
        found.append(f"{name[:80]!r} is set by the sender or means something to proxies: leave it out")
    if problem := control_character(value) or _line_end(value):
        found.append(problem)
    if (size := len(value.encode())) > MAX_HEADER_VALUE_BYTES:
        found.append(f"the value has {size} bytes: use at most {MAX_HEADER_VALUE_BYTES}")
    return value


def _line_end(value: str) -> str:
    """The problem with the first character at which a receiver could split a header's value, or nothing."""
    found = _LINE_END.search(value)
    if found is None:
        return ""
    return f"control character or line end U+{ord(found[0]):04X} at position {found.start() + 1}: remove it"
