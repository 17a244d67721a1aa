"""The agent's checks against servers and commands that misbehave."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from linkctl.agent import checks
from linkctl.agent.checks import Commands, run
from linkctl.agent.config import Check

SECONDS = 60.0
"""A time that no check here needs. One that has to run into its limit has a short one."""


@contextmanager
def server(talk: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Listen on loopback and let `talk` serve each connection; yield the port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            try:
                with connection if tls is None else tls.wrap_socket(connection, server_side=True) as used:
                    talk(used)
            except OSError:
                pass  # The check has left.

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def answers(*parts: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.recv(65_536)
        for part in parts:
            connection.sendall(part)

    return talk


def http(port: int, **more: object) -> Check:
    given: dict[str, object] = {"type": "HTTP", "timeout_seconds": SECONDS, "host": "127.0.0.1", "port": port}
    return Check(**(given | {"path": "/"} | more))  # type: ignore[arg-type]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def test_a_port_that_accepts_passes_and_one_that_refuses_fails() -> None:
    with server(lambda connection: None) as port:
        assert run(Check("TCP", SECONDS, "localhost", port), Commands()).passed
    assert run(Check("TCP", SECONDS, "127.0.0.1", closed_port()), Commands()).reason == "refused"


def test_a_name_that_does_not_exist_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(Check("TCP", SECONDS, "a" * 200, 80), Commands()).reason == "name not found"

    def not_found(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", not_found)
    assert run(Check("TCP", SECONDS, "paris.invalid", 80), Commands()).reason == "name not found"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.0 399 \r\n", ""),
        (b"HTTP/1.1 204\r\n", ""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", ""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "status 400"),
        (b"HTTP/1.1 503 secret words\r\n\r\nsecret", "status 503"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 \r\n", "status 500"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP"),
        (b"HTTP/1.1 999 No\r\n\r\n", "no HTTP"),
        (b"", "closed without an answer"),
        (b"HTTP/1.1", "closed without an answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "closed without an answer"),
        (b"HTTP/1.1 100 Continue\r\n" + b"A: b\r\n" * 50_000, "no HTTP"),
    ],
)
def test_the_status_of_the_answer_decides(answer: bytes, reason: str) -> None:
    with server(answers(answer)) as port:
        assert run(http(port), Commands()).reason == reason


def test_an_answer_that_comes_byte_by_byte_is_read() -> None:
    with server(answers(*[bytes([byte]) for byte in b"HTTP/1.1 404 Not Found\r\n\r\n"])) as port:
        assert run(http(port), Commands()).reason == "status 404"
        assert run(http(port, expect=(404, 404)), Commands()).passed


def test_the_request_has_host_and_path_and_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    received = []

    def talk(connection: socket.socket) -> None:
        received.append(connection.recv(65_536))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    with server(talk) as port:
        assert run(http(port, path="/health?deep=1"), Commands()).passed
    head = f"GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: linkctl-agent\r\n"
    assert received == [f"{head}Accept: */*\r\nConnection: close\r\n\r\n".encode()]


def test_https_serves_whatever_its_certificate_is(tls: ssl.SSLContext) -> None:
    with server(answers(b"HTTP/1.1 200 OK\r\n\r\n"), tls) as port:
        assert run(http(port, type="HTTPS", host="localhost"), Commands()).passed
    with server(answers(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
        assert run(http(port, type="HTTPS"), Commands()).reason == "no TLS"


@pytest.mark.parametrize("type_", ["HTTP", "HTTPS"])
def test_a_server_that_says_nothing_fails_at_the_deadline(type_: str) -> None:
    ended = threading.Event()
    with server(lambda connection: ended.wait(SECONDS)) as port:  # type: ignore[arg-type, return-value]
        result = run(http(port, type=type_, timeout_seconds=0.3), Commands())
        ended.set()
    assert result.reason == "no answer within 0.3 s" and 0.3 <= result.seconds < SECONDS / 3


def test_a_server_that_answers_for_ever_fails_at_the_same_deadline() -> None:
    """A limit for each read would never end here: each byte comes in time."""
    ended = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n")
        while not ended.wait(0.01):
            connection.sendall(b"A")

    with server(talk) as port:
        result = run(http(port, timeout_seconds=0.5), Commands())
        ended.set()
    assert result.reason == "no answer within 0.5 s" and result.seconds < SECONDS / 3


def test_the_deadline_counts_from_the_begin_for_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 6)
    with pytest.raises(TimeoutError):
        checks._left(now + 5)
    assert checks._left(now + 8) == pytest.approx(2)


def command(*arguments: str, timeout_seconds: float = SECONDS) -> Check:
    return Check("command", timeout_seconds, command=arguments)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["/bin/true"], ""),
        (["/bin/sh", "-c", "echo secret; echo secret >&2; exit 3"], "exit status 3"),
        (["/bin/sh", "-c", "kill -TERM $$"], "killed by signal 15"),
        (["/no/such/program"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
        (["/bin/sh", "-c", "test -z \"$AWS_SECRET_ACCESS_KEY$NOTIFY_SOCKET$WATCHDOG_PID\" && test -n \"$PATH\""], ""),
    ],
)  # fmt: skip
def test_the_exit_status_of_a_command_decides(
    arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "NOTIFY_SOCKET", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "hidden")
    assert run(command(*arguments), Commands()).reason == reason
    assert capfd.readouterr() == ("", "")


def test_a_command_reads_nothing_of_what_the_agent_could_read() -> None:
    read, write = os.pipe()
    os.write(write, b"a line\n")
    before = os.dup(0)
    os.dup2(read, 0)
    try:
        assert run(command("/bin/sh", "-c", "read line && exit 1; exit 0"), Commands()).passed
    finally:
        os.dup2(before, 0)
        for one in (before, read, write):
            os.close(one)


def test_a_command_has_no_shell(tmp_path: Path) -> None:
    run(command("/bin/echo", f"; touch {tmp_path}/here"), Commands())
    assert not (tmp_path / "here").exists()


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that nobody waits for has."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def written(path: Path) -> int:
    """Return the number in a file, as soon as there is one."""
    until = time.monotonic() + SECONDS
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < until
        time.sleep(0.01)
    return int(path.read_text())


def wait_until_gone(pid: int) -> None:
    until = time.monotonic() + SECONDS
    while not gone(pid):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_command_is_killed_with_its_children_at_its_limit(tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/child; wait; sleep 600"
    result = run(command("/bin/sh", "-c", script, timeout_seconds=5), Commands())
    assert result.reason == "no answer within 5 s"
    wait_until_gone(written(tmp_path / "child"))


def test_commands_that_run_are_killed_together_and_no_more_are_started(tmp_path: Path) -> None:
    commands = Commands()
    script = f"sleep 600 & echo $! > {tmp_path}/child; wait"
    results: list[checks.Result] = []
    thread = threading.Thread(target=lambda: results.append(run(command("/bin/sh", "-c", script), commands)))
    thread.start()
    child = written(tmp_path / "child")
    commands.kill()
    thread.join(SECONDS)
    assert [result.reason for result in results] == [f"killed by signal {int(signal.SIGKILL)}"]
    wait_until_gone(child)
    assert run(command("/bin/sh", "-c", f"touch {tmp_path}/late"), commands).reason
    assert not (tmp_path / "late").exists()


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """The context of a server whose certificate nobody signed and that has expired."""
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another host")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2021, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    return context
