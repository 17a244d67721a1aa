"""Only says what is active: to see a receiver work before it moves anything. Copy it as switch.py beside a receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from link_receiver import Target


def switch_to(target: Target) -> None:
    """Yours moves the address, the record or the traffic. A second call with the same target must do no harm."""
    print(f"active: {target.host} ({target.endpoint_id}), fence {target.fence}", flush=True)
