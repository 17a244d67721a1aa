"""The plugin seam, under LinK's names, so that plugins other than the webhook can follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from link.election import Delivery
from link.endpoint import Result
from link.errors import Invalid
from link.registration import Registration as PluginConfig
from link.registration import StorablePluginConfig

__all__ = ["Config", "Factory", "Plugin", "PluginConfig", "StorablePluginConfig", "factory", "register"]


@dataclass(frozen=True, slots=True)
class Config:
    """What a plugin asks of the system: `refresh_every` milliseconds an active endpoint is told so again."""

    refresh_every: int


class Plugin(Protocol):
    """Tells the outside world about one endpoint."""

    def activate(self, delivery: Delivery) -> Result:
        """The endpoint became active."""

    def deactivate(self, delivery: Delivery) -> Result:
        """The endpoint is not active."""

    def ensure(self, delivery: Delivery) -> Result:
        """The endpoint still is active."""

    def election_key(self) -> str:
        """What its endpoints compete for, e.g. `webhook/resource-123`."""


class Factory(Protocol):
    """Makes plugins from what users register and from what is stored."""

    def validate(self, body: object) -> PluginConfig:
        """The registration in a request's JSON; raises Invalid with every problem."""

    def mutate(self, config: PluginConfig, endpoint_id: str, created_at: int) -> StorablePluginConfig:
        """The form to store: secrets encrypted."""

    def change(self, stored: StorablePluginConfig, body: object, now: int) -> StorablePluginConfig:
        """The form to store after the change in a request's JSON; raises Invalid, or Conflict with what is stored."""

    def create(self, stored: StorablePluginConfig) -> Plugin:
        """The plugin of a stored registration."""

    def config(self) -> Config:
        """The plugin's wishes."""


_factories: dict[str, Factory] = {}


def register(name: str, made_by: Factory) -> None:
    """Makes a plugin known under the name registrations use."""
    _factories[name] = made_by


def factory(name: object) -> Factory:
    """The factory of a plugin; raises Invalid for a name nobody registered."""
    if not isinstance(name, str) or name not in _factories:
        raise Invalid({"plugin": ["plugin not found"]})
    return _factories[name]
