"""What is built from the sources: the shared layer holds all of them, bytecode for Lambda's Python and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.cloud import ROOT

SHARED = ROOT / "layers/shared"


@pytest.fixture(autouse=True)
def no_other_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a python3.13 first that does not run, as a version manager does."""
    shim = tmp_path / "bin/python3.13"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(scope="module")
def lambdas_python() -> str:
    """A Python of Lambda's version."""
    for python in (sys.executable, shutil.which("python3.13") or "false"):
        shown = subprocess.run([python, "--version"], capture_output=True, text=True, check=False).stdout
        if shown.startswith("Python 3.13."):
            return python
    pytest.skip("no Python 3.13 here")


def make(source: Path, target: Path, python: str = "false") -> subprocess.CompletedProcess[str]:
    """Runs the shared layer's Makefile, with a Python that does not run by default."""
    command = ["make", "-C", str(source), "build-SharedLayer", f"ARTIFACTS_DIR={target}", f"PYTHON={python}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def files(folder: Path) -> dict[str, bytes]:
    """The files of a layer by path, without the certificates."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pem"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def built(source: Path, target: Path) -> set[str]:
    """The files of the layer that a folder becomes where no Python is of Lambda's version."""
    ran = make(source, target)
    assert ran.returncode == 0, ran.stderr
    return set(files(target))


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
    assert make(tmp_path, tmp_path / "layer").returncode


@pytest.mark.parametrize("blocked", "abc")  # one of them is copied last, two are not
def test_a_module_that_cannot_be_copied_is_an_error(tmp_path: Path, blocked: str) -> None:
    modules = [tmp_path / "shared/link" / folder / "module.py" for folder in "abc"]
    for module in modules:
        module.parent.mkdir(parents=True)
        module.touch()
    shutil.copy(SHARED / "Makefile", tmp_path / "shared")
    (tmp_path / "layer/python/link").mkdir(parents=True)
    (tmp_path / "layer/python/link" / blocked).touch()  # where a folder has to be
    assert make(tmp_path / "shared", tmp_path / "layer").returncode


def test_a_layer_built_without_lambdas_python_says_that_it_has_no_bytecode(tmp_path: Path) -> None:
    assert "without bytecode" in make(SHARED, tmp_path / "layer").stderr


def test_every_module_has_bytecode_for_lambdas_python(tmp_path: Path, lambdas_python: str) -> None:
    ran = make(SHARED, tmp_path / "layer", lambdas_python)
    assert (ran.returncode, ran.stderr) == (0, "")
    modules = {path.relative_to(SHARED) for path in (SHARED / "link").rglob("*.py")}
    compiled = {name for name in files(tmp_path / "layer") if name.endswith(".pyc")}
    assert compiled == {f"python/{one.parent}/__pycache__/{one.stem}.cpython-313.pyc" for one in modules}


def test_bytecode_is_used_whatever_the_source_and_its_time_are(tmp_path: Path, lambdas_python: str) -> None:
    make(SHARED, tmp_path / "layer", lambdas_python)
    (tmp_path / "layer/python/link/errors.py").write_text("raise AssertionError('compiled again')")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import link.errors"
    subprocess.run([lambdas_python, "-I", "-B", "-c", code, str(tmp_path / "layer/python")], check=True)


def test_the_same_sources_become_the_same_bytes_wherever_and_whenever_they_are_built(
    tmp_path: Path, lambdas_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for place in ("paris", "another folder in london"):
        monkeypatch.setenv("PYTHONHASHSEED", str(len(place)))
        source = tmp_path / place / "source"
        shutil.copytree(SHARED, source)
        for path in source.rglob("*.py"):
            os.utime(path, (len(place), len(place)))
        make(source, tmp_path / place / "layer", lambdas_python)
        found.append(files(tmp_path / place / "layer"))
    assert found[0] == found[1]
    assert any(name.endswith(".pyc") for name in found[0])


def test_a_module_that_is_no_python_is_an_error(tmp_path: Path, lambdas_python: str) -> None:
    (tmp_path / "shared/link").mkdir(parents=True)
    (tmp_path / "shared/link/module.py").write_text("def")
    shutil.copy(SHARED / "Makefile", tmp_path / "shared")
    assert make(tmp_path / "shared", tmp_path / "layer", lambdas_python).returncode


def test_both_packages_say_that_they_are_typed() -> None:
    assert (SHARED / "link/py.typed").is_file() and (ROOT / "cli/linkctl/py.typed").is_file()
