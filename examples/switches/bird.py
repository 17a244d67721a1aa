"""Enables a protocol of BIRD on this host while this host is active, and disables it otherwise.

Copy it as switch.py beside ../receivers/server.py on each host, register each host's own receiver, and set HOST=paris,
BIRD_SOCKET=/run/bird/bird.ctl and PROTOCOL=floating. BIRD forgets at a restart, so its configuration says
    protocol static floating { disabled; ipv4; route 203.0.113.7/32 via "lo"; }
"""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from link_receiver import Target

HOST = os.environ["HOST"]
SOCKET = os.environ["BIRD_SOCKET"]
PROTOCOL = os.environ["PROTOCOL"]
# For each line of an answer.
TIMEOUT_SECONDS = 2


def switch_to(target: Target) -> None:
    """A second call with the same target changes nothing."""
    command = f"{'enable' if target.host == HOST else 'disable'} {PROTOCOL}"
    with socket.socket(socket.AF_UNIX) as bird:
        bird.settimeout(TIMEOUT_SECONDS)
        bird.connect(SOCKET)
        lines = bird.makefile("r", errors="replace")
        _first_line(lines)  # the welcome
        bird.sendall(f"{command}\n".encode())
        code, text = _first_line(lines)
    # 0008 and 0010: it is already so. 0009 and 0011: done. 8xxx and 9xxx: an error.
    if code not in ("0008", "0009", "0010", "0011"):
        raise RuntimeError(f"BIRD, {command}: {code} {text}")


def _first_line(lines: TextIO) -> tuple[str, str]:
    """Code and text."""
    line = lines.readline()
    if not re.fullmatch("[0-9]{4}[ -].*\n", line):
        raise RuntimeError(f"BIRD: {line!r} is not a line of an answer")
    return line[:4], line[5:].strip()
