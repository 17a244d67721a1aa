"""The layers: which imports are allowed, which modules are pure, and what a module may do when it is imported."""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import link

ROOT = Path(link.__file__).parent
FUNCTIONS = Path(__file__).parents[2] / "functions"

LAYERS = (
    {"functions"},
    {"link.deployment"},
    {
        "link.control",
        "link.key_rotation",
        "link.prober",
        "link.reconcile",
        "link.signal_look",
        "link.signaller",
        "link.sqs_batch",
        "link.sweep",
    },
    {"link.plugins.webhook"},
    {"link.plugins", "link.plugins.seam"},
    {"link.store"},
    {"link.election", "link.probing", "link.registration", "link.reports", "link.signals"},
    {"link.networks", "link.trust"},
    {"link.chance", "link.clock", "link.errors", "link.fields", "link.settings", "link.telemetry"},
    {"link"},
    # It stands alone: receivers copy this one file.
    {"link.receiver"},
)
"""From top to bottom. A module imports from its own layer and from those below it; within a layer there is no cycle."""

PURE = {
    *(f"link.election.{module.name}" for module in pkgutil.iter_modules([str(ROOT / "election")])),
    "link.errors",
    "link.fields",
    "link.networks",
    "link.plugins.webhook.config",
    "link.plugins.webhook.url",
    "link.plugins.webhook.wire",
    "link.probing.checks",
    "link.probing.states",
    "link.receiver",
    "link.registration",
    "link.reports",
    "link.settings",
    "link.signals.events",
    "link.signals.keys",
    "link.signals.looks",
    "link.signals.words",
}
IMPURE = {"os", "random", "secrets", "socket", "ssl", "subprocess", "threading", "time", "uuid"}
NAMED_WITH_A_REASON = {
    ("link.receiver", "time"): "a receiver has no other clock; the argument `now` replaces it",
    ("link.receiver", "threading"): "a web server's threads share an InMemoryStore",
    ("link.receiver", "uuid"): "each turn has a name of its own",
    ("link.networks", "socket"): "inet_aton reads the old spellings of IPv4 addresses",
}

OF_THE_WEBHOOK = {
    ("link.control.views", "webhooks"): "a member of the API's answer to a dry run",
    ("link.probing.connection", "link-webhook-serverless/"): "the program's name in the log of a target",
    ("link.reconcile", "Webhooks"): "a metric that alarms and dashboards know by this name",
    ("link.reconcile", "webhook.attempted"): "a log line that operators search for",
    ("link.reconcile", "webhook.crashed"): "a log line that operators search for",
    ("link.settings", "WEBHOOK_REFRESH_INTERVAL"): "a variable of the environment",
    ("link.settings", "HANDOVER_TIMEOUT must be shorter than WEBHOOK_REFRESH_INTERVAL"): "the message that names it",
    ("link.store.aws", "link-webhook/"): "the program's name in CloudTrail",
}
"""Texts outside link.plugins.webhook and link.deployment that contain "webhook", and why they stay."""


def modules() -> dict[str, ast.Module]:
    """Every module of `link` and every function, by its name."""
    found = {}
    for file in sorted(ROOT.rglob("*.py")):
        parts = ("link", *file.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(file.read_text())
    for file in sorted(FUNCTIONS.glob("*/app.py")):
        found[f"functions.{file.parent.name}.app"] = ast.parse(file.read_text())
    return found


MODULES = modules()
PACKAGES = {"link", *(f"link.{'.'.join(f.parent.relative_to(ROOT).parts)}" for f in ROOT.glob("*/**/__init__.py"))}


def imports(name: str) -> set[str]:
    """All imports of a module, in functions and for type checking, too. `from package import module` is the module."""
    found = set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{name} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return found


def ours(name: str) -> set[str]:
    """Which modules of ours it imports."""
    return {imported for imported in imports(name) if imported.partition(".")[0] in ("link", "functions")}


def layer(name: str) -> int:
    """The layer of a module, counted from the top: the layer of the longest listed name that its name begins with."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        for number, names in enumerate(LAYERS):
            if prefix in names and (prefix != "link" or prefix == name):
                return number
    raise AssertionError(f"{name} is in no layer: add it to LAYERS")


# What imports what


@pytest.mark.parametrize("name", MODULES)
def test_no_import_runs_upwards(name: str) -> None:
    upwards = {imported for imported in ours(name) if layer(imported) < layer(name)}
    assert upwards == set()


def test_no_imports_form_a_cycle() -> None:
    # graphlib raises CycleError with the modules of the cycle.
    order = list(TopologicalSorter({name: ours(name) for name in MODULES}).static_order())
    assert set(order) == set(MODULES)


def test_functions_do_not_import_each_other_and_each_calls_the_deployment() -> None:
    functions = [name for name in MODULES if name.startswith("functions.")]
    assert len(functions) == 8
    for name in functions:
        assert not any(imported.startswith("functions") for imported in imports(name)), name
        assert "link.deployment" in imports(name), name


@pytest.mark.parametrize("name", MODULES)
def test_only_the_deployment_knows_the_webhook_plugin(name: str) -> None:
    if name == "link.deployment" or name.startswith("link.plugins.webhook"):
        return
    assert not any(imported.startswith("link.plugins.webhook") for imported in imports(name))
    # The receiver is the other end of the webhook.
    if name != "link.receiver":
        words = {word for word in words_in_code(MODULES[name]) if "webhook" in word.lower()}
        assert words - {word for module, word in OF_THE_WEBHOOK if module == name} == set()


def words_in_code(tree: ast.Module) -> Iterator[str]:
    """The names and texts in a module, without docstrings and comments."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            if isinstance(value := getattr(node, field, None), str):
                yield value


def test_every_exception_is_still_needed() -> None:
    assert {(name, word) for name, word in OF_THE_WEBHOOK if word in words_in_code(MODULES[name])} == set(
        OF_THE_WEBHOOK
    )
    assert {(name, word) for name, word in NAMED_WITH_A_REASON if word in imports(name)} == set(NAMED_WITH_A_REASON)


# What is pure


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_module_imports_the_standard_library_and_pure_modules_only(name: str) -> None:
    for imported in imports(name) - PURE - {"link"}:
        assert imported.partition(".")[0] in sys.stdlib_module_names, imported
        assert imported.partition(".")[0] not in IMPURE or (name, imported) in NAMED_WITH_A_REASON, imported
    if "link" in imports(name):
        assert name == "link.plugins.webhook.wire", "only the User-Agent needs the version"


def test_the_receiver_imports_nothing_of_ours() -> None:
    assert ours("link.receiver") == set()


def test_every_module_of_the_election_is_pure() -> None:
    names = {name for name in MODULES if name.startswith("link.election.")}
    assert len(names) >= 6 and names <= PURE


# What a module does when it is imported


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_a_package_has_a_docstring_and_nothing_that_runs(name: str) -> None:
    tree = MODULES[name]
    assert ast.get_docstring(tree)
    rest = [ast.unparse(node) for node in tree.body[1:]]
    assert rest == ([f"VERSION = {link.VERSION!r}"] if name == "link" else [])


IMPORT_ALL = """
import importlib, json, sys
import boto3

def refuse(*_, **__):
    raise AssertionError("a client was made at import")

boto3.client = boto3.resource = boto3.Session.client = boto3.session.Session.client = refuse
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


def imported_by(*names: str) -> set[str]:
    """The modules that a process without environment has after importing these."""
    env = {"PYTHONPATH": str(ROOT.parent), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]}
    ran = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names], env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout))


def test_importing_every_module_without_environment_makes_no_client_and_does_not_fail() -> None:
    names = [name for name in MODULES if name.startswith("link")]
    loaded = imported_by(*names)
    assert set(names) <= loaded
    assert [name for name in loaded if name.startswith("mypy_boto3")] == [], "only the type checker knows these"


def test_importing_the_deployment_loads_no_role() -> None:
    loaded = {name for name in imported_by("link.deployment") if name.startswith("link.")}
    assert loaded == {"link.chance", "link.clock", "link.deployment", "link.settings", "link.store", "link.store.aws"}


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("link.")])
def test_no_module_has_an_object_of_ours_made_at_import(name: str) -> None:
    built = {
        key: value
        for key, value in vars(importlib.import_module(name)).items()
        if type(value).__module__.startswith("link.") and not isinstance(value, enum.Enum)
    }
    assert built == {}


def test_importing_a_function_builds_its_process_and_nothing_else() -> None:
    for name in [name for name in MODULES if name.startswith("functions.")]:
        calls = [
            ast.unparse(node.value)
            for node in MODULES[name].body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        ]
        built = [call for call in calls if call.startswith("deployment.")]
        assert len(built) == 1 and set(calls) - set(built) <= {"APIGatewayRestResolver(debug=False)"}, name


# Values


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("link.")])
def test_a_value_cannot_be_changed_and_takes_no_other_attribute(name: str) -> None:
    for class_name, one in inspect.getmembers(importlib.import_module(name), inspect.isclass):
        if dataclasses.is_dataclass(one):
            assert one.__dataclass_params__.frozen, class_name  # type: ignore[attr-defined]
            assert "__slots__" in vars(one), class_name


def test_modules_with_dataclasses_exist_and_each_has_a_frozen_one() -> None:
    sources = [file for file in ROOT.rglob("*.py") if "\n@dataclass" in file.read_text()]
    assert len(sources) > 10
    assert not [file for file in sources if "\n@dataclass(frozen=True, slots=True)\n" not in file.read_text()]
