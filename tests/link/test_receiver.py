"""The receiver: what it believes, what it refuses, and what it remembers."""

import base64
import dataclasses
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from link import receiver
from link.plugins.webhook import wire
from link.receiver import (
    ActiveSlot,
    Busy,
    DynamoDBStore,
    InMemoryStore,
    SQLiteStore,
    Turn,
    Unverified,
    Webhook,
    WebhookError,
    apply,
)
from tests.support.ids import LONDON, PARIS, RESOURCE
from tests.support.receiver import create_slots_table
from tests.support.webhooks import ANNOUNCED, NOW, SECRET, announced, captured, received, sent, verified


def test_a_receiver_reads_what_was_announced():
    body, headers = sent()

    assert received(headers, body) == Webhook(
        PARIS, RESOURCE, "webhook", "ACTIVATED", NOW, f"{PARIS}_7_3", epoch=7, sequence=3
    )


def as_sent(headers):
    return headers


def in_lower_case(headers):
    return {name.lower(): value for name, value in headers.items()}


def as_latin_1(headers):
    return [(name, value.encode().decode("latin-1")) for name, value in headers.items()]


@pytest.mark.parametrize("server", [as_sent, in_lower_case, as_latin_1])
@given(resource_id=st.text(st.characters(codec="utf-8", exclude_characters="\r\n")), secret=st.text(min_size=1))
def test_any_unicode_arrives_as_it_was(server, resource_id, secret):
    body, headers = sent(dataclasses.replace(ANNOUNCED, resource_id=resource_id), [secret])

    assert received(server(headers), body, secret).resource_id == resource_id


@pytest.mark.parametrize("server", [as_sent, in_lower_case, as_latin_1])
@given(host=st.text(st.characters(codec="utf-8"), min_size=1))
def test_a_host_arrives_as_it_was_registered(server, host):
    body, headers = sent(dataclasses.replace(ANNOUNCED, host=host))

    assert received(server(headers), body).host == host


def test_a_refresh_has_the_epoch_and_sequence_it_repeats():
    body, headers = sent(dataclasses.replace(ANNOUNCED, refreshed_at=1_795_435_199_950))

    assert (received(headers, body).epoch, received(headers, body).sequence) == (7, 3)


@pytest.mark.parametrize("second", [NOW - 300, NOW + 300])
def test_five_minutes_of_age_or_clock_difference_are_accepted(second):
    body, headers = sent()

    assert received(headers, body, now=second).status == "ACTIVATED"


# What a receiver refuses


def without(*names):
    return lambda h, b: ({k: v for k, v in h.items() if k not in names}, b)


def with_(**headers):
    return lambda h, b: ({**h, **{k.replace("_", "-"): v for k, v in headers.items()}}, b)


def twice(name):
    return lambda h, b: ([*h.items(), (name.upper(), h[name])], b)


def signed_again(body, **said):
    """What the endpoint itself would send, with another body or id."""
    _, h = sent()
    headers = {
        **h,
        "X-Link-Webhook-Signature": wire.sign(SECRET, NOW, body),
        "webhook-id": said.get("id", h["webhook-id"]),
    }
    headers["webhook-signature"] = wire.sign_standard([SECRET], headers["webhook-id"], NOW, body)
    return lambda *_: (headers, body)


def by(**change):
    secrets = change.pop("secrets", (SECRET,))
    timestamp = change.pop("timestamp", NOW)
    return lambda *_: sent(dataclasses.replace(ANNOUNCED, **change), secrets, timestamp=timestamp)[::-1]


def mixed(*names):
    """Headers of two genuine attempts, the named ones of the later."""
    return lambda h, b: ({**h, **{n: v for n, v in sent(timestamp=NOW + 1)[1].items() if n in names}}, b)


OURS = ["X-Link-Webhook-Epoch", "X-Link-Webhook-Sequence"]
STANDARD = ["webhook-id", "webhook-timestamp", "webhook-signature"]


@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        pytest.param(lambda h, b: (h, b + b" "), "bad_signature", id="body longer"),
        pytest.param(lambda h, b: (h, b.replace(b"ACTIVATED", b"STANDBY")), "bad_signature", id="other status"),
        pytest.param(lambda h, b: (h, json.dumps(json.loads(b)).encode()), "bad_signature", id="body re-serialised"),
        pytest.param(lambda h, b: (h, b""), "bad_signature", id="no body"),
        pytest.param(lambda h, b: (h, b"\xff not JSON"), "bad_signature", id="not even text, found by the signature"),
        pytest.param(by(secrets=["another"]), "bad_signature", id="another secret"),
        pytest.param(by(timestamp=NOW - 301), "too_old", id="replayed after 301 s"),
        pytest.param(by(timestamp=NOW + 301), "too_new", id="from 301 s ahead"),
        pytest.param(with_(X_Link_Webhook_Timestamp=str(NOW + 1)), "bad_signature", id="timestamp freshened"),
        *(
            pytest.param(with_(X_Link_Webhook_Timestamp=t), "malformed_header", id=f"timestamp {t!r}")
            for t in [
                "",
                "-1",
                "+1795435200",
                "1_795_435_200",
                "1795435200.0",
                "١٧٩٥٤٣٥٢٠٠",
                "1" * 13,
                f"{NOW}\n",
                "abc",
            ]
        ),
        *(
            pytest.param(with_(X_Link_Webhook_Signature=s), "malformed_header", id=f"signature {s[:8]!r}")
            for s in ["", "0" * 63, "0" * 65, "é" * 64, "0" * 64 + "\n", "0 " * 32, "0" * 64 + "," + "0" * 64]
        ),
        pytest.param(with_(X_Link_Webhook_Signature="0" * 64), "bad_signature", id="signature of nothing"),
        *(
            pytest.param(without(name), "missing_header", id=f"no {name}")
            for name in [
                "X-Link-Webhook-Timestamp",
                "X-Link-Webhook-Signature",
                "X-Link-Webhook-Resource-ID",
                *STANDARD,
            ]
        ),
        *(
            pytest.param(twice(name), "repeated_header", id=f"{name} twice")
            for name in [
                "X-Link-Webhook-Timestamp",
                "X-Link-Webhook-Signature",
                "X-Link-Webhook-Resource-ID",
                *OURS,
                *STANDARD,
            ]
        ),
        pytest.param(with_(X_Link_Webhook_Resource_ID="other"), "mismatch", id="header names another resource"),
        pytest.param(with_(X_Link_Webhook_Epoch="8"), "mismatch", id="epoch raised"),
        pytest.param(with_(X_Link_Webhook_Epoch="07"), "mismatch", id="epoch written differently"),
        pytest.param(with_(X_Link_Webhook_Sequence="4"), "mismatch", id="sequence raised"),
        pytest.param(with_(webhook_id=f"{PARIS}_8_3"), "bad_signature", id="id forged"),
        pytest.param(with_(webhook_id=f"{PARIS}_7_3\ud800"), "bad_signature", id="id not even Unicode"),
        pytest.param(with_(webhook_timestamp=str(NOW + 1)), "mismatch", id="standard timestamp later"),
        pytest.param(with_(webhook_timestamp=str(NOW - 1)), "mismatch", id="standard timestamp earlier"),
        pytest.param(with_(webhook_signature="v1,"), "bad_signature", id="standard signature empty"),
        pytest.param(with_(webhook_signature="v1,é"), "bad_signature", id="standard signature not ASCII"),
        pytest.param(mixed(*STANDARD), "mismatch", id="headers of two attempts mixed"),
        pytest.param(without(*STANDARD), "missing_header", id="epoch and sequence without the id that signs them"),
        pytest.param(signed_again(b"null"), "malformed_body", id="signed null"),
        pytest.param(signed_again(b'{"endpoint_id":"x"}'), "malformed_body", id="signed, fields missing"),
        pytest.param(signed_again(wire.payload(PARIS, RESOURCE, "webhook", "FAILING")), "malformed_body", id="FAILING"),
        pytest.param(signed_again(b"[" * 100_000), "malformed_body", id="signed, nested without end"),
        pytest.param(signed_again(sent()[0], id=f"{LONDON}_7_3"), "mismatch", id="id of another endpoint"),
        pytest.param(signed_again(sent()[0], id=f"{PARIS}_7"), "mismatch", id="id without a sequence"),
    ],
)
def test_a_changed_or_unsigned_request_is_refused_with_its_code(tamper, code):
    body, headers = sent()

    headers, body = tamper(headers, body)

    with pytest.raises(WebhookError) as refused:
        received(headers, body)
    assert refused.value.code == code


LONG = "1" + 50 * "x"


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (by(timestamp=NOW + 301), ": 301 s ahead, at most 300 s are: compare clocks"),
        (by(timestamp=NOW - 301), ": 301 s old, at most 300 s are accepted"),
        (with_(X_Link_Webhook_Timestamp=LONG), f"{LONG[:40]!r} is not Unix seconds in up to 12 digits"),
        (with_(X_Link_Webhook_Epoch=LONG), f"X-Link-Webhook-Epoch is {LONG[:40]!r}, the signed webhook-id says 7"),
        (
            signed_again(wire.payload(PARIS, RESOURCE, "webhook", LONG)),
            f"status: {LONG[:40]!r} is neither ACTIVATED nor STANDBY",
        ),
    ],
)
def test_a_refusal_says_how_far_off_it_is(tamper, message):
    body, headers = sent()

    headers, body = tamper(headers, body)

    with pytest.raises(WebhookError) as refused:
        received(headers, body)
    assert str(refused.value).endswith(message)


def test_the_characters_beside_the_surrogates_stay():
    body = wire.payload(PARIS, "\ud7ff\ue000", "webhook", "STANDBY")

    assert json.loads(body)["resource_id"] == "\ud7ff\ue000"


def test_a_timestamp_cannot_be_taken_for_something_else():
    with pytest.raises(TypeError):
        wire.request(ANNOUNCED, [SECRET], {}, NOW)
    with pytest.raises(TypeError):
        receiver.parse_and_validate_webhook(SECRET, {}, b"", NOW)


def test_upper_case_hex_is_the_same_signature():
    body, headers = sent()
    headers["X-Link-Webhook-Signature"] = headers["X-Link-Webhook-Signature"].upper()

    assert received(headers, body).epoch == 7


@pytest.mark.parametrize("secrets", ["", [], ["", "x"]])
def test_a_receiver_with_an_empty_secret_accepts_no_webhook(secrets):
    body, headers = sent(secrets=["x"])

    with pytest.raises(ValueError, match="empty secret"):
        received(headers, body, secrets)


def test_no_message_of_an_error_has_the_secret_or_a_signature_in_it():
    body, headers = sent(secrets=["another"])

    with pytest.raises(WebhookError) as refused:
        received(headers, body)
    assert SECRET not in str(refused.value) and headers["X-Link-Webhook-Signature"] not in str(refused.value)


# The receiver's rule


@pytest.mark.parametrize(
    ("announcement", "highest_epoch", "last_sequence", "superseded"),
    [
        pytest.param(announced(PARIS, "ACTIVATED", 7, 3), None, {}, False, id="the first one"),
        pytest.param(
            announced(PARIS, "ACTIVATED", 7, 3), 7, {PARIS: 3}, False, id="a retry or refresh of the last one"
        ),
        pytest.param(announced(PARIS, "ACTIVATED", 7, 3), 7, {PARIS: 4}, True, id="sequence lower than the last"),
        pytest.param(announced(PARIS, "STANDBY", 7, 3), 7, {PARIS: 4}, True, id="of a STANDBY, too"),
        pytest.param(announced(PARIS, "ACTIVATED", 7, 3), 7, {LONDON: 4}, False, id="another's sequence is another's"),
        pytest.param(announced(PARIS, "ACTIVATED", 7, 3), 8, {}, True, id="ACTIVATED of an epoch that is over"),
        pytest.param(
            announced(PARIS, "STANDBY", 7, 4), 8, {PARIS: 3}, False, id="STANDBY after its successor's ACTIVATED"
        ),
    ],
)
def test_superseded_is_a_verdict_and_not_an_error(announcement, highest_epoch, last_sequence, superseded):
    body, headers = sent(announcement)

    slot = ActiveSlot(PARIS, highest_epoch, last_sequence)

    assert slot.supersedes(received(headers, body)) is superseded


@pytest.mark.parametrize("seen", [{"highest_epoch": 7}, {"last_sequence": {LONDON: 3}}])
def test_cutting_our_headers_off_does_not_bring_an_old_activated_back(seen):
    body, headers = sent()
    linklike = {k: v for k, v in headers.items() if k not in OURS + STANDARD}

    assert received(linklike, body).epoch is None
    with pytest.raises(WebhookError) as refused:
        ActiveSlot(**seen).supersedes(received(linklike, body))
    assert refused.value.code == "epoch_missing"


def nowhere(target):
    """A switch that moves nothing."""


P1, P_OUT, L1, L2 = (
    (PARIS, "ACTIVATED", 1, 1),
    (PARIS, "STANDBY", 1, 2),
    (LONDON, "STANDBY", 1, 1),
    (LONDON, "ACTIVATED", 2, 2),
)


@pytest.mark.parametrize(
    ("arriving", "active", "dropped"),
    [
        pytest.param([P1, L1, P_OUT, L2], LONDON, [], id="in order"),
        pytest.param([P1, L2, P_OUT], LONDON, [], id="the old holder's STANDBY after its successor's ACTIVATED"),
        pytest.param([P1, P_OUT, P1], None, [P1], id="a late ACTIVATED after its own STANDBY"),
        pytest.param([L2, P1], LONDON, [P1], id="a late ACTIVATED after its successor's"),
        pytest.param([P1, P1, P1], PARIS, [], id="retries and refreshes"),
        pytest.param([P1, L1], PARIS, [], id="another's STANDBY clears nothing"),
        pytest.param([L2, L1], LONDON, [L1], id="a joiner's STANDBY after it won"),
    ],
)
def test_the_active_slot_follows_the_truth_in_any_order(store, arriving, active, dropped):
    refused = [a for a in arriving if not apply(store, verified(*a), nowhere)]

    assert (store.load(RESOURCE)[0].active, refused) == (active, dropped)


@given(order=st.permutations([P1, L1, P_OUT, L2, P1, L2]))
def test_every_order_of_arrival_ends_with_the_same_active_endpoint(order):
    store = InMemoryStore()

    for a in order:
        apply(store, verified(*a), nowhere)

    assert store.load(RESOURCE)[0].active == LONDON


def test_a_slot_takes_plain_link_until_the_first_epoch(store):
    headers, body = captured("wire-activated.bin")
    plain = received(headers, body, "s3cret", now=1_795_435_471)
    ours = dataclasses.replace(verified(*P1), resource_id=plain.resource_id)
    targets = []

    assert apply(store, plain, targets.append) and apply(store, ours, targets.append)
    assert [target.endpoint_id for target in targets] == [plain.endpoint_id, PARIS]
    with pytest.raises(WebhookError, match="its headers were removed"):
        apply(store, plain, pytest.fail)


def test_the_target_has_the_host_of_the_active_endpoint_and_no_other(store):
    targets = []

    for announcement, host in ((P1, "paris"), (L1, "london"), (P_OUT, "paris"), (L2, "london"), (P_OUT, "paris")):
        webhook = dataclasses.replace(verified(*announcement), host=host)
        assert apply(store, webhook, targets.append)

    assert [target.host for target in targets] == ["paris", "paris", None, "london", "london"]


# What is remembered


@pytest.fixture(params=["in memory", "SQLite", "DynamoDB"])
def store(request, tmp_path):
    if request.param == "in memory":
        return InMemoryStore()
    if request.param == "SQLite":
        return SQLiteStore(str(tmp_path / "slots"))
    request.getfixturevalue("aws")
    client = boto3.client("dynamodb")
    create_slots_table(client)
    return DynamoDBStore(client, "slots")


def test_a_store_gives_back_what_it_was_given(store):
    slot = ActiveSlot(PARIS, 7, {PARIS: 3, LONDON: 1}, Turn("mine", NOW), "paris")

    assert store.load(RESOURCE) == (ActiveSlot(), 0)
    assert store.save(RESOURCE, slot, 0)
    assert store.load(RESOURCE) == (slot, 1)
    assert store.save(RESOURCE, ActiveSlot(None, None, {}), 1)
    assert store.load(RESOURCE) == (ActiveSlot(), 2)
    assert store.load("another") == (ActiveSlot(), 0)


@pytest.mark.parametrize("version", [0, 2])
def test_a_store_refuses_a_version_that_is_not_the_stored_one(store, version):
    store.save(RESOURCE, ActiveSlot(PARIS, 7), 0)

    assert not store.save(RESOURCE, ActiveSlot(LONDON, 8), version)
    assert store.load(RESOURCE) == (ActiveSlot(PARIS, 7), 1)


def test_a_store_in_memory_counts_beyond_small_numbers():
    store = InMemoryStore()
    for version in range(300):
        assert store.save(RESOURCE, ActiveSlot(PARIS, version), version)
        assert not store.save(RESOURCE, ActiveSlot(LONDON, version), int(str(version)))
    assert store.save(RESOURCE, ActiveSlot(PARIS, 300), int("300"))


def test_what_is_stored_in_dynamodb_is_read_consistently():
    requested = []

    class Client:
        def get_item(self, **arguments):
            requested.append(arguments)
            return {}

    assert DynamoDBStore(Client(), "slots").load(RESOURCE) == (ActiveSlot(), 0)
    assert requested == [{"TableName": "slots", "Key": {"resource_id": {"S": RESOURCE}}, "ConsistentRead": True}]


class Overtaken(InMemoryStore):
    """Between each load and save another process applies a webhook, as long as `others` has one."""

    def __init__(self, others):
        super().__init__()
        self.others, self.saves = list(others), 0

    def save(self, resource_id, slot, version):
        self.saves += 1
        if self.others:
            other = self.others.pop(0)
            now, in_force = self.load(resource_id)
            super().save(resource_id, now.after(other), in_force)
        return super().save(resource_id, slot, version)


def test_a_receiver_that_is_overtaken_decides_again():
    store = Overtaken([verified(*L2)])

    assert not apply(store, verified(*P1), pytest.fail)
    assert store.load(RESOURCE)[0] == ActiveSlot(LONDON, 2, {LONDON: 2})


def test_a_receiver_that_is_always_overtaken_fails_in_the_end():
    store = Overtaken([verified(LONDON, "ACTIVATED", 1, n) for n in range(1, 1_000)])

    with pytest.raises(Busy, match="answer 503"):
        apply(store, verified(PARIS, "ACTIVATED", 2, 1), pytest.fail)
    assert store.saves == 50


def test_the_end_of_a_switch_that_is_always_overtaken_fails_in_the_end():
    store = Overtaken([])

    def overtaken_from_now_on(target):
        store.others = [verified(LONDON, "STANDBY", 1, n) for n in range(1, 1_000)]

    with pytest.raises(Busy, match="answer 503"):
        apply(store, verified(*P1), overtaken_from_now_on)
    assert store.saves == 51


def test_what_is_superseded_is_not_written():
    store = Overtaken([])

    assert apply(store, verified(*L2), nowhere)
    assert not apply(store, verified(*P1), pytest.fail)
    assert store.saves == 2, "one begins the switch, one ends it"


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_answer_of_dynamodb_is_not_a_lost_webhook(store, lost):
    """botocore repeats a write whose answer was lost, and our own first write makes the condition fail."""
    save, saves = store.save, []

    def save_and_lose_one_answer(*arguments):
        saves.append(save(*arguments))
        return saves[-1] and len(saves) != lost + 1

    store.save = save_and_lose_one_answer
    assert apply(store, verified(*P1), nowhere)
    assert store.load(RESOURCE)[0] == ActiveSlot(PARIS, 1, {PARIS: 1})


def test_a_table_of_the_version_before_is_read(aws):
    """Its slots have no turn."""
    client = boto3.client("dynamodb")
    create_slots_table(client)
    item = {"active": {"S": PARIS}, "highest_epoch": {"N": "1"}, "last_sequence": {"M": {PARIS: {"N": "1"}}}}
    client.put_item(TableName="slots", Item={"resource_id": {"S": RESOURCE}, "version": {"N": "4"}, **item})

    assert DynamoDBStore(client, "slots").load(RESOURCE) == (ActiveSlot(PARIS, 1, {PARIS: 1}), 4)


def test_threads_share_a_store(store):
    def count(which):
        for number in range(1, 20):
            while True:
                slot, version = store.load(RESOURCE)
                if store.save(RESOURCE, slot.after(verified(f"{PARIS[:-1]}{which}", "STANDBY", 1, number)), version):
                    break

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    slot, version = store.load(RESOURCE)
    assert sorted(slot.last_sequence.values()) == [19] * 4 and version == 4 * 19


# The secret is looked up by the headers


def test_the_secret_is_looked_up_by_resource_and_endpoint_before_the_body_is_read():
    body, headers = sent()
    requested = []

    def secrets(request):
        requested.append(request)
        return SECRET

    assert received(headers, body, secrets).resource_id == RESOURCE
    with pytest.raises(WebhookError):
        received(headers, b"{", secrets)
    assert requested == [Unverified(RESOURCE, PARIS, None)] * 2


@pytest.mark.parametrize(
    ("webhook_id", "endpoint_id"),
    [(f"{PARIS}_7_3_1795435199950", PARIS), (None, None), ("", None), (f"{PARIS}_7", None), ("_7_3", None)],
)
def test_the_endpoint_of_the_look_up_is_the_one_in_the_webhook_id(webhook_id, endpoint_id):
    body, headers = sent()
    requested = []

    with pytest.raises(WebhookError, match="no secret") as refused:
        changed = {**headers, "webhook-id": webhook_id}
        received({k: v for k, v in changed.items() if v is not None}, body, requested.append)
    assert (refused.value.code, requested) == ("unknown_endpoint", [Unverified(RESOURCE, endpoint_id, None)])


@pytest.mark.parametrize("unknown", [None, "", []])
def test_an_endpoint_without_a_secret_is_refused(unknown):
    body, headers = sent()

    with pytest.raises(WebhookError) as refused:
        received(headers, body, lambda request: unknown)
    assert refused.value.code == "unknown_endpoint"


def test_the_secret_of_one_resource_does_not_speak_for_another():
    body, headers = sent(dataclasses.replace(ANNOUNCED, resource_id="mine"))
    secrets = {"mine": "a", "yours": SECRET}

    with pytest.raises(WebhookError) as refused:
        changed = {**headers, "X-Link-Webhook-Resource-ID": "yours"}
        received(changed, body, lambda request: secrets.get(request.resource_id))
    assert refused.value.code == "mismatch"


@pytest.mark.parametrize(
    ("webhook_id", "code"),
    [
        pytest.param(f"{LONDON}_7_3", "bad_signature", id="london's own id"),
        pytest.param(f"{PARIS}_7_3", "mismatch", id="paris' id"),
        pytest.param(None, "unknown_endpoint", id="none, as LinK sends it"),
    ],
)
def test_the_secret_of_one_endpoint_does_not_speak_for_another(webhook_id, code):
    """Whoever has paris' secret signs that london is active."""
    secrets = {PARIS: SECRET, LONDON: "london's secret"}
    claimed = wire.payload(LONDON, RESOURCE, "webhook", "ACTIVATED")
    headers, body = signed_again(claimed, id=webhook_id or f"{LONDON}_7_3")()
    if webhook_id is None:
        headers = {name: value for name, value in headers.items() if name not in OURS + STANDARD}

    with pytest.raises(WebhookError) as refused:
        received(headers, body, lambda request: secrets.get(request.endpoint_id))
    assert refused.value.code == code


def test_a_secret_of_its_own_for_each_host_proves_the_host():
    secrets = {"paris": SECRET, "london": "london's secret"}
    body, headers = sent(dataclasses.replace(ANNOUNCED, host="paris"))

    assert received(headers, body, lambda request: secrets.get(request.host)).host == "paris"
    with pytest.raises(WebhookError) as refused:
        received({**headers, "X-Link-Webhook-Host": "london"}, body, lambda request: secrets.get(request.host))
    assert refused.value.code == "bad_signature"


@pytest.mark.parametrize("server", [as_sent, as_latin_1])
def test_the_look_up_gets_the_id_as_it_was_registered(server):
    body, headers = sent(dataclasses.replace(ANNOUNCED, resource_id="Zürich ☃"))
    secrets = {"Zürich ☃": SECRET}

    found = received(server(headers), body, lambda request: secrets.get(request.resource_id))
    assert found.resource_id == "Zürich ☃"


def test_without_a_time_the_clock_decides():
    body, headers = sent(timestamp=int(time.time()))
    old_body, old_headers = sent(timestamp=int(time.time()) - 400)

    assert receiver.parse_and_validate_webhook(SECRET, headers, body).status == "ACTIVATED"
    with pytest.raises(WebhookError, match=r"40[0-9] s old"):
        receiver.parse_and_validate_webhook(SECRET, old_headers, old_body)


# Webhooks as Lambda gets them


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("rest_api", [False, True])
def test_a_lambda_event_is_read_whole(encoded, rest_api):
    body, headers = sent(dataclasses.replace(ANNOUNCED, resource_id="é"))
    text = base64.b64encode(body).decode() if encoded else body.decode()
    event = {"headers": {k.lower(): v for k, v in headers.items()}, "body": text, "isBase64Encoded": encoded}
    if rest_api:
        event["multiValueHeaders"] = {k: [v] for k, v in headers.items()}

    pairs, raw = receiver.lambda_request(event)

    assert raw == body
    assert received(pairs, raw).resource_id == "é"


def test_a_rest_apis_repeated_header_is_seen():
    body, headers = sent()
    both = {**{k: [v] for k, v in headers.items()}, "X-Link-Webhook-Timestamp": [str(NOW), str(NOW)]}
    pairs, raw = receiver.lambda_request(
        {"headers": headers, "multiValueHeaders": both, "body": body.decode(), "isBase64Encoded": False}
    )

    with pytest.raises(WebhookError) as refused:
        received(pairs, raw)
    assert refused.value.code == "repeated_header"


def test_a_lambda_event_without_anything_is_refused_and_no_crash():
    pairs, raw = receiver.lambda_request({"headers": None, "body": None})

    assert (pairs, raw) == ([], b"")


def test_it_is_one_file_that_imports_the_standard_library_only(tmp_path):
    copy = tmp_path / "copied.py"
    copy.write_text(Path(receiver.__file__).read_text())
    program = "import copied, sys; print(copied.ActiveSlot()); assert 'link' not in sys.modules"
    # -S and -E: nothing but the copy and the standard library can be found.
    done = subprocess.run([sys.executable, "-S", "-E", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_receiver_in_the_readme_works():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    switched = []
    example = {**vars(receiver), "SECRETS": SECRET, "store": InMemoryStore()}
    example["switch_to"] = lambda target: switched.append(target.endpoint_id)
    exec(readme.split("```python\n")[1].split("```")[0], example)
    receive = example["receive"]

    now = int(time.time())
    answers = [
        receive(headers, body) for body, headers in (sent(announced(*a), timestamp=now) for a in [P1, L2, P_OUT, P1])
    ]
    body, headers = sent(secrets=["another"], timestamp=now)

    assert answers == [(204, "")] * 4 and switched == [PARIS, LONDON, LONDON]
    assert receive(headers, body)[0] == 401
