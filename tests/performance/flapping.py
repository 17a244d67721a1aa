"""`python -m tests.performance.flapping`: what two hosts that fail in turn cost a minute, with and without damping.

Each period one host reports FAILING and the other one ACTIVATED, in either order. Then it is measured how long a single
failure takes until the other receiver is told, which damping must not change. In virtual time, with the real code.
"""

from __future__ import annotations

from tests.simulation.cloud import simulated
from tests.world import World

PERIODS_MS = (300, 1_000, 10_000, 60_000)
MINUTES = 10
CALLS = ("get_item", "put_item", "transact_write_items", "decrypt", "send_message")


def world(damping: bool) -> tuple[World, list[str]]:
    """Two ready endpoints, of which paris is active."""
    made = World(in_memory=True)
    made.cloud.env["FLAP_DAMPING"] = "true" if damping else "false"
    hosts = [made.register("paris"), made.register("london")]
    for host in hosts:
        made.report(host, "ACTIVATED")
    made.settle(10_000)
    return made, hosts


def flapping(period_ms: int, damping: bool) -> list[tuple[int, int, int]]:
    """Webhooks, grants and AWS calls of each minute."""
    made, hosts = world(damping)
    minutes, turn = [], 0
    for _ in range(MINUTES):
        end, requests, epoch = made.clock.now() + 60_000, len(made.receiver.requests), made.resource().epoch
        made.calls.clear()
        while made.clock.now() < end:
            reports = [(hosts[turn % 2], "FAILING"), (hosts[1 - turn % 2], "ACTIVATED")]
            began = made.clock.now()
            for host, status in reports if turn % 4 < 2 else reversed(reports):
                made.report(host, status)
            made.settle(max(0, began + period_ms - made.clock.now()))
            turn += 1
        calls = sum(made.calls[name] for name in CALLS)
        minutes.append((len(made.receiver.requests) - requests, made.resource().epoch - epoch, calls))
    return minutes


def takeover_ms(damping: bool) -> int:
    """From the report of a single failure to the other receiver's ACTIVATED."""
    made, hosts = world(damping)
    began = made.clock.now()
    made.report(hosts[0], "FAILING")
    return made.receiver.requests[-1].at - began


def main() -> None:
    print("| every | damping | webhooks a minute | grants a minute | AWS calls a minute |")
    print("|---|---|---|---|---|")
    with simulated():
        for period_ms in PERIODS_MS:
            for damping in (False, True):
                minutes = flapping(period_ms, damping)
                first, mean = minutes[0], [round(sum(column) / MINUTES) for column in zip(*minutes, strict=True)]
                shown = " | ".join(f"{mean[i]}, in the first {first[i]}" for i in range(3))
                print(f"| {period_ms / 1000:g} s | {'on' if damping else 'off'} | {shown} |")
        print(f"\nA single failure: {takeover_ms(False)} ms without damping, {takeover_ms(True)} ms with it.")


if __name__ == "__main__":
    main()
