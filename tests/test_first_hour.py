"""The steps of scripts/first_hour.py against AWS's answers, as botocore's models have them."""

from __future__ import annotations

import datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from scripts import first_hour
from scripts.cloud import template

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
COMPLETE = {
    "StackName": "link-webhook",
    "CreationTime": NOW,
    "StackStatus": "CREATE_COMPLETE",
    "Outputs": [{"OutputKey": name, "OutputValue": name} for name in template()["Outputs"]],
}
ENABLED = {"State": "Enabled", "ScalingConfig": {"MaximumConcurrency": 400}}
PROTECTED = {"Table": {"DeletionProtectionEnabled": True}}
RECOVERABLE = {
    "ContinuousBackupsDescription": {
        "ContinuousBackupsStatus": "ENABLED",
        "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "ENABLED"},
    }
}
UNRECOVERABLE = {
    "ContinuousBackupsDescription": {
        "ContinuousBackupsStatus": "ENABLED",
        "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "DISABLED"},
    }
}
KEY = {"KeyMetadata": {"KeyId": "mrk-1", "MultiRegion": True}}
ALARM = {"AlarmName": "link-webhook-1", "StateValue": "OK", "AlarmActions": ["topic"]}
LOG_GROUP = {"LoggingConfig": {"LogGroup": "link-webhook-log"}}


class Session:
    """Clients that answer what they were given, in order, and nothing else. Records the calls as IAM actions."""

    def __init__(self, answers: list[tuple[str, dict[str, Any]]]) -> None:
        self.clients: dict[str, Any] = {}
        self.called: list[str] = []
        self.parameters: list[dict[str, Any]] = []
        stubbers: dict[str, Stubber] = {}
        for call, answer in answers:
            service, operation = call.split(".")
            if service not in stubbers:
                client = boto3.client(  # type: ignore[call-overload]
                    service, region_name="eu-west-1", aws_access_key_id="test", aws_secret_access_key="test"
                )
                client.meta.events.register("before-parameter-build", self._record)
                self.clients[service], stubbers[service] = client, Stubber(client)
                stubbers[service].activate()
            stubbers[service].add_response(operation, answer)
        self.stubbers = stubbers

    def _record(self, model: Any, params: dict[str, Any], **_: Any) -> None:
        self.parameters.append(params)
        service = model.service_model.endpoint_prefix.replace("monitoring", "cloudwatch")
        self.called.append(f"{service}:{model.name}")

    def client(self, service: str, region_name: str) -> Any:
        return self.clients[service]


def play(check: Any, *answers: tuple[str, dict[str, Any]], **parameters: str) -> str:
    """Run one step on these answers; every answer must be used, and every call must be one that the step announces."""
    given = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
    stack = {**COMPLETE, "Parameters": given}
    session = Session([("cloudformation.describe_stacks", {"Stacks": [stack]}), *answers])
    account = first_hour.Account("link-webhook", "eu-west-1", session=session)
    account.described()
    [step] = [each for each in first_hour.STEPS if each.check is check]
    try:
        return str(check(account))
    finally:
        announced = {"cloudformation:DescribeStacks", *step.calls}
        assert session.called
        assert set(session.called) <= announced
        for stubber in session.stubbers.values():
            stubber.assert_no_pending_responses()


def mapping(**changed: Any) -> dict[str, Any]:
    return {"EventSourceMappings": [{**ENABLED, **changed}]}


def limit(executions: int) -> dict[str, Any]:
    return {"AccountLimit": {"ConcurrentExecutions": executions}}


def points(*sums: float) -> dict[str, Any]:
    return {"Datapoints": [{"Sum": one} for one in sums]}


def number(messages: int) -> dict[str, Any]:
    return {"Attributes": {"ApproximateNumberOfMessages": str(messages)}}


def lines(*messages: str) -> dict[str, Any]:
    return {"events": [{"message": each, "timestamp": 1} for each in messages]}


def per_function(*messages: str) -> list[tuple[str, dict[str, Any]]]:
    one = [("lambda.get_function_configuration", LOG_GROUP), ("logs.filter_log_events", lines(*messages))]
    return one * len(first_hour.FUNCTIONS)


MAPPINGS, ACCOUNT = "lambda.list_event_source_mappings", "lambda.get_account_settings"
TABLE, BACKUPS = "dynamodb.describe_table", "dynamodb.describe_continuous_backups"
METRIC, QUEUE, ALARMS = "cloudwatch.get_metric_statistics", "sqs.get_queue_attributes", "cloudwatch.describe_alarms"
LOOP, DESCRIBE_KEY, ROTATION = "lambda.get_function_recursion_config", "kms.describe_key", "kms.get_key_rotation_status"

GOOD: list[tuple[Any, list[tuple[str, dict[str, Any]]], str]] = [
    (first_hour.stack_is_complete, [], "CREATE_COMPLETE"),
    (first_hour.loop_is_allowed, [(LOOP, {"RecursiveLoop": "Allow"})], "Allow"),
    (first_hour.queues_are_read, [(MAPPINGS, mapping())] * 3 + [(ACCOUNT, limit(2_000))], "1200 of 2000"),
    (first_hour.tables_are_protected, [(TABLE, PROTECTED), (BACKUPS, RECOVERABLE)] * 3, "3 tables"),
    (first_hour.key_is_multi_region, [(DESCRIBE_KEY, KEY), (ROTATION, {"KeyRotationEnabled": True})], "rotates"),
    (first_hour.schedules_run, [(METRIC, points(1, 1))] * 2, "ProbeClockFunctionName ran 2 times"),
    (first_hour.nothing_was_dropped, [(METRIC, points())] * 2, "no chain"),
    (first_hour.no_dead_letters, [(QUEUE, number(0))] * 9, "are empty"),
    (first_hour.alarms_notify, [(ALARMS, {"MetricAlarms": [ALARM]})], "1 alarms"),
    (first_hour.log_lines_are_whole, per_function("START", '{"a": 1}'), "7 lines"),
]
BAD: list[tuple[Any, list[tuple[str, dict[str, Any]]], str]] = [
    (first_hour.loop_is_allowed, [(LOOP, {"RecursiveLoop": "Terminate"})], "is Terminate"),
    (first_hour.queues_are_read, [(MAPPINGS, mapping(State="Disabled"))], "Disabled"),
    (first_hour.queues_are_read, [(MAPPINGS, {"EventSourceMappings": []})], "sources \\[\\]"),
    (first_hour.queues_are_read, [(MAPPINGS, mapping(ScalingConfig={}))] * 3, "no MaximumConcurrency"),
    (first_hour.queues_are_read, [(MAPPINGS, mapping())] * 3 + [(ACCOUNT, limit(10))], "1200 of 10"),
    (first_hour.tables_are_protected, [(TABLE, {"Table": {}})], "no deletion protection"),
    (first_hour.tables_are_protected, [(TABLE, PROTECTED), (BACKUPS, UNRECOVERABLE)], "no point-in-time"),
    (first_hour.key_is_multi_region, [(DESCRIBE_KEY, {"KeyMetadata": {"KeyId": "1"}})], "bound to its Region"),
    (
        first_hour.key_is_multi_region,
        [(DESCRIBE_KEY, KEY), (ROTATION, {"KeyRotationEnabled": False})],
        "does not rotate",
    ),
    (first_hour.schedules_run, [(METRIC, points())], "RefreshFunctionName did not run"),
    (first_hour.schedules_run, [(METRIC, points(1)), (METRIC, points())], "ProbeClockFunctionName did not run"),
    (first_hour.nothing_was_dropped, [(METRIC, points()), (METRIC, points(3))], "3 times"),
    (first_hour.no_dead_letters, [(QUEUE, number(0)), (QUEUE, number(2))], "2 messages"),
    (first_hour.alarms_notify, [(ALARMS, {"MetricAlarms": [{**ALARM, "StateValue": "ALARM"}]})], "link-webhook-1"),
    (first_hour.alarms_notify, [(ALARMS, {"MetricAlarms": [{**ALARM, "AlarmActions": []}]})], "1 of 1"),
    (first_hour.alarms_notify, [(ALARMS, {"MetricAlarms": []})], "0 of 0"),
    (first_hour.log_lines_are_whole, per_function('{"a": 1}{"b": 2}')[:2], "is not JSON"),
]


@pytest.mark.parametrize(("check", "answers", "says"), GOOD)
def test_a_step_passes_on_a_healthy_stack(check: Any, answers: list[Any], says: str) -> None:
    assert says in play(check, *answers)


@pytest.mark.parametrize(("check", "answers", "says"), BAD)
def test_a_step_fails_with_what_it_saw_and_what_to_do(check: Any, answers: list[Any], says: str) -> None:
    with pytest.raises(first_hour.Failed, match=says) as failed:
        play(check, *answers)
    assert failed.value.then


def test_the_queues_are_looked_up_at_the_aliases_that_they_invoke() -> None:
    described = ("cloudformation.describe_stacks", {"Stacks": [COMPLETE]})
    session = Session([described, *[(MAPPINGS, mapping())] * 3, (ACCOUNT, limit(2_000))])
    first_hour.queues_are_read(first_hour.Account("link-webhook", "eu-west-1", session=session))
    looked_up = [asked["FunctionName"] for asked in session.parameters if "FunctionName" in asked]
    assert looked_up == ["EndpointStatusFunctionName:live", "ReconcileFunctionName:live", "ProbeFunctionName:live"]


def logged(*invocations: str) -> list[tuple[str, dict[str, Any]]]:
    """The answers of a stack with an access log, whose function has run as `paris`."""
    group = {
        "LogicalResourceId": "ApiAccessLogGroup",
        "PhysicalResourceId": "access-log",
        "ResourceType": "AWS::Logs::LogGroup",
        "LastUpdatedTimestamp": NOW,
        "ResourceStatus": "CREATE_COMPLETE",
    }
    return [
        ("cloudformation.describe_stack_resource", {"StackResourceDetail": group}),
        ("lambda.get_function_configuration", LOG_GROUP),
        ("logs.filter_log_events", lines("START RequestId: paris Version: $LATEST")),
        ("logs.filter_log_events", lines(*[f'{{"invocation": "{each}", "status": "200"}}' for each in invocations])),
    ]


def test_the_access_log_names_an_invocation_of_the_function() -> None:
    step = first_hour.access_log_names_invocations
    assert play(step, *logged("paris", "london"), ApiAccessLog="true").startswith("1 of 2 calls")
    for others in ((), ("london",)):
        with pytest.raises(first_hour.Failed, match="no id in both") as failed:
            play(step, *logged(*others), ApiAccessLog="true")
        assert "wait and repeat" in failed.value.then


def test_without_an_access_log_there_is_nothing_to_compare() -> None:
    assert "nothing to compare" in play(first_hour.access_log_names_invocations, ApiAccessLog="false")


class Api(first_hour.Account):
    """An account whose API answers from a list, and whose bus takes everything."""

    def script(self, *answers: tuple[int, Any]) -> Api:
        self.answers, self.requests = list(answers), list[str]()
        return self

    def call(self, method: str, path: str, body: object = None, *, signed: bool = True) -> tuple[int, Any]:
        self.requests.append(f"{method} {path.split('?')[0]}")
        return self.answers.pop(0)

    def client(self, service: str) -> Any:
        class Bus:
            def put_events(self, Entries: list[Any]) -> dict[str, int]:
                return {"FailedEntryCount": 0}

        return Bus()

    def output(self, name: str) -> str:
        return name


def account(minutes: float = 0) -> Api:
    return Api("link-webhook", "eu-west-1", receiver="https://r.example", minutes=minutes, sleep=lambda _: None)


def test_a_call_that_api_gateway_cannot_pass_on_points_at_the_integration() -> None:
    with pytest.raises(first_hour.Failed) as failed:
        first_hour.signed_call_is_answered(account().script((500, "Internal server error")))
    assert "InvokeRole" in failed.value.then
    with pytest.raises(first_hour.Failed) as failed:
        first_hour.signed_call_is_answered(account().script((403, "")))
    assert "execute-api:Invoke" in failed.value.then
    with pytest.raises(first_hour.Failed):
        first_hour.unsigned_call_is_refused(account().script((200, "")))


def made(endpoint: str) -> tuple[int, Any]:
    return 201, {"endpoint": {"id": endpoint}}


def resource(holder: str | None) -> tuple[int, Any]:
    return 200, {"resource": {"holder": holder}}


def test_two_endpoints_are_registered_elected_and_deleted_again() -> None:
    api = account().script(made("paris"), made("london"), resource(None), resource("paris"), (204, ""), (204, ""))
    assert "had a holder" in first_hour.endpoints_are_elected(api)
    assert api.requests[-2:] == ["DELETE /endpoints/paris", "DELETE /endpoints/london"]


def test_endpoints_are_deleted_although_the_step_fails() -> None:
    api = account(minutes=2).script(made("paris"), made("london"), (500, ""), (204, ""), (204, ""))
    with pytest.raises(first_hour.Failed):
        first_hour.endpoints_are_elected(api)
    assert api.requests[-2:] == ["DELETE /endpoints/paris", "DELETE /endpoints/london"]


def test_a_holder_that_is_lost_later_fails_the_step() -> None:
    reads = [resource("paris")] * 40 + [resource(None)]
    api = account(minutes=2).script(made("paris"), made("london"), *reads, (204, ""), (204, ""))
    with pytest.raises(first_hour.Failed, match="no holder"):
        first_hour.endpoints_are_elected(api)


def test_without_write_nothing_is_registered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(account: first_hour.Account) -> str:
        raise AssertionError("ran")

    steps = tuple(
        first_hour.Step(step.title, step.calls, unreachable if step.writes else lambda _: "fine", step.writes)
        for step in first_hour.STEPS
    )
    monkeypatch.setattr(first_hour, "STEPS", steps)
    assert first_hour.run(account(), write=False) == 0
    assert " 9 skipped" in capsys.readouterr().out


def test_a_dry_run_names_every_step_and_needs_no_account(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(first_hour, "Account", None)
    assert first_hour.main(["--dry-run"]) == 0
    printed = capsys.readouterr().out
    for step in first_hour.STEPS:
        assert step.title in printed
        assert all(call in printed for call in step.calls)


@pytest.mark.parametrize("arguments", [[], ["--stack", "a"], ["--stack", "a", "--region", "b", "--write"]])
def test_an_incomplete_command_line_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        first_hour.main(arguments)
