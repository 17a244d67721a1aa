"""A stub of AWS and of a receiver that answers at once, so that benchmarks measure our own time.

It runs in a process of its own, so that its CPU time is not measured. DynamoDB is the store of the simulation behind
HTTP, KMS does not encrypt, SQS accepts everything; `/slow/<ms>` is a receiver that answers after that time. Calls for
other tables than ours get `{}`.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from link.settings import Settings
from tests.simulation.store import Store

ROOT = Path(__file__).parents[2]
PAGE = 5_000
"""Keys in a page of the due index: about as many as fit into 1 MiB with ids of 100 characters."""
SETTINGS = Settings(
    locks_table="locks",
    endpoints_table="endpoints",
    transitions_table="transitions",
    status_queue_url="http://127.0.0.1/0/status",
    wake_up_queue_url="http://127.0.0.1/0/wake-up",
    rejected_events_queue_url="http://127.0.0.1/0/rejected",
    secrets_key_arn="arn:aws:kms:eu-west-1:000000000000:key/0",
    probes_table="probes",
    probe_queue_url="https://sqs.eu-west-1.amazonaws.com/000000000000/probe",
    event_bus_name="events",
)


class Aws:
    """Answers for DynamoDB, KMS and SQS by the operation in `X-Amz-Target`, and counts the calls."""

    def __init__(self) -> None:
        self.store = Store(SETTINGS)
        self.calls: Counter[str] = Counter()
        self._due: dict[str, list[Any]] = {}

    def answer(self, operation: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.calls[operation] += 1
        try:
            return 200, self._answer(operation, request)
        except ClientError as error:
            response: Any = error.response
            more = {name: response[name] for name in ("Item", "CancellationReasons") if name in response}
            return 400, {"__type": response["Error"]["Code"], "message": "refused", **more}

    def _answer(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        if operation in ("Encrypt", "Decrypt"):
            plaintext = request.get("Plaintext") or request["CiphertextBlob"]
            return {"CiphertextBlob": plaintext, "Plaintext": plaintext, "KeyId": SETTINGS.secrets_key_arn}
        if operation == "SendMessage":
            return {"MessageId": "message"}
        if operation == "SendMessageBatch":
            return {"Successful": [{"Id": e["Id"], "MessageId": "message"} for e in request["Entries"]], "Failed": []}
        writes = request.get("TransactItems", [{"": request}])
        tables = set(request.get("RequestItems", ())) or {
            write["TableName"] for one in writes for write in one.values()
        }
        if not tables <= self.store.tables.keys():
            return {}
        if operation == "TransactWriteItems":
            return self.store.transact_write_items(writes)
        if operation == "GetItem":
            return self.store.get_item(**request)
        if operation == "PutItem":
            return self.store.put_item(**request)
        if operation == "Query":
            return self._page(request)
        if operation == "Scan":
            return self.store.scan(request["TableName"], request.get("Select", ""))
        return self.store.batch_get_item(**request)

    def _page(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return one page of a Query; all pages show the items of the time of the first one."""
        wanted = json.dumps(request["ExpressionAttributeValues"])
        start = int(request.pop("ExclusiveStartKey", {}).get("offset", {}).get("N", 0))
        if start == 0:
            self._due[wanted] = self.store.query(**request)["Items"]
        found = self._due[wanted]
        page = {"Items": found[start : start + PAGE], "Count": len(found[start : start + PAGE])}
        if start + PAGE < len(found):
            return {**page, "LastEvaluatedKey": {"offset": {"N": str(start + PAGE)}}}
        del self._due[wanted]
        return page

    def seed(self, request: dict[str, Any]) -> None:
        """Replace all items by `number` copies of a lock item and a registration; # becomes the number of the copy."""
        self.store = Store(SETTINGS)
        for number in range(request["number"]):
            for table, item in json.loads(json.dumps(request["items"]).replace("#", str(number))).items():
                self.store.put_item(TableName=table, Item=item)


class Connection(asyncio.Protocol):
    """The part of HTTP/1.1 that botocore and our sender use."""

    def __init__(self, aws: Aws, latency: float) -> None:
        self._aws = aws
        self._latency = latency
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if len(body) < int(headers.get("content-length", 0)):
            return
        self._received = b""
        _, path, _ = first.split(" ")
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        wait = self._latency
        if operation:
            status, answer = self._aws.answer(operation, json.loads(body))
        elif path == "/calls":
            status, answer, wait = 200, dict(self._aws.calls), 0
            self._aws.calls.clear()
        elif path == "/seed":
            self._aws.seed(json.loads(body))
            status, answer, wait = 200, {}, 0
        else:
            self._aws.calls["POST"] += 1
            status, answer = 200, {}
            wait = int(path.rpartition("/")[2]) / 1000 if path.startswith("/slow/") else 0
        text = json.dumps(answer).encode()
        close = "close" if headers.get("connection") == "close" else "keep-alive"
        reply = (
            f"HTTP/1.1 {status} OK\r\nContent-Type: application/x-amz-json-1.0\r\n"
            f"Content-Length: {len(text)}\r\nConnection: {close}\r\n\r\n"
        ).encode() + text
        if wait:
            asyncio.get_running_loop().call_later(wait, self._reply, reply, close)
        else:
            self._reply(reply, close)

    def _reply(self, reply: bytes, close: str) -> None:
        self._transport.write(reply)
        if close == "close":
            self._transport.close()


async def serve(latency: float) -> None:
    aws = Aws()
    server = await asyncio.get_running_loop().create_server(
        functools.partial(Connection, aws, latency), "127.0.0.1", 0, backlog=1_024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Stub:
    """The client of a running stub."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def calls(self) -> Counter[str]:
        """Return the number of calls by operation since the last time."""
        return Counter(json.loads(self._request("/calls")))

    def seed(self, number: int, items: dict[str, Any]) -> None:
        self._request("/seed", json.dumps({"number": number, "items": items}).encode())

    def _request(self, path: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(self.url + path, body, timeout=60) as answer:
            return bytes(answer.read())

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a function that uses this stub as AWS."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'layers/shared'}:{ROOT}",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.url,
            "HOME": "/nonexistent",
            "LOCKS_TABLE": SETTINGS.locks_table,
            "ENDPOINTS_TABLE": SETTINGS.endpoints_table,
            "TRANSITIONS_TABLE": SETTINGS.transitions_table,
            "STATUS_QUEUE_URL": SETTINGS.status_queue_url,
            "WAKE_UP_QUEUE_URL": SETTINGS.wake_up_queue_url,
            "REJECTED_EVENTS_QUEUE_URL": SETTINGS.rejected_events_queue_url,
            "SECRETS_KEY_ARN": SETTINGS.secrets_key_arn,
            "KEY_ROTATION_FUNCTION": "key-rotation",
            "PROBE_FUNCTION": "probe",
            "PROBES_TABLE": SETTINGS.probes_table,
            "PROBE_QUEUE_URL": SETTINGS.probe_queue_url,
            "PROBE_REFERENCES": "",
            "PROBE_SHARDS": "1",
            "EVENT_BUS_NAME": SETTINGS.event_bus_name,
            "SIGNALS_TABLE": SETTINGS.signals_table,
            "ALLOWED_NETWORKS": "127.0.0.0/8",
            "POWERTOOLS_SERVICE_NAME": "link-webhook",
            "POWERTOOLS_METRICS_NAMESPACE": "LinkWebhook/bench",
        }


@contextmanager
def running(latency_ms: float = 0) -> Iterator[Stub]:
    """Start a stub, and stop it at the end; `latency_ms` delays each answer of AWS."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.performance.stub", str(latency_ms / 1000)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'layers/shared'}:{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Stub(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
