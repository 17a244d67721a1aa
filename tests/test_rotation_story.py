"""A secret is rotated, and no webhook is refused, whenever the receiver learns the new one."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from unittest import mock

import pytest
import standardwebhooks

from link.election.result import Result, ResultKind
from link.receiver import WebhookError, parse_and_validate_webhook
from tests.support.ids import RESOURCE
from tests.world import World

OLD, NEW = "paris-secret-0123456789abcdef0123", "paris-secret-of-the-next-quarter"
HOUR = 3_600_000


@pytest.fixture
def world(aws: None) -> World:
    return World()


class Team:
    """The team of a receiver: it has the old secret, and from `learns_at` on those that it `learns`."""

    def __init__(self, world: World, verify: Callable[..., None], learns_at: int, learns: tuple[str, ...]) -> None:
        self.world, self.verify, self.learns_at, self.learns = world, verify, learns_at, learns
        self.taken = 0
        self.refused: list[int] = []
        world.receiver.post = self.post  # type: ignore[method-assign]
        world.new_process()

    def post(self, url: str, body: bytes, headers: dict[str, str], *, not_after: int) -> Result:
        now = self.world.clock.now()
        try:
            self.verify(self.learns if now >= self.learns_at else (OLD,), body, headers, now // 1000)
        except (WebhookError, standardwebhooks.WebhookVerificationError):
            self.refused.append(now)
            return Result(ResultKind.ANSWERED, "status_401", 401)
        self.taken += 1
        return Result(ResultKind.DELIVERED, "", 204)


def like_link(secrets: tuple[str, ...], body: bytes, headers: dict[str, str], now: int) -> None:
    """By LinK's headers alone, as a receiver of LinK's does."""
    names = [f"X-Link-Webhook-{name}" for name in ("Resource-ID", "Timestamp", "Signature")]
    of_link = {name: headers[name] for name in names}
    parse_and_validate_webhook(list(secrets), of_link, body, now=now)


def standard(secrets: tuple[str, ...], body: bytes, headers: dict[str, str], now: int) -> None:
    """By the library of Standard Webhooks, which knows one secret."""
    (secret,) = secrets
    library = standardwebhooks.Webhook("whsec_" + base64.b64encode(secret.encode()).decode())
    with mock.patch("standardwebhooks.webhooks.datetime", wraps=datetime) as clock:
        clock.now.return_value = datetime.fromtimestamp(now, UTC)
        library.verify(body, headers)


def rotate(world: World, endpoint_id: str, until: int) -> None:
    config = {"secret": NEW, "previous_secret_until": until}
    world.control.commands.change(endpoint_id, {"plugin_config": config}, "rotate")


@pytest.mark.parametrize(
    ("verify", "learns_after", "learns"),
    [
        pytest.param(like_link, -4 * HOUR, (OLD, NEW), id="LinK, two secrets: before the switch"),
        pytest.param(like_link, -HOUR, (OLD, NEW), id="LinK, two secrets: during"),
        pytest.param(like_link, 0, (NEW,), id="LinK, one secret: at the moment itself"),
        pytest.param(standard, -3 * HOUR + 1_000, (NEW,), id="Standard Webhooks, one secret: right after the switch"),
        pytest.param(standard, -HOUR, (NEW,), id="Standard Webhooks, one secret: during"),
        pytest.param(standard, 0, (NEW,), id="Standard Webhooks, one secret: at the last moment"),
    ],
)
def test_no_webhook_is_refused_during_a_rotation(
    world: World, verify: Callable[..., None], learns_after: int, learns: tuple[str, ...]
) -> None:
    paris = world.register("paris")
    world.settle(2 * HOUR)
    until = world.clock.now() + 4 * HOUR
    team = Team(world, verify, until + learns_after, learns)
    world.report(paris, "ACTIVATED")
    world.settle(HOUR)
    rotate(world, paris, until)
    assert world.control.queries.show(paris)["previous_secret_until"] == until
    world.settle(4 * HOUR)
    assert team.refused == []
    # Five hours of refreshes, which come up to a second later each time.
    assert 55 <= team.taken <= 61
    assert world.control.queries.resource(RESOURCE)["undelivered"] == []


def test_without_the_overlap_the_same_receiver_refuses(world: World) -> None:
    paris = world.register("paris")
    team = Team(world, like_link, world.clock.now() + 3 * HOUR, (NEW,))
    world.report(paris, "ACTIVATED")
    world.control.commands.change(paris, {"plugin_config": {"secret": NEW}}, "at once")
    world.settle(HOUR)
    assert team.refused
    assert world.control.queries.show(paris)["delivery"]["failure"] == "answered status_401"
