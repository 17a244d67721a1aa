"""The signaller: what events and looks come to at the receivers, and what they cost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from link.election.state import Endpoint, Observer, Resource, Status, Word
from link.errors import Contended
from link.signaller import TRIES, Untold, handed_over
from link.sqs_batch import NotYet
from tests.simulation.store import refused
from tests.support.signalled import INSTANCES, Signalling, no_such_action

ACTIVATED, STANDBY, FAILING = Status.ACTIVATED, Status.STANDBY, Status.FAILING
MINUTE = 60_000


@pytest.fixture
def aws() -> Signalling:
    """Paris is active, and london could be."""
    signalling = Signalling()
    signalling.settled("paris", "london")
    return signalling


def told(aws: Signalling) -> list[tuple[str, str]]:
    return [(host, status) for host, status, _ in aws.events]


# What follows from what AWS says


def test_a_spot_warning_is_a_planned_handover_before_the_host_is_gone(aws: Signalling) -> None:
    began = len(aws.world.receiver.requests)
    aws.hear(aws.now("spot_warning"))
    sent = [(aws.world.name(one.endpoint_id), one.status) for one in aws.world.receiver.requests[began:]]
    assert sent == [("paris", "STANDBY"), ("london", "ACTIVATED")]
    aws.look()
    assert (aws.world.holder(), told(aws)) == ("london", [("paris", STANDBY)]), "it still runs"
    aws.hear(aws.now("ec2_terminated"))
    assert told(aws)[1:] == [("paris", FAILING)]


def test_while_a_warning_is_in_force_a_healthy_probe_does_not_bring_its_host_back(aws: Signalling) -> None:
    paris = next(i for i, host in aws.world.names.items() if host == "paris")
    aws.world.control.commands.change(paris, {"observers": ["probe", "signal"]}, "change")
    aws.world.report(paris, "ACTIVATED", source="link.probe")
    began = len(aws.world.receiver.requests)
    aws.hear(aws.now("spot_warning"))
    for _ in range(9):
        aws.world.report(paris, "ACTIVATED", source="link.probe")
        aws.look()
        # Not even if london failed now.
        assert not aws.world.resource().endpoints[paris].ready(aws.world.clock.now())
    sent = [(aws.world.name(one.endpoint_id), one.status) for one in aws.world.receiver.requests[began:]]
    assert sent[:2] == [("paris", "STANDBY"), ("london", "ACTIVATED")]
    assert ("paris", "ACTIVATED") not in sent and aws.world.holder() == "london"


def test_a_warning_of_which_nothing_follows_ends_with_a_look_after_ten_minutes(aws: Signalling) -> None:
    aws.hear(aws.now("spot_warning"))
    for _ in range(10):
        aws.look()
    assert told(aws) == [("paris", STANDBY)]
    aws.look()
    assert told(aws) == [("paris", STANDBY), ("paris", ACTIVATED)]


def test_an_event_that_was_lost_is_found_by_the_next_look(aws: Signalling) -> None:
    aws.seen["paris"] = FAILING
    assert aws.look() == {"endpoints": 2, "news": 1}
    assert (aws.world.holder(), told(aws)) == ("london", [("paris", FAILING)])


def test_where_a_look_finds_nothing_the_last_word_stays(aws: Signalling) -> None:
    aws.seen["paris"] = None
    aws.look()
    assert (aws.world.holder(), told(aws)) == ("paris", [])


def test_a_rebalance_recommendation_counts_where_it_is_registered() -> None:
    for rebalance, said in (("ignore", []), ("standby", [("paris", STANDBY)])):
        aws = Signalling()
        aws.settled("paris", "london", rebalance=rebalance)
        aws.hear(aws.now("rebalance"))
        assert told(aws) == said


def test_the_time_of_a_report_is_that_of_the_event(aws: Signalling) -> None:
    event = aws.now("ec2_stopping")
    at = aws.world.clock.now()
    aws.world.settle(700)
    aws.hear(event)
    assert aws.events == [("paris", STANDBY, at)]


def test_what_a_deleted_endpoint_had_is_not_heard_any_more(aws: Signalling) -> None:
    paris = next(i for i, host in aws.world.names.items() if host == "paris")
    aws.world.operator(lambda: aws.world.control.commands.delete(paris, "delete"))
    aws.hear(aws.now("ec2_terminated"))
    assert told(aws) == []


# What it costs


def test_an_event_about_an_unknown_instance_costs_one_query_and_writes_nothing(aws: Signalling) -> None:
    unknown = aws.now("ec2_terminated")
    unknown["detail"]["instance-id"] = "i-00000000000000000"
    aws.hear(unknown)
    assert (aws.calls, aws.rejected, told(aws)) == (["query"], [], [])


def test_news_costs_two_writes_and_its_repetition_none(aws: Signalling) -> None:
    event = aws.now("ec2_stopping")
    aws.hear(event)
    assert aws.calls == ["query", "get_item", "update_item", "update_item"]
    aws.calls.clear()
    aws.hear(event)
    assert (aws.calls, told(aws)) == (["query", "get_item"], [("paris", STANDBY)])


def test_a_look_without_news_writes_nothing(aws: Signalling) -> None:
    aws.world.settle(MINUTE)
    aws.calls.clear()
    for _ in range(4):
        assert aws.look() == {"endpoints": 2, "news": 0}
    assert [call for call in aws.calls if call != "batch_get_item"] == []
    assert aws.calls.count("batch_get_item") <= 1, "once in five minutes"


def test_an_event_that_says_nothing_costs_nothing(aws: Signalling) -> None:
    aws.hear(aws.now("ec2_running"))
    assert aws.calls == []


def test_what_cannot_be_read_goes_to_the_rejected_events(aws: Signalling, capsys: pytest.CaptureFixture[str]) -> None:
    for body in ("no JSON", {"detail": {}, "source": "aws.ec2"}, {"source": "aws.ec2"}):
        aws.hear(body)
    broken = aws.now("spot_warning")
    del broken["detail"]["instance-id"]
    aws.hear(broken)
    assert [one["reason"] for one in aws.rejected] == ["malformed"] * 3
    assert aws.rejected[2]["event"] == broken and "Interruption Warning" in aws.rejected[2]["message"]
    assert capsys.readouterr().out.count('"RejectedEvents"') >= 3


# What is in the way


def test_what_the_bus_did_not_take_is_told_by_the_next_look(aws: Signalling) -> None:
    aws.refusing = True
    with pytest.raises(Untold, match="did not take"):
        aws.hear(aws.now("spot_warning"))
    aws.refusing = False
    assert aws.world.holder() == "paris"
    aws.look()
    assert (aws.world.holder(), told(aws)) == ("london", [("paris", STANDBY)])


def test_what_the_bus_did_not_take_is_told_by_the_message_that_comes_back(aws: Signalling) -> None:
    event = aws.now("spot_warning")
    aws.refusing = True
    with pytest.raises(Untold):
        aws.hear(event)
    aws.refusing = False
    aws.hear(event)
    assert told(aws) == [("paris", STANDBY)]


def test_a_status_event_that_was_lost_is_told_again_within_five_minutes(aws: Signalling) -> None:
    aws.lost = True
    aws.hear(aws.now("spot_warning"))
    aws.lost = False
    for _ in range(5):
        aws.look()
    assert aws.world.holder() == "london"
    first, second = (at for _, _, at in aws.events)
    assert second > first


def test_a_first_status_event_that_was_lost_is_told_again_and_one_that_has_none_is_left_alone() -> None:
    aws = Signalling()
    aws.register("paris", "london")
    aws.seen["paris"], aws.lost = ACTIVATED, True
    aws.look()
    aws.lost = False
    versions = [aws.known(i).version for i, host in aws.world.names.items() if host == "london"]
    for _ in range(5):
        aws.look()
    assert (aws.world.holder(), told(aws)) == ("paris", [("paris", ACTIVATED)] * 2)
    assert versions == [aws.known(i).version for i, host in aws.world.names.items() if host == "london"] == [1]


def test_an_item_of_a_signal_that_is_left_over_is_harmless(aws: Signalling) -> None:
    key = {"signal_key": {"S": f"ec2:{INSTANCES['paris']}"}, "endpoint_id": {"S": "vip-gone"}}
    aws.world._dynamodb.put_item(TableName=aws.world.settings.signals_table, Item=key)
    aws.hear(aws.now("spot_warning"))
    assert told(aws) == [("paris", STANDBY)]


def test_another_word_in_the_lock_item_is_overruled(aws: Signalling) -> None:
    paris = next(i for i, host in aws.world.names.items() if host == "paris")
    aws.world.report(paris, FAILING, at=aws.world.clock.now() + 30_000, source="link.signal")
    assert aws.world.holder() == "london"
    for _ in range(5):
        aws.look()
    word = aws.world.resource().endpoints[paris].words[Observer.SIGNAL]
    assert (word.status, told(aws)) == (ACTIVATED, [("paris", ACTIVATED)])


def test_of_two_events_at_once_both_count(aws: Signalling) -> None:
    stopping, warning = aws.now("ec2_stopping"), aws.now("spot_warning")
    aws.before_write = [lambda: aws.hear(stopping)]
    aws.hear(warning)
    paris = next(i for i, host in aws.world.names.items() if host == "paris")
    word = aws.known(paris).words[f"ec2:{INSTANCES['paris']}"]
    assert (word.status, word.warning) == (STANDBY, "spot_interruption")
    assert told(aws) == [("paris", STANDBY)]


def test_a_write_that_is_refused_again_and_again_fails(aws: Signalling) -> None:
    paris = next(i for i, host in aws.world.names.items() if host == "paris")
    signals = aws.signaller._signals

    def other() -> None:
        observed = signals.read(paris)
        assert observed is not None and signals.write(observed, observed)

    # Each of these writes is one more that something can happen before.
    aws.before_write = [item for _ in range(TRIES) for item in (other, lambda: None)]
    with pytest.raises(Contended, match="conditional writes lost"):
        aws.hear(aws.now("spot_warning"))


def test_an_endpoint_that_fails_keeps_no_other_from_being_told(aws: Signalling) -> None:
    def broken() -> None:
        raise refused("InternalServerError", "UpdateItem")

    aws.seen = {"paris": FAILING, "london": FAILING}
    aws.before_write = [broken]
    with pytest.raises(Untold, match="1 of 2 endpoints"):
        aws.look()
    assert len(told(aws)) == 1
    aws.look()
    assert sorted(told(aws)) == [("london", FAILING), ("paris", FAILING)]


# Auto Scaling waits for the handover


def hook(aws: Signalling) -> dict[str, Any]:
    return aws.now("autoscaling_terminate")


def test_a_lifecycle_hook_is_completed_when_the_other_host_is_active(aws: Signalling) -> None:
    event = hook(aws)
    assert not aws.waits(event)
    assert aws.world.holder() == "london"
    assert aws.completed == [
        {
            "AutoScalingGroupName": "paris",
            "LifecycleHookName": "link-handover",
            "LifecycleActionToken": event["detail"]["LifecycleActionToken"],
            "InstanceId": INSTANCES["paris"],
            "LifecycleActionResult": "CONTINUE",
        }
    ]


def test_a_lifecycle_hook_waits_while_the_handover_is_not_over(aws: Signalling) -> None:
    event = hook(aws)
    aws.lost = True
    assert aws.waits(event) and aws.completed == []
    aws.lost = False
    for _ in range(4):
        aws.look()
    assert not aws.waits(event) and len(aws.completed) == 1


def test_a_lifecycle_hook_waits_five_minutes_at_most(aws: Signalling, capsys: pytest.CaptureFixture[str]) -> None:
    event = hook(aws)
    aws.lost = True
    assert aws.waits(event)
    aws.world.settle(5 * MINUTE - 1)
    assert aws.waits(event)
    aws.world.settle(1)
    assert not aws.waits(event) and len(aws.completed) == 1
    assert '"HooksLate"' in capsys.readouterr().out


def test_a_hook_of_others_or_of_an_instance_that_is_not_ours_is_left_alone(aws: Signalling) -> None:
    assert not aws.waits(aws.now("autoscaling_terminate", LifecycleHookName="save-the-logs"))
    assert not aws.waits(aws.now("autoscaling_terminate", EC2InstanceId="i-00000000000000000"))
    assert (aws.completed, told(aws)) == ([], [("paris", STANDBY)])


def test_an_action_that_is_over_is_no_failure_and_any_other_refusal_is(aws: Signalling) -> None:
    event = hook(aws)
    aws.completing = no_such_action()
    assert not aws.waits(event)
    aws.completing = refused("AccessDenied", "CompleteLifecycleAction")
    with pytest.raises(ClientError, match="AccessDenied"):
        aws.hear(event)


WORD = {status: {Observer.SIGNAL: Word(status, 5)} for status in Status}
DONE = Endpoint(1, words=WORD[STANDBY], status=STANDBY, sequence=2, delivered_sequence=2)
ACTIVE = Endpoint(1, words=WORD[ACTIVATED], status=ACTIVATED, sequence=1, delivered_sequence=1)
OVER = Resource("ip", 1, holder="london", endpoints={"paris": DONE, "london": ACTIVE})


@pytest.mark.parametrize(
    ("resource", "over"),
    [
        pytest.param(OVER, True, id="the other host is active and knows it"),
        pytest.param(OVER.having("london", replace(ACTIVE, sequence=2)), False, id="the other one does not know it"),
        pytest.param(OVER.having("paris", replace(DONE, sequence=3)), False, id="the host does not know it"),
        pytest.param(OVER.having("paris", replace(DONE, words=WORD[ACTIVATED])), False, id="the report is under way"),
        pytest.param(OVER.having("paris", replace(DONE, words={})), False, id="the first report is under way"),
        pytest.param(replace(OVER, holder="paris"), False, id="it still has the lock"),
        pytest.param(replace(OVER, holder=None), True, id="nobody can take over"),
        pytest.param(OVER.without("paris"), True, id="it is not registered any more"),
        pytest.param(None, True, id="nothing is registered any more"),
    ],
)
def test_when_a_host_may_end(resource: Resource | None, over: bool) -> None:
    assert handed_over(resource, "paris") is over


def test_a_message_that_has_to_wait_comes_back_soon(aws: Signalling) -> None:
    aws.signaller.retry_later("handle", 3)
    assert aws.calls == ["ChangeMessageVisibility signal 4"]
    with pytest.raises(NotYet):
        aws.lost = True
        aws.hear(json.dumps(hook(aws)))
