from __future__ import annotations

import pytest

from link.errors import Invalid
from link.plugins.webhook.factory import WebhookFactory
from tests.support.deployed import settings
from tests.world import VirtualClock


def test_a_plugin_is_known_by_the_name_it_was_registered_under() -> None:
    made: plugin.Factory = WebhookFactory(None, settings(), VirtualClock())  # type: ignore[arg-type]
    plugin.register("webhook", made)
    assert plugin.factory("webhook") is made


@pytest.mark.parametrize("name", ["arp", "", None, 7, ["webhook"], "Webhook"])
def test_a_plugin_nobody_registered(name: object) -> None:
    with pytest.raises(Invalid) as invalid:
        plugin.factory(name)
    assert invalid.value.errors == {"plugin": ["plugin not found"]}
