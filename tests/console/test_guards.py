"""How the console is guarded against other pages and other users of the machine, and whom it leaves out."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.console.conftest import REBOUND, Scene
from tests.support.ids import RESOURCE

LOCKED = "The console is locked"
TRIES = """async (console) => {
  const load = (name, attribute) => new Promise((resolve) => {
    const made = document.createElement(name);
    made.onload = () => resolve("loaded");
    made.onerror = () => resolve("refused");
    made[attribute] = `${console}/console.js`;
    document.head.append(made);
  });
  const read = (init) => fetch(`${console}/api/resources`, init).then((answer) => answer.type, () => "refused");
  return [
    await read({}),
    await read({ credentials: "include" }),
    await read({ headers: { "X-Linkctl-Token": "guess" } }),
    await read({ mode: "no-cors", credentials: "include", method: "POST", body: "{}" }),
    await load("script", "src"),
    await load("img", "src"),
  ];
}"""


class Neighbour:
    """Another user's server on another port of 127.0.0.1, and the headers that it got."""

    def __init__(self) -> None:
        self.cookies: list[str] = []
        neighbour = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                neighbour.cookies.append(self.headers.get("Cookie", ""))
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<title>Neighbour</title>")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@contextmanager
def serving(neighbour: Neighbour) -> Iterator[None]:
    thread = threading.Thread(target=neighbour.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        neighbour.server.shutdown()
        thread.join()
        neighbour.server.server_close()


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    neighbour = Neighbour()
    with serving(neighbour):
        yield neighbour


@pytest.fixture
def calls(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reaches the API through the console."""
    found: list[str] = []
    forward = scene.api.forward

    def seen(method: str, url: str, *more: Any) -> Any:
        found.append(f"{method} {url}")
        return forward(method, url, *more)

    monkeypatch.setattr(scene.api, "forward", seen)
    return found


def test_no_request_leaves_the_machine_and_no_policy_is_violated(scene: Scene) -> None:
    scene.elect("paris", "london")
    page = scene.opened(RESOURCE)
    page.get_by_role("button", name="Fail over…", exact=True).click()
    page.get_by_role("button", name="Fail over to london", exact=True).click()
    expect(page.get_by_text("london is active since")).to_be_visible()
    assert [url for url in scene.requested if not url.startswith(f"{scene.origin}/")] == []
    assert scene.told == []


def test_another_page_can_neither_read_nor_call(scene: Scene, neighbour: Neighbour, calls: list[str]) -> None:
    page = scene.opened()
    calls.clear()
    other = page.context.new_page()
    other.goto(neighbour.url)
    assert other.evaluate(TRIES, scene.origin) == ["refused"] * 6
    other.set_content(f'<iframe src="{scene.origin}/"></iframe>')
    other.wait_for_load_state()
    assert other.frames[1].evaluate("document.documentElement.textContent").find("linkctl") == -1
    assert calls == []


def test_the_cookie_that_another_port_gets_opens_nothing(scene: Scene, neighbour: Neighbour, calls: list[str]) -> None:
    page = scene.opened()
    other = page.context.new_page()
    other.goto(neighbour.url)
    stolen = neighbour.cookies[0]
    assert stolen.startswith(f"linkctl-{scene.console.server_port}=")
    calls.clear()
    thief = scene.context(extra_http_headers={"Cookie": stolen}).new_page()
    thief.goto(f"{scene.origin}/")
    expect(thief.get_by_role("heading", name=LOCKED)).to_be_visible()
    assert calls == []


@pytest.mark.parametrize("link", ["", "#guess", "#" + "x" * 43])
def test_another_users_guess_opens_nothing(link: str, scene: Scene, calls: list[str]) -> None:
    page = scene.context().new_page()
    page.goto(f"{scene.origin}/{link}")
    expect(page.get_by_role("heading", name=LOCKED)).to_be_visible()
    assert calls == []


def test_a_link_that_was_used_opens_nothing_and_is_not_in_the_address(scene: Scene, calls: list[str]) -> None:
    link = f"{scene.origin}/#{scene.console.sessions.secret}"
    page = scene.opened()
    assert page.evaluate("[location.href, history.length]") == [f"{scene.origin}/#/", 2]
    assert not any(link.partition("#")[2] in url for url in scene.requested)
    calls.clear()
    other = scene.context().new_page()
    other.goto(link)
    expect(other.get_by_role("heading", name=LOCKED)).to_be_visible()
    assert calls == []
    page.reload()
    expect(page.get_by_role("heading", name="Resources")).to_be_visible()


def test_a_name_that_comes_to_point_to_loopback_is_refused(scene: Scene, calls: list[str]) -> None:
    page = scene.context().new_page()
    answer = page.goto(f"http://{REBOUND}:{scene.console.server_port}/#{scene.console.sessions.secret}")
    assert answer and answer.status == 403
    assert calls == []


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']]}" for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_axe_finds_nothing(scheme: str, width: int, scene: Scene) -> None:
    scene.deployment.receiver.status = 500
    scene.elect("paris", "london")
    scene.api.call("POST", f"/endpoints/{scene.hosts['paris']}/failover")
    scene.api.call("PATCH", "/resources", {"frozen": True}, resource_id=RESOURCE)
    scene.register("rome", resource_id="another", checks=[{"type": "TCP", "host": "rome.example.com", "port": 80}])
    page = scene.opened(color_scheme=scheme, viewport={"width": width, "height": 900})
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert dark == (scheme == "dark")
    expect(page.get_by_role("link", name=RESOURCE)).to_be_visible()
    assert violations(page) == []
    page.get_by_role("link", name=RESOURCE).click()
    expect(page.get_by_text("Frozen")).to_be_visible()
    page.get_by_text(re.compile("^All . transitions")).click()
    assert violations(page) == []
    page.get_by_role("button", name="Fail over…", exact=True).click()
    expect(page.get_by_role("button", name="Fail over to paris", exact=True)).to_be_enabled()
    assert violations(page) == []
    locked = scene.context(color_scheme=scheme).new_page()
    locked.goto(scene.origin)
    expect(locked.get_by_role("heading", name=LOCKED)).to_be_visible()
    assert violations(locked) == []
