"""The plugin seam, shown with a second plugin, `log`. All its code is in this file, none in the product."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from moto import mock_aws

from link import deployment
from link.election.deliveries import CLAIM_MS, Delivery
from link.election.result import Result, ResultKind
from link.errors import Conflict, Invalid, NotFound, Rejected
from link.plugins.seam import Config, Encrypted, Factory, Plugin, Plugins, Replacement
from link.plugins.webhook.factory import WebhookFactory
from link.registration import Registration, StorablePluginConfig
from link.reports import parse
from link.store.lock_item import due_shard
from tests.support.deployed import settings
from tests.support.hands import HeldClock
from tests.support.ids import NOW, RESOURCE
from tests.world import World

# The second plugin: it appends to a list.


@dataclass(frozen=True, slots=True)
class LogConfig:
    resource_id: str
    prefix: str


class LogFactory:
    def __init__(self, lines: list[tuple[str, str, Delivery]]) -> None:
        self.lines = lines

    def config(self) -> Config:
        return Config(refresh_every=60_000)

    def validate(self, body: object) -> LogConfig:
        if not isinstance(body, dict) or "prefix" not in body:
            raise Invalid({"plugin_config.prefix": ["missing prefix"]})
        return LogConfig(body["resource_id"], body["prefix"])

    def mutate(self, config: LogConfig, endpoint_id: str, created_at: int) -> StorablePluginConfig:
        return {"prefix": config.prefix}

    def change(self, stored: Registration, body: object, now: int) -> Replacement:
        return Replacement({**stored.config, **body} if isinstance(body, dict) else stored.config)

    def same(self, stored: Registration, config: LogConfig) -> bool:
        return stored.config["prefix"] == config.prefix

    def create(self, stored: Registration) -> Plugin:
        return Log(stored, self.lines)


class Log:
    def __init__(self, stored: Registration, lines: list[tuple[str, str, Delivery]]) -> None:
        self.stored, self.lines, self.prefix = stored, lines, str(stored.config["prefix"])

    def election_key(self) -> str:
        return f"lines of {self.stored.resource_id}"

    def activate(self, delivery: Delivery) -> Result:
        return self._write("activate", delivery)

    def deactivate(self, delivery: Delivery) -> Result:
        return self._write("deactivate", delivery)

    def ensure(self, delivery: Delivery) -> Result:
        return self._write("ensure", delivery)

    def preview(self, delivery: Delivery) -> dict[str, Any]:
        return {"line": f"{self.prefix} {delivery.status} {delivery.reason}"}

    def view(self) -> dict[str, Any]:
        return {"prefix": self.prefix}

    def _write(self, method: str, delivery: Delivery) -> Result:
        self.lines.append((self.prefix, method, delivery))
        return Result(ResultKind.DELIVERED)


# A deployment that has `log` beside the webhook

BESIDE = next(name for name in (f"ip-{n}" for n in range(1_000)) if due_shard(name) == due_shard(RESOURCE))
"""A resource for the webhook, in the shard that the world sweeps."""
SECRET = "berlin-secret-0123456789abcdef01"


class Deployed(World):
    """A world whose deployment registers `log` after the webhook. paris and london use `log`, berlin the webhook."""

    lines: list[tuple[str, str, Delivery]]

    def log(self, site: str, *, prefix: str = "", token: str | None = None, **more: Any) -> str:
        """Register a site with `log`; return its id."""
        body = {"plugin": "log", "plugin_config": {"resource_id": RESOURCE, "prefix": prefix or site}, **more}
        endpoint_id: str = self.control.commands.create({"host": site, **body}, f"register-{site}", token)["id"]
        self.names[endpoint_id] = site
        self.clock.at += 1
        return endpoint_id

    def webhook(self, resource_id: str = BESIDE) -> str:
        """Register berlin with the webhook; return its id."""
        config = {"url": "http://receiver.example.com/hook", "resource_id": resource_id, "secret": SECRET}
        body = {"plugin": "webhook", "plugin_config": config, "host": "berlin"}
        endpoint_id: str = self.control.commands.create(body, "register-berlin")["id"]
        self.names[endpoint_id], self.receiver.secrets[endpoint_id] = "berlin", SECRET
        return endpoint_id

    def reported(self, endpoint_id: str, status: str = "ACTIVATED", **detail: Any) -> None:
        """Apply a host's report at once."""
        event = self.event(endpoint_id, status)
        event["detail"] |= detail
        self.reconciler.receive(parse(event), lambda: 30.0)

    def written(self) -> list[tuple[str, str, int]]:
        """Prefix, method and epoch of every line."""
        return [(prefix, method, delivery.epoch) for prefix, method, delivery in self.lines]


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Deployed]:
    lines: list[tuple[str, str, Delivery]] = []
    of_the_product = deployment.plugins

    def with_the_log(*arguments: Any) -> Plugins:
        plugins = of_the_product(*arguments)
        plugins.register("log", LogFactory(lines))
        return plugins

    monkeypatch.setattr(deployment, "plugins", with_the_log)

    def made(**world: Any) -> Deployed:
        deployed = Deployed(**world)
        deployed.lines = lines
        return deployed

    return made


@pytest.fixture
def deployed(deploy: Callable[..., Deployed]) -> Deployed:
    return deploy(in_memory=True)


@pytest.fixture
def on_moto(deploy: Callable[..., Deployed]) -> Iterator[Deployed]:
    """The same on moto's tables, which evaluate every condition and can be scanned in every way."""
    with mock_aws():
        yield deploy()


def test_it_is_registered_once_with_an_idempotency_key(deployed: Deployed) -> None:
    paris = deployed.log("paris", token="key-1")
    assert deployed.log("paris", token="key-1") == paris
    with pytest.raises(Conflict, match=f"the Idempotency-Key was used for another registration, {paris}: use a new"):
        deployed.log("paris", prefix="PARIS", token="key-1")
    assert deployed.registered() == {"paris"}


def test_what_it_does_not_accept_is_refused(deployed: Deployed) -> None:
    with pytest.raises(Invalid) as invalid:
        deployed.control.commands.create({"plugin": "log", "plugin_config": {}, "priority": "high"}, "request")
    assert set(invalid.value.errors) == {"plugin_config.prefix", "priority"}


def test_it_is_shown_with_its_own_election_key_and_members(deployed: Deployed) -> None:
    paris = deployed.log("paris")
    view = deployed.control.queries.show(paris)
    assert (view["plugin"], view["election_key"], view["prefix"]) == ("log", f"lines of {RESOURCE}", "paris")
    assert "previous_secret_until" not in view, "that is the webhook's"


def test_it_is_elected_by_reports_that_name_it_or_no_plugin(deployed: Deployed) -> None:
    paris, london = deployed.log("paris"), deployed.log("london")
    deployed.reported(paris, plugin="log")
    deployed.reported(london)
    assert deployed.holder() == "paris"
    assert deployed.written() == [("paris", "activate", 1), ("london", "deactivate", 1)]


def test_a_report_that_names_another_plugin_is_rejected_with_the_right_name(deployed: Deployed) -> None:
    paris, berlin = deployed.log("paris"), deployed.webhook()
    with pytest.raises(Rejected, match=f"^{paris} is registered with plugin 'log'$") as rejected:
        deployed.reported(paris, plugin="webhook")
    assert rejected.value.code == "plugin_mismatch"
    with pytest.raises(Rejected, match=f"^{berlin} is registered with plugin 'webhook'$"):
        deployed.reported(berlin, plugin="log", resource_id=BESIDE)
    assert (deployed.written(), deployed.receiver.requests) == ([], [])


def test_it_is_refreshed_at_its_own_interval_beside_the_webhooks(deployed: Deployed) -> None:
    paris, berlin = deployed.log("paris"), deployed.webhook()
    deployed.reported(paris)
    deployed.reported(berlin, resource_id=BESIDE)
    deployed.settle(610_000)
    assert deployed.written() == [("paris", "activate", 1), *[("paris", "ensure", 1)] * 10]
    claimed = [delivery.until - CLAIM_MS for _, _, delivery in deployed.lines]
    gaps = [later - earlier for earlier, later in itertools.pairwise(claimed)]
    assert all(60_000 <= gap <= 61_000 for gap in gaps), gaps
    assert [request.reason for request in deployed.receiver.requests] == ["elected", "refresh", "refresh"]


def test_a_command_plans_the_next_refresh_by_its_interval_too(deployed: Deployed) -> None:
    paris = deployed.log("paris")
    deployed.reported(paris)
    deployed.settle(30_000)
    # Later than due_at, so that the commit below has to set it again.
    deployed.clock.at = (deployed.resource().due_at or 0) + 1
    deployed.control.commands.freeze(RESOURCE, True, "request")
    assert deployed.resource().due_at == deployed.resource().endpoints[paris].delivered_at + 60_000


def test_its_next_line_is_previewed(deployed: Deployed) -> None:
    paris = deployed.log("paris")
    with pytest.raises(Conflict, match="nothing has been announced"):
        deployed.control.queries.preview(paris)
    deployed.reported(paris)
    assert deployed.control.queries.preview(paris) == {"line": "paris ACTIVATED refresh"}


def test_it_is_changed(on_moto: Deployed) -> None:
    paris = on_moto.log("paris")
    on_moto.reported(paris)
    view = on_moto.control.commands.change(paris, {"priority": 5}, "request-1")
    assert (view["priority"], view["prefix"], on_moto.resource().endpoints[paris].revision) == (5, "paris", 2)
    view = on_moto.control.commands.change(paris, {"plugin_config": {"prefix": "PARIS"}}, "request-2")
    assert view["prefix"] == "PARIS"
    on_moto.settle(61_000)
    assert on_moto.written() == [("paris", "activate", 1), ("PARIS", "ensure", 1)]


def test_it_is_failed_over(deployed: Deployed) -> None:
    paris, london = deployed.log("paris"), deployed.log("london")
    deployed.reported(paris)
    deployed.reported(london)
    deployed.lines.clear()
    deployed.operator(lambda: deployed.control.commands.failover(paris, "request"))
    deployed.settle(2_000)
    assert deployed.holder() == "london"
    assert deployed.written() == [("paris", "deactivate", 1), ("london", "activate", 2)]


def test_it_is_deleted_after_its_last_line(deployed: Deployed) -> None:
    paris = deployed.log("paris")
    deployed.reported(paris)
    deployed.operator(lambda: deployed.control.commands.delete(paris, "request"))
    deployed.settle(2_000)
    assert deployed.written() == [("paris", "activate", 1), ("paris", "deactivate", 1)]
    assert deployed.registered() == set()
    with pytest.raises(NotFound):
        deployed.control.queries.show(paris)


def test_a_resource_has_endpoints_of_one_plugin(deployed: Deployed) -> None:
    deployed.log("paris")
    with pytest.raises(Conflict, match="another plugin: use another resource_id"):
        deployed.webhook(RESOURCE)
    deployed.webhook()
    assert deployed.registered() == {"paris", "berlin"}


def test_it_is_listed_and_a_key_rotation_leaves_it_alone(on_moto: Deployed) -> None:
    paris, berlin = on_moto.log("paris"), on_moto.webhook()
    before = stored(on_moto)
    listed, _ = on_moto.control.queries.endpoints()
    assert [(one["id"], one["plugin"]) for one in listed] == [(paris, "log"), (berlin, "webhook")]
    on_moto.clock.at += 1_000
    assert on_moto.control.queries.key_rotation(NOW)["endpoints"] == 1
    assert on_moto.rotation.run(lambda: 900.0) == {"endpoints": 1}
    after = stored(on_moto)
    assert after[paris] == before[paris]
    assert after[berlin]["ciphertext"] != before[berlin]["ciphertext"]


def stored(world: World) -> dict[str, dict[str, Any]]:
    """The items of the endpoints table, by id."""
    found = world._dynamodb.scan(TableName=world.settings.endpoints_table)["Items"]
    return {item["endpoint_id"]["S"]: item for item in found}


# The registry


def test_a_plugin_is_known_by_the_name_that_it_was_registered_under() -> None:
    factory: Factory[LogConfig] = LogFactory([])
    plugins = Plugins()
    plugins.register("log", factory)
    assert plugins["log"] is factory


@pytest.mark.parametrize("name", ["arp", "", None, 7, ["log"], "Log"])
def test_a_plugin_that_is_not_registered_is_refused(name: object) -> None:
    plugins = Plugins()
    plugins.register("log", LogFactory([]))
    with pytest.raises(Invalid) as invalid:
        plugins[name]
    assert invalid.value.errors == {"plugin": ["plugin not found: use log"]}


def test_lock_items_name_every_plugin_but_the_first() -> None:
    plugins = Plugins()
    for name in ("webhook", "log"):
        plugins.register(name, LogFactory([]))
    assert [plugins.stored_name(name) for name in ("webhook", "log")] == ["", "log"]
    assert [plugins.name(stored) for stored in ("", "log")] == ["webhook", "log"]


def test_a_key_rotation_is_for_plugins_with_ciphertexts() -> None:
    webhook = WebhookFactory(None, settings(), HeldClock())  # type: ignore[arg-type]
    assert [isinstance(factory, Encrypted) for factory in (webhook, LogFactory([]))] == [True, False]
