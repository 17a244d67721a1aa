"""The commands of the README, the tutorial and the API's page do what the text says, on the local cloud."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from scripts.cloud import REGION, ROOT, STACK, Cloud
from scripts.demo import Listener, Receiver
from tests.e2e.probe_runs import put_slots

NOT_RUN = {
    "make local": "these tests have a local cloud of their own",
    "python3 -m venv .local/linkctl && .local/linkctl/bin/pip install --quiet ./cli": "linkctl runs from the checkout",
}
"""Lines that are left out, and why."""
NEEDED = [name for name in ("bash", "curl", "openssl") if shutil.which(name) is None]

pytestmark = pytest.mark.skipif(bool(NEEDED), reason=f"the commands need {', '.join(NEEDED)}")


def section(text: str, heading: str) -> str:
    """What stands under a heading of the second level."""
    found = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert found, f"there is no section {heading}"
    return found


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run(script: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a script as a person does who stops at the first error; return what it printed."""
    ended = "trap 'kill $(jobs -p) 2>/dev/null || :' EXIT\n"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-m", "-c", ended + script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path, cloud: Cloud) -> Path:
    """A folder that looks like a checkout in which `make local` runs, with linkctl on its PATH."""
    (tmp_path / ".local/linkctl/bin").mkdir(parents=True)
    (tmp_path / "layers").symlink_to(ROOT / "layers")
    cloud.write_profile(tmp_path / ".local/aws")
    linkctl = tmp_path / ".local/linkctl/bin/linkctl"
    linkctl.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT / "cli"} exec {sys.executable} -m linkctl "$@"\n')
    linkctl.chmod(0o755)
    return tmp_path


ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "LANG": "C.UTF-8"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


# A person waits for two seconds. Here, each `sleep` waits until the receiver has moved the address so often.
SLEEP = """
moved=(3 5 6)
sleep() {
  until [ "$(wc -l < .local/tutorial/receiver.log)" -ge "$moved" ]; do command sleep 0.2; done
  moved=("${moved[@]:1}")
}
"""


def test_the_tutorial_shows_what_it_says(cloud: Cloud, checkout: Path) -> None:
    text = section((ROOT / "docs/tutorial.md").read_text(), "On the local cloud")
    lines = "".join(blocks(text, "sh")).splitlines()
    assert set(NOT_RUN) <= set(lines), "a line that is left out is there no more"
    script = "\n".join(line for line in lines if line not in NOT_RUN).replace("8088", str(free_port()))
    printed = run(SLEEP + script, checkout, ENVIRONMENT)
    moved = (checkout / ".local/tutorial/receiver.log").read_text()
    first, second = blocks(text, "text")
    assert moved.startswith(first + second)
    assert [line.rpartition(" ")[2] for line in moved.splitlines()] == [
        "paris",
        "host",
        "london",
        "host",
        "paris",
        "host",
    ]
    assert "would receive" in printed and "handed over" in printed


def test_the_calls_on_the_page_of_the_api_are_answered(cloud: Cloud, tmp_path: Path) -> None:
    register, calls = blocks(section((ROOT / "docs/api.md").read_text(), "Calling it"), "sh")
    resource = "floating-ip-203.0.113.7"
    assert resource in register and resource in calls
    both = f"""
PARIS=$({{ {register}
}} | grep -o 'vip-[0-9a-f-]*')
{register.partition("link_api POST")[0]}
LONDON=$(sed s/paris/london/ paris.json |
  link_api POST /endpoints -H 'content-type: application/json' --data @- | grep -o 'vip-[0-9a-f-]*')
"""
    each = [line.partition(" #")[0] for line in calls.splitlines() if line.startswith("link_api ")]
    assert len(each) > 10
    # The line before has deleted paris.
    each[-1] = each[-1].replace("$PARIS", "$LONDON")
    script = both + "".join(
        f"{line} -o /dev/null -w '%{{http_code}} {number}\\n'\n" for number, line in enumerate(each)
    )
    keys = cloud.credentials("operator")
    shell = {
        **ENVIRONMENT,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": "",
        "API_URL": cloud.api_url(),
    }
    # Another resource than the demo's, which others may use.
    answers = run(script.replace(resource, f"{resource}-api"), tmp_path, shell).split("\n")[-len(each) - 1 : -1]
    # 409: no host has reported, so there is nothing to hand over and nothing to freeze.
    wrong = [line for line in answers if line.split()[0] not in ("200", "201", "202", "204", "409")]
    assert [each[int(line.split()[1])] for line in wrong] == [], answers


def test_an_operator_with_the_policy_for_looking_looks_and_changes_nothing(cloud: Cloud) -> None:
    policies = [text for text in blocks(section((ROOT / "docs/deploy.md").read_text(), "Permissions"), "json")]
    names = {"REGION": REGION, "ACCOUNT": "000000000000", "API_ID": cloud.outputs["ApiId"], "STACK": STACK}
    looking = re.sub("|".join(names), lambda found: names[found[0]], policies[0])
    for user, policy in ("looks", looking), ("changes", looking.replace("/GET/*", "/*")):
        cloud.create_user(user)
        cloud.client("iam").put_user_policy(UserName=user, PolicyName="deploy.md", PolicyDocument=policy)
        credentials = cloud.credentials(user)
        assert cloud.call("GET", "/resources", credentials=credentials)[0] == 200
        assert cloud.client("cloudformation", user).describe_stacks(StackName=STACK)["Stacks"]
        refused = cloud.call("POST", "/endpoints", {}, credentials=credentials)[0]
        assert refused == {"looks": 403, "changes": 422}[user]


OF_THE_README = {
    "make build": "demo-sam does it",
    ".local/sam/bin/sam deploy --guided        # give AlarmTopicArn, or the alarms notify no one": "demo-sam does it",
    "pip install ./cli": "linkctl runs from the checkout",
    "linkctl watch floating-ip-203.0.113.7     # who is active, since when and why": "it ends with Ctrl-C",
}
UNTIL_ACTIVE = """
until linkctl -o json resources show $resource | grep -q '"holder": "vip-'; do sleep 0.5; done
until [ "$(linkctl -o json resources show $resource | grep -c '"ready": true')" = 2 ]; do sleep 0.5; done
"""


def test_what_the_readme_does_on_aws_works_on_the_local_cloud(cloud: Cloud, checkout: Path) -> None:
    [text] = blocks(section((ROOT / "README.md").read_text(), "On AWS"), "sh")
    lines = text.splitlines()
    assert set(OF_THE_README) <= set(lines), "a line that is left out is there no more"
    script = "\n".join(line for line in lines if line not in OF_THE_README)
    resource, receiver = f"ip-{uuid.uuid4()}", Receiver()
    hosts = {host: Listener() for host in ("paris", "london")}
    # No topic is told of the alarms of the local cloud, so one check of the doctor fails there.
    for was, here in {
        "floating-ip-203.0.113.7": resource,
        "https://receiver.example.com/floating-ip": receiver.url,
        "$host.example.com:443": "127.0.0.1:${port[$host]}",
        "linkctl doctor ": "linkctl doctor || [ $? = 1 ] ",
    }.items():
        assert was in script
        script = script.replace(was, here)
    first, drills, _ = script.partition("linkctl drill")
    ports = " ".join(f"[{host}]={listener.port}" for host, listener in hosts.items())
    shell = {**ENVIRONMENT, "LINKCTL_PROFILE_FILE": str(checkout / ".local/aws")}
    shell["PATH"] = f"{checkout / '.local/linkctl/bin'}:{shell['PATH']}"
    printed = run(f"declare -A port=({ports})\n{first}", checkout, shell)
    # The rule of the clock would do it within a minute.
    put_slots(cloud)
    printed += run(f"resource={resource}{UNTIL_ACTIVE}{drills}{script.partition(drills)[2]}", checkout, shell)
    for host in hosts.values():
        host.die()
    receiver.close()
    assert "passed      API" in printed
    assert len(re.findall(r"(paris → london|london → paris) in \d+\.\d+ s", printed)) == 2, printed
    urls = {json.loads(arrival.body)["endpoint_id"] for arrival in receiver.arrivals}
    assert len(urls) == 2
