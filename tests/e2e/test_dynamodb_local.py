"""Contention on a second engine, AWS's own: `make prove WHAT=dynamodb-local`, which needs Java 17.

DynamoDB Local always listens on every address. So it runs, with the test, in a network namespace that has only
loopback. Its licence allows downloading it, but not distributing it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from link import deployment
from tests.e2e.contention import contend
from tests.e2e.site import Site, eventually
from tests.simulation.store import Keys
from tests.support.deployed import create_tables, environment, settings
from tests.support.receiver import LoopbackReceiver

FOLDER = os.environ.get("DYNAMODB_LOCAL", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="DynamoDB Local: make prove WHAT=dynamodb-local")
TABLES = settings()
ENVIRONMENT = {**environment(), "ALLOWED_NETWORKS": "127.0.0.0/8"}


class Functions:
    """The one call of Lambda that the test makes."""

    def get_function_configuration(self, FunctionName: str) -> dict[str, Any]:
        return {"Environment": {"Variables": ENVIRONMENT}}


class Nowhere:
    """A queue whose messages no process reads."""

    def send_message(self, **_: Any) -> None:
        pass


@dataclass
class Engine:
    """DynamoDB Local instead of the local cloud; keys and queues are in memory."""

    endpoint_url: str
    outputs: dict[str, str] = field(
        default_factory=lambda: {
            "LocksTableName": TABLES.locks_table,
            "TransitionsTableName": TABLES.transitions_table,
            "ReconcileFunctionName": "reconcile",
        }
    )

    def client(self, service: str, user: str = "root") -> Any:
        if service != "dynamodb":
            return {"kms": Keys, "sqs": Nowhere, "lambda": Functions}[service]()
        return boto3.client(
            "dynamodb",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(proxies={}, max_pool_connections=50),
        )

    def call(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Registers an endpoint."""
        control_plane = deployment.control_plane(ENVIRONMENT, client=self.client)
        return 201, {"endpoint": control_plane.commands.create(body, "register")}


@pytest.fixture
def engine() -> Iterator[Engine]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (jar,) = Path(FOLDER).resolve().rglob("DynamoDBLocal.jar")
    command = ["java", f"-Djava.library.path={jar.parent}/DynamoDBLocal_lib", "-jar", str(jar)]
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen(
            [*command, "-inMemory", "-disableTelemetry", "-port", str(port)], cwd=jar.parent, stdout=log, stderr=log
        )
        try:
            engine = Engine(f"http://127.0.0.1:{port}")
            eventually("DynamoDB Local listens", lambda: listens(port), 30)
            create_tables(engine.client("dynamodb"), TABLES)
            yield engine
        finally:
            running.kill()
            running.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_one_holder_on_aws_own_engine(engine: Engine, receiver: LoopbackReceiver) -> None:
    contend(Site(engine, receiver, f"ip-{uuid.uuid4()}"))  # type: ignore[arg-type]
