"""Each alarm of the template, from the fault to the metric that raises it. Without the fault it stays quiet."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError
from botocore.exceptions import ClientError

from link.probing.states import MANY, MAX_LAG_MS, SLOT_MS
from link.signals.events import HOOK_WAITS_MS
from tests.support.functions import Deployment, event
from tests.support.ids import RESOURCE
from tests.support.stack import Stack, batch
from tests.support.transformed import deployed, of_type, raised_by

RESOURCES = deployed()
ALARMS = of_type(RESOURCES, "AWS::CloudWatch::Alarm")
STATISTICS: dict[str, Callable[[list[float]], float]] = {"Sum": sum, "Maximum": max}
QUICK_MS = 1_000
SIGNAL = {"type": "alarm", "arn": "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:paris"}
PARIS: dict[str, Any] = {"type": "TCP", "host": "paris.example.com", "port": 443}


@pytest.fixture
def stack(deployment: Deployment) -> Stack:
    return Stack(deployment)


# --- Metrics that the code emits. A play takes the stack and whether the fault is there.


def undelivered(stack: Stack, fault: bool) -> None:
    stack.functions.receiver.status = 500 if fault else 200
    stack.report(stack.registered(), "ACTIVATED")
    began_at = stack.clock.at
    while stack.clock.at <= began_at + 600_000:
        stack.wake_up()


def receiver_refused(stack: Stack, fault: bool) -> None:
    paris = stack.registered()
    stack.deploy(AllowedNetworks="10.0.0.0/8" if fault else "127.0.0.0/8")
    stack.report(paris, "ACTIVATED")


def rejected_event(stack: Stack, fault: bool) -> None:
    report = stack.status_event(stack.registered(), "ACTIVATED")
    assert stack.functions.invoke("endpoint_status", batch("no event" if fault else report))


def no_holder(stack: Stack, fault: bool) -> None:
    paris = stack.registered()
    stack.report(paris, "ACTIVATED")
    stack.clock.at += QUICK_MS
    stack.report(paris, "FAILING" if fault else "ACTIVATED")


def frozen(stack: Stack, fault: bool) -> None:
    stack.report(stack.registered(), "ACTIVATED")
    assert stack.call("api_freeze", {"frozen": fault}, queryStringParameters={"resource_id": RESOURCE})[0] == 200
    stack.wake_up()


def flapping(stack: Stack, fault: bool) -> None:
    paris = stack.registered()
    for _ in range(3 if fault else 2):
        for status in ("ACTIVATED", "FAILING"):
            stack.report(paris, status)
            stack.clock.at += QUICK_MS
    stack.report(paris, "ACTIVATED")


def failed_record(stack: Stack, fault: bool) -> None:
    one = event("wake_up_batch_with_one_bad_message")
    if not fault:
        del one["Records"][1]
    assert bool(stack.functions.invoke("reconcile", one)["batchItemFailures"]) is fault


def fails(stack: Stack, *also: str, lag_ms: int = 0) -> None:
    """From now on the checks of these hosts fail, and those of paris."""
    stack.look(lambda check: "timeout" if check.host in (PARIS["host"], *also) else "", lag_ms=lag_ms)


def probes_blind(stack: Stack, fault: bool) -> None:
    stack.deploy(ProbeReferences="reference.example.com:443")
    stack.registered(checks=[PARIS])
    stack.told()
    fails(stack, "reference.example.com" if fault else "")
    stack.probe()
    stack.probe()


def probes_lagging(stack: Stack, fault: bool) -> None:
    stack.registered(checks=[PARIS])
    stack.told()
    fails(stack, lag_ms=MAX_LAG_MS + fault)
    stack.probe()
    stack.probe()


def probes_held_back(stack: Stack, fault: bool) -> None:
    for number in range(MANY if fault else MANY - 1):
        stack.registered(f"{RESOURCE}-{number}", checks=[PARIS])
    stack.told()
    fails(stack)
    stack.probe()


def probes_kept(stack: Stack, fault: bool) -> None:
    london = {**PARIS, "host": "london.example.com"}
    stack.registered(checks=[PARIS])
    stack.registered(host="london", checks=[london])
    told = stack.told()
    stack.look(lambda check: "")
    stack.probe()
    for entry in told:
        stack.pass_on(entry)
    fails(stack, london["host"] if fault else "")
    stack.probe()


def probes_missing(stack: Stack, fault: bool) -> None:
    stack.registered(f"{RESOURCE}-{stack.clock.at}", checks=[PARIS])
    assert stack.functions.invoke("probe_clock", stack.next_minute()) == {"slots": 6}
    stack.told()
    stack.look(lambda check: "")
    if not fault:
        stack.probe()
    stack.clock.at += 60_000


def look(stack: Stack) -> None:
    stack.told()
    at = datetime.fromtimestamp(stack.clock.at / 1_000, UTC)
    stack.functions.invoke("signal", {**event("schedule_tick"), "time": f"{at:%Y-%m-%dT%H:%M:00Z}"})


def signals_missing(stack: Stack, fault: bool) -> None:
    stack.deploy(SignalTypes="alarm")
    if not fault:
        boto3.client("cloudwatch").put_metric_alarm(
            AlarmName="paris", MetricName="m", Namespace="n", Statistic="Sum", Period=60, EvaluationPeriods=1,
            Threshold=0, ComparisonOperator="GreaterThanThreshold",
        )  # fmt: skip
    stack.registered(f"{RESOURCE}-{stack.clock.at}", signals=[SIGNAL])
    look(stack)


def signals_unseen(stack: Stack, fault: bool) -> None:
    stack.deploy(SignalTypes="alarm")
    stack.registered(f"{RESOURCE}-{stack.clock.at}", signals=[SIGNAL])
    if fault:
        stack.functions.doubles["cloudwatch"] = Denied()
    look(stack)
    stack.clock.at += 60_000


def hooks_late(stack: Stack, fault: bool) -> None:
    terminating = event("signal_autoscaling_terminate")
    instance = terminating["detail"]["EC2InstanceId"]
    stack.deploy(SignalTypes="ec2")
    stack.registered(signals=[{"type": "ec2", "instance_id": instance}])
    told = stack.told()
    stack.functions.doubles["autoscaling"] = Completing()
    stack.clock.at = round(datetime.fromisoformat(terminating["time"]).timestamp() * 1_000)
    assert stack.functions.invoke("signal", batch(json.dumps(terminating)))["batchItemFailures"]
    if fault:
        stack.clock.at += HOOK_WAITS_MS
    else:
        stack.pass_on(told[0])
    assert stack.functions.invoke("signal", batch(json.dumps(terminating))) == {"batchItemFailures": []}


def signal_looks_missing(stack: Stack, fault: bool) -> None:
    if not fault:
        look(stack)
    stack.clock.at += 60_000


class Denied:
    """A client of CloudWatch for a role without its permission."""

    def get_paginator(self, _: str) -> Denied:
        return self

    def paginate(self, **_: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "DescribeAlarms")


class Completing:
    """A client of Auto Scaling. moto does not complete lifecycle actions."""

    def complete_lifecycle_action(self, **_: Any) -> None:
        pass


OURS = {
    "SignalsMissingAlarm": signals_missing,
    "SignalsUnseenAlarm": signals_unseen,
    "HooksLateAlarm": hooks_late,
    "SignalLooksMissingAlarm": signal_looks_missing,
    "UndeliveredAlarm": undelivered,
    "ReceiverRefusedAlarm": receiver_refused,
    "RejectedEventsAlarm": rejected_event,
    "NoHolderAlarm": no_holder,
    "FrozenAlarm": frozen,
    "FlappingAlarm": flapping,
    "FailedRecordsAlarm": failed_record,
    "ProbesBlindAlarm": probes_blind,
    "ProbesLaggingAlarm": probes_lagging,
    "ProbesHeldBackAlarm": probes_held_back,
    "ProbesKeptAlarm": probes_kept,
    "ProbesMissingAlarm": probes_missing,
}


def resolved(value: Any) -> str:
    """A text of the template for the stack that the functions here belong to."""
    text = value["Fn::Sub"] if isinstance(value, dict) else value
    return str(re.sub(r"\$\{AWS::StackName\}", "link-webhook", text))


def emitted(alarm: dict[str, Any], printed: str) -> list[float]:
    """The values that CloudWatch takes out of a function's log for exactly the metric of the alarm."""
    dimensions = {each["Name"]: each["Value"] for each in alarm["Dimensions"]}
    values: list[float] = []
    for line in (json.loads(line) for line in printed.splitlines() if '"_aws"' in line):
        for directive in line["_aws"]["CloudWatchMetrics"]:
            named = [{name: line[name] for name in names} for names in directive["Dimensions"]]
            names = [metric["Name"] for metric in directive["Metrics"]]
            if directive["Namespace"] == resolved(alarm["Namespace"]) and dimensions in named:
                values += [value for name in names if name == alarm["MetricName"] for value in line[name]]
    return values


@pytest.mark.parametrize("fault", [True, False], ids=["fault", "no fault"])
@pytest.mark.parametrize("name", OURS)
def test_a_fault_emits_the_metric_that_raises_its_alarm(
    stack: Stack, capsys: pytest.CaptureFixture[str], name: str, fault: bool
) -> None:
    alarm, periods = ALARMS[name], list[float | None]()
    for _ in range(alarm["EvaluationPeriods"]):
        capsys.readouterr()
        OURS[name](stack, fault)
        values = emitted(alarm, capsys.readouterr().out)
        periods.append(STATISTICS[alarm["Statistic"]](values) if values else None)
    assert raised_by(alarm, periods) is fault, periods


def test_a_stack_without_probes_is_quiet(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    stack.registered()
    capsys.readouterr()
    assert stack.functions.invoke("probe_clock", event("schedule_tick")) == {"slots": 0}
    values = emitted(ALARMS["ProbesMissingAlarm"], capsys.readouterr().out)
    assert not raised_by(ALARMS["ProbesMissingAlarm"], 2 * [sum(values)])


# --- Metrics of AWS. What this code adds: a handler that raises. The template says the rest.


def tables_are_gone(stack: Stack) -> None:
    for table in ("locks", "endpoints", "transitions", "signals"):
        stack.functions.dynamodb.delete_table(TableName=table)


FUNCTIONS: dict[str, tuple[str, Callable[[Stack], dict[str, Any]]]] = {
    "EndpointStatusFunction": (
        "endpoint_status",
        lambda stack: batch(stack.status_event(stack.registered(), "ACTIVATED")),
    ),
    "ReconcileFunction": ("reconcile", lambda _: event("wake_up")),
    "RefreshFunction": ("refresh", lambda _: event("schedule_tick")),
    "EndpointsApiFunction": ("endpoints_api", lambda _: event("api_list")),
    "KeyRotationFunction": ("key_rotation", lambda _: {}),
    "ProbeFunction": (
        "probe",
        lambda stack: batch(json.dumps({"shard": 0, "of": 1, "slot": stack.clock.at // SLOT_MS})),
    ),
    "ProbeClockFunction": ("probe_clock", lambda _: event("schedule_tick")),
    "SignalFunction": ("signal", lambda _: event("schedule_tick")),
}
"""By function of the template: its folder, and an event."""
ERRORS = {f"{function.removesuffix('Function')}ErrorsAlarm": function for function in FUNCTIONS}
CONSUMED = {
    "StatusDeadLetterAlarm": ("StatusQueue", "EndpointStatusFunction"),
    "WakeUpDeadLetterAlarm": ("WakeUpQueue", "ReconcileFunction"),
    "ProbeDeadLetterAlarm": ("ProbeQueue", "ProbeFunction"),
    "SignalDeadLetterAlarm": ("SignalQueue", "SignalFunction"),
}
DESTINATIONS = {
    "RefreshDeadLetterAlarm": "RefreshFunction",
    "KeyRotationDeadLetterAlarm": "KeyRotationFunction",
    "ProbeClockDeadLetterAlarm": "ProbeClockFunction",
}
API = "Api5xxAlarm"


def raises(stack: Stack, function: str, fault: bool) -> bool:
    """Whether an invocation raises, which Lambda counts as an error."""
    folder, made = FUNCTIONS[function]
    given = made(stack)
    if fault:
        tables_are_gone(stack)
    try:
        stack.functions.invoke(folder, given)
    except (ClientError, BatchProcessingError) as error:
        assert "ResourceNotFoundException" in str(error)
        return True
    return False


def only_dimension(alarm: dict[str, Any]) -> Any:
    [dimension] = alarm["Dimensions"]
    return dimension["Value"]


@pytest.mark.parametrize("fault", [True, False], ids=["fault", "no fault"])
@pytest.mark.parametrize("name", ERRORS)
def test_a_handler_that_raises_is_an_error_of_the_function_of_the_alarm(stack: Stack, name: str, fault: bool) -> None:
    alarm, function = ALARMS[name], ERRORS[name]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/Lambda", "Errors")
    assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": {"Ref": function}}]
    errors = float(raises(stack, function, fault))
    assert raised_by(alarm, [errors]) is fault


@pytest.mark.parametrize("fault", [True, False], ids=["fault", "no fault"])
def test_a_handler_of_the_api_that_raises_is_a_5xx_of_the_stage(stack: Stack, fault: bool) -> None:
    [stage] = of_type(RESOURCES, "AWS::ApiGateway::Stage").values()
    alarm = ALARMS[API]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/ApiGateway", "5XXError")
    assert {"Name": "Stage", "Value": stage["StageName"]} in alarm["Dimensions"]
    assert raised_by(alarm, [float(raises(stack, "EndpointsApiFunction", fault))]) is fault


@pytest.mark.parametrize("fault", [True, False], ids=["fault", "no fault"])
@pytest.mark.parametrize("name", CONSUMED)
def test_a_message_that_fails_each_time_lands_in_the_queue_of_the_alarm(stack: Stack, name: str, fault: bool) -> None:
    alarm, (queue, function) = ALARMS[name], CONSUMED[name]
    redrive = RESOURCES[queue]["Properties"]["RedrivePolicy"]
    assert only_dimension(alarm) == {"Fn::GetAtt": [redrive["deadLetterTargetArn"]["Fn::GetAtt"][0], "QueueName"]}
    sqs = stack.functions.sqs
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": redrive["maxReceiveCount"]})
    url = sqs.create_queue(QueueName="alive", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    failed = raises(stack, function, fault)
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    for _ in range(redrive["maxReceiveCount"] + 1):
        for message in sqs.receive_message(QueueUrl=url, VisibilityTimeout=0).get("Messages", []):
            if not failed:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    count = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=[alarm["MetricName"].removesuffix("Visible")])
    assert alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
    assert raised_by(alarm, [float(count["Attributes"]["ApproximateNumberOfMessages"])]) is fault


@pytest.mark.parametrize("fault", [True, False], ids=["fault", "no fault"])
@pytest.mark.parametrize("name", DESTINATIONS)
def test_an_invocation_that_fails_is_sent_to_the_queue_of_the_alarm(stack: Stack, name: str, fault: bool) -> None:
    function = DESTINATIONS[name]
    [destination] = [
        each["DestinationConfig"]["OnFailure"]["Destination"]["Fn::GetAtt"][0]
        for each in of_type(RESOURCES, "AWS::Lambda::EventInvokeConfig").values()
        if each["FunctionName"] == {"Ref": function}
    ]
    assert only_dimension(ALARMS[name]) == {"Fn::GetAtt": [destination, "QueueName"]}
    assert raised_by(ALARMS[name], [float(raises(stack, function, fault))]) is fault


# --- What only AWS can raise

TABLES_AND_INDEXES = ("Locks", "Due", "Endpoints", "Probed", "Transitions", "Probes", "Signals")
AWS_ALONE = {
    **{f"{function.removesuffix('Function')}ThrottlesAlarm": "no concurrency is left" for function in FUNCTIONS},
    **{f"{name}ReadsThrottledAlarm": "DynamoDB throttles" for name in TABLES_AND_INDEXES},
    **{f"{name}WritesThrottledAlarm": "DynamoDB throttles" for name in TABLES_AND_INDEXES},
    "ReconcileRecursionAlarm": "Lambda stops a chain",
    "EndpointStatusRecursionAlarm": "Lambda stops a chain",
    "StatusAgeAlarm": "SQS measures the age of a message",
    "SignalAgeAlarm": "SQS measures the age of a message",
    "WakeUpAgeAlarm": "SQS measures the age of a message",
    "SweepMissingAlarm": "a rule of EventBridge is disabled",
    "RefreshScheduleDeadLetterAlarm": "EventBridge cannot start a function",
    "ProbeScheduleDeadLetterAlarm": "EventBridge cannot start a function",
}
"""Why an alarm is not played. tests/test_template.py compares its dimensions and threshold with the template."""


def test_every_alarm_is_played_or_only_aws_can_raise_it() -> None:
    played = [*OURS, *ERRORS, API, *CONSUMED, *DESTINATIONS]
    assert sorted([*played, *AWS_ALONE]) == sorted(ALARMS)
