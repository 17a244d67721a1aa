"""Associates an Elastic IP with the active host's network interface, and with none while no endpoint is active.

Copy it as switch.py beside ../receivers/lambda_function.py and set ALLOCATION_ID=eipalloc-… and
INTERFACES='{"paris": "eni-…", "london": "eni-…"}'. Its permissions are in elastic_ip.policy.json.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from link.receiver import Target

ALLOCATION_ID = os.environ["ALLOCATION_ID"]
INTERFACES: dict[str | None, str] = json.loads(os.environ["INTERFACES"])
# Two calls of at most two attempts of 3 s each: together less than the 15 s of a turn.
ec2 = boto3.client("ec2", config=Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2}))


def switch_to(target: Target) -> None:
    """A second call with the same target changes nothing."""
    interface = None if target.endpoint_id is None else INTERFACES[target.host]
    (address,) = ec2.describe_addresses(AllocationIds=[ALLOCATION_ID])["Addresses"]
    if (address.get("NetworkInterfaceId") or None) == interface:
        return
    if interface is None:
        ec2.disassociate_address(AssociationId=address["AssociationId"])
    else:
        ec2.associate_address(AllocationId=ALLOCATION_ID, NetworkInterfaceId=interface, AllowReassociation=True)
