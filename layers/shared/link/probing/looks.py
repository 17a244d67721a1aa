"""Looks at many targets at once, in one thread, and keeps nothing open.

A name is looked up once in a look. All its addresses are judged by the sender's rules, and all tries go to these.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from link import networks, trust
from link.networks import AddressInfo
from link.probing.checks import Check, CheckType
from link.probing.connection import Starved, attempt
from link.probing.names import Names, Resolver
from link.settings import Network

TRY_SECONDS = 5.0
"""A try takes at most this long, name and answer included."""
SECONDS_APART = 1.5
"""Between the starts of two tries, whether or not the earlier one is over."""
MAX_SOCKETS = 900
"""Of all tries together; others wait. Lambda allows 1,024 files. Up to so many checks, each try gets one in time."""
TICK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Looks:
    """What was seen."""

    reasons: dict[Check, str]
    """Why a check did not pass, in one word: that of its last try. Empty when it passed."""
    lag_ms: int
    """How late this process was at worst. If it is much, slow answers may be our own fault."""


class Looker:
    """Looks at targets. Tests replace the event loop."""

    def __init__(
        self,
        allowed_networks: Collection[Network] = (),
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self._allowed = tuple(allowed_networks)
        self._new_loop = new_loop
        self._resolver = Resolver()

    def look(self, wanted: Mapping[Check, int]) -> Looks:
        """Looks at each check with its number of tries. Three take at most 8 s from when this process gets to begin.

        Raises Starved when this process lacks what it needs to look: then nothing is known about any target.
        """
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            return runner.run(self._look(wanted))

    async def _look(self, wanted: Mapping[Check, int]) -> Looks:
        lag = _Lag()
        names = self._resolver.look_up({check.host for check in wanted if networks.literal(check.host) is None})
        sockets = asyncio.Semaphore(MAX_SOCKETS)
        tasks = []
        for check, tries in wanted.items():
            tasks.append(asyncio.create_task(self._reason(check, tries, names, sockets)))
            # Whatever is ready goes first: on a slow CPU, handshakes that all begin at once would all be late.
            await asyncio.sleep(0)
        reasons = await asyncio.gather(*tasks)
        return Looks(dict(zip(wanted, reasons, strict=True)), round(lag.worst * 1_000))

    async def _reason(self, check: Check, tries: int, names: Names, sockets: asyncio.Semaphore) -> str:
        begun = asyncio.get_running_loop().time()
        infos = await _addresses(check.host, names)
        if not infos:
            return "dns"
        if not networks.permitted(infos, self._allowed):
            return "address_refused"
        tls = self._tls(check)

        async def one(number: int) -> str:
            starts = begun + number * SECONDS_APART
            await asyncio.sleep(starts - asyncio.get_running_loop().time())
            ends = starts + TRY_SECONDS
            await _acquired(sockets, ends)
            try:
                return await attempt(check, infos, tls, ends)
            finally:
                sockets.release()

        return await first_passed([one(number) for number in range(tries)])

    def _tls(self, check: Check) -> ssl.SSLContext | None:
        if check.type is not CheckType.HTTPS:
            return None
        return self._verifying if check.verify else self._lenient

    @cached_property
    def _verifying(self) -> ssl.SSLContext:
        return trust.context("")

    @cached_property
    def _lenient(self) -> ssl.SSLContext:
        """For checks that ask whether an endpoint answers. It gets no data, so any TLS and cipher will do."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.set_alpn_protocols(["http/1.1"])
        return context


async def _addresses(host: str, names: Names) -> list[AddressInfo]:
    address = networks.literal(host)
    if address is None:
        return await names.addresses(host, TRY_SECONDS)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(address), 0))]


async def _acquired(sockets: asyncio.Semaphore, ends: float) -> None:
    try:
        async with asyncio.timeout_at(ends):
            await sockets.acquire()
    except TimeoutError:
        raise Starved(f"{MAX_SOCKETS} sockets are in use") from None


async def first_passed(tries: Sequence[Coroutine[Any, Any, str]]) -> str:
    """Empty as soon as one of the tries passed, which ends the others; else the reason of the last one."""
    tasks = [asyncio.create_task(one) for one in tries]
    running = set(tasks)
    while running:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        if any(not task.result() for task in done):
            for task in running:
                task.cancel()
            return ""
    return tasks[-1].result()


class _Lag:
    """Measures how late the event loop calls back."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._tick()

    def _tick(self) -> None:
        now = self._loop.time()
        self.worst = max(self.worst, now - self._due)
        self._due = now + TICK_SECONDS
        self._loop.call_at(self._due, self._tick)
