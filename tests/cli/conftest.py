"""linkctl against the API's function, which runs on moto behind a small HTTP gateway."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator

import pytest

from linkctl.main import main
from tests.support.functions import Deployment
from tests.support.gateway import gateway

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def api(deployment: Deployment) -> Iterator[str]:
    """Yield the URL of the API."""
    with gateway(deployment) as url:
        yield url


@pytest.fixture
def linkctl(api: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs linkctl and returns its exit status, output and errors."""
    monkeypatch.setenv("LINKCTL_API_URL", api)
    monkeypatch.setenv("LINKCTL_EVENT_BUS", "bus")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["linkctl", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
                status = 0
            except SystemExit as ended:
                status = int(ended.code or 0)
        return status, out.getvalue(), err.getvalue()

    return run
