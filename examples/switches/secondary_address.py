"""Moves a secondary private address to the active host's network interface, and removes it while no endpoint is active.

Copy it as switch.py beside ../receivers/lambda_function.py and set ADDRESS=10.0.0.50 and
INTERFACES='{"paris": "eni-…", "london": "eni-…"}', of one subnet. Its permissions are in secondary_address.policy.json.
The hosts' systems must know the address, too: `ip address add 10.0.0.50/32 dev lo` on each of them.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from link.receiver import Target

ADDRESS = os.environ["ADDRESS"]
INTERFACES: dict[str | None, str] = json.loads(os.environ["INTERFACES"])
# Two calls of at most two attempts of 3 s each: together less than the 15 s of a turn.
ec2 = boto3.client("ec2", config=Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2}))


def switch_to(target: Target) -> None:
    """A second call with the same target changes nothing."""
    interface = None if target.endpoint_id is None else INTERFACES[target.host]
    holder = _holder()
    if holder == interface:
        return
    if interface is not None:
        ec2.assign_private_ip_addresses(
            NetworkInterfaceId=interface, PrivateIpAddresses=[ADDRESS], AllowReassignment=True
        )
    elif holder is not None:
        ec2.unassign_private_ip_addresses(NetworkInterfaceId=holder, PrivateIpAddresses=[ADDRESS])


def _holder() -> str | None:
    """The interface that has the address."""
    described = ec2.describe_network_interfaces(NetworkInterfaceIds=list(INTERFACES.values()))
    for interface in described["NetworkInterfaces"]:
        if ADDRESS in [address["PrivateIpAddress"] for address in interface["PrivateIpAddresses"]]:
            return interface["NetworkInterfaceId"]
    return None
