"""A pool of processes that report, some of which die, and the faults between them and AWS."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import itertools
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
WRITES = ("PutItem", "TransactWriteItems")


@dataclass
class Pool:
    """Processes with the real code. A report is handed out again until one of them has applied it: at least once."""

    endpoint_url: str
    environment: dict[str, str]
    size: int
    workers: list[subprocess.Popen[str]] = field(default_factory=list)
    asked: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Reports that nobody has applied yet, by number."""
    with_whom: dict[int, int] = field(default_factory=dict)
    tries: list[int] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _mail: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = field(default_factory=dict)
    _number: int = 0
    _over: bool = False

    def __enter__(self) -> Pool:
        for _ in range(self.size):
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        for worker in list(self.workers):
            worker.kill()
            worker.wait()

    def _start(self) -> None:
        paths = os.pathsep.join([str(ROOT / "layers/shared"), str(ROOT)])
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.worker"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": paths, "POWERTOOLS_LOG_LEVEL": "CRITICAL"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._mail[worker.pid] = queue.SimpleQueue()
        self._mail[worker.pid].put({"endpoint_url": self.endpoint_url, "environment": self.environment})
        with self._lock:
            self.workers.append(worker)
        for task in (self._write, self._read):
            threading.Thread(target=task, args=(worker,), daemon=True).start()

    def _write(self, worker: subprocess.Popen[str]) -> None:
        # In a thread of its own: a process that is stopped takes no more than its pipe holds.
        assert worker.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            while message := self._mail[worker.pid].get():
                worker.stdin.write(json.dumps(message) + "\n")
                worker.stdin.flush()

    def report(self, endpoint_id: str, resource_id: str, status: str) -> int:
        """Has one of the processes apply a report made now; returns its time."""
        at = time.time_ns() // 1_000_000
        with self._lock:
            self._number += 1
            report = {"number": self._number, "endpoint_id": endpoint_id, "resource_id": resource_id}
            self.asked[self._number] = report | {"status": status, "at": at}
            self._hand_out(self._number)
        return at

    def _hand_out(self, number: int) -> None:
        with self._lock:
            worker = random.choice([worker for worker in self.workers if worker.poll() is None])
            self.with_whom[number] = worker.pid
            self._mail[worker.pid].put(self.asked[number])

    def _read(self, worker: subprocess.Popen[str]) -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            answer = json.loads(line)
            number = answer["number"]
            with self._lock:
                if number not in self.asked:
                    continue
                if answer["error"]:
                    self.errors[answer["error"].partition(":")[0]] += 1
                    self._hand_out(number)
                else:
                    self.tries.append(answer["tries"])
                    del self.asked[number]
        worker.wait()
        self._mail[worker.pid].put(None)
        with self._lock:
            self.workers.remove(worker)
            self.told["ended"] += 1
            if self._over:
                return
            self._start()
            for number, pid in list(self.with_whom.items()):
                if pid == worker.pid and number in self.asked:
                    self.told["handed out again"] += 1
                    self._hand_out(number)

    def strike(self, until: float) -> None:
        """SIGKILL and SIGSTOP at random moments, one of each at least."""
        stopped: dict[int, float] = {}
        first = random.sample((signal.SIGKILL, signal.SIGSTOP), 2)
        while time.monotonic() < until:
            time.sleep(random.uniform(0.05, 0.8))
            for pid in [pid for pid, ends in stopped.items() if time.monotonic() >= ends]:
                del stopped[pid]
                self._signal(pid, signal.SIGCONT)
            with self._lock:
                alive = [worker.pid for worker in self.workers if worker.pid not in stopped]
            if len(alive) < 2:
                continue
            pid = random.choice(alive)
            what = first.pop() if first else random.choices((signal.SIGKILL, signal.SIGSTOP), (2, 3))[0]
            self._signal(pid, what)
            if what is signal.SIGSTOP:
                stopped[pid] = time.monotonic() + random.choice((0.1, 1.0, 4.0, 9.0, 16.0, 25.0))
        for pid in stopped:
            self._signal(pid, signal.SIGCONT)

    def _signal(self, pid: int, what: signal.Signals) -> None:
        # Only children that nobody has waited for: the id cannot be another's yet.
        with self._lock:
            if any(worker.pid == pid and worker.returncode is None for worker in self.workers):
                os.kill(pid, what)
                self.told[what.name] += 1


GOLDEN = 0.6180339887498949
"""Its multiples, modulo 1, leave no gap: of 300 calls in a row each fault of 1 % meets at least one."""


@dataclass
class Faults:
    """How often what happens to a call that goes through the proxy."""

    lost_answer: float = 0.05
    """Of writes: it took place, and the connection ends without an answer."""
    throttled: float = 0.02
    failed: float = 0.01
    timeout: float = 0.005
    """It did not take place, and nobody answers."""


@contextmanager
def proxy(endpoint_url: str, faults: Faults, injected: Counter[str]) -> Iterator[str]:
    """A proxy on loopback in front of AWS that is not always well; yields its url."""
    target = urlsplit(endpoint_url)
    connections: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
    start, calls = random.random(), itertools.count()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            dice = (start + next(calls) * GOLDEN) % 1
            if (dice := dice - faults.timeout) < 0:
                injected["timeout"] += 1
                time.sleep(3)  # Longer than a client waits.
                self.close_connection = True
            elif (dice := dice - faults.throttled) < 0:
                injected["throttled"] += 1
                self._answer(400, b'{"__type":"ThrottlingException","message":"slow down"}')
            elif (dice := dice - faults.failed) < 0:
                injected["500"] += 1
                self._answer(500, b'{"__type":"InternalServerError","message":"oh"}')
            elif operation in WRITES and dice < faults.lost_answer:
                injected["lost answer"] += 1
                self._forward(body)
                self.close_connection = True
            else:
                self._answer(*self._forward(body))

        def _forward(self, body: bytes) -> tuple[int, bytes]:
            try:
                connection = connections.get_nowait()
            except queue.Empty:
                connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
            connection.request("POST", self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            content = answer.read()
            connections.put(connection)
            return answer.status, content

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *_: Any) -> None:
            pass  # Clients hang up.

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
