"""Looks names up beside the event loop.

Nothing can interrupt the system's resolver, so each look-up needs a thread until the resolver gives up.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Collection
from contextlib import suppress

from link.networks import AddressInfo
from link.probing.connection import Starved

MAX_THREADS = 256
"""With name servers that hang for two seconds (RES_OPTIONS in the template), 512 names are answered within five."""


class Resolver:
    """The threads of a process. Those that hang in a look-up are left behind, and count until they end."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def look_up(self, hosts: Collection[str]) -> Names:
        """Starts to look up every host."""
        names = Names(hosts)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        for _ in range(min(len(hosts), MAX_THREADS - len(self._threads))):
            thread = threading.Thread(target=names.work, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise Starved(str(error)) from None
            self._threads.append(thread)
        return names


class Names:
    """The names of one look."""

    def __init__(self, hosts: Collection[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._answers: dict[str, asyncio.Future[list[AddressInfo]]] = {h: self._loop.create_future() for h in hosts}
        self._waiting = deque(hosts)

    async def addresses(self, host: str, seconds: float) -> list[AddressInfo]:
        """All addresses of a host, with port 0. None if the resolver finds none within this time."""
        answer = self._answers[host]
        await asyncio.wait([answer], timeout=seconds)
        if answer.done():
            return answer.result()
        if host in self._waiting:
            raise Starved(f"{MAX_THREADS} look-ups hang")
        return []

    def work(self) -> None:
        """Looks names up until none is left, or the look is over."""
        while True:
            try:
                host = self._waiting.popleft()
            except IndexError:
                return
            found: list[AddressInfo] = []
            with suppress(OSError, UnicodeError):
                found += socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
            try:
                self._loop.call_soon_threadsafe(self._answers[host].set_result, found)
            except RuntimeError:
                return  # The loop of this look is closed.
