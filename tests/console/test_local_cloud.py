"""The console as an operator starts it, in front of the deployed template: signed, checked by IAM, and delivered."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from scripts import demo
from scripts.cloud import Cloud, local_cloud
from tests.console.conftest import PATIENCE_MS
from tests.e2e.site import Site, linkctl_environment
from tests.support.receiver import LoopbackReceiver


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with local_cloud(parameters=demo.PARAMETERS, name="console") as running:
        yield running


def test_an_operator_fails_over_and_the_receivers_know(cloud: Cloud, browser: Browser) -> None:
    with LoopbackReceiver() as receiver:
        site = Site(cloud, receiver, f"ip-{uuid.uuid4()}")
        hosts = ("paris", "london")
        paris, london = ids = [site.register(host) for host in hosts]
        for endpoint_id in ids:
            site.report(endpoint_id, "ACTIVATED")
            receiver.wait_for(lambda all, known=endpoint_id: any(one.brief()[0] == known for one in all))
        command = [sys.executable, "-m", "linkctl", "console"]
        environment = linkctl_environment(cloud, "operator")
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as console:
            assert console.stdout
            try:
                console.stdout.readline()
                page = browser.new_page()
                page.set_default_timeout(PATIENCE_MS)
                page.goto(console.stdout.readline().strip())
                page.get_by_role("link", name=site.resource_id).click()
                page.get_by_role("button", name="Fail over to london…").click()
                page.get_by_role("button", name="Fail over to london", exact=True).click()
                expect(page.get_by_text("london is active since")).to_be_visible(timeout=PATIENCE_MS)
                expect(page.get_by_text("nothing is undelivered")).to_have_count(2, timeout=PATIENCE_MS)
                expect(page.get_by_role("cell", name="failover of user/operator")).to_be_visible()
            finally:
                console.terminate()
        told = [one.brief()[:3] for one in receiver.requests if one.brief()[4] == "failover"]
        assert told == [(paris, "STANDBY", 1), (london, "ACTIVATED", 2)]
