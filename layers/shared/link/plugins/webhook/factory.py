"""The webhook behind LinK's seam: a registration is stored, and a claimed delivery becomes one signed POST."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from link.clock import Clock
from link.election.deliveries import SEND_MS, Delivery
from link.election.result import Result, ResultKind
from link.errors import Conflict
from link.plugins.seam import Config, Replacement, StorablePluginConfig
from link.plugins.webhook import config, wire
from link.plugins.webhook.config import StoredWebhook, WebhookConfig
from link.plugins.webhook.sealed import Sealed, context, seal, unseal
from link.registration import Registration
from link.settings import Settings
from link.store.aws import FAULTS, error_code
from link.store.vault import Vault

PLUGIN = "webhook"
Post = Callable[..., Result]
"""`Sender.post`."""


class WebhookFactory:
    """Makes webhook plugins. The API's process has no `post`: it may not decrypt and never sends."""

    def __init__(self, vault: Vault, settings: Settings, clock: Clock, post: Post | None = None) -> None:
        self._vault = vault
        self._settings = settings
        self._clock = clock
        self._post = post

    def config(self) -> Config:
        """How often an active endpoint's status is sent again: `RefreshInterval`."""
        return Config(refresh_every=self._settings.refresh_ms)

    def validate(self, body: object) -> WebhookConfig:
        """The plugin_config in a request's JSON; raises Invalid with every problem."""
        return config.parse(
            body, allowed_networks=self._settings.allowed_networks, require_https=self._settings.require_https
        )

    def mutate(self, config: WebhookConfig, endpoint_id: str, created_at: int) -> StorablePluginConfig:
        """The form to store, secret and header values in one ciphertext. 1 kms:Encrypt."""
        bound_to = context(endpoint_id, config.resource_id, config.url)
        return StoredWebhook(
            url=config.url,
            ciphertext=seal(self._vault, Sealed(config.secret, config.headers), bound_to),
            header_names=tuple(config.headers),
            encrypted_at=created_at,
        ).attributes()

    def change(self, stored: Registration, body: object, now: int) -> Replacement:
        """The form to store after a PATCH; 1 kms:Encrypt if it has a secret.

        Raises Invalid, or Conflict if the previous secret of the last change still signs. Nothing is decrypted:
        the old secret keeps its own ciphertext, which is bound to the same url.
        """
        change = config.parse_change(
            body,
            stored,
            now,
            allowed_networks=self._settings.allowed_networks,
            require_https=self._settings.require_https,
        )
        before = StoredWebhook.of(stored)
        after = replace(before, url=change.url)
        if change.ends_previous:
            after = replace(after, previous_ciphertext=None, previous_until=None)
        if change.secret is not None:
            sealed = Sealed(change.secret, change.headers)
            after = replace(
                self._keep_previous(before, after, change.previous_until, now),
                header_names=tuple(change.headers),
                ciphertext=seal(self._vault, sealed, context(stored.endpoint_id, stored.resource_id, change.url)),
                encrypted_at=now,
            )
        return Replacement(stored.config if after == before else after.attributes(), after.url != before.url)

    @staticmethod
    def _keep_previous(before: StoredWebhook, after: StoredWebhook, until: int | None, now: int) -> StoredWebhook:
        """The stored form in which the old secret signs beside a new one; raises Conflict if two sign already."""
        if after.previous_until is not None and after.previous_until <= now:
            after = replace(after, previous_ciphertext=None, previous_until=None)
        if until is None or until == after.previous_until:
            return after
        if after.previous_until is not None:
            raise Conflict(
                f"the previous secret signs until {after.previous_until} (Unix ms), and only two secrets can sign: "
                "wait until then, or send previous_secret_until null first to end it now"
            )
        return replace(after, previous_ciphertext=before.ciphertext, previous_until=until)

    def same(self, stored: Registration, config: WebhookConfig) -> bool:
        """Whether url and names of headers are the same. Values and secret cannot be compared without decrypting."""
        webhook = StoredWebhook.of(stored)
        return (webhook.url, frozenset(webhook.header_names)) == (config.url, frozenset(config.headers))

    def create(self, stored: Registration) -> WebhookPlugin:
        """The plugin of a stored registration."""
        return WebhookPlugin(stored, self._vault, self._clock, self._post)

    def encrypted_at(self, stored: Registration) -> int:
        """When the ciphertext was made or renewed. Unix milliseconds."""
        return StoredWebhook.of(stored).encrypted_at

    def renew(self, stored: Registration, now: int) -> StorablePluginConfig:
        """The form to store under the key's newest material. 1 kms:ReEncrypt, 2 while the secret is being changed."""
        webhook = StoredWebhook.of(stored)
        bound_to = context(stored.endpoint_id, stored.resource_id, webhook.url)
        previous, until = webhook.previous_ciphertext, webhook.previous_until
        if previous is None or until is None or until <= now:
            # A previous secret whose time is over is removed.
            previous = until = None
        else:
            previous = self._vault.reencrypt(previous, bound_to)
        return replace(
            webhook,
            ciphertext=self._vault.reencrypt(webhook.ciphertext, bound_to),
            previous_ciphertext=previous,
            previous_until=until,
            encrypted_at=now,
        ).attributes()


class WebhookPlugin:
    """One endpoint's webhook."""

    def __init__(self, stored: Registration, vault: Vault, clock: Clock, post: Post | None) -> None:
        self._stored = stored
        self._webhook = StoredWebhook.of(stored)
        self._vault = vault
        self._clock = clock
        self._post = post

    def election_key(self) -> str:
        """`webhook/<resource_id>`."""
        return f"{self._stored.plugin}/{self._stored.resource_id}"

    def activate(self, delivery: Delivery) -> Result:
        """Sends ACTIVATED to the receiver."""
        return self._send(delivery)

    def deactivate(self, delivery: Delivery) -> Result:
        """Sends STANDBY to the receiver."""
        return self._send(delivery)

    def ensure(self, delivery: Delivery) -> Result:
        """Sends ACTIVATED to the receiver again."""
        return self._send(delivery)

    def preview(self, delivery: Delivery) -> Mapping[str, Any]:
        """The request, with None for headers that are secret or depend on the time, and the url without its path."""
        names = self._webhook.header_names
        body, headers = wire.request(self._announcement(delivery), ["-"], dict.fromkeys(names, ""), timestamp=0)
        hidden = {*names, *wire.PER_ATTEMPT}
        parts = urlsplit(self._webhook.url)
        return {
            "method": "POST",
            "url": f"{parts.scheme}://{parts.netloc}",
            "headers": {name: None if name in hidden else value for name, value in headers.items()},
            "body": body.decode(),
        }

    def view(self) -> Mapping[str, Any]:
        """Until when two secrets sign. Never url, headers or secret."""
        return {"previous_secret_until": self._webhook.previous_until}

    def _send(self, delivery: Delivery) -> Result:
        assert self._post is not None, "this process may not send"
        now = self._clock.now()
        try:
            sealed = self._unseal(self._webhook.ciphertext)
            secrets = [*self._previous_secrets(now), sealed.secret]
        except FAULTS as error:
            return Result(ResultKind.UNREADABLE, f"secret_unreadable_{error_code(error)}")
        announcement = self._announcement(delivery)
        body, headers = wire.request(announcement, secrets, sealed.headers, timestamp=now // 1000)
        not_after = delivery.until - SEND_MS
        if self._clock.now() > not_after:
            return Result(ResultKind.TOO_LATE, "claim_ending")
        delivery.begin()
        return self._post(self._webhook.url, body, headers, not_after=not_after)

    def _announcement(self, delivery: Delivery) -> wire.Announcement:
        return wire.Announcement(
            endpoint_id=delivery.endpoint_id,
            resource_id=delivery.resource_id,
            plugin=self._stored.plugin,
            status=delivery.status,
            epoch=delivery.epoch,
            sequence=delivery.sequence,
            reason=delivery.reason,
            attempt=delivery.attempt,
            refreshed_at=delivery.refreshed_at,
            host=self._stored.host,
        )

    def _previous_secrets(self, now: int) -> list[str]:
        """The secret that signs beside the current one until `previous_until`, if there is one."""
        webhook = self._webhook
        if webhook.previous_ciphertext is None or webhook.previous_until is None or now >= webhook.previous_until:
            return []
        return [self._unseal(webhook.previous_ciphertext).secret]

    def _unseal(self, ciphertext: bytes) -> Sealed:
        stored = self._stored
        return unseal(self._vault, ciphertext, context(stored.endpoint_id, stored.resource_id, self._webhook.url))
