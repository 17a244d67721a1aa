"""What an operator does with the console, in a real browser."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from link.election.state import Status
from link.signals.words import Word
from linkctl.api import Deployment as Stack
from linkctl.errors import Unreachable
from tests.console.conftest import PATIENCE_MS, Scene
from tests.support.ids import RESOURCE

expect.set_options(timeout=PATIENCE_MS)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def look(page: Page) -> None:
    press(page, "Look now")


def card(page: Page, host: str) -> Any:
    """The part of the page that is about one endpoint."""
    return page.get_by_role("region", name=re.compile(f"^{host} "))


def patient(page: Page) -> None:
    """Let time pass only when the test says so."""
    page.clock.install()


def test_a_registered_endpoint_appears_without_a_reload(scene: Scene) -> None:
    page = scene.context().new_page()
    patient(page)
    page.goto(f"{scene.origin}/#{scene.console.sessions.secret}")
    expect(page.get_by_text("0 of 0 resources")).to_be_visible()
    scene.elect("paris")
    page.clock.run_for(10_000)
    expect(page.get_by_role("row", name=re.compile(f"{RESOURCE} paris vip-.* elected"))).to_be_visible()


def test_a_failover_shows_its_dry_run_and_asks(scene: Scene) -> None:
    scene.elect("paris", "london", "rome")
    page = scene.opened(RESOURCE)
    press(page, "Fail over…")
    dialog = page.get_by_role("dialog", name=f"Fail over {RESOURCE}")
    expect(dialog.get_by_role("listitem")).to_have_text(["paris: STANDBY (failover)", "london: ACTIVATED (failover)"])
    dialog.get_by_label("To").select_option("rome")
    expect(dialog.get_by_role("listitem")).to_have_text(["paris: STANDBY (failover)", "rome: ACTIVATED (failover)"])
    assert scene.status_of("paris") == "ACTIVATED"
    press(page, "Fail over to rome")
    expect(page.get_by_role("status").get_by_text(f"{RESOURCE} was handed over to rome.")).to_be_visible()
    expect(page.get_by_text("rome is active since")).to_be_visible()
    assert (scene.status_of("paris"), scene.status_of("rome")) == ("STANDBY", "ACTIVATED")


def test_what_is_confirmed_is_what_was_shown(scene: Scene) -> None:
    scene.elect("paris", "london", "rome")
    page = scene.opened(RESOURCE)
    press(page, "Fail over…")
    expect(page.get_by_role("button", name="Fail over to london", exact=True)).to_be_enabled()
    # Now rome would be the best candidate.
    scene.api.call("PATCH", f"/endpoints/{scene.hosts['rome']}", {"priority": 9})
    press(page, "Fail over to london")
    expect(page.get_by_text("london is active since")).to_be_visible()


def test_a_refused_action_says_why_and_shows_what_would_happen_now(scene: Scene) -> None:
    scene.elect("paris", "london", "rome")
    page = scene.opened(RESOURCE)
    press(page, "Fail over…")
    expect(page.get_by_role("button", name="Fail over to london", exact=True)).to_be_enabled()
    scene.report(scene.hosts["london"], "FAILING")
    press(page, "Fail over to london")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("alert")).to_contain_text("not ready")
    expect(dialog.get_by_role("button", name="Fail over to rome", exact=True)).to_be_enabled()
    press(page, "Cancel")
    assert scene.status_of("paris") == "ACTIVATED"


def test_a_drain_shows_what_would_follow_and_is_ended_again(scene: Scene) -> None:
    scene.elect("paris", "london")
    page = scene.opened(RESOURCE)
    press(page, "Drain paris…")
    expect(page.get_by_role("dialog").get_by_role("listitem").first).to_have_text("paris: STANDBY (drained)")
    assert scene.status_of("paris") == "ACTIVATED"
    press(page, "Drain paris")
    expect(card(page, "paris").get_by_text("no, drained")).to_be_visible()
    expect(page.get_by_text("london is active since")).to_be_visible()
    press(page, "End the drain of paris…")
    press(page, "End the drain of paris")
    expect(card(page, "paris").get_by_text("no, drained")).to_have_count(0)
    expect(card(page, "paris").get_by_text("yes")).to_be_visible()


def test_the_last_ready_endpoint_is_drained_only_if_the_operator_says_so(scene: Scene) -> None:
    scene.elect("paris")
    page = scene.opened(RESOURCE)
    press(page, "Drain paris…")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("alert")).to_contain_text("no other endpoint of this resource is ready")
    expect(dialog.get_by_role("button", name="Drain paris")).to_be_disabled()
    dialog.get_by_label("also if no other endpoint is ready").check()
    expect(dialog.get_by_text("Active would be none")).to_be_visible()
    press(page, "Drain paris")
    expect(page.get_by_text("No endpoint is active")).to_be_visible()
    assert scene.status_of("paris") == "STANDBY"


def test_a_resource_is_frozen_and_unfrozen(scene: Scene) -> None:
    scene.elect("paris", "london")
    page = scene.opened(RESOURCE)
    press(page, "Freeze…")
    press(page, f"Freeze {RESOURCE}")
    expect(page.get_by_text("Frozen: the active endpoint stays")).to_be_visible()
    scene.report(scene.hosts["paris"], "FAILING")
    look(page)
    expect(card(page, "paris").get_by_text("host: FAILING")).to_be_visible()
    expect(page.get_by_text("paris is active")).to_be_visible()
    press(page, "Unfreeze…")
    press(page, f"Unfreeze {RESOURCE}")
    expect(page.get_by_text("london is active since")).to_be_visible()


def test_what_is_undelivered_is_shown_with_its_error_and_redelivered(scene: Scene) -> None:
    scene.deployment.receiver.status = 500
    scene.elect("paris")
    page = scene.opened()
    expect(page.get_by_role("row", name=re.compile(f"{RESOURCE} .*1 undelivered"))).to_be_visible()
    page.get_by_role("link", name=RESOURCE).click()
    expect(
        card(page, "paris").get_by_text(re.compile(r"answered status_500 \(attempt \d\), next attempt due "))
    ).to_be_visible()
    scene.deployment.receiver.status = 204
    press(page, "Redeliver to paris…")
    press(page, "Redeliver to paris")
    expect(page.get_by_text("The current status is being sent to paris again.")).to_be_visible()
    scene.settle()
    look(page)
    expect(card(page, "paris").get_by_text("nothing is undelivered")).to_be_visible()


def test_every_observers_word_and_the_probes_verdict_are_shown(scene: Scene) -> None:
    checks = [{"type": "HTTPS", "host": "paris.example.com", "port": 443, "path": "/healthy"}]
    (paris,) = scene.register("paris", checks=checks, lease_seconds=60)
    scene.report(paris, "ACTIVATED")
    page = scene.opened(RESOURCE)
    expect(card(page, "paris").get_by_text("waits for the first report of probe")).to_be_visible()
    expect(card(page, "paris").get_by_text("probe: nothing yet")).to_be_visible()
    expect(card(page, "paris").get_by_text(re.compile(r"60 s, ends in \d+ s"))).to_be_visible()
    scene.probed(paris, up=False, reason="0:status_503")
    scene.report(paris, "FAILING", source="link.probe")
    look(page)
    expect(card(page, "paris").get_by_text(re.compile("probe: FAILING"))).to_be_visible()
    verdict = card(page, "paris").get_by_text(
        re.compile("down since .*: HTTPS paris.example.com:443/healthy status_503")
    )
    expect(verdict).to_be_visible()


def test_what_each_signal_said_is_shown(scene: Scene) -> None:
    (paris,) = scene.register("paris", signals=[{"type": "ec2", "instance_id": "i-0123456789abcdef0"}])
    page = scene.opened(RESOURCE)
    expect(card(page, "paris").get_by_text("ec2:i-0123456789abcdef0: nothing yet")).to_be_visible()
    at = time.time_ns() // 1_000_000
    warned = {"warned_at": at, "warned_until": at + 600_000, "warning": "spot_interruption"}
    scene.signalled(paris, Word(Status.ACTIVATED, at - 60_000, reason="running", **warned))
    look(page)
    said = re.compile("ec2:i-0123456789abcdef0: STANDBY since .*, spot_interruption; the warning ends in")
    expect(card(page, "paris").get_by_text(said)).to_be_visible()


def test_the_timeline_shows_who_was_active_and_for_how_long_no_one(scene: Scene) -> None:
    scene.elect("paris")
    scene.register("london", "rome")
    # A transition that changes no holder.
    scene.report(scene.hosts["rome"], "FAILING")
    scene.report(scene.hosts["paris"], "FAILING")
    scene.report(scene.hosts["london"], "ACTIVATED")
    page = scene.opened(RESOURCE)
    expect(page.get_by_role("table", name="Handovers, newest first").get_by_role("row")).to_have_count(2)
    row = page.get_by_role("row", name="paris london failing")
    expect(row).to_be_visible()
    audit = scene.api.call("GET", "/transitions", resource_id=RESOURCE)["transitions"]
    london, none = [one["at"] for one in audit if one["holder"] != scene.hosts["paris"]][:2]
    expect(row.get_by_role("cell").nth(4)).to_have_text(re.compile(rf"^{(london - none) / 1000:.1f} s$|^\d\d+ s$"))
    picture = page.get_by_role("img", name=re.compile("^Who was active from"))
    expect(picture.locator("text.lane")).to_have_text(["paris", "london", "no active endpoint"])
    widths = [float(bar.get_attribute("width") or 0) for bar in picture.locator("rect.held, rect.none").all()]
    assert len(widths) == 3 and min(widths) >= 2


def test_older_transitions_are_loaded_on_request(scene: Scene) -> None:
    scene.elect("paris", "london")
    for _ in range(2):
        holder = "paris" if scene.status_of("paris") == "ACTIVATED" else "london"
        scene.api.call("POST", f"/endpoints/{scene.hosts[holder]}/failover")
    page = scene.context().new_page()

    def two(route: Route) -> None:
        route.continue_(url=route.request.url.replace("limit=100", "limit=2"))

    page.route("**/api/transitions**", two)
    page.goto(f"{scene.origin}/#{scene.console.sessions.secret}")
    page.get_by_role("link", name=RESOURCE).click()
    expect(page.get_by_text("All 2 transitions that are loaded")).to_be_visible()
    press(page, "Load 100 older transitions")
    expect(page.get_by_text("All 4 transitions that are loaded")).to_be_visible()


def test_two_hundred_resources_are_searched_filtered_and_paged(scene: Scene) -> None:
    scene.elect("paris", "london")
    scene.api.call("PATCH", "/resources", {"frozen": True}, resource_id=RESOURCE)
    for number in range(202):
        scene.register("berlin", resource_id=f"ip-{number:03}")
    page = scene.context().new_page()

    def hundred(route: Route) -> None:
        route.continue_(url=route.request.url.replace("limit=1000", "limit=100"))

    page.route("**/api/resources**", hundred)
    page.goto(f"{scene.origin}/#{scene.console.sessions.secret}")
    expect(page.get_by_text("of the first 100 resources")).to_be_visible()
    for _ in range(2):
        press(page, "Load 1000 more (one more call with each look)")
    expect(page.get_by_text("203 of 203 resources")).to_be_visible()
    expect(page.get_by_role("row")).to_have_count(201)
    press(page, "Show 3 more")
    expect(page.get_by_role("row")).to_have_count(204)

    search = page.get_by_label("Search for a resource, an active host or endpoint")
    for text, found in (("IP-007", "ip-007"), ("paris", RESOURCE), (scene.hosts["paris"], RESOURCE)):
        search.fill(text)
        expect(page.get_by_text("1 of 203 resources")).to_be_visible()
        expect(page.get_by_role("row")).to_have_text([re.compile("Resource"), re.compile(f"^{found}")])
    search.fill("")
    press(page, "Frozen (1)")
    expect(page.get_by_role("row")).to_have_text([re.compile("Resource"), re.compile(f"{RESOURCE}paris vip-.*frozen")])
    press(page, "No active endpoint (202)")
    expect(page.get_by_text("202 of 203 resources")).to_be_visible()


def test_everything_works_with_the_keyboard_alone(scene: Scene) -> None:
    scene.elect("paris", "london")
    page = scene.opened()

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
            if page.evaluate(focused) == name:
                return
        raise AssertionError(f"40 times Tab do not reach {name!r}")

    tab_to(RESOURCE)
    page.keyboard.press("Enter")
    expect(page.get_by_text("paris is active since")).to_be_visible()
    tab_to("Fail over…")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Fail over…", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Fail over to london", exact=True)).to_be_enabled()
    tab_to("Fail over to london")
    page.keyboard.press("Enter")
    expect(page.get_by_text("london is active since")).to_be_visible()
    expect(page.get_by_role("button", name="Fail over…", exact=True)).to_be_focused()


def test_the_focus_stays_when_a_look_finds_something_new(scene: Scene) -> None:
    scene.elect("paris", "london")
    page = scene.opened(RESOURCE)
    page.get_by_role("button", name="Drain london…").focus()
    scene.report(scene.hosts["paris"], "FAILING")
    page.evaluate("document.getElementById('again').click()")
    expect(page.get_by_text("london is active since")).to_be_visible()
    expect(page.get_by_role("button", name="Drain london…")).to_be_focused()


def test_the_focus_returns_from_a_dialog_to_the_same_button_although_the_page_was_redrawn(scene: Scene) -> None:
    scene.elect("paris", "london")
    page = scene.opened(RESOURCE)
    press(page, "Drain london…")
    expect(page.get_by_role("dialog")).to_be_visible()
    scene.report(scene.hosts["paris"], "FAILING")
    page.evaluate("document.getElementById('again').click()")
    expect(page.get_by_text("london is active since")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Drain london…")).to_be_focused()


def test_a_hidden_tab_makes_no_calls(scene: Scene) -> None:
    scene.elect("paris")
    page = scene.context().new_page()
    patient(page)
    page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => window.away === true })")
    page.goto(f"{scene.origin}/#{scene.console.sessions.secret}")
    expect(page.get_by_role("link", name=RESOURCE)).to_be_visible()
    turn = "away => { window.away = away; document.dispatchEvent(new Event('visibilitychange')) }"
    page.evaluate(turn, True)
    before = len(scene.requested)
    page.clock.run_for(600_000)
    assert len(scene.requested) == before
    with page.expect_request("**/api/resources?limit=1000"):
        page.evaluate(turn, False)


def test_an_api_that_cannot_be_reached_is_told_in_words_and_tried_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.elect("paris")
    page = scene.context().new_page()
    patient(page)
    page.goto(f"{scene.origin}/#{scene.console.sessions.secret}")
    expect(page.get_by_role("link", name=RESOURCE)).to_be_visible()
    with monkeypatch.context() as broken:

        def unreachable(*_: object) -> None:
            raise Unreachable("the API cannot be reached: ConnectTimeout")

        broken.setattr(Stack, "forward", unreachable)
        page.clock.run_for(10_000)
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("the API cannot be reached: ConnectTimeout (502)")
        expect(alert).to_contain_text("What is shown may be old. The next try is in 20 s.")
        expect(page.get_by_role("link", name=RESOURCE)).to_be_visible()
        page.clock.run_for(20_000)
        expect(alert).to_contain_text("The next try is in 40 s.")
    page.clock.run_for(40_000)
    expect(page.locator("#trouble")).to_be_empty()


def test_a_console_that_has_ended_is_told_in_words(scene: Scene) -> None:
    page = scene.opened()
    page.route("**/api/**", lambda route: route.abort("connectionrefused"))
    look(page)
    expect(page.get_by_role("alert")).to_contain_text("linkctl console does not answer. Is it still running?")


def test_names_are_shown_as_text_whatever_they_contain(scene: Scene) -> None:
    resource = '<img src=x onerror="document.title=1">&amp;#/?%2e%"\''
    host = "<script>document.title=1</script>"
    scene.elect(host, "london", resource_id=resource)
    page = scene.opened()
    expect(page.get_by_role("row", name=re.compile("script"))).to_contain_text(host)
    page.get_by_role("link", name=resource).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(resource)
    expect(page.get_by_text(f"{host} is active")).to_be_visible()
    press(page, "Fail over…")
    press(page, "Fail over to london")
    expect(page.get_by_role("cell", name=host)).to_be_visible()
    expect(page.locator("svg text.lane").first).to_have_text(host)
    expect(page).to_have_title(f"{resource} – linkctl console")
    assert (page.locator("main img:not(svg), main script").count(), scene.told) == (0, [])


def test_a_console_that_only_reads_offers_no_action(start: Callable[..., Scene]) -> None:
    scene = start(read_only=True)
    scene.elect("paris", "london")
    page = scene.opened(RESOURCE)
    expect(page.get_by_text("paris is active")).to_be_visible()
    expect(page.get_by_text("(read only)")).to_be_visible()
    expect(page.locator("main button")).to_have_count(0)


@pytest.mark.parametrize("width", [400, 700, 1280, 1920])
def test_nothing_is_wider_than_the_window(width: int, scene: Scene) -> None:
    resource = "x" * 100
    scene.elect("paris", "a-host-with-a-long-name.eu-west-1.compute.internal.example.com", resource_id=resource)
    page = scene.opened(viewport={"width": width, "height": 800})
    wide = "document.scrollingElement.scrollWidth"
    assert page.evaluate(wide) <= width
    page.get_by_role("link", name=resource).click()
    press(page, "Fail over…")
    expect(page.get_by_role("dialog").get_by_role("button", name="Fail over to a-host")).to_be_enabled()
    assert page.evaluate(wide) <= width
    press(page, "Cancel")
    page.set_viewport_size({"width": 400, "height": 800})
    expect(page.locator("svg")).to_have_attribute("width", re.compile("^3[0-9]{2}"))
    assert page.evaluate(wide) <= 400


def test_a_look_costs_what_the_page_says(scene: Scene) -> None:
    checks = [{"type": "TCP", "host": "paris.example.com", "port": 443}]
    scene.elect("paris", "london")
    scene.register("rome", checks=checks)
    page = scene.opened()
    expect(page.get_by_text("1 call of the API, every 10 s")).to_be_visible()
    assert scene.calls() == ["/resources?limit=1000"]
    page.get_by_role("link", name=RESOURCE).click()
    expect(page.get_by_text("3 calls of the API, every 5 s")).to_be_visible()
    assert len(scene.calls()) == 4
    assert json.dumps(scene.calls()).count("/endpoints/vip-") == 1
