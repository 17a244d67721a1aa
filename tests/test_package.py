"""What is built from the sources: the shared layer holds all of them and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.cloud import ROOT

SHARED = ROOT / "layers/shared"


def built(source: Path, target: Path) -> set[str]:
    """The files of the layer that its Makefile builds from a folder, without the certificates."""
    command = ["make", "-C", str(source), "build-SharedLayer", f"ARTIFACTS_DIR={target}"]
    subprocess.run(command, check=True, capture_output=True)
    return {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file() and path.suffix != ".pem"}


def test_the_shared_layer_holds_every_module(tmp_path: Path) -> None:
    modules = {f"python/{path.relative_to(SHARED)}" for path in (SHARED / "link").rglob("*.py")}
    assert built(SHARED, tmp_path / "layer") == modules | {"python/link/py.typed"}
    assert "python/link/receiver.py" in modules


def test_the_shared_layer_takes_subpackages_and_leaves_out_what_is_not_source(tmp_path: Path) -> None:
    source = tmp_path / "shared"
    for name in (
        "link/__init__.py",
        "link/py.typed",
        "link/plugins/webhook/wire.py",
        "link/a folder/it's.py",
        "link/plugins/webhook/__pycache__/wire.cpython-313.pyc",
        "link/plugins/old.pyc",
        "link/notes.md",
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    shutil.copy(SHARED / "Makefile", source)
    assert built(source, tmp_path / "layer") == {
        "python/link/__init__.py",
        "python/link/py.typed",
        "python/link/plugins/webhook/wire.py",
        "python/link/a folder/it's.py",
    }


def test_a_layer_without_sources_is_an_error(tmp_path: Path) -> None:
    shutil.copy(SHARED / "Makefile", tmp_path)
    command = ["make", "-C", str(tmp_path), "build-SharedLayer", f"ARTIFACTS_DIR={tmp_path / 'layer'}"]
    assert subprocess.run(command, capture_output=True).returncode


@pytest.mark.parametrize("blocked", "abc")  # one of them is copied last, two are not
def test_a_module_that_cannot_be_copied_is_an_error(tmp_path: Path, blocked: str) -> None:
    modules = [tmp_path / "shared/link" / folder / "module.py" for folder in "abc"]
    for module in modules:
        module.parent.mkdir(parents=True)
        module.touch()
    shutil.copy(SHARED / "Makefile", tmp_path / "shared")
    (tmp_path / "layer/python/link").mkdir(parents=True)
    (tmp_path / "layer/python/link" / blocked).touch()  # where a folder has to be
    command = ["make", "-C", str(tmp_path / "shared"), "build-SharedLayer", f"ARTIFACTS_DIR={tmp_path / 'layer'}"]
    assert subprocess.run(command, capture_output=True).returncode


def test_both_packages_say_that_they_are_typed() -> None:
    assert (SHARED / "link/py.typed").is_file() and (ROOT / "cli/linkctl/py.typed").is_file()
