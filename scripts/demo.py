"""The demo: two hosts, one resource and one receiver on the real template, deployed to a local cloud.

`make demo` plays the story and checks what arrived; `make local` leaves the local cloud running instead.
The exit status is 0 only if all webhooks arrived in the expected order, two implementations verified each of them, and
the story is the one in docs/demo.txt, which `make demo-recorded` writes.
"""

from __future__ import annotations

import argparse
import base64
import difflib
import http.server
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook as StandardWebhook

from scripts.cloud import LOCAL, REGION, ROOT, Cloud, CloudError, local_cloud

sys.path.insert(0, str(Path(__file__).parents[1] / "layers/shared"))

from link.receiver import parse_and_validate_webhook

EVENTS = Path(__file__).parents[1] / "events"
RESOURCE = "floating-ip-203.0.113.7"
SECRETS = {"paris": "paris-0123456789abcdef0123456789abcdef", "london": "london-0123456789abcdef0123456789abcde"}
RECORDED = ROOT / "docs/demo.txt"
PROFILE_FILE = LOCAL / "aws"
REFRESH_SECONDS = 6
HANDOVER_SECONDS = 1
PARAMETERS = {
    "AllowedNetworks": "127.0.0.0/8",
    "RefreshInterval": f"{REFRESH_SECONDS}s",
    "HandoverTimeout": f"{HANDOVER_SECONDS}s",
}
PATIENCE_SECONDS = 30
FAULTS = ("drop-standby", "wrong-key", "swap")


@dataclass(frozen=True)
class Arrival:
    """One request as it arrived at the receiver."""

    at: float
    headers: dict[str, str]
    body: bytes
    answered: int


@dataclass
class Announcement:
    """The content of a verified webhook."""

    at: float
    host: str
    status: str
    epoch: int
    sequence: int
    reason: str
    answered: int

    def brief(self) -> tuple[str, str, int, int, str]:
        return (self.host, self.status, self.epoch, self.sequence, self.reason)


class Receiver:
    """A receiver on loopback; while `down` is true it answers 503."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.down = False
        self.changed = threading.Condition()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = 503 if receiver.down else 204
                with receiver.changed:
                    receiver.arrivals.append(Arrival(time.time(), dict(self.headers.items()), body, status))
                    receiver.changed.notify_all()
                self.send_response(status)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def news(self, seen: int) -> list[Arrival]:
        """Return the arrivals after the first `seen`; wait without limit until there is one."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.arrivals) > seen)
            return self.arrivals[seen:]

    def wait_for(self, what: str, condition: Callable[[list[Arrival]], bool]) -> None:
        """Wait until the arrivals fulfil the condition; `what` names it in the error."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self.arrivals), PATIENCE_SECONDS):
                raise TimeoutError(f"{what} did not arrive within {PATIENCE_SECONDS} s")


class Listener:
    """A host that accepts connections on loopback until it dies."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.2)
        self.port: int = self._socket.getsockname()[1]
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                self._socket.accept()[0].close()
            except TimeoutError:
                continue

    def die(self) -> None:
        """Refuse connections from now on."""
        self.stop()
        self._socket.close()

    def stop(self) -> None:
        """Accept nothing more; the socket stays."""
        self.stopped.set()
        self._thread.join()


class Unverified(Exception):
    """A webhook that a receiver would refuse."""


def verify(arrival: Arrival, secrets: dict[str, str], hosts: dict[str, str]) -> Announcement:
    """Verify a webhook as a receiver does: with link.receiver and with the library of Standard Webhooks."""
    endpoint_id = json.loads(arrival.body)["endpoint_id"]
    host = hosts.get(endpoint_id, "")
    try:
        webhook = parse_and_validate_webhook(secrets[host], arrival.headers, arrival.body, now=int(arrival.at))
        key = "whsec_" + base64.b64encode(secrets[host].encode()).decode()
        StandardWebhook(key).verify(arrival.body, arrival.headers)
    except Exception as error:
        raise Unverified(f"{host or endpoint_id}: {type(error).__name__}: {error}") from error
    reason = arrival.headers["X-Link-Webhook-Reason"]
    assert webhook.epoch is not None and webhook.sequence is not None
    return Announcement(arrival.at, host, webhook.status, webhook.epoch, webhook.sequence, reason, arrival.answered)


@dataclass
class Story:
    """The hosts that took part, and the webhooks that must arrive."""

    hosts: dict[str, str] = field(default_factory=dict)
    """From endpoint id to host."""
    expected: list[set[tuple[str, str, int, int, str]]] = field(default_factory=list)
    """(host, status, epoch, sequence, reason) in order; the members of one set may arrive in any order."""
    refreshed: tuple[str, str, int, int, str] | None = None
    """The refresh that must arrive. On a slow machine there are others."""
    told: list[str] = field(default_factory=list)
    """What was printed while it played."""

    def tell(self, text: str) -> None:
        self.told.append(text)
        say(text)


def seed(fault: str, arrivals: list[Arrival], secrets: dict[str, str]) -> tuple[list[Arrival], dict[str, str]]:
    """Return falsified arrivals and secrets, to show that `judge` notices."""
    arrivals = list(arrivals)
    statuses = [json.loads(a.body)["status"] if a.answered == 204 else "" for a in arrivals]
    if fault == "drop-standby":
        del arrivals[statuses.index("STANDBY")]
    elif fault == "wrong-key":
        return arrivals, {**secrets, "paris": secrets["paris"][::-1]}
    elif fault == "swap":
        first = statuses.index("STANDBY", 2)
        arrivals[first], arrivals[first + 1] = arrivals[first + 1], arrivals[first]
    return arrivals, secrets


def verify_all(story: Story, arrivals: list[Arrival], secrets: dict[str, str]) -> tuple[list[Announcement], list[str]]:
    """Return the verified webhooks, and a problem for each other one."""
    announcements, problems = [], []
    for arrival in arrivals:
        try:
            announcements.append(verify(arrival, secrets, story.hosts))
        except Unverified as error:
            problems.append(f"not verified: {error}")
    return announcements, problems


def judge(story: Story, announcements: list[Announcement]) -> list[str]:
    """Return the problems with what arrived; empty if every webhook arrived as expected."""
    problems = []
    delivered = [one for one in announcements if one.answered == 204]
    news = [one.brief() for one in delivered if one.reason != "refresh"]
    for part in story.expected:
        arrived, news = news[: len(part)], news[len(part) :]
        if set(arrived) != part:
            problems.append(f"expected {sorted(part)}, arrived {arrived}")
    if news:
        problems.append(f"not expected: {news}")
    if story.refreshed not in [one.brief() for one in delivered]:
        problems.append("no refresh of the active endpoint arrived")
    last: dict[str, int] = {}
    for one in announcements:
        if one.sequence < last.get(one.host, 0):
            problems.append(f"{one.host}: sequence {one.sequence} arrived after {last[one.host]}")
        last[one.host] = max(one.sequence, last.get(one.host, 0))
    return problems


def timeline(announcements: list[Announcement]) -> list[str]:
    """Return a table with one line for each announcement."""
    lines = [f"{'time':>7}  {'endpoint':8} {'status':9} {'epoch':>5} {'sequence':>8}  {'reason':10} answer  verified"]
    for position, one in enumerate(announcements):
        lines.append(
            f"{one.at - announcements[0].at:6.2f}s  {one.host:8} {one.status:9} {one.epoch:5} {one.sequence:8}  "
            f"{one.reason:10} {one.answered}     yes, twice"
        )
        pending = _pending_standby(announcements[:position], one)
        if pending and one.answered == 204:
            lines.append(
                f"{'':9}{pending}'s STANDBY is still pending: HandoverTimeout ({HANDOVER_SECONDS} s) ended. "
                f"When it arrives, {one.host} stays active: its epoch is higher"
            )
    return lines


def _pending_standby(before: list[Announcement], one: Announcement) -> str | None:
    """Return the host whose STANDBY was not answered with 204 before an ACTIVATED with a higher epoch was."""
    if one.status != "ACTIVATED":
        return None
    last = {each.host: each for each in before if each.host != one.host}
    hosts = (h for h, each in last.items() if each.status == "STANDBY" and each.answered != 204)
    return next((host for host in hosts if last[host].epoch < one.epoch), None)


def recorded(story: Story, announcements: list[Announcement]) -> str:
    """Return the story as it is in docs/demo.txt, the same for each run.

    Without times, repeated attempts and later refreshes. What may arrive in any order has the order of the names.
    """
    seen: set[object] = set()
    kept: list[Announcement] = []
    for one in announcements:
        what = (*one.brief(), one.answered)
        if what not in seen and (one.reason != "refresh" or one.brief() == story.refreshed):
            kept.append(one)
        seen.add(what)
    for part in story.expected:
        places = [i for i, one in enumerate(kept) if one.answered == 204 and one.brief() in part]
        ordered = sorted((kept[i] for i in places), key=Announcement.brief, reverse=True) if len(part) > 1 else []
        for i, one in zip(places, ordered, strict=False):
            kept[i] = one
    lines = [f"· {text}" for text in story.told] + ["", *timeline(kept)]
    return re.sub(r" *\d+\.\d\ds  ", "    …    ", re.sub(r"\d+ s after", "… s after", "\n".join(lines))) + "\n"


class Director:
    """Plays the story on the local cloud."""

    def __init__(self, cloud: Cloud, receiver: Receiver) -> None:
        self.cloud = cloud
        self.receiver = receiver
        self.story = Story()
        self.ids: dict[str, str] = {}

    def register(self, host: str) -> None:
        body = api_body("create")
        body["host"] = host
        body["plugin_config"] |= {"url": self.receiver.url, "resource_id": RESOURCE, "secret": SECRETS[host]}
        status, answer = self.cloud.call("POST", "/endpoints", body)
        if status != 201:
            raise RuntimeError(f"registering {host} failed: {status} {answer}")
        self.ids[host] = answer["endpoint"]["id"]
        self.story.hosts[self.ids[host]] = host

    def report(self, host: str, situation: str) -> None:
        """Send the event in events/<situation>.json as `host`, with the current time."""
        record = json.loads((EVENTS / f"{situation}.json").read_text())["Records"][0]
        event = json.loads(record["body"])
        detail = event["detail"] | {
            "endpoint_id": self.ids[host],
            "resource_id": RESOURCE,
            "reported_at": time.time_ns() // 1_000_000,
        }
        answer = self.cloud.client("events", "host").put_events(
            Entries=[
                {
                    "EventBusName": self.cloud.outputs["EventBusName"],
                    "Source": event["source"],
                    "DetailType": event["detail-type"],
                    "Detail": json.dumps(detail),
                }
            ]
        )
        if answer["FailedEntryCount"]:
            raise RuntimeError(f"EventBridge did not accept the event of {host}: {answer['Entries']}")

    def expect(self, *briefs: tuple[str, str, int, int, str], together: bool = False) -> None:
        """Expect more webhooks and wait until they arrive, in this order unless `together`."""
        self.story.expected += [set(briefs)] if together else [{brief} for brief in briefs]
        self.receiver.wait_for(str(briefs), lambda arrivals: self._delivered(set(briefs), arrivals))

    def _delivered(self, briefs: set[tuple[str, str, int, int, str]], arrivals: list[Arrival]) -> bool:
        return briefs <= {
            (
                self.story.hosts[json.loads(a.body)["endpoint_id"]],
                json.loads(a.body)["status"],
                int(a.headers["X-Link-Webhook-Epoch"]),
                int(a.headers["X-Link-Webhook-Sequence"]),
                a.headers["X-Link-Webhook-Reason"],
            )
            for a in arrivals
            if a.answered == 204
        }

    def refresh(self, *brief: Any) -> None:
        """Run the sweep once, and wait until the active endpoint is refreshed."""
        self.cloud.client("lambda").invoke(
            FunctionName=self.cloud.outputs["RefreshFunctionName"], Payload=event_bytes()
        )
        self.story.refreshed = brief
        self.receiver.wait_for("a refresh", lambda arrivals: self._delivered({brief}, arrivals))

    def play(self) -> None:
        self.story.tell("paris and london are candidates for one resource; both register")
        self.register("paris")
        self.register("london")
        self.story.tell("paris reports ACTIVATED, then london does: paris becomes active, london is on standby")
        self.report("paris", "status_winner")
        self.expect(("paris", "ACTIVATED", 1, 1, "elected"))
        self.report("london", "status_loser")
        self.expect(("london", "STANDBY", 1, 1, "joined"))
        self.story.tell("paris fails: paris gets STANDBY first, then london gets ACTIVATED with a higher epoch")
        self.report("paris", "status_failing")
        self.expect(("paris", "STANDBY", 1, 2, "failing"), ("london", "ACTIVATED", 2, 2, "elected"))
        self.story.tell(f"nothing happens for {REFRESH_SECONDS} s: london gets its ACTIVATED again, as a refresh")
        self.refresh("london", "ACTIVATED", 2, 2, "refresh")

        self.story.tell("the receiver is down while paris recovers and london fails; then it is up again")
        self.receiver.down = True
        failed = len(self.receiver.arrivals)
        self.report("paris", "status_recovering")
        self.receiver.wait_for("an attempt for paris", lambda arrivals: len(arrivals) > failed)
        self.report("london", "status_failing")
        self.receiver.wait_for("an attempt for each endpoint", lambda arrivals: self._attempted(arrivals[failed:]))
        self.receiver.down = False
        self.expect(("london", "STANDBY", 2, 3, "failing"), ("paris", "ACTIVATED", 3, 4, "elected"), together=True)

        self.story.tell("london recovers, and an operator fails over from paris to london")
        self.report("london", "status_recovering")
        self.expect(("london", "STANDBY", 3, 4, "recovered"))
        status, answer = self.cloud.call("POST", f"/endpoints/{self.ids['paris']}/failover")
        if status != 204:
            raise RuntimeError(f"the failover failed: {status} {answer}")
        self.expect(("paris", "STANDBY", 3, 5, "failover"), ("london", "ACTIVATED", 4, 5, "failover"))

        self.story.tell("from now on the service looks at both hosts itself, and no host reports any more")
        hosts = {host: Listener() for host in SECRETS}
        for host, listener in hosts.items():
            self.probe(host, listener.port)
        self.slots()
        self.until_ready("paris")
        self.story.tell("london dies: the probe finds its port closed, and paris becomes active")
        hosts["london"].die()
        died = time.monotonic()
        self.expect(("london", "STANDBY", 4, 6, "failing"), ("paris", "ACTIVATED", 5, 6, "elected"))
        self.story.tell(f"paris was active {time.monotonic() - died:.0f} s after london died")
        hosts["paris"].die()

    def probe(self, host: str, port: int) -> None:
        """Have the service look at a host, and nobody else report for it."""
        body = {"observers": ["probe"], "checks": [{"type": "TCP", "host": "127.0.0.1", "port": port}]}
        status, answer = self.cloud.call("PATCH", f"/endpoints/{self.ids[host]}", body)
        if status != 200:
            raise RuntimeError(f"changing {host} failed: {status} {answer}")

    def slots(self) -> None:
        """Put the slots of the next minute. Later ones come by the rule of the clock."""
        tick = {**json.loads(event_bytes()), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        self.cloud.client("lambda").invoke(
            FunctionName=self.cloud.outputs["ProbeClockFunctionName"], Payload=json.dumps(tick).encode()
        )

    def until_ready(self, host: str) -> None:
        """Wait until a host is ready by what its probe found."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            _, answer = self.cloud.call("GET", f"/resources?resource_id={RESOURCE}")
            if any(one["host"] == host and one["ready"] for one in answer["resource"]["candidates"]):
                return
            time.sleep(0.5)
        raise TimeoutError(f"{host} was not ready within {PATIENCE_SECONDS} s: {answer}")

    def _attempted(self, arrivals: list[Arrival]) -> bool:
        tried = {(json.loads(a.body)["endpoint_id"], json.loads(a.body)["status"]) for a in arrivals}
        return {(self.ids["london"], "STANDBY"), (self.ids["paris"], "ACTIVATED")} <= tried


def api_body(situation: str) -> dict[str, Any]:
    """Return the request body in events/api_<situation>.json."""
    body: dict[str, Any] = json.loads(json.loads((EVENTS / f"api_{situation}.json").read_text())["body"])
    return body


def event_bytes() -> bytes:
    return (EVENTS / "schedule_tick.json").read_bytes()


def by_hand(cloud: Cloud, receiver_url: str) -> str:
    """Return shell commands that register an endpoint and report for it with curl 7.75 or newer."""
    operator, host = (f"{keys.access_key}:{keys.secret_key}" for keys in map(cloud.credentials, ("operator", "host")))
    body = api_body("create")
    body["plugin_config"] |= {"url": receiver_url, "resource_id": RESOURCE, "secret": SECRETS["paris"]}
    detail = '{\\"endpoint_id\\":\\"\'$PARIS\'\\",\\"status\\":\\"ACTIVATED\\"}'
    entry = {"EventBusName": cloud.outputs["EventBusName"], "Source": "link", "DetailType": "Endpoint Status Change"}
    entries = json.dumps({"Entries": [{**entry, "Detail": "DETAIL"}]}).replace("DETAIL", detail)
    return f"""\
API={cloud.api_url()}
operator() {{ curl -sS --aws-sigv4 aws:amz:{REGION}:execute-api --user {operator} "$@"; echo; }}
host() {{ curl -sS --aws-sigv4 aws:amz:{REGION}:events --user {host} "$@"; echo; }}

# Register an endpoint and keep its id.
PARIS=$(operator $API/endpoints -H 'Content-Type: application/json' \\
  --data '{json.dumps(body)}' | grep -o 'vip-[0-9a-f-]*')

# Report ACTIVATED, as its host.
host {cloud.endpoint_url}/ -H 'X-Amz-Target: AWSEvents.PutEvents' -H 'Content-Type: application/x-amz-json-1.1' \\
  --data '{entries}'

# Look at it, then delete it.
operator $API/endpoints/$PARIS
operator -X DELETE $API/endpoints/$PARIS
"""


def with_linkctl(receiver_url: str) -> str:
    """Return shell commands that register an endpoint, report for it and show it with linkctl."""
    return f"""\
# Once: python3 -m venv .local/linkctl && .local/linkctl/bin/pip install ./cli
linkctl() {{ {LOCAL}/linkctl/bin/linkctl --profile-file {PROFILE_FILE} "$@"; }}

# Register an endpoint, report ACTIVATED as its host, look at it, then delete it.
echo {SECRETS["paris"]} |
  linkctl endpoints create --url {receiver_url} --resource-id {RESOURCE} --host paris --secret-file -
linkctl report paris@{RESOURCE} ACTIVATED --wait
linkctl resources show {RESOURCE}
linkctl endpoints delete paris@{RESOURCE} --yes
"""


def serve(cloud: Cloud) -> int:
    """Leave the local cloud running and print each webhook that arrives, until Ctrl-C."""
    receiver = Receiver()
    cloud.write_profile(PROFILE_FILE)
    print(f"The local cloud is at {cloud.endpoint_url}, a receiver is at {receiver.url}. Try it in another shell:\n")
    print(with_linkctl(receiver.url))
    print("# The same with curl:\n")
    print(by_hand(cloud, receiver.url))
    say("waiting for webhooks; Ctrl-C stops the local cloud")
    shown = 0
    try:
        while True:
            arrivals = receiver.news(shown)
            shown += len(arrivals)
            for a in arrivals:
                names = ("Epoch", "Sequence", "Reason", "Attempt")
                say(f"{a.body.decode()} {' '.join(a.headers[f'X-Link-Webhook-{name}'] for name in names)}")
    except KeyboardInterrupt:
        return 0
    finally:
        receiver.close()
        PROFILE_FILE.unlink(missing_ok=True)


def say(text: str) -> None:
    print(f"· {text}", flush=True)


def play(cloud: Cloud, options: argparse.Namespace, started: float) -> int:
    """Play the story, print what arrived and the verdict; return the exit status."""
    receiver = Receiver()
    director = Director(cloud, receiver)
    story, failure = director.story, None
    try:
        director.play()
    except (TimeoutError, RuntimeError) as error:
        failure = str(error)
    finally:
        receiver.close()
    arrivals, secrets = (
        seed(options.fault, receiver.arrivals, SECRETS) if options.fault else (receiver.arrivals, SECRETS)
    )
    announcements, problems = verify_all(story, arrivals, secrets)
    print("", *timeline(announcements), "", sep="\n")
    if failure is not None:
        print(cloud.log_tail())
        problems.append(failure)
    else:
        problems += judge(story, announcements)
    if options.record and not problems:
        RECORDED.write_text(recorded(story, announcements))
    elif not problems:
        problems += differences(recorded(story, announcements))
    for problem in problems:
        print(f"FAILED: {problem}")
    if not problems:
        print(
            f"PASSED: {len(arrivals)} requests, all webhooks as expected and in order, verified with link.receiver and "
            f"with standardwebhooks, in {time.monotonic() - started:.0f} s",
            flush=True,
        )
    return 1 if problems else 0


def differences(now: str) -> list[str]:
    """Return how the story differs from the recorded one."""
    lines = difflib.unified_diff(
        RECORDED.read_text().splitlines(), now.splitlines(), "docs/demo.txt", "now", lineterm=""
    )
    return (
        ["\n".join(["the story differs from docs/demo.txt (`make demo-recorded` writes it):", *found])]
        if (found := list(lines))
        else []
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sam", action="store_true", help="deploy with sam build and sam deploy")
    parser.add_argument("--serve", action="store_true", help="leave the local cloud running until Ctrl-C")
    parser.add_argument("--record", action="store_true", help="write docs/demo.txt instead of comparing with it")
    parser.add_argument("--fault", choices=FAULTS, help="falsify what arrived: the demo must fail")
    options = parser.parse_args()
    started = time.monotonic()
    say("starting a local cloud and deploying template.yaml to it")
    try:
        with local_cloud(parameters=PARAMETERS, sam=options.sam) as cloud:
            status = serve(cloud) if options.serve else play(cloud, options, started)
            say("stopping the local cloud and removing its files")
        return status
    except KeyboardInterrupt:
        print("stopped")
        return 130
    except CloudError as error:
        print(f"FAILED: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
