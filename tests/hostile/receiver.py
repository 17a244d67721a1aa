"""A receiver on loopback that behaves as a test tells it to."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Callable

Play = Callable[["Peer"], object]


class Peer:
    """The receiver's end of one connection."""

    def __init__(self, connection: socket.socket, receiver: Receiver) -> None:
        self.connection = connection
        self.receiver = receiver

    def read_request(self) -> None:
        """Read head and body, and keep both and the pieces in which they arrived."""
        pieces = []
        while piece := self.connection.recv(1 << 20):
            pieces.append(piece)
            head, separator, body = b"".join(pieces).partition(b"\r\n\r\n")
            if separator and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
                self.receiver.requests.append((head, body))
                self.receiver.pieces.append(pieces)
                return

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def drip(self, data: bytes) -> None:
        """Send `data` again and again, one byte per period."""
        while True:
            for byte in data:
                self.connection.sendall(bytes([byte]))
                if self.receiver.stopping.wait(self.receiver.period):
                    return

    def flood(self, data: bytes) -> None:
        """Send `data` again and again, as fast as the caller reads it."""
        block = data * (65_536 // len(data) + 1)
        while not self.receiver.stopping.is_set():
            self.connection.sendall(block)

    def never(self, data: bytes = b"") -> None:
        """Keep the connection open and send nothing."""
        self.receiver.stopping.wait()

    def close(self, data: bytes = b"") -> None:
        """Close the connection in the normal way."""
        self.connection.close()

    def reset(self, data: bytes = b"") -> None:
        """Close the connection with a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def answers(*parts: bytes) -> Play:
    """Read the request, then send these bytes."""

    def play(peer: Peer) -> None:
        peer.read_request()
        for part in parts:
            peer.send(part)

    return play


NO_CONTENT = answers(b"HTTP/1.1 204 No Content\r\n\r\n")


class Receiver:
    """A context manager that counts connections and keeps requests.

    With `in_handshake`, `play` replaces the TLS handshake.
    """

    def __init__(
        self,
        play: Play = NO_CONTENT,
        *,
        tls: ssl.SSLContext | None = None,
        in_handshake: bool = False,
        host: str = "127.0.0.1",
        period: float = 0.2,
        receive_buffer: int = 0,
        listening: bool = True,
    ) -> None:
        assert ipaddress.ip_address(host).is_loopback
        self.play, self.tls, self.period = play, tls, period
        self.connections = 0
        self.requests: list[tuple[bytes, bytes]] = []
        self.pieces: list[list[bytes]] = []
        self.stopping = threading.Event()
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind((host, 0))
        self.port = self._listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{self.port}/hook"
        self._listening = listening
        self._in_handshake = in_handshake

    def __enter__(self) -> Receiver:
        self._listener.listen(128 if self._listening else 0)
        if self._listening:
            threading.Thread(target=self._accept, daemon=True).start()
        else:
            # Once the accept queue is full, the kernel does not answer further connections.
            for _ in range(4):
                waiting = socket.socket(self._listener.family)
                waiting.setblocking(False)
                waiting.connect_ex(self._listener.getsockname())
                self._open.append(waiting)
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopping.set()
        for connection in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # Errors here mean that the caller closed the connection.
        with contextlib.suppress(OSError, ValueError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls and not self._in_handshake:
                connection = self.tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection:
                self.play(Peer(connection, self))
