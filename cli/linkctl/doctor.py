"""What `linkctl doctor` looks at, in this order. It changes nothing."""

from __future__ import annotations

import email.utils
import importlib.metadata
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from linkctl import show
from linkctl.errors import Refused, Unreachable
from linkctl.invocation import Invocation

MAX_CLOCK_SECONDS = 2.0
"""As for the agent."""
NAMED = 5
"""How many endpoints or resources a line names."""
_DENIED = ("AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException")


class Problem(Exception):
    """A check found something wrong. `todo` says what to do."""

    def __init__(self, found: str, todo: str) -> None:
        super().__init__(found)
        self.todo = todo


class NotChecked(Exception):
    """A check could not be made; the text says why."""


@dataclass(frozen=True)
class Check:
    """One line of the list. `after` names the checks without which it cannot be made."""

    title: str
    needs: str
    look: Callable[[Deployed], str]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """The result of a check: passed, failed or not checked."""

    check: str
    result: str
    found: str
    todo: str = ""


class Deployed:
    """The deployment that is looked at; what several checks need is fetched once."""

    def __init__(self, run: Invocation) -> None:
        self.run = run
        self.deployment = run.deployment

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The answer of STS to GetCallerIdentity, also if it is an error, with `ahead`: see below.

        `ahead` is by how many seconds this clock is ahead of the header Date, at least; None without that header.
        """
        before = time.time()
        try:
            answer: dict[str, Any] = self.deployment.client("sts").get_caller_identity()
        except ClientError as error:
            answer = dict(error.response)
        after = time.time()
        header = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if header is None:
            return answer | {"ahead": None}
        date = email.utils.parsedate_to_datetime(header).timestamp()
        # The answer was made between `before` and `after`, and within the second that Date has.
        return answer | {"ahead": max(0.0, before - (date + 1)) - max(0.0, date - after)}

    @cached_property
    def version(self) -> str:
        """The version of the deployment."""
        return str(self.run.call("GET", "/version")["version"])

    @cached_property
    def endpoints(self) -> list[dict[str, Any]]:
        """All endpoints."""
        return self.run.pages("/endpoints", "endpoints")

    @cached_property
    def resources(self) -> list[dict[str, Any]]:
        """All resources."""
        return self.run.pages("/resources", "resources")

    def waiting(self, output: str) -> int:
        """Return how many messages are in the queue of an output."""
        answer = self.deployment.client("sqs").get_queue_attributes(
            QueueUrl=self.deployment.output(output), AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def credentials(on: Deployed) -> str:
    session = on.deployment.session
    if session.region_name is None:
        raise Problem("there is no region", "Set AWS_REGION, or give --region.")
    try:
        found = on.identity
    except BotoCoreError as error:
        todo = on.deployment.way_to_credentials().strip() or "Run `aws configure`, or set AWS_PROFILE."
        raise Problem(str(error), todo) from None
    if "Error" in found:
        raise Problem(
            f"{found['Error']['Code']}: {found['Error'].get('Message', '')}", "Use other keys, or sign in again."
        )
    return f"{found['Arn']} in {session.region_name}"


def clock(on: Deployed) -> str:
    try:
        ahead = on.identity["ahead"]
    except BotoCoreError:
        ahead = None
    if ahead is None:
        raise NotChecked("no answer of AWS has a time")
    if abs(ahead) > MAX_CLOCK_SECONDS:
        raise Problem(
            f"this machine is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} AWS",
            "Set the clock (NTP). The lease of a host with a slow clock ends early, and AWS refuses signatures that "
            "are more than 5 minutes old.",
        )
    return f"this machine and AWS agree within {MAX_CLOCK_SECONDS:g} s"


def stack(on: Deployed) -> str:
    status = on.deployment.description["StackStatus"]
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise Problem(
            f"{on.deployment.stack} is {status}", "Read the stack's events, fix the first error and deploy again."
        )
    return f"{on.deployment.stack} is {status}"


def api(on: Deployed) -> str:
    return f"{on.deployment.url} has version {on.version}"


def version(on: Deployed) -> str:
    try:
        own = importlib.metadata.version("linkctl")
    except importlib.metadata.PackageNotFoundError:
        raise NotChecked("linkctl runs from a checkout") from None
    if own != on.version:
        raise Problem(f"the deployment has {on.version}, linkctl has {own}", "Install linkctl of the deployed version.")
    return "linkctl has the same version"


def bus(on: Deployed) -> str:
    name = on.deployment.event_bus or on.deployment.output("EventBusName")
    on.deployment.client("events").describe_event_bus(Name=name)
    return f"{name} is there. Whether hosts may put events on it is shown by their reports"


def alarms(on: Deployed) -> str:
    pages = on.deployment.client("cloudwatch").get_paginator("describe_alarms")
    found = [
        alarm for page in pages.paginate(AlarmNamePrefix=f"{on.deployment.stack}-") for alarm in page["MetricAlarms"]
    ]
    raised = [alarm["AlarmName"] for alarm in found if alarm["StateValue"] == "ALARM"]
    if raised:
        raise Problem(f"in ALARM: {_some(raised)}", "The alarm's description says what to do.")
    topics = {topic for alarm in found for topic in alarm["AlarmActions"]}
    if not topics:
        raise Problem(f"{len(found)} alarms notify nobody", "Deploy with AlarmTopicArn, the ARN of an SNS topic.")
    for topic in topics:
        answer = on.deployment.client("sns").list_subscriptions_by_topic(TopicArn=topic)
        if not any(one["SubscriptionArn"] != "PendingConfirmation" for one in answer["Subscriptions"]):
            raise Problem(
                f"{topic} has no confirmed subscription", "Subscribe to it, and confirm by the link in the mail."
            )
    return f"{len(found)} alarms notify {_some(sorted(topics))}, none is in ALARM"


def rejected(on: Deployed) -> str:
    number = on.waiting("RejectedEventsQueueUrl")
    if number:
        raise Problem(
            f"{number} status events were rejected",
            "event.rejected in the log of EndpointStatus has the reasons. The events are in the queue of the output "
            "RejectedEventsQueueUrl for 14 days; purge it when they are explained.",
        )
    return "no status event was rejected in the last days"


def dead_letters(on: Deployed) -> str:
    names = [name for name in on.deployment.outputs if name.endswith("DeadLetterQueueUrl")]
    full = [f"{number} in {name}" for name in names if (number := on.waiting(name))]
    if full:
        raise Problem(f"messages failed: {_some(full)}", "Do what the description of the queue's alarm says.")
    return f"{len(names)} dead-letter queues are empty"


def reports(on: Deployed) -> str:
    silent = [show.place(one) for one in on.endpoints if one["status"] == "BOOTING" and not one.get("drained")]
    if silent:
        raise Problem(
            f"{len(silent)} of {len(on.endpoints)} endpoints were never reported for: {_some(silent)}",
            "Start what reports for them: `linkctl agent`, an own script, or a probe. `linkctl resources show` says "
            "which observer is missing, `linkctl report … --wait` whether a report counts.",
        )
    return f"all of {len(on.endpoints)} endpoints were reported for"


def holders(on: Deployed) -> str:
    without = [one["resource_id"] for one in on.resources if one["holder"] is None]
    if without:
        raise Problem(
            f"{len(without)} of {len(on.resources)} resources have no active endpoint: {_some(without)}",
            "`linkctl resources show` says what each endpoint waits for.",
        )
    return f"each of {len(on.resources)} resources has an active endpoint"


def deliveries(on: Deployed) -> str:
    pending = [one["resource_id"] for one in on.resources if one["undelivered"]]
    if pending:
        raise Problem(
            f"{len(pending)} resources have undelivered webhooks: {_some(pending)}",
            "`linkctl resources show` says why. When the receiver works again: `linkctl endpoints redeliver`.",
        )
    return "every webhook was delivered"


def _some(names: list[str]) -> str:
    """Return the first names.

    >>> _some(["a", "b"]), _some(list("abcdefg"))
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


INVOKE = "execute-api:Invoke"
CHECKS = (
    Check("credentials", "credentials of AWS", credentials),
    Check("clock", "an answer of AWS", clock),
    Check("stack", "cloudformation:DescribeStacks", stack, ("credentials",)),
    Check("API", INVOKE, api, ("credentials",)),
    Check("version", INVOKE, version, ("API",)),
    Check("event bus", "events:DescribeEventBus", bus, ("credentials",)),
    Check("alarms", "cloudwatch:DescribeAlarms, sns:ListSubscriptionsByTopic", alarms, ("credentials",)),
    Check("rejected events", "sqs:GetQueueAttributes", rejected, ("stack",)),
    Check("dead letters", "sqs:GetQueueAttributes", dead_letters, ("stack",)),
    Check("reports", INVOKE, reports, ("API",)),
    Check("active endpoints", INVOKE, holders, ("API",)),
    Check("deliveries", INVOKE, deliveries, ("API",)),
)


def examine(run: Invocation) -> Iterator[Finding]:
    """Make each check and yield what it found."""
    on = Deployed(run)
    failed: set[str] = set()
    for check in CHECKS:
        missing = [title for title in check.after if title in failed]
        finding = Finding(check.title, "not checked", f"needs {' and '.join(missing)}") if missing else _make(check, on)
        if finding.result != "passed":
            failed.add(check.title)
        yield finding


def _make(check: Check, on: Deployed) -> Finding:
    try:
        return Finding(check.title, "passed", check.look(on))
    except Problem as problem:
        return Finding(check.title, "failed", str(problem), problem.todo)
    except NotChecked as reason:
        return Finding(check.title, "not checked", str(reason))
    except ClientError as error:
        if error.response["Error"]["Code"] in _DENIED:
            return Finding(check.title, "not checked", f"these credentials lack {check.needs}")
        return Finding(check.title, "failed", str(error), f"It needs {check.needs}.")
    except (BotoCoreError, Unreachable, Refused) as error:
        first, _, todo = str(error).partition("\n")
        return Finding(check.title, "failed", first, todo or "Check the network, the region and the stack's name.")
