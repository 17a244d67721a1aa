"""The seam: the interface of plugins, under LinK's names. Only `link.plugins.webhook` knows the webhook.

`link.deployment` makes one `Plugins` object and gives it to every object that needs plugins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from link.election.deliveries import Delivery
from link.election.result import Result
from link.errors import Invalid
from link.registration import Registration, StorablePluginConfig

__all__ = [
    "Config",
    "Encrypted",
    "Factory",
    "Plugin",
    "PluginConfig",
    "Plugins",
    "Replacement",
    "StorablePluginConfig",
]


@dataclass(frozen=True, slots=True)
class Config:
    """What a plugin requires of the system: an active endpoint's status is sent again every `refresh_every` ms."""

    refresh_every: int


class PluginConfig(Protocol):
    """A valid plugin_config: the resource that its endpoint competes for, and whatever the plugin needs."""

    @property
    def resource_id(self) -> str: ...


class Replacement(NamedTuple):
    """A changed plugin_config to store. `new_receiver`: deliveries go to another receiver from now on."""

    config: StorablePluginConfig
    new_receiver: bool = False


class Plugin(Protocol):
    """Tells the outside world about one endpoint."""

    def election_key(self) -> str:
        """The name of what the endpoint competes for, as operators see it, e.g. `webhook/resource-123`."""

    def activate(self, delivery: Delivery) -> Result:
        """Tells that the endpoint became active."""

    def deactivate(self, delivery: Delivery) -> Result:
        """Tells that the endpoint is not active."""

    def ensure(self, delivery: Delivery) -> Result:
        """Tells again that the endpoint is active."""

    def preview(self, delivery: Delivery) -> Mapping[str, Any]:
        """What one of these three would send, as JSON; nothing is sent or decrypted."""

    def view(self) -> Mapping[str, Any]:
        """The plugin's members of the JSON that the API shows of the endpoint; nothing secret."""


_Config = TypeVar("_Config", bound=PluginConfig)


class Factory(Protocol[_Config]):
    """Makes plugins from what users register and from what is stored."""

    def config(self) -> Config:
        """What the plugin requires of the system."""

    def validate(self, body: object) -> _Config:
        """The plugin_config in a request's JSON; raises Invalid with every problem."""

    def mutate(self, config: _Config, endpoint_id: str, created_at: int) -> StorablePluginConfig:
        """The form to store: secrets encrypted."""

    def change(self, stored: Registration, body: object, now: int) -> Replacement:
        """The form to store after a PATCH with this plugin_config; raises Invalid or Conflict."""

    def same(self, stored: Registration, config: _Config) -> bool:
        """Whether a repeated request is for what is stored, as far as can be seen without decrypting."""

    def create(self, stored: Registration) -> Plugin:
        """The plugin of a stored registration."""


@runtime_checkable
class Encrypted(Protocol):
    """A factory whose stored form has ciphertexts: a key rotation renews them."""

    def encrypted_at(self, stored: Registration) -> int:
        """When the oldest ciphertext was made or renewed. Unix milliseconds."""

    def renew(self, stored: Registration, now: int) -> StorablePluginConfig:
        """The form to store with every ciphertext renewed."""


class Plugins:
    """The plugins of a deployment, by the names that registrations use. The first one is the default."""

    def __init__(self) -> None:
        self._factories: dict[str, Factory[Any]] = {}

    def register(self, name: str, factory: Factory[Any]) -> None:
        """Adds a plugin."""
        self._factories[name] = factory

    def __getitem__(self, name: object) -> Factory[Any]:
        """The factory of a plugin; raises Invalid for a name that is not registered."""
        if not isinstance(name, str) or name not in self._factories:
            # LinK's words first.
            raise Invalid({"plugin": [f"plugin not found: use {' or '.join(self._factories)}"]})
        return self._factories[name]

    def stored_name(self, name: str) -> str:
        """The name as lock items have it: empty for the default plugin."""
        return "" if name == self._default else name

    def name(self, stored_name: str) -> str:
        """The inverse of `stored_name`."""
        return stored_name or self._default

    @property
    def _default(self) -> str:
        return next(iter(self._factories))
