"""What decides is arithmetic: it imports the standard library and its like, nothing else."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import sys
from pathlib import Path

import pytest

import link

CORE = Path(link.__file__).parent
PURE = {"address", "election", "endpoint", "errors", "intake", "receiver", "registration", "settings", "webhook"}


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_module_imports_the_standard_library_only(name: str) -> None:
    tree = ast.parse((CORE / f"{name}.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            ours = node.module == "link"
            imported |= {f"link.{alias.name}" for alias in node.names} if ours else {str(node.module)}
    for module in imported - {"link.VERSION"}:
        package, _, rest = module.partition(".")
        assert package in sys.stdlib_module_names or (package == "link" and rest in PURE), module
    assert not {"time", "socket", "os", "random"} & imported or name in {"address", "receiver"}


MUTABLE: set[str] = set()
WITH_VALUES = sorted(file.stem for file in CORE.glob("*.py") if "\n@dataclass" in file.read_text())


@pytest.mark.parametrize("module", WITH_VALUES)
def test_a_value_cannot_be_changed_and_takes_no_attribute_it_does_not_have(module: str) -> None:
    found = inspect.getmembers(importlib.import_module(f"link.{module}"), inspect.isclass)
    values = {name: one for name, one in found if dataclasses.is_dataclass(one)}
    assert values
    for name, one in values.items():
        assert one.__dataclass_params__.frozen or name in MUTABLE, name
        assert "__slots__" in vars(one), name


def test_what_only_the_type_checker_knows_is_not_imported() -> None:
    for file in CORE.glob("*.py"):
        importlib.import_module(f"link.{file.stem}" if file.stem not in ("__init__", "process") else "link")
    assert [name for name in sys.modules if name.startswith("mypy_boto3")] == []
