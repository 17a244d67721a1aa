"""The local cloud: MiniStack on a loopback port, with template.yaml deployed to it unchanged.

The demo and the tests use it: `with local_cloud() as cloud: cloud.call("GET", "/endpoints")`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

ROOT = Path(__file__).parents[1]
LOCAL = ROOT / ".local"
REGION = "us-east-1"
STACK = "link-webhook"
BUCKET = "sam-artifacts"
START_SECONDS = 60
DEPLOY_SECONDS = 120
COMMAND_SECONDS = 600


class CloudError(Exception):
    """The local cloud did not start, build or deploy; the message names the cause and the log to read."""


@dataclass
class Cloud:
    """A running local cloud with the deployed stack."""

    endpoint_url: str
    log: Path
    pid: int
    outputs: dict[str, str] = field(default_factory=dict)
    _users: dict[str, Credentials] = field(default_factory=dict)

    def client(self, service: str, user: str = "root") -> Any:
        """Return a boto3 client for `root` (without permission checks) or a user: `admin`, `operator` or `host`."""
        credentials = self._users.get(user, Credentials("test", "test"))
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            config=Config(proxies={}),  # A proxy cannot reach this machine's loopback.
        )

    def api_url(self) -> str:
        """Return the local URL of the API. The output ApiUrl has a host name that only AWS resolves."""
        return f"{self.endpoint_url}/restapis/{self.outputs['ApiId']}/v3/_user_request_"

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        credentials: Credentials | None = None,
        signed: bool = True,
    ) -> tuple[int, Any]:
        """Call the API, signed by the operator by default; return the status and the JSON of the answer."""
        url = self.api_url() + path
        data = b"" if body is None else json.dumps(body).encode()
        request = AWSRequest(method=method, url=url, data=data, headers={"Content-Type": "application/json"})
        if signed:
            SigV4Auth(credentials or self._users["operator"], "execute-api", REGION).add_auth(request)
        plain = urllib.request.Request(url, data=data or None, headers=dict(request.headers.items()), method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(plain, timeout=30) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        return status, json.loads(text) if text else ""

    def create_user(self, name: str, *, statement: dict[str, Any] | None = None, policy: str = "", **tags: str) -> None:
        """Create an IAM user with one statement or one managed policy. MiniStack checks its signature and policy."""
        iam = self.client("iam")
        iam.create_user(UserName=name, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
        if statement is not None:
            document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})
            iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=document)
        if policy:
            iam.attach_user_policy(UserName=name, PolicyArn=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        self._users[name] = Credentials(key["AccessKeyId"], key["SecretAccessKey"])

    def credentials(self, user: str) -> Credentials:
        """Return the access keys of a user."""
        return self._users[user]

    def write_profile(self, path: Path) -> None:
        """Write an AWS profile file with the keys of `admin`, who may do everything here: `linkctl --profile-file`."""
        keys = self._users["admin"]
        path.write_text(
            f"[default]\naws_access_key_id = {keys.access_key}\naws_secret_access_key = {keys.secret_key}\n"
            f"region = {REGION}\nendpoint_url = {self.endpoint_url}\n"
        )

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of the local cloud's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def local_cloud(
    *, parameters: Mapping[str, str] | None = None, sam: bool = False, name: str = "demo"
) -> Iterator[Cloud]:
    """Start a cloud and deploy the stack to it; stop the cloud when the block ends. Several clouds may run at once."""
    with _running(name) as cloud:
        # The default names hosts of AWS.
        given = {"ProbeReferences": cloud.endpoint_url.removeprefix("http://"), **(parameters or {})}
        if sam:
            _deploy_with_sam(cloud, given)
        else:
            deploy(cloud, given)
        api = f"arn:aws:execute-api:{REGION}:000000000000:{cloud.outputs['ApiId']}/*"
        cloud.create_user("operator", statement={"Action": "execute-api:Invoke", "Resource": api})
        cloud.create_user("host", policy=cloud.outputs["HostsPolicyArn"])
        cloud.create_user("admin", statement={"Action": "*", "Resource": "*"})
        yield cloud


@contextlib.contextmanager
def _running(name: str) -> Iterator[Cloud]:
    home = LOCAL / f"{name}-{os.getpid()}"
    temporary = home / "tmp"
    temporary.mkdir(parents=True)
    log = LOCAL / f"ministack-{name}.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    python = LOCAL / "cloud/bin/python"
    # Does not inherit: the user's AWS_* and proxy variables must not reach the functions.
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "LAMBDA_EXECUTOR": "local",
        "AUTH": "true",
        "MINISTACK_REGION": REGION,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(python), str(ROOT / "scripts/local_cloud.py")],
            cwd=home,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    cloud = Cloud(f"http://127.0.0.1:{port}", log, process.pid)
    try:
        _wait_until_it_answers(cloud, process)
        yield cloud
    finally:
        _end(process)
        shutil.rmtree(home, ignore_errors=True)


def _wait_until_it_answers(cloud: Cloud, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < until and process.poll() is None:
        try:
            opener.open(f"{cloud.endpoint_url}/_ministack/health", timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise CloudError(f"the local cloud did not answer within {START_SECONDS} s, see {cloud.log}:\n{cloud.log_tail()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and the functions that it started in its session: nothing of them is kept."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


class _Loader(yaml.SafeLoader):
    """Load YAML with CloudFormation's short forms, such as !Ref."""


def _short_form(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if tag == "GetAtt":
            value = str(value).split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _short_form)


def template(file: str = "template.yaml") -> dict[str, Any]:
    """Return a template as data, with short forms, aliases and merge keys written out."""
    loaded: dict[str, Any] = yaml.load((ROOT / file).read_text(), _Loader)
    return loaded


def deploy(cloud: Cloud, parameters: Mapping[str, str], *, update: bool = False) -> None:
    """Do what `sam build && sam deploy` do, without SAM: zip, upload, let CloudFormation transform the template."""
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    stack = template()
    for logical_id, resource in stack["Resources"].items():
        place = {"AWS::Serverless::Function": "CodeUri", "AWS::Serverless::LayerVersion": "ContentUri"}.get(
            resource["Type"]
        )
        if place:
            source = ROOT / resource["Properties"][place]
            made = resource.get("Metadata", {}).get("BuildMethod") == "makefile"
            archive = _zipped(built_layer(logical_id, source) if made else source, bytecode=made)
            key = hashlib.sha256(archive).hexdigest()
            s3.put_object(Bucket=BUCKET, Key=key, Body=archive)
            resource["Properties"][place] = f"s3://{BUCKET}/{key}"
    # Like SAM through S3, because a template in the call itself may have 51,200 bytes only.
    s3.put_object(Bucket=BUCKET, Key="template.json", Body=json.dumps(stack))
    cloudformation = cloud.client("cloudformation")
    create_or_update = cloudformation.update_stack if update else cloudformation.create_stack
    create_or_update(
        StackName=STACK,
        TemplateURL=f"{cloud.endpoint_url}/{BUCKET}/template.json",
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    until = time.monotonic() + DEPLOY_SECONDS
    while (status := cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"]).endswith("PROGRESS"):
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        events = cloudformation.describe_stack_events(StackName=STACK)["StackEvents"]
        reasons = [
            f"{e['LogicalResourceId']}: {e['ResourceStatusReason']}" for e in events if "ResourceStatusReason" in e
        ]
        raise CloudError(f"the stack is {status}: {'; '.join(reasons)}; see {cloud.log}:\n{cloud.log_tail()}")
    _read_outputs(cloud)


def _deploy_with_sam(cloud: Cloud, parameters: Mapping[str, str]) -> None:
    """Run the real `sam build` and `sam deploy` from .local/sam."""
    environment = {
        "PATH": f"{LOCAL / 'sam/bin'}:{os.environ['PATH']}",
        # SAM keeps its state in the home directory.
        "HOME": str(LOCAL),
        "__SAM_CLI_APP_DIR": str(LOCAL / "sam-notes"),
        "LANG": "C.UTF-8",
        "AWS_ENDPOINT_URL": cloud.endpoint_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "SAM_CLI_TELEMETRY": "0",
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
    }
    cloud.client("s3").create_bucket(Bucket=BUCKET)
    overrides = [f"ParameterKey={name},ParameterValue={value}" for name, value in parameters.items()]
    for command in (
        ["sam", "build"],
        ["sam", "deploy", "--config-env", "local", "--parameter-overrides", *overrides],
    ):
        _run(command, environment)
    _read_outputs(cloud)


def _read_outputs(cloud: Cloud) -> None:
    stack = cloud.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]
    cloud.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def built_layer(logical_id: str, source: Path) -> Path:
    """Return the layer's artifact, built again only for another Python or if a file in the layer's folder changed."""
    files = sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    content = hashlib.sha256(sys.version.encode())
    for path in files:
        content.update(str(path.relative_to(source)).encode() + b"\0" + path.read_bytes() + b"\0")
    target = LOCAL / "layers" / f"{logical_id}-{content.hexdigest()[:16]}"
    if not target.exists():
        unfinished = LOCAL / "layers" / f"{logical_id}-{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        command = ["make", "-C", str(source), f"build-{logical_id}"]
        command += [f"ARTIFACTS_DIR={unfinished}", f"PYTHON={sys.executable}"]
        _run(command, None)
        with contextlib.suppress(OSError):
            unfinished.rename(target)
    return target


def _run(command: list[str], environment: Mapping[str, str] | None) -> None:
    """Run a command that builds or deploys; show its output only if it fails."""
    try:
        subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise CloudError(f"{error}\n{error.output}") from None


def _zipped(folder: Path, *, bytecode: bool) -> bytes:
    """Return a zip that depends only on the names and contents of the files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and (bytecode or "__pycache__" not in path.parts):
                archive.writestr(zipfile.ZipInfo(str(path.relative_to(folder))), path.read_bytes())
    return buffer.getvalue()
