"""What a process that reconciles is made of; made once, when the function starts."""

from __future__ import annotations

import os

from link import aws, plugin, settings
from link.clock import Clock
from link.delivery import WebhookFactory
from link.encryption import Vault
from link.lock import Locks
from link.queues import Queues
from link.reconcile import Reconciler
from link.registry import Registry
from link.sender import Sender
from link.webhook import PLUGIN

SETTINGS = settings.load(os.environ)
CLOCK = Clock()
_DYNAMODB = aws.client("dynamodb")
QUEUES = Queues(aws.client("sqs"), SETTINGS)
_SENDER = Sender(
    allowed_networks=SETTINGS.allowed_networks, require_https=SETTINGS.require_https, ca_bundle=SETTINGS.ca_bundle
)
plugin.register(PLUGIN, WebhookFactory(Vault(aws.client("kms"), SETTINGS), SETTINGS, CLOCK, _SENDER.post))
RECONCILER = Reconciler(Locks(_DYNAMODB, SETTINGS, CLOCK), Registry(_DYNAMODB, SETTINGS), QUEUES, SETTINGS, CLOCK)
