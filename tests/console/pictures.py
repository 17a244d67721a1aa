"""Pictures of the console for the documents: `make pictures`. Not a test, but it needs what the tests need."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.console.conftest import Scene

FOLDER = Path(__file__).parents[2] / "docs/pictures"
SIZES = {1280: 900, 400: 800}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures(scheme: str, scene: Scene) -> None:
    for number in range(7, 12):
        scene.elect("paris", "london", resource_id=f"floating-ip-203.0.113.{number}")
    scene.register("paris", resource_id="floating-ip-203.0.113.12")
    scene.api.call("PATCH", "/resources", {"frozen": True}, resource_id="floating-ip-203.0.113.9")
    checks = [{"type": "HTTPS", "host": "rome.example.com", "port": 443, "path": "/healthy"}]
    resource = "database"
    paris, london, rome = (
        *scene.register("paris", "london", resource_id=resource, lease_seconds=60),
        *scene.register("rome", resource_id=resource, checks=checks),
    )
    for endpoint in (paris, london):
        scene.report(endpoint, "ACTIVATED", resource_id=resource)
    scene.api.call("POST", f"/endpoints/{paris}/failover")
    scene.settle()
    scene.probed(rome, up=False, reason="0:status_503", resource_id=resource)
    scene.report(rome, "FAILING", resource_id=resource, source="link.probe")
    scene.deployment.receiver.status = 503
    scene.report(london, "FAILING", resource_id=resource)
    for width, height in SIZES.items():
        page = scene.opened(color_scheme=scheme, viewport={"width": width, "height": height})
        expect(page.get_by_role("link", name=resource)).to_be_visible()
        picture(page, f"list-{scheme}-{width}")
        page.get_by_role("link", name=resource).click()
        expect(page.get_by_text("paris is active")).to_be_visible()
        picture(page, f"resource-{scheme}-{width}", full_page=True)
        page.get_by_role("button", name="Drain paris…").click()
        page.get_by_label("also if no other endpoint is ready").check()
        expect(page.get_by_text("Active would be none")).to_be_visible()
        picture(page, f"dry-run-{scheme}-{width}")


def picture(page: Page, name: str, *, full_page: bool = False) -> None:
    """64 colours, because they are kept in the repository."""
    shot = Image.open(BytesIO(page.screenshot(full_page=full_page)))
    shot.quantize(64).save(FOLDER / f"console-{name}.png", optimize=True)
