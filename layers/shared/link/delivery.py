"""The webhook plugin: turns a claimed delivery into one signed POST."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from link import registration, webhook
from link.clock import Clock
from link.election import SEND_MS, Delivery
from link.encryption import Sealed, Vault
from link.endpoint import Kind, Result, Status
from link.errors import Conflict
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
        ciphertext = self._seal(
            config.secret,
            config.headers,
            created_at,
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
            encrypted_at=created_at,
        )

    def change(self, stored: StorablePluginConfig, body: object, now: int) -> StorablePluginConfig:
        """The row after the change in a PATCH's body; 1 kms:Encrypt if it has a secret.

        Raises Invalid, or Conflict when the last change of the secret is not over yet. Nothing is decrypted for it:
        the old secret signs on from its own ciphertext, which is bound to the same url.
        """
        change = registration.parse_change(
            body,
            stored,
            now,
            allowed_networks=self._settings.allowed_networks,
            require_https=self._settings.require_https,
        )
        changed = replace(stored, **change.fields)
        if change.secret is not None:
            changed = self._reseal(stored, changed, change, now)
        return stored if changed == stored else replace(changed, revision=stored.revision + 1)

    def _reseal(
        self, stored: StorablePluginConfig, changed: StorablePluginConfig, change: registration.Change, now: int
    ) -> StorablePluginConfig:
        assert change.secret is not None
        ciphertext, until = changed.previous_ciphertext, changed.previous_until
        if until is not None and until <= now:
            ciphertext = until = None
        if change.previous_until is not None and change.previous_until != until:
            if until is not None:
                raise Conflict(
                    f"the secret before this one signs until {until} (Unix ms), and no more than two can: wait for "
                    "it, or send previous_secret_until null first to end it now"
                )
            ciphertext, until = stored.ciphertext, change.previous_until
        sealed = self._seal(
            change.secret,
            change.headers,
            now,
            endpoint_id=stored.endpoint_id,
            resource_id=stored.resource_id,
            url=changed.url,
        )
        return replace(
            changed,
            header_names=tuple(change.headers),
            ciphertext=sealed,
            encrypted_at=now,
            previous_ciphertext=ciphertext,
            previous_until=until,
        )

    def _seal(self, secret: str, headers: Mapping[str, str], since: int, **bound_to: str) -> bytes:
        secrets = ({"value": secret, "from": since, "until": None},)
        return self._vault.encrypt(Sealed(secrets=secrets, headers=dict(headers)), **bound_to)

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
        stored, now = self._stored, self._clock.now()
        try:
            sealed = self._open(stored.ciphertext)
            secrets = webhook.active_secrets([*self._previous(now), *sealed.secrets], now)
        except (ClientError, BotoCoreError) as error:
            return Result(Kind.UNREADABLE, f"secret_unreadable_{error_code(error)}")
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

    def _previous(self, now: int) -> list[dict[str, Any]]:
        """The secrets that sign beside the current one until the row's previous_until."""
        stored = self._stored
        if stored.previous_ciphertext is None or stored.previous_until is None or now >= stored.previous_until:
            return []
        return [{**secret, "until": stored.previous_until} for secret in self._open(stored.previous_ciphertext).secrets]

    def _open(self, ciphertext: bytes) -> Sealed:
        stored = self._stored
        return self._vault.decrypt(
            ciphertext, endpoint_id=stored.endpoint_id, resource_id=stored.resource_id, url=stored.url
        )


def election_key(stored: StorablePluginConfig) -> str:
    """LinK's key of an election: plugin and resource."""
    return f"{stored.plugin}/{stored.resource_id}"


def error_code(error: Exception) -> str:
    """One word for an AWS error, without the request in it."""
    # A timeout has the attribute, too, and None in it.
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or type(error).__name__)
