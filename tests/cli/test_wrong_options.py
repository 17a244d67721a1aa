"""A wrong option, profile or answer is one line that says what to do, and an exit status. Never a traceback."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linkctl.api import open_session
from tests.support.ids import PARIS

Run = Callable[..., tuple[int, str, str]]

SSO = """\
[profile ops]
region = eu-west-1
sso_session = corp
sso_account_id = 123456789012
sso_role_name = operator
[sso-session corp]
sso_region = eu-west-1
sso_start_url = https://corp.example.com/start
"""


@pytest.fixture
def no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a config file with an IAM Identity Center profile. There is no token, and there are no other keys."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    config = tmp_path / "config"
    config.write_text(SSO)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    return config


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--api-url", "x"), "'x' is not a URL"),
        (("--api-url", "ftp://api.example.com"), "is not a URL"),
        (("--api-url", "http://[::1"), "is not a URL"),
        (("--api-url", "http://api.example.com:99999"), "is not a URL"),
        (("--endpoint-url", "127.0.0.1:4566"), "is not a URL"),
        (("--profile", "nope"), "profile (nope) could not be found"),
        (("--profile-file", "/nonexistent"), "/nonexistent is not a file"),
        (("--output", "yaml"), "yaml"),
    ],
)
def test_a_wrong_option_is_a_usage_error(linkctl: Run, options: tuple[str, ...], text: str) -> None:
    status, _, err = linkctl(*options, "resources", "list")
    assert (status, "Traceback" in err) == (2, False)
    assert text in " ".join(err.split())


def test_a_profile_file_that_is_none_is_a_usage_error(linkctl: Run, tmp_path: Path) -> None:
    (tmp_path / "aws").write_text("region = nowhere")
    status, _, err = linkctl("--profile-file", str(tmp_path / "aws"), "resources", "list")
    assert status == 2 and "Unable to parse config file" in err


@pytest.mark.parametrize("command", [("resources", "list"), ("report", PARIS, "FAILING")])
def test_without_a_token_of_single_sign_on_it_says_how_to_get_one(
    linkctl: Run, no_keys: Path, command: tuple[str, ...]
) -> None:
    status, _, err = linkctl("--profile", "ops", *command)
    assert (status, "Traceback" in err) == (3, False)
    assert "Run: aws sso login --profile ops" in err


def test_without_a_region_it_says_so(linkctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    status, _, err = linkctl("resources", "list")
    assert status == 3 and "there is no region: set AWS_REGION, or give --region" in err


def test_a_region_that_cannot_be_one_is_an_error(linkctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINKCTL_API_URL")
    status, _, err = linkctl("--region", "nowhere at all", "resources", "list")
    assert (status, "Traceback" in err) == (3, False)


@pytest.fixture(params=[(200, b"<html>"), (200, b'{"other": 1}'), (200, b"[]"), (301, b""), (204, b"")])
def another_service(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of a server that is not the API."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param[0])
            self.send_header("Content-Length", str(len(request.param[1])))
            self.end_headers()
            self.wfile.write(request.param[1])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_answer_of_another_service_is_an_error(linkctl: Run, another_service: str) -> None:
    status, _, err = linkctl("--api-url", another_service, "resources", "list")
    assert (status, "Traceback" in err) == (3, False)
    assert f"{another_service} is not the API of link-webhook" in err


def test_a_stack_of_something_else_is_an_error(linkctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINKCTL_API_URL")
    monkeypatch.setattr("linkctl.api.Deployment.description", {"Outputs": []})
    status, _, err = linkctl("--stack", "shop", "resources", "list")
    assert status == 3 and "the stack 'shop' has no output ApiUrl" in err


def test_a_profile_file_alone_says_which_cloud_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, a profile and a region of another account in the environment do not count."""
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    file = tmp_path / "aws"
    file.write_text("[default]\naws_access_key_id = mine\naws_secret_access_key = mine\nregion = us-east-1\n")
    session = open_session(None, None, file)
    assert (session.get_credentials().access_key, session.region_name) == ("mine", "us-east-1")
