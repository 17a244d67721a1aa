"""The documents say what code and template have. `make docs` finds dead links and pages that no list has."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import jmespath
import pytest
from botocore import xform_name

from link.election.state import Reason
from link.plugins.webhook import wire
from link.reports import Report, parse
from linkctl.main import command as linkctl_command
from scripts import reference
from scripts.cloud import ROOT, template

DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
STACK = template()
ALARMS = {name for name, each in STACK["Resources"].items() if each["Type"] == "AWS::CloudWatch::Alarm"}
PYTHON = [path for folder in ("layers/shared/link", "functions") for path in (ROOT / folder).rglob("*.py")]


def page(name: str) -> str:
    return (DOCS / name).read_text()


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def calls(*functions: str) -> Iterator[ast.Call]:
    """Every call of `logger.<function>` in the code."""
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=attr)) if attr in functions:
                    yield node


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_first_whom_it_is_for(name: str) -> None:
    title, empty, first = page(name).split("\n", 3)[:3]
    assert title.startswith("# ") and empty == ""
    assert first.startswith("This page is for ")


@pytest.mark.parametrize("path", reference.PAGES, ids=lambda path: str(path.name))
def test_a_generated_page_is_current(path: Path) -> None:
    assert path.read_text() == reference.PAGES[path](STACK), "run make reference"


def test_every_parameter_and_every_output_is_on_its_page() -> None:
    assert sorted(first_cells(page("settings.md"))) == sorted([*STACK["Parameters"], *STACK["Outputs"]])


def test_every_metric_of_the_code_is_on_its_page() -> None:
    emitted = {
        re.sub(r"\W.*", "", text) for path in PYTHON for text in re.findall(r'\bmetric\("(.*)', path.read_text())
    }
    assert emitted == {metric.name for metric in reference.metrics()} == set(reference.MEANINGS)


def test_every_alarm_has_one_entry_under_its_name() -> None:
    entries = re.findall(r"^#{3,4} (\w+Alarm)$", page("operating.md"), re.MULTILINE)
    assert len(entries) == len(set(entries))
    assert set(entries) == ALARMS


def test_every_entry_of_an_alarm_shows_its_cause_with_linkctl() -> None:
    shown = re.findall(r"\*\*See it:\*\*(.*?)\*\*Fix it:\*\*", page("operating.md"), re.DOTALL)
    assert len(shown) == page("operating.md").count("**Fix it:**") > 25
    # What is wrong with the key stands in the log only.
    assert [text for text in shown if "`linkctl " not in text and "key_rotation.failed" not in text] == []


def test_the_shell_functions_of_the_runbook_are_given_what_the_stack_has() -> None:
    text = page("operating.md")
    named = {f"{name}FunctionName" for name in re.findall(r"`(?:log|mapping) (\w+)`", text) if name != "FUNCTION"}
    named |= {f"{name}Url" for name in re.findall(r"`(?:waiting|purge)\s(\w+)`", text)}
    named |= set(re.findall(r"\$\(output (\w+)\)", text + page("restore.md")))
    assert len(named) > 15
    assert named - set(STACK["Outputs"]) == set()


def test_every_log_line_is_on_its_page_with_its_level_and_keys() -> None:
    logged: dict[str, tuple[str, set[str]]] = {}
    for call in calls("debug", "info", "warning", "error", "exception"):
        assert isinstance(call.func, ast.Attribute) and isinstance(call.args[0], ast.Constant)
        _, keys = logged.get(call.args[0].value, ("", set()))
        logged[call.args[0].value] = call.func.attr, keys | {str(each.arg) for each in call.keywords}
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| (.*?) \|", page("log-lines.md"), re.MULTILINE)
    assert {name: (level, set(re.findall(r"\w+", keys))) for name, level, keys in rows} == logged


def test_every_reason_to_reject_an_event_is_on_its_page() -> None:
    code = "".join(path.read_text() for path in PYTHON)
    codes = set(re.findall(r'\bRejected\(\s*"(\w+)"', code))
    assert len(codes) > 5
    assert set(first_cells(section(page("status-events.md"), "What is rejected"))) == codes


def test_every_header_and_every_reason_of_a_webhook_is_on_its_page() -> None:
    announcement = wire.Announcement("vip-1", "res-1", "webhook", "ACTIVATED", 1, 1, "elected", 1)
    _, headers = wire.request(announcement, ["s3cret"], {}, timestamp=1)
    assert set(first_cells(section(page("webhook.md"), "The request"))) >= set(headers)
    assert set(first_cells(section(page("webhook.md"), "The reasons"))) == set(Reason)


def test_the_signatures_on_the_page_are_those_of_the_example() -> None:
    text = section(page("webhook.md"), "The signatures")
    [body] = blocks(text, "json")
    assert wire.sign("s3cret", 1795435471, body.strip().encode()) in text
    assert wire.sign_standard(["s3cret"], "vip-1_7_3", 1700000000, b"{}") in text


@pytest.mark.parametrize("name", PAGES)
def test_json_in_a_document_is_json(name: str) -> None:
    for text in blocks(page(name), "json"):
        json.loads(text)


def put(folder: Path, script: str, failed: str = "0", *arguments: str) -> tuple[int, str, Report]:
    """Run a script with a program `aws` that accepts events; return its status, the bus and the report in the event."""
    aws = folder / "aws"
    aws.write_text(f'#!/bin/sh\nprintf "%s" "$4" > "$0.entries"\necho {failed}\n')
    aws.chmod(0o755)
    given = {
        "ENDPOINT_ID": "vip-1",
        "PARIS": "vip-1",
        "RESOURCE_ID": "floating-ip-203.0.113.7",
        "EVENT_BUS_NAME": "bus",
    }
    environment = {"PATH": f"{folder}:/usr/bin:/bin", **given}
    done = subprocess.run(["bash", "-c", script, *arguments], env=environment, timeout=60, check=False)
    [entry] = json.loads((folder / "aws.entries").read_text())
    event = {"source": entry["Source"], "detail-type": entry["DetailType"], "detail": json.loads(entry["Detail"])}
    return done.returncode, entry["EventBusName"], parse(event)


def test_an_own_script_sends_an_event_that_counts(tmp_path: Path) -> None:
    [script] = blocks(section(page("connect-a-host.md"), "A script of your own"), "sh")
    before = time.time_ns() // 1_000_000
    status, bus, report = put(tmp_path, script, "0", "link-report", "FAILING")
    assert (status, bus, report.endpoint_id, report.status) == (0, "bus", "vip-1", "FAILING")
    assert report.resource_id == "floating-ip-203.0.113.7"
    assert before <= report.at <= time.time_ns() // 1_000_000
    # EventBridge did not take it.
    assert put(tmp_path, script, "1", "link-report", "FAILING")[0] == 1


def test_what_the_readme_shows_of_the_demo_is_its_recorded_story() -> None:
    [shown] = blocks(section((ROOT / "README.md").read_text(), "See it work"), "text")
    recorded = iter((DOCS / "demo.txt").read_text().splitlines())
    assert [line for line in shown.splitlines() if line and line not in recorded] == [], "also in this order"


# --- Commands of linkctl


def commands(text: str) -> Iterator[list[str]]:
    """The words of each linkctl command in code: in a span, in a block of the shell or after a prompt."""
    spans = re.findall(r"`(linkctl [^`]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
    prompts = [line for block in blocks(text, "console") for line in block.splitlines() if re.match("[$#] ", line)]
    for line in [*spans, *lines, *prompts]:
        for command in re.findall(r"(?:^|[ /(|])linkctl ([^|&;)#]*)", line):
            yield shlex.split(re.sub(r"[\n…]", " ", command).replace("'", ""))


DOCUMENTS = [ROOT / "README.md", *(DOCS / name for name in PAGES)]


def wrong(words: list[str]) -> str:
    """What linkctl does not know of a command, or an empty text."""
    command: Any = linkctl_command()
    words = [word.rstrip(",") for word in words]
    known: set[str] = set()
    while words:
        word = words.pop(0)
        known |= {option for each in command.params for option in each.opts + each.secondary_opts} | {"--help"}
        if word.startswith("-"):
            takes = [each for each in command.params if word in each.opts and not getattr(each, "is_flag", False)]
            del words[: len(takes)]
            if word.split("=")[0] not in known | {"--install-completion"}:
                return f"{command.name} has no option {word}"
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"{command.name} has no command {word}"
            command = command.commands[word]
    return ""


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.name))
def test_linkctl_has_every_command_and_option_that_a_document_names(path: Path) -> None:
    assert [(" ".join(words), text) for words in commands(path.read_text()) if (text := wrong([*words]))] == []


def test_a_command_that_linkctl_does_not_have_is_found() -> None:
    text = "Run `linkctl resources lost`.\n\n```sh\nlinkctl failover PARIS --too LONDON\n```\n"
    assert [wrong(words) for words in commands(text)] == [
        "resources has no command lost",
        "failover has no option --too",
    ]


# --- Commands of aws

OF_THE_CLI = {"--output", "--query", "--region", "--profile"}


def calls_of_aws(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Service, command and options of each call of the AWS CLI in code."""
    spans = re.findall(r"`([^`]*\baws [^`]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))
    for code in [*spans, *blocks(text, "sh")]:
        for line in re.sub(r"\\\n| --query (\"[^\"]*\"|'[^']*')|\n(?! *aws)", " ", code).splitlines():
            for service, command, rest in re.findall(
                r"\baws ([a-z0-9]+) ([a-z-]+(?: [a-z]+-[a-z-]+)?)(.*?)(?=\baws |$)", line
            ):
                yield service, command, re.findall(r"(?<!\S)--[a-z-]+", rest)


def wrong_call(service: str, command: str, options: list[str]) -> str:
    """What AWS does not know of a call, or an empty text."""
    client = boto3.client(service, region_name="eu-west-1", aws_access_key_id="-", aws_secret_access_key="-")  # type: ignore[call-overload]
    operations = {xform_name(name, "-"): name for name in client.meta.service_model.operation_names}
    verb, _, waiter = command.partition(" ")
    if verb == "wait":
        return "" if waiter.replace("-", "_") in client.waiter_names else f"{service} has no waiter {waiter}"
    if command not in operations:
        return f"{service} has no command {command}"
    shape = client.meta.service_model.operation_model(operations[command]).input_shape
    known = {f"--{xform_name(name, '-')}" for name in shape.members} | OF_THE_CLI
    known |= {option.replace("--", "--no-", 1) for option in known}
    return "".join(f"{command} has no option {option}. " for option in options if option not in known)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.name))
def test_aws_has_every_command_and_option_that_a_document_names(path: Path) -> None:
    # Commands of the CLI itself.
    own = {("logs", "tail"), ("cloudformation", "deploy")}
    found = [call for call in calls_of_aws(path.read_text()) if call[:2] not in own]
    assert [text for call in found if (text := wrong_call(*call))] == []


def test_a_call_that_aws_does_not_have_is_found() -> None:
    text = "```sh\naws sqs purge-queue --queue x\naws dynamodb wait table-gone --table-name y\n```\n"
    found = ["purge-queue has no option --queue. ", "dynamodb has no waiter table-gone"]
    assert [wrong_call(*call) for call in calls_of_aws(text)] == found


@pytest.mark.parametrize("name", ["operating.md", "restore.md"])
def test_an_event_source_mapping_is_found_by_the_name_of_its_function(name: str) -> None:
    [query] = re.findall(
        r'--query "(EventSourceMappings.*?)(?:\[UUID,State\])?"[;)]', page(name).replace('"$1FunctionName"', "F")
    )
    query = re.sub(r"\$\(output [^)]*\)", "stack-Probe-1", query).rstrip(".") + (
        "" if query.endswith("UUID") else ".UUID"
    )
    arn = "arn:aws:lambda:eu-west-1:111122223333:function:"
    mappings = [{"UUID": f"{n}", "FunctionArn": f"{arn}stack-Probe{n}:live"} for n in ("-1", "Clock-1")]
    assert jmespath.search(query, {"EventSourceMappings": mappings}) == ["-1"]
