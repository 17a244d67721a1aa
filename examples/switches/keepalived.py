"""Writes the file that keepalived tracks on this host: 0 while this host is active, otherwise 1, which is a fault.

Copy it as switch.py beside ../receivers/server.py on each host, register each host's own receiver, and set HOST=paris
and TRACK_FILE=/run/link/standby. keepalived.conf says, the second one in a vrrp_instance:
    track_file standby {
        file "/run/link/standby"
        weight 0
        init_file 1
    }
    track_file {
        standby
    }
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from link_receiver import Target

HOST = os.environ["HOST"]
TRACK_FILE = Path(os.environ["TRACK_FILE"])


def switch_to(target: Target) -> None:
    """A second call with the same target writes the same."""
    written = TRACK_FILE.with_name(f"{TRACK_FILE.name}.new")
    written.write_text("0\n" if target.host == HOST else "1\n")
    # keepalived never reads half a file.
    written.replace(TRACK_FILE)
