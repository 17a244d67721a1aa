"""`python -m tests.performance.probes`: what it costs to look at 500 targets at once, with three tries each.

The targets are in a process of their own. Each line is a process, too, whose second look is measured. A hanging target
does not take the connection (TCP), or takes it and says nothing.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

from link.probing.checks import Check, CheckType
from link.probing.looks import Looker
from tests.hostile.certificates import Authority
from tests.hostile.receiver import Receiver

TARGETS, TRIES = 500, 3
HANGING = {"all healthy": 0, "one hanging": 1, "all hanging": TARGETS}


def main() -> None:
    with serving() as ports:
        print("| check | targets | CPU ms | CPU ms a check | seconds | late ms | memory MB, of it 500 looks |")
        print("|---|---|---|---|---|---|---|")
        for kind in CheckType:
            for situation, hanging in HANGING.items():
                command = [sys.executable, "-m", "tests.performance.probes", kind, str(hanging), json.dumps(ports)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                print(f"| {kind} | {situation} | {done.stdout.strip()} |", flush=True)


@contextmanager
def serving() -> Iterator[dict[str, int]]:
    """Healthy and hanging targets on loopback: their ports by name."""
    # A listener that accepts nothing: the kernel takes connections until its queue is full.
    with Receiver(listening=False) as hole, socket.create_server(("127.0.0.1", 0), backlog=4_096) as silent:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.performance.probes", "serve"], stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            yield {**json.loads(process.stdout.readline()), "hole": hole.port, "silent": silent.getsockname()[1]}
        finally:
            process.kill()
            process.wait()


async def serve() -> None:
    """Answer 204 until the process is killed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # A TCP check says nothing.
        writer.close()

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    with tempfile.TemporaryDirectory() as folder:
        tls = Authority(Path(folder)).server_context()
        plain = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4_096)
        secure = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4_096, ssl=tls)
    ports = [server.sockets[0].getsockname()[1] for server in (plain, secure)]
    print(json.dumps({"TCP": ports[0], "HTTP": ports[0], "HTTPS": ports[1]}), flush=True)
    await asyncio.gather(plain.serve_forever(), secure.serve_forever())


def measure(kind: CheckType, hanging: int, ports: dict[str, int]) -> str:
    """The cells of one line."""
    slow = ports["hole" if kind is CheckType.TCP else "silent"]
    looker = Looker([ip_network("127.0.0.0/8")])
    looker.look({Check(kind, "127.0.0.1", ports[kind]): 1})
    wanted = {Check(kind, "127.0.0.1", slow if n < hanging else ports[kind], f"/{n}"): TRIES for n in range(TARGETS)}
    before, cpu, began = peak_mb(), time.process_time(), time.monotonic()
    looks = looker.look(wanted)
    cpu, took = time.process_time() - cpu, time.monotonic() - began
    failed = [reason for reason in looks.reasons.values() if reason]
    assert failed == ["timeout"] * hanging, failed
    assert threading.active_count() == 1
    memory = f"{peak_mb():.0f}, {peak_mb() - before:.0f}"
    return f"{cpu * 1_000:.0f} | {cpu * 1_000 / TARGETS:.2f} | {took:.2f} | {looks.lag_ms} | {memory}"


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            asyncio.run(serve())
        case [kind, hanging, ports]:
            print(measure(CheckType(kind), int(hanging), json.loads(ports)))
        case _:
            main()
