"""Sends a backend of HAProxy to the active host's server: that one is ready, all others are in maintenance.

Copy it as switch.py beside ../receivers/server.py and set HAPROXY_SOCKET=/run/haproxy/admin.sock, BACKEND=web and
SERVERS=paris,london, the names of hosts and of servers. The socket needs `level admin`. HAProxy forgets at a reload:
write `disabled` behind each server in its configuration, and the next refresh brings the state back.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from link_receiver import Target

SOCKET = os.environ["HAPROXY_SOCKET"]
BACKEND = os.environ["BACKEND"]
SERVERS = os.environ["SERVERS"].split(",")
# For a command. Three of them for each of two servers take less than the 15 s of a turn.
TIMEOUT_SECONDS = 2


def switch_to(target: Target) -> None:
    """A second call with the same target changes nothing."""
    if target.endpoint_id is not None and target.host not in SERVERS:
        raise LookupError(f"{target.host!r} is not a server of {BACKEND}: add it to SERVERS")
    for server in SERVERS:
        if server != target.host:
            _command(f"set server {BACKEND}/{server} state maint")
            # Otherwise connections that are open stay with the old server.
            _command(f"shutdown sessions server {BACKEND}/{server}")
    if target.endpoint_id is not None:
        _command(f"set server {BACKEND}/{target.host} state ready")


def _command(command: str) -> None:
    with socket.socket(socket.AF_UNIX) as haproxy:
        haproxy.settimeout(TIMEOUT_SECONDS)
        haproxy.connect(SOCKET)
        haproxy.sendall(f"{command}\n".encode())
        answer = b""
        while received := haproxy.recv(4096):
            answer += received
    # HAProxy answers with an empty line, or says what is wrong.
    if answer.strip():
        raise RuntimeError(f"HAProxy, {command}: {answer.decode(errors='replace').strip()}")
