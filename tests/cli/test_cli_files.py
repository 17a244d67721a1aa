"""The man page and the completions that the package installs."""

from __future__ import annotations

import tomllib

from scripts import cli_files
from scripts.cloud import ROOT


def test_the_files_are_those_of_the_commands() -> None:
    """If this fails, run `make cli-files`."""
    for path, content in cli_files.files().items():
        assert (cli_files.SHARE / path).read_text() == content, path


def test_the_package_installs_each_file_where_its_shell_and_man_look() -> None:
    settings = tomllib.loads((ROOT / "cli/pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    installed = {f"{folder}/{path.rpartition('/')[2]}": path for folder, [path] in settings.items()}
    assert installed == {f"share/{path}": f"share/{path}" for path in cli_files.files()}


def test_the_man_page_has_every_command_with_its_options() -> None:
    manual = cli_files.manual().replace("\\-", "-")
    assert ".SS linkctl failover ENDPOINT\n" in manual and ".SS linkctl watch [RESOURCE_ID]\n" in manual
    assert ".B --dry-run, --no-dry-run\n" in manual and ".B --healthcheck-interval HEALTHCHECK_INTERVAL\n" in manual
    assert ".SS linkctl endpoints end-overlap ENDPOINT\n" in manual
