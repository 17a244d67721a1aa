"""Measures a client under an attack, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.attacks import Attack, receiver
from tests.hostile.certificates import Authority
from tests.hostile.receiver import Receiver

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "layers" / "shared")])}

STOPPED, CRASHED = "stopped", "crashed"


@dataclass(frozen=True)
class Figures:
    """What an attack cost: additional `mb` and seconds of `cpu`.

    `ended` is false if the client had to be stopped or was not even able to answer a harmless receiver.
    """

    seconds: float
    mb: float = 0.0
    cpu: float = 0.0
    outcome: str = ""
    threads: int = 0
    ended: bool = True


def measure(client: str, attack: Attack, transport: str, authority: Authority, *, patience: float) -> Figures:
    """Return the figures of one attack on one client; `patience` in seconds."""
    context = authority.server_context()
    with receiver(attack, transport, context) as attacker, Receiver(tls=authority.server_context()) as harmless:
        command = [
            sys.executable,
            "-m",
            "tests.hostile.client",
            client,
            harmless.url,
            attacker.url,
            str(authority.path),
        ]
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        try:
            output, _ = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return Figures(patience, outcome=STOPPED, ended=False)
    return Figures(**json.loads(output)) if process.returncode == 0 else Figures(0, outcome=CRASHED, ended=False)
