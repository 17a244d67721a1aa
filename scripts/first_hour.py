"""The first hour on a real AWS account: what a local cloud cannot show, as a list of steps with a result each.

    python -m scripts.first_hour --dry-run
    python -m scripts.first_hour --stack link-webhook --region eu-west-1 [--write --receiver URL]

Reads only, unless --write is given. Exit status: 0 if every step passed, 1 if one failed, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError

FUNCTIONS = ("EndpointStatus", "Reconcile", "Refresh", "EndpointsApi", "KeyRotation", "Probe", "ProbeClock")
IN_A_LOOP = ("EndpointStatus", "Reconcile")
CONSUMERS = (*IN_A_LOOP, "Probe")
SCHEDULED = ("Refresh", "ProbeClock")
TABLES = ("Locks", "Endpoints", "Transitions")
LEASE_SECONDS = 5
HEARTBEAT_SECONDS = 2
ELECTED_WITHIN_SECONDS = 60
LINES = 1_000
RECENT_MINUTES = 15


class Failed(Exception):
    """A step found something wrong. `then` says what to do."""

    def __init__(self, seen: str, then: str) -> None:
        super().__init__(seen)
        self.then = then


@dataclass
class Account:
    """The deployed stack, seen with the caller's credentials."""

    stack: str
    region: str
    api_url: str = ""
    receiver: str = ""
    minutes: float = 30
    sleep: Callable[[float], None] = time.sleep
    session: Any = field(default_factory=boto3.Session)
    _stack: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        return self.session.client(service, region_name=self.region)

    def described(self) -> dict[str, Any]:
        """Return the description of the stack, read once."""
        if not self._stack:
            [self._stack] = self.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"]
        return self._stack

    def output(self, name: str) -> str:
        """Return an output of the stack."""
        found = {each["OutputKey"]: each["OutputValue"] for each in self.described().get("Outputs", [])}
        if name not in found:
            raise Failed(f"the stack has no output {name}", "Deploy this version of the template.")
        return str(found[name])

    def call(self, method: str, path: str, body: object = None, *, signed: bool = True) -> tuple[int, Any]:
        """Call the API; return the status and the answer."""
        data = None if body is None else json.dumps(body).encode()
        url = (self.api_url or self.output("ApiUrl")) + path
        request = AWSRequest(method=method, url=url, data=data, headers={"Content-Type": "application/json"})
        if signed:
            SigV4Auth(self.session.get_credentials(), "execute-api", self.region).add_auth(request)
        plain = urllib.request.Request(url, data=data, headers=dict(request.headers.items()), method=method)
        try:
            with urllib.request.urlopen(plain, timeout=30) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        except urllib.error.URLError as error:
            raise Failed(f"the API cannot be reached: {error.reason}", "Check the network and the region.") from None
        try:
            return status, json.loads(text) if text else ""
        except ValueError:
            return status, text.decode(errors="replace")

    def sum_of(self, metric: str, function: str, minutes: int) -> float:
        """Return the sum of a function's metric over the last minutes."""
        now = datetime.now(UTC)
        points = self.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName=metric,
            Dimensions=[{"Name": "FunctionName", "Value": function}],
            StartTime=now - timedelta(minutes=minutes),
            EndTime=now,
            Period=60,
            Statistics=["Sum"],
        )["Datapoints"]
        return float(sum(point["Sum"] for point in points))


# --- Steps that read


def stack_is_complete(account: Account) -> str:
    status = account.described()["StackStatus"]
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise Failed(f"the stack is {status}", "Read the stack's events, fix the first error and deploy again.")
    return f"the stack is {status}"


def signed_call_is_answered(account: Account) -> str:
    status, answer = account.call("GET", "/version")
    if status == 403:
        raise Failed(f"403 {answer}", "Grant the caller execute-api:Invoke on the API.")
    if status != 200:
        raise Failed(
            f"{status} {answer}",
            "If the API's function has no error in its log, API Gateway could not call it: the integrations must not "
            "have credentials (InvokeRole: NONE).",
        )
    return f"200 {answer}"


def unsigned_call_is_refused(account: Account) -> str:
    status, answer = account.call("GET", "/version", signed=False)
    if status != 403:
        raise Failed(f"{status} {answer}", "The API must have the authorizer AWS_IAM. Delete the stage until it has.")
    return "403"


def loop_is_allowed(account: Account) -> str:
    function = account.output("ReconcileFunctionName")
    setting = account.client("lambda").get_function_recursion_config(FunctionName=function)["RecursiveLoop"]
    if setting != "Allow":
        raise Failed(
            f"RecursiveLoop is {setting}",
            f"aws lambda put-function-recursion-config --recursive-loop Allow --function-name {function}",
        )
    return "RecursiveLoop is Allow"


def queues_are_read(account: Account) -> str:
    seen = []
    for name in CONSUMERS:
        # A queue invokes the alias. Lambda does not list its mapping under the function's name alone.
        function = f"{account.output(f'{name}FunctionName')}:live"
        mappings = account.client("lambda").list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
        states = [mapping["State"] for mapping in mappings]
        if states != ["Enabled"]:
            raise Failed(
                f"{function} has the event sources {states}",
                "Enable it: aws lambda update-event-source-mapping --enabled",
            )
        seen.append(mappings[0].get("ScalingConfig", {}).get("MaximumConcurrency"))
    if None in seen:
        raise Failed("an event source has no MaximumConcurrency", "Deploy this version of the template.")
    limit = account.client("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    if sum(seen) >= limit:
        raise Failed(
            f"the queues together may use {sum(seen)} of {limit} concurrent executions",
            f"Deploy with MaximumConcurrency={max(2, limit * 3 // 10)}, or request a higher quota.",
        )
    return f"the queues together may use {sum(seen)} of {limit} concurrent executions"


def tables_are_protected(account: Account) -> str:
    dynamodb = account.client("dynamodb")
    for name in TABLES:
        table = account.output(f"{name}TableName")
        if not dynamodb.describe_table(TableName=table)["Table"].get("DeletionProtectionEnabled"):
            raise Failed(f"{table} has no deletion protection", "Deploy again with DeletionProtection=true.")
        backups = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
        if backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] != "ENABLED":
            raise Failed(f"{table} has no point-in-time recovery", "Enable it, then look for drift of the stack.")
    return f"{len(TABLES)} tables have deletion protection and point-in-time recovery"


def key_is_multi_region(account: Account) -> str:
    kms, key = account.client("kms"), account.output("SecretsKeyArn")
    if not kms.describe_key(KeyId=key)["KeyMetadata"].get("MultiRegion"):
        raise Failed("the key is bound to its Region", "Cannot be changed: see docs/real-account.md.")
    if not kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]:
        raise Failed("the key does not rotate", f"aws kms enable-key-rotation --key-id {key}")
    return "the key is multi-Region and rotates"


def schedules_run(account: Account) -> str:
    seen = []
    for name in SCHEDULED:
        function = account.output(f"{name}FunctionName")
        runs = account.sum_of("Invocations", function, 10)
        if runs < 1:
            raise Failed(
                f"{function} did not run in 10 minutes",
                "Check that its rule is enabled. If the stack is new, wait and repeat.",
            )
        seen.append(f"{function} ran {runs:.0f} times")
    return f"{' and '.join(seen)} in 10 minutes"


def nothing_was_dropped(account: Account) -> str:
    for name in IN_A_LOOP:
        function = account.output(f"{name}FunctionName")
        dropped = account.sum_of("RecursiveInvocationsDropped", function, 60)
        if dropped:
            raise Failed(f"Lambda stopped {function} as a loop {dropped:.0f} times", "See the step 'loop is allowed'.")
    return "Lambda stopped no chain of wake-ups in the last hour"


def no_dead_letters(account: Account) -> str:
    names = [each["OutputKey"] for each in account.described()["Outputs"] if "DeadLetterQueueUrl" in each["OutputKey"]]
    for name in names:
        answer = account.client("sqs").get_queue_attributes(
            QueueUrl=account.output(name), AttributeNames=["ApproximateNumberOfMessages"]
        )
        number = int(answer["Attributes"]["ApproximateNumberOfMessages"])
        if number:
            raise Failed(f"{number} messages in {name}", "Do what the queue's alarm says.")
    return f"{len(names)} dead-letter queues are empty"


def alarms_notify(account: Account) -> str:
    pages = account.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{account.stack}-")
    alarms = [alarm for page in pages for alarm in page["MetricAlarms"]]
    raised = [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"]
    if raised:
        raise Failed(f"in ALARM: {', '.join(raised)}", "Read the alarm's description.")
    silent = [alarm for alarm in alarms if not alarm["AlarmActions"]]
    if silent or not alarms:
        raise Failed(f"{len(silent)} of {len(alarms)} alarms notify nothing", "Deploy with AlarmTopicArn.")
    return f"{len(alarms)} alarms notify a topic, none is in ALARM"


def log_lines_are_whole(account: Account) -> str:
    read = 0
    for name in FUNCTIONS:
        function = account.output(f"{name}FunctionName")
        logging = account.client("lambda").get_function_configuration(FunctionName=function)["LoggingConfig"]
        events = account.client("logs").filter_log_events(logGroupName=logging["LogGroup"], limit=LINES)["events"]
        for event in events:
            if event["message"].startswith("{"):
                read += 1
                try:
                    json.loads(event["message"])
                except ValueError:
                    raise Failed(
                        f"a line of {logging['LogGroup']} is not JSON, at {event['timestamp']}",
                        "Two threads wrote into one line, and its metrics are lost. Report it with the line.",
                    ) from None
    return f"{read} lines are JSON"


def access_log_names_invocations(account: Account) -> str:
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in account.described().get("Parameters", [])}
    if parameters.get("ApiAccessLog") != "true":
        return "nothing to compare, ApiAccessLog is not true"
    resource = account.client("cloudformation").describe_stack_resource(
        StackName=account.stack, LogicalResourceId="ApiAccessLogGroup"
    )["StackResourceDetail"]
    function = account.output("EndpointsApiFunctionName")
    configuration = account.client("lambda").get_function_configuration(FunctionName=function)
    since = round((time.time() - RECENT_MINUTES * 60) * 1000)

    def lines(group: str, of: str) -> list[str]:
        answer = account.client("logs").filter_log_events(
            logGroupName=group, startTime=since, filterPattern=of, limit=LINES
        )
        return [event["message"] for event in answer["events"]]

    # Lambda's id of an invocation: the code takes it as the cause's id of the audit.
    ran = {line.split()[2] for line in lines(configuration["LoggingConfig"]["LogGroup"], "START")}
    logged = {json.loads(line)["invocation"] for line in lines(resource["PhysicalResourceId"], '{$.status = "2*"}')}
    if not logged & ran:
        raise Failed(
            f"{len(logged)} calls in the access log, {len(ran)} invocations in the function's log, no id in both",
            "Logs may be a minute late: wait and repeat. If it fails again, do not trust `invocation`: report it.",
        )
    return f"{len(logged & ran)} of {len(logged)} calls in the access log have the id of an invocation"


# --- Steps that write


def endpoints_are_elected(account: Account) -> str:
    """Register two endpoints with the shortest lease, report for some time, and delete both in any case."""
    resource, endpoints = f"first-hour-{secrets.token_hex(4)}", list[str]()
    try:
        for host in ("paris", "london"):
            config = {"url": account.receiver, "resource_id": resource, "secret": secrets.token_hex(16)}
            body = {"plugin": "webhook", "host": host, "lease_seconds": LEASE_SECONDS, "plugin_config": config}
            status, answer = account.call("POST", "/endpoints", body)
            if status != 201:
                raise Failed(f"registering: {status} {answer}", "Read the answer. Is the receiver's URL allowed?")
            endpoints.append(answer["endpoint"]["id"])
        rounds = 0
        for elapsed in _every(HEARTBEAT_SECONDS, max(account.minutes * 60, ELECTED_WITHIN_SECONDS)):
            _report(account, resource, endpoints)
            account.sleep(HEARTBEAT_SECONDS)
            status, answer = account.call("GET", f"/resources?resource_id={urllib.parse.quote(resource)}")
            if status != 200:
                raise Failed(f"reading the resource: {status} {answer}", "Read the log of the API's function.")
            if answer["resource"]["holder"] is not None:
                rounds += 1
            elif elapsed > ELECTED_WITHIN_SECONDS:
                raise Failed(
                    f"no holder {elapsed:.0f} s after the first report", "Read the log of the endpoint_status function."
                )
            if rounds and not account.minutes:
                break
        if not rounds:
            raise Failed("the resource never had a holder", "Read the log of the endpoint_status function.")
        return f"the resource had a holder in {rounds} reads, over {account.minutes:g} minutes"
    finally:
        for endpoint in endpoints:
            status, answer = account.call("DELETE", f"/endpoints/{endpoint}?force=true")
            if status != 204:
                print(f"   delete {endpoint} yourself: {status} {answer}")


def _every(step: float, limit: float) -> Iterator[float]:
    elapsed = 0.0
    while elapsed < limit:
        yield elapsed
        elapsed += step


def _report(account: Account, resource: str, endpoints: list[str]) -> None:
    now = round(time.time() * 1000)
    answer = account.client("events").put_events(
        Entries=[
            {
                "EventBusName": account.output("EventBusName"),
                "Source": "link",
                "DetailType": "Endpoint Status Change",
                "Detail": json.dumps(
                    {"endpoint_id": endpoint, "resource_id": resource, "status": "ACTIVATED", "reported_at": now}
                ),
            }
            for endpoint in endpoints
        ]
    )
    if answer["FailedEntryCount"]:
        raise Failed(f"EventBridge refused: {answer['Entries']}", "Grant the caller events:PutEvents on the bus.")


@dataclass(frozen=True)
class Step:
    """One line of the list."""

    title: str
    calls: tuple[str, ...]
    check: Callable[[Account], str]
    writes: bool = False


API = "execute-api:Invoke"
STEPS = (
    Step("the stack is complete", ("cloudformation:DescribeStacks",), stack_is_complete),
    Step("a signed call is answered, with execute-api:Invoke only", (f"{API} GET /version",), signed_call_is_answered),
    Step("an unsigned call is refused", ("GET /version without a signature",), unsigned_call_is_refused),
    Step("the loop of wake-ups is allowed", ("lambda:GetFunctionRecursionConfig",), loop_is_allowed),
    Step(
        "the queues are read and leave concurrency to others",
        ("lambda:ListEventSourceMappings", "lambda:GetAccountSettings"),
        queues_are_read,
    ),
    Step(
        "the tables cannot be deleted and can be restored",
        ("dynamodb:DescribeTable", "dynamodb:DescribeContinuousBackups"),
        tables_are_protected,
    ),
    Step("the key is multi-Region", ("kms:DescribeKey", "kms:GetKeyRotationStatus"), key_is_multi_region),
    Step("the sweep and the clock of the probes run", ("cloudwatch:GetMetricStatistics",), schedules_run),
    Step(
        "two endpoints with a lease of 5 s keep a holder",
        (
            f"{API} POST /endpoints, GET /resources, DELETE /endpoints/{{id}}",
            "events:PutEvents",
        ),
        endpoints_are_elected,
        writes=True,
    ),
    Step("Lambda stopped no chain of wake-ups", ("cloudwatch:GetMetricStatistics",), nothing_was_dropped),
    Step("the dead-letter queues are empty", ("sqs:GetQueueAttributes",), no_dead_letters),
    Step("the alarms notify a topic and none is raised", ("cloudwatch:DescribeAlarms",), alarms_notify),
    Step(
        "every log line is whole", ("lambda:GetFunctionConfiguration", "logs:FilterLogEvents"), log_lines_are_whole
    ),
    Step(
        "the access log names the invocation, as the audit does",
        ("cloudformation:DescribeStackResource", "lambda:GetFunctionConfiguration", "logs:FilterLogEvents"),
        access_log_names_invocations,
    ),
)  # fmt: skip


def run(account: Account, *, write: bool) -> int:
    """Run the steps and print each result; return how many failed."""
    failed = 0
    for number, step in enumerate(STEPS, 1):
        if step.writes and not write:
            print(f"{number:2} skipped  {step.title}\n            it writes: run again with --write --receiver URL")
            continue
        try:
            print(f"{number:2} passed   {step.title}: {step.check(account)}")
            continue
        except Failed as problem:
            seen, then = str(problem), problem.then
        except (ClientError, BotoCoreError) as error:
            seen, then = str(error), f"The caller needs {', '.join(step.calls)}, and credentials for the right account."
        failed += 1
        print(f"{number:2} FAILED   {step.title}: {seen}\n            what to do: {then}")
    print(f"{failed} failed." if failed else "Nothing failed.")
    return failed


def dry_run() -> None:
    """Print the steps and what each of them calls. Calls nothing."""
    for number, step in enumerate(STEPS, 1):
        print(f"{number:2} {step.title}{' (only with --write)' if step.writes else ''}\n     {'; '.join(step.calls)}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--stack", help="the stack's name")
    parser.add_argument("--region", help="the stack's region")
    parser.add_argument("--api-url", default="", help="instead of the output ApiUrl, for a custom domain")
    parser.add_argument("--write", action="store_true", help="also register two endpoints and report for them")
    parser.add_argument("--receiver", default="", help="with --write: a URL that answers 2xx")
    parser.add_argument("--minutes", type=float, default=30, help="with --write: how long to report; 0 until elected")
    parser.add_argument("--dry-run", action="store_true", help="print the steps and their calls, call nothing")
    options = parser.parse_args(arguments)
    if options.dry_run:
        dry_run()
        return 0
    if not options.stack or not options.region:
        parser.error("give --stack and --region, or --dry-run")
    if options.write and not options.receiver:
        parser.error("--write needs --receiver: a URL of yours that answers 2xx, to which webhooks are sent")
    account = Account(options.stack, options.region, options.api_url.rstrip("/"), options.receiver, options.minutes)
    return 1 if run(account, write=options.write) else 0


if __name__ == "__main__":
    raise SystemExit(main())
