"""The console in Chromium, in front of the API's function on moto. `make prove WHAT=console` installs both.

The browser is Debian's, or what CHROMIUM names. It resolves no other name than
REBOUND: what is not on 127.0.0.1 cannot be reached.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import boto3
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from link.probing.states import Probed
from link.signals.words import Word
from link.store.probes import ProbeStates, shard_of
from link.store.signals import Signals
from linkctl.api import Deployment as Stack
from linkctl.console import Console
from tests.support.deployed import settings
from tests.support.functions import Deployment, event
from tests.support.gateway import gateway
from tests.support.ids import RESOURCE

REBOUND = "rebound.example"
"""A name that the browser resolves to 127.0.0.1, as a page's own name does in a DNS rebinding."""

PATIENCE_MS = 60_000
"""How long the tests wait for what the page has to show: a busy machine is slow, and the page looks every 5 s."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    assert chromium, "there is no Chromium: apt install chromium, or set CHROMIUM to the path of one"
    with sync_playwright() as playwright:
        arguments = [f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@contextmanager
def running(console: Console) -> Iterator[Console]:
    thread = threading.Thread(target=console.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield console
    finally:
        console.shutdown()
        thread.join()
        console.server_close()


@dataclass
class Scene:
    """A deployment with its console, and the browser's requests."""

    deployment: Deployment
    browser: Browser
    api: Stack
    console: Console
    requested: list[str] = field(default_factory=list)
    """The URL of each request of the browser."""
    told: list[str] = field(default_factory=list)
    """What the browser's own console says: a violated policy, an error of a script."""
    hosts: dict[str, str] = field(default_factory=dict)
    """The ids of the hosts that `register` registered for RESOURCE."""

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.console.server_port}"

    def register(self, *hosts: str, resource_id: str = RESOURCE, **more: Any) -> list[str]:
        """Register an endpoint for each host; return their ids."""
        ids = []
        for host in hosts:
            config = {"url": self.deployment.receiver.url, "resource_id": resource_id, "secret": "hidden-secret"}
            body = {"plugin": "webhook", "plugin_config": config, "host": host, **more}
            ids.append(self.api.call("POST", "/endpoints", body)["endpoint"]["id"])
        if resource_id == RESOURCE:
            self.hosts |= dict(zip(hosts, ids, strict=True))
        return ids

    def report(self, endpoint_id: str, status: str, *, resource_id: str = RESOURCE, source: str = "link") -> None:
        """Let the function of status events handle a report, which also delivers."""
        message = event("status_winner")
        (record,) = message["Records"]
        body = json.loads(record["body"])
        now = time.time_ns() // 1_000_000
        detail = {"endpoint_id": endpoint_id, "status": status, "resource_id": resource_id, "reported_at": now}
        record["body"] = json.dumps(body | {"source": source, "detail": body["detail"] | detail})
        assert self.deployment.invoke("endpoint_status", message) == {"batchItemFailures": []}

    def elect(self, *hosts: str, **more: Any) -> None:
        """Register the hosts and let them report; the first becomes active."""
        for endpoint_id in self.register(*hosts, **more):
            self.report(endpoint_id, "ACTIVATED", resource_id=more.get("resource_id", RESOURCE))

    def settle(self) -> None:
        """Deliver what is due: handle the wake-ups in the queue."""
        message = event("wake_up")
        for body in self.deployment.messages("wake-up"):
            message["Records"][0]["body"] = json.dumps(body)
            self.deployment.invoke("reconcile", message)

    def probed(self, endpoint_id: str, *, up: bool, reason: str = "", resource_id: str = RESOURCE) -> None:
        """Store what a probe finds."""
        states, of = ProbeStates(self.deployment.dynamodb, settings()), settings().probe_shards
        shard, now = shard_of(resource_id, of), time.time_ns() // 1_000_000
        before = states.read(shard, of)
        found = Probed(up=up, since=now, reason=reason, told=up)
        assert states.write(shard, of, before, replace(before, endpoints={**before.endpoints, endpoint_id: found}))

    def signalled(self, endpoint_id: str, word: Word) -> None:
        """Store what its only signal said."""
        signals = Signals(self.deployment.dynamodb, settings())
        before = signals.read(endpoint_id)
        assert before is not None
        (signal,) = before.signals
        assert signals.write(before, replace(before, words={signal.key: word}, status=word.status, at=word.at))

    def calls(self) -> list[str]:
        """The calls of the API that the browser made."""
        return [url.partition("/api")[2] for url in self.requested if "/api/" in url]

    def status_of(self, host: str) -> str:
        return self.deployment.statuses()[self.hosts[host]]

    def context(self, **options: Any) -> BrowserContext:
        """A browser that was not here before."""
        options = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **options}
        context = self.browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        context.on("request", lambda request: self.requested.append(request.url))
        context.on("console", lambda message: self.told.append(message.text))
        context.on("weberror", lambda error: self.told.append(str(error.error)))
        return context

    def opened(self, path: str = "", **options: Any) -> Page:
        """Open the newest link in a new browser, and then another view."""
        page = self.context(**options).new_page()
        page.goto(f"{self.origin}/#{self.console.sessions.secret}")
        page.get_by_role("heading", name="Resources").wait_for()
        if path:
            page.evaluate("path => { location.hash = path }", f"/resource/{path}")
        return page


@pytest.fixture
def start(deployment: Deployment, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scene]]:
    """Return a function that starts the console of an empty deployment, and ends it with the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with gateway(deployment) as url:
        stack = Stack("stack", api_url=url, session=boto3.Session(region_name="eu-west-1"))
        consoles: list[Any] = []

        def start(*, read_only: bool = False) -> Scene:
            console = running(Console(stack, 0, read_only=read_only))
            consoles.append(console)
            return Scene(deployment, browser, stack, console.__enter__())

        yield start
        for context in browser.contexts:
            context.close()
        for console in consoles:
            console.__exit__(None, None, None)


@pytest.fixture
def scene(start: Callable[..., Scene]) -> Scene:
    return start()
