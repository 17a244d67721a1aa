"""The webhook on the wire, against recordings of LinK and the libraries of Standard Webhooks."""

import base64
import dataclasses
import json
import time
from pathlib import Path

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from link import webhook
from link.webhook import ActiveSlot, Announcement, Webhook, WebhookError, parse_and_validate_webhook

VECTORS = Path(__file__).parent.parent / "vectors"
RECORDED = json.loads((VECTORS / "link_v3.3.0_webhooks.json").read_text())
NOW = 1_795_435_200
PARIS = "vip-11111111-1111-4111-8111-111111111111"
LONDON = "vip-22222222-2222-4222-8222-222222222222"
RESOURCE = "floating-ip-203.0.113.7"
SECRET = "paris' secret"
ANNOUNCED = Announcement(PARIS, RESOURCE, "webhook", "ACTIVATED", epoch=7, sequence=3, reason="elected", attempt=1)


def sent(announcement=ANNOUNCED, secrets=(SECRET,), headers=None, timestamp=NOW):
    return webhook.request(announcement, secrets, headers or {}, timestamp=timestamp)


def received(headers, body, secrets=SECRET, now=NOW, **seen):
    return parse_and_validate_webhook(secrets, headers, body, now=now, **seen)


def captured(name):
    head, body = (VECTORS / name).read_bytes().split(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return [tuple(line.split(": ", 1)) for line in lines], body


# What LinK sends


@pytest.mark.parametrize("vector", RECORDED, ids=[f"{v['source']}, {v['name']}, {v['timestamp']}" for v in RECORDED])
def test_body_and_signature_are_those_of_link_to_the_byte(vector):
    body = webhook.payload(vector["endpoint_id"], vector["resource_id"], vector["plugin"], vector["status"])

    assert body == vector["body"].encode()
    assert webhook.sign(vector["secret"], vector["timestamp"], body) == vector["signature_hex"]


def test_both_kinds_of_recordings_are_there():
    assert {v["source"] for v in RECORDED} == {"plugin", "formula"} and len(RECORDED) == 29


@pytest.mark.parametrize("name", ["wire-activated.bin", "wire-standby.bin"])
def test_every_header_of_a_captured_request_is_sent_with_its_value(name):
    wire, wire_body = captured(name)
    said = json.loads(wire_body)

    announcement = dataclasses.replace(ANNOUNCED, **said)
    body, headers = sent(announcement, ["s3cret"], timestamp=int(dict(wire)["X-Link-Webhook-Timestamp"]))

    ours = {name.lower(): value for name, value in headers.items()}
    of_the_transport = {"host", "user-agent", "content-length", "accept-encoding"}
    contract = {name.lower(): value for name, value in wire if name.lower() not in of_the_transport}
    assert body == wire_body
    assert len(contract) == 4 and contract.items() <= ours.items()


@pytest.mark.parametrize("name", ["wire-activated.bin", "wire-standby.bin"])
def test_a_webhook_of_link_itself_is_accepted_without_an_epoch(name):
    headers, body = captured(name)

    seen = received(headers, body, "s3cret", now=1_795_435_471)

    assert (seen.resource_id, seen.status) == ("res-1", json.loads(body)["status"])
    assert (seen.message_id, seen.epoch, seen.sequence) == (None, None, None)


@pytest.mark.parametrize("c", ["\ud800", "\udfff"])
def test_a_lone_surrogate_becomes_the_replacement_character_as_in_go(c):
    body, headers = sent(dataclasses.replace(ANNOUNCED, resource_id=f"a{c}b"))

    assert b'"resource_id":"a\xef\xbf\xbdb"' in body
    assert headers["X-Link-Webhook-Resource-ID"] == "a\ufffdb"


# What we add


def test_the_headers_say_who_what_and_in_which_order():
    _, headers = sent(dataclasses.replace(ANNOUNCED, attempt=2))

    del headers["X-Link-Webhook-Signature"], headers["webhook-signature"]
    assert headers == {
        "Content-Type": "application/json",
        "User-Agent": f"link-webhook-serverless/{webhook.VERSION}",
        "X-Link-Webhook-Resource-ID": RESOURCE,
        "X-Link-Webhook-Timestamp": str(NOW),
        "X-Link-Webhook-Epoch": "7",
        "X-Link-Webhook-Sequence": "3",
        "X-Link-Webhook-Reason": "elected",
        "X-Link-Webhook-Attempt": "2",
        "webhook-id": f"{PARIS}_7_3",
        "webhook-timestamp": str(NOW),
    }


def test_a_retry_keeps_the_id_and_a_refresh_has_its_own():
    ids = [
        sent(dataclasses.replace(ANNOUNCED, **change))[1]["webhook-id"]
        for change in (
            {},
            {"attempt": 2},
            {"refreshed_at": 1_795_435_199_950},
            {"refreshed_at": 1_795_435_199_950, "attempt": 2},
        )
    ]

    assert ids == [f"{PARIS}_7_3", f"{PARIS}_7_3", f"{PARIS}_7_3_1795435199950", f"{PARIS}_7_3_1795435199950"]


def test_the_users_headers_go_along_and_never_replace_ours():
    users = {
        "Authorization": "Bearer é",
        "user-agent": "theirs",
        "content-type": "text/plain",
        "X-LINK-WEBHOOK-SIGNATURE": "0" * 64,
        "X_Link_Webhook_Epoch": "99",
        "Webhook-Id": "theirs",
    }

    _, headers = sent(headers=users)

    assert headers["Authorization"] == "Bearer é"
    assert headers["user-agent"] == "theirs" and "User-Agent" not in headers
    assert {k: v for k, v in headers.items() if k.lower() != "user-agent"} == {
        k: v for k, v in sent(headers={"Authorization": "Bearer é"})[1].items() if k != "User-Agent"
    }


@pytest.mark.parametrize("secrets", [["one"], ["old", "new"], ["schlüssel ☃"]], ids=["one", "rotating", "not ASCII"])
def test_the_standard_webhooks_package_verifies_us_with_each_secret(secrets):
    body, headers = sent(secrets=secrets, timestamp=int(time.time()))

    for secret in secrets:
        library = standardwebhooks.Webhook("whsec_" + base64.b64encode(secret.encode()).decode())
        assert library.verify(body, headers)["endpoint_id"] == PARIS


def test_while_a_secret_changes_links_header_is_signed_with_the_older_one():
    body, headers = sent(secrets=["old", "new"])

    assert received(headers, body, "old").epoch == 7
    assert received(headers, body, ["new", "old"]).epoch == 7
    with pytest.raises(WebhookError, match="compare secrets"):
        received(headers, body, "new")


DAY = 86_400_000
OLD, NEW, LATER = (
    {"value": v, "from": f * DAY, "until": u} for v, f, u in [("o", 1, 3 * DAY), ("n", 2, None), ("l", 9, None)]
)


@pytest.mark.parametrize(
    ("secrets", "now", "values"),
    [
        pytest.param([OLD], DAY, ["o"], id="the only one"),
        pytest.param([NEW, OLD], 3 * DAY - 1, ["o", "n"], id="both, the older first, until it expires"),
        pytest.param([NEW, OLD], 3 * DAY, ["n"], id="only the newer from that moment on"),
        pytest.param([OLD], 3 * DAY, [], id="none left"),
        pytest.param([OLD], 3 * DAY + 1, [], id="nor later"),
        pytest.param([LATER], DAY, ["l"], id="a clock behind the registering one still has a secret"),
    ],
)
def test_the_unexpired_secrets_sign(secrets, now, values):
    assert webhook.active_secrets(secrets, now) == values


# What a receiver accepts


def test_a_receiver_reads_what_was_announced():
    body, headers = sent()

    assert received(headers, body) == Webhook(
        PARIS, RESOURCE, "webhook", webhook.Status.ACTIVATED, NOW, f"{PARIS}_7_3", epoch=7, sequence=3
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


def signed_anew(body, **said):
    """What the endpoint itself would send, with another body or id."""
    _, h = sent()
    headers = {
        **h,
        "X-Link-Webhook-Signature": webhook.sign(SECRET, NOW, body),
        "webhook-id": said.get("id", h["webhook-id"]),
    }
    headers["webhook-signature"] = webhook.sign_standard([SECRET], headers["webhook-id"], NOW, body)
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
        pytest.param(signed_anew(b"null"), "malformed_body", id="signed null"),
        pytest.param(signed_anew(b'{"endpoint_id":"x"}'), "malformed_body", id="signed, fields missing"),
        pytest.param(
            signed_anew(webhook.payload(PARIS, RESOURCE, "webhook", "FAILING")), "malformed_body", id="FAILING"
        ),
        pytest.param(signed_anew(b"[" * 100_000), "malformed_body", id="signed, nested without end"),
        pytest.param(signed_anew(sent()[0], id=f"{LONDON}_7_3"), "mismatch", id="id of another endpoint"),
        pytest.param(signed_anew(sent()[0], id=f"{PARIS}_7"), "mismatch", id="id without a sequence"),
    ],
)
def test_refuses(tamper, code):
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
            signed_anew(webhook.payload(PARIS, RESOURCE, "webhook", LONG)),
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
    body = webhook.payload(PARIS, "\ud7ff\ue000", "webhook", "STANDBY")

    assert json.loads(body)["resource_id"] == "\ud7ff\ue000"


def test_a_timestamp_cannot_be_taken_for_something_else():
    with pytest.raises(TypeError):
        webhook.request(ANNOUNCED, [SECRET], {}, NOW)
    with pytest.raises(TypeError):
        parse_and_validate_webhook(SECRET, {}, b"", NOW)


def test_upper_case_hex_is_the_same_signature():
    body, headers = sent()
    headers["X-Link-Webhook-Signature"] = headers["X-Link-Webhook-Signature"].upper()

    assert received(headers, body).epoch == 7


@pytest.mark.parametrize("secrets", ["", [], ["", "x"]])
def test_a_receiver_without_its_secret_does_not_start_believing_everybody(secrets):
    body, headers = sent(secrets=["x"])

    with pytest.raises(ValueError, match="empty secret"):
        received(headers, body, secrets)


def test_no_message_of_an_error_has_the_secret_or_a_signature_in_it():
    body, headers = sent(secrets=["another"])

    with pytest.raises(WebhookError) as refused:
        received(headers, body)
    assert SECRET not in str(refused.value) and headers["X-Link-Webhook-Signature"] not in str(refused.value)


# The receiver's rule


def told(endpoint_id, status, epoch, sequence):
    return dataclasses.replace(ANNOUNCED, endpoint_id=endpoint_id, status=status, epoch=epoch, sequence=sequence)


@pytest.mark.parametrize(
    ("announcement", "highest_epoch", "last_sequence", "superseded"),
    [
        pytest.param(told(PARIS, "ACTIVATED", 7, 3), None, None, False, id="the first one"),
        pytest.param(told(PARIS, "ACTIVATED", 7, 3), 7, 3, False, id="a retry or refresh of the last one"),
        pytest.param(told(PARIS, "ACTIVATED", 7, 3), 7, 4, True, id="sequence lower than the last"),
        pytest.param(told(PARIS, "STANDBY", 7, 3), 7, 4, True, id="of a STANDBY, too"),
        pytest.param(told(PARIS, "ACTIVATED", 7, 3), 8, None, True, id="ACTIVATED of an epoch that is over"),
        pytest.param(told(PARIS, "STANDBY", 7, 4), 8, 3, False, id="a STANDBY after its successor's ACTIVATED"),
    ],
)
def test_superseded_is_a_verdict_and_not_an_error(announcement, highest_epoch, last_sequence, superseded):
    body, headers = sent(announcement)

    seen = received(headers, body, highest_epoch=highest_epoch, last_sequence=last_sequence)

    assert seen.superseded is superseded


@pytest.mark.parametrize("seen", [{"highest_epoch": 7}, {"last_sequence": 3}])
def test_cutting_our_headers_off_does_not_bring_an_old_activated_back(seen):
    body, headers = sent()
    linklike = {k: v for k, v in headers.items() if k not in OURS + STANDARD}

    assert received(linklike, body).epoch is None
    with pytest.raises(WebhookError) as refused:
        received(linklike, body, **seen)
    assert refused.value.code == "epoch_missing"


def verified(*announcement):
    body, headers = sent(told(*announcement))
    return received(headers, body)


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
def test_the_active_slot_follows_the_truth_in_any_order(arriving, active, dropped):
    slot = ActiveSlot()

    refused = [a for a in arriving if not slot.apply(verified(*a))]

    assert (slot.active, refused) == (active, dropped)


@given(order=st.permutations([P1, L1, P_OUT, L2, P1, L2]))
def test_every_order_of_arrival_ends_with_the_same_active_endpoint(order):
    slot = ActiveSlot()

    for a in order:
        slot.apply(verified(*a))

    assert slot.active == LONDON


def test_the_active_slot_takes_plain_link_until_the_first_epoch():
    headers, body = captured("wire-activated.bin")
    plain = received(headers, body, "s3cret", now=1_795_435_471)
    slot = ActiveSlot()

    assert slot.apply(plain) and slot.active == plain.endpoint_id
    assert slot.apply(verified(*P1))
    with pytest.raises(WebhookError, match="cut off"):
        slot.apply(plain)


def test_the_receiver_in_the_readme_works():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    switched: list[str | None] = []
    example = {**vars(webhook), "time": time, "SECRETS": SECRET, "switch_to": switched.append}
    exec(readme.split("```python\n")[1].split("```")[0], example)
    receive = example["receive"]

    now = int(time.time())
    answers = [receive(headers, body) for body, headers in (sent(told(*a), timestamp=now) for a in [P1, L2, P_OUT, P1])]
    body, headers = sent(secrets=["another"], timestamp=now)

    assert answers == [(204, "")] * 4 and switched == [PARIS, LONDON, LONDON]
    assert receive(headers, body)[0] == 401
