"""systemd's notification protocol (sd_notify(3)): datagrams to a socket. Without systemd, nothing happens."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

SEND_SECONDS = 1.0


class Notifier:
    """Sends to the socket that the environment names."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # An @ stands for the zero byte of an abstract socket.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(environment.get("WATCHDOG_USEC", "0")) / 1e6 if for_us else 0.0
        """How often systemd wants to hear from us; 0: it does not watch."""

    def send(self, *lines: str) -> None:
        """Send lines such as READY=1. A lost one is harmless: systemd restarts a service that it does not hear."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(SEND_SECONDS)
            try:
                sender.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return
