"""What decides is arithmetic: it imports the standard library and its like, nothing else."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import link

PURE = {"address", "election", "endpoint", "errors", "intake", "registration", "settings", "webhook"}


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_module_imports_the_standard_library_only(name: str) -> None:
    tree = ast.parse((Path(link.__file__).parent / f"{name}.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            ours = node.module == "link"
            imported |= {f"link.{alias.name}" for alias in node.names} if ours else {str(node.module)}
    for module in imported - {"link.VERSION"}:
        package, _, rest = module.partition(".")
        assert package in sys.stdlib_module_names or (package == "link" and rest in PURE), module
    assert not {"time", "socket", "os", "random"} & imported or name == "address"
