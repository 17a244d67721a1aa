"""The webhook plugin: turns a claimed delivery into one signed POST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from link import registration, webhook
from link.clock import Clock
from link.election import SEND_MS, Delivery
from link.encryption import Sealed, Vault
from link.endpoint import Kind, Result, Status
from link.plugin import Config, PluginConfig, StorablePluginConfig
from link.settings import Settings


class WebhookFactory:
    """Makes webhook plugins. The API's process has no `post`: it may not decrypt and never sends."""

    def __init__(self, vault: Vault, settings: Settings, clock: Clock, post: Any = None) -> None:
        self._vault = vault
        self._settings = settings
        self._clock = clock
        self._post = post

    def config(self) -> Config:
        """How often an active endpoint is told so again."""
        return Config(refresh_every=self._settings.refresh_ms)

    def validate(self, body: object) -> PluginConfig:
        """The registration in a request's JSON; raises Invalid with every problem."""
        return registration.parse(
            body, allowed_networks=self._settings.allowed_networks, require_https=self._settings.require_https
        )

    def mutate(self, config: PluginConfig, endpoint_id: str, created_at: int) -> StorablePluginConfig:
        """The row to store, secret and header values in one ciphertext. 1 kms:Encrypt."""
        secrets = ({"value": config.secret, "from": created_at, "until": None},)
        ciphertext = self._vault.encrypt(
            Sealed(secrets=secrets, headers=dict(config.headers)),
            endpoint_id=endpoint_id,
            resource_id=config.resource_id,
            url=config.url,
        )
        return StorablePluginConfig(
            endpoint_id=endpoint_id,
            revision=1,
            plugin=config.plugin,
            resource_id=config.resource_id,
            url=config.url,
            ciphertext=ciphertext,
            header_names=tuple(config.headers),
            checks=tuple(config.checks),
            healthcheck_interval=config.healthcheck_interval,
            host=config.host,
            priority=config.priority,
            lease_seconds=config.lease_seconds,
            created_at=created_at,
        )

    def create(self, stored: StorablePluginConfig) -> WebhookPlugin:
        """The plugin of a stored registration."""
        return WebhookPlugin(stored, self._vault, self._clock, self._post)


class WebhookPlugin:
    """One endpoint's webhook."""

    def __init__(self, stored: StorablePluginConfig, vault: Vault, clock: Clock, post: Any) -> None:
        self._stored = stored
        self._vault = vault
        self._clock = clock
        self._post = post

    def election_key(self) -> str:
        """`webhook/<resource_id>`."""
        return election_key(self._stored)

    def activate(self, delivery: Delivery) -> Result:
        """Tells the receiver that the endpoint is active."""
        return self._send(delivery, Status.ACTIVATED)

    def deactivate(self, delivery: Delivery) -> Result:
        """Tells the receiver that the endpoint is not active."""
        return self._send(delivery, Status.STANDBY)

    def ensure(self, delivery: Delivery) -> Result:
        """Tells the receiver once more that the endpoint is active."""
        return self._send(delivery, Status.ACTIVATED)

    def _send(self, delivery: Delivery, status: Status) -> Result:
        stored = self._stored
        try:
            sealed = self._vault.decrypt(
                stored.ciphertext,
                endpoint_id=stored.endpoint_id,
                resource_id=stored.resource_id,
                url=stored.url,
            )
        except (ClientError, BotoCoreError) as error:
            return Result(Kind.UNREADABLE, f"secret_unreadable_{error_code(error)}")
        now = self._clock.now()
        secrets = webhook.active_secrets(sealed.secrets, now)
        if not secrets:
            return Result(Kind.UNREADABLE, "secret_expired")
        body, headers = webhook.request(
            webhook.Announcement(
                endpoint_id=delivery.endpoint_id,
                resource_id=delivery.resource_id,
                plugin=stored.plugin,
                status=status,
                epoch=delivery.epoch,
                sequence=delivery.sequence,
                reason=delivery.reason,
                attempt=delivery.attempt,
                refreshed_at=delivery.refreshed_at,
            ),
            secrets,
            sealed.headers,
            timestamp=now // 1000,
        )
        result: Result = self._post(stored.url, body, headers, not_after=delivery.until - SEND_MS)
        return result


def election_key(stored: StorablePluginConfig) -> str:
    """LinK's key of an election: plugin and resource."""
    return f"{stored.plugin}/{stored.resource_id}"


def error_code(error: Exception) -> str:
    """One word for an AWS error, without the request in it."""
    # A timeout has the attribute, too, and None in it.
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or type(error).__name__)
