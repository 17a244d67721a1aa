"""Points an A record at the active host. It compares fences: a TXT record beside it has that of the last change.

Copy it as switch.py beside ../receivers/lambda_function.py and set ZONE_ID=Z…, RECORD=web.example.com and
ADDRESSES='{"paris": "192.0.2.1", "london": "192.0.2.2"}'. Its permissions are in route53.policy.json.
While no endpoint is active the record stays: resolvers would remember for long that the name does not exist.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from link.receiver import Target

ZONE_ID = os.environ["ZONE_ID"]
RECORD = os.environ["RECORD"].rstrip(".") + "."
FENCE = f"_fence.{RECORD}"
TTL_SECONDS = 30
ADDRESSES: dict[str | None, str] = json.loads(os.environ["ADDRESSES"])
# Three calls of one or two attempts of at most 2 s each: together less than the 15 s of a turn.
route53 = boto3.client("route53", config=Config(connect_timeout=1, read_timeout=1, retries={"total_max_attempts": 2}))


def switch_to(target: Target) -> None:
    """A second call with the same target changes nothing."""
    if target.endpoint_id is None:
        return
    record, fence = _record(RECORD, "A", ADDRESSES[target.host]), _record(FENCE, "TXT", f'"{target.fence}"')
    before = _stored(FENCE, "TXT")
    if before is not None and int(before["ResourceRecords"][0]["Value"].strip('"')) > target.fence:
        return
    if before == fence and _stored(RECORD, "A") == record:
        return
    # Route 53 makes all of these changes or none, and deletes only exactly what is there: of two writers one fails.
    changes = [] if before is None else [{"Action": "DELETE", "ResourceRecordSet": before}]
    changes += [{"Action": "CREATE", "ResourceRecordSet": fence}, {"Action": "UPSERT", "ResourceRecordSet": record}]
    route53.change_resource_record_sets(HostedZoneId=ZONE_ID, ChangeBatch={"Changes": changes})


def _record(name: str, kind: str, value: str) -> dict[str, Any]:
    return {"Name": name, "Type": kind, "TTL": TTL_SECONDS, "ResourceRecords": [{"Value": value}]}


def _stored(name: str, kind: str) -> dict[str, Any] | None:
    listed = route53.list_resource_record_sets(
        HostedZoneId=ZONE_ID, StartRecordName=name, StartRecordType=kind, MaxItems="1"
    )
    # The first one at or after the name.
    return next((one for one in listed["ResourceRecordSets"] if (one["Name"], one["Type"]) == (name, kind)), None)
