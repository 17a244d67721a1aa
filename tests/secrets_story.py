"""Run by test_secrets.py in its own process: plays what can go wrong while secrets are in use.

Prints what the functions print. Writes the contents of tables and queues, and the answers of the API, to argv[1].
"""

from __future__ import annotations

import base64
import json
import sys
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from link.election.result import Result
from link.key_rotation import Unfinished
from link.plugins.webhook.sender import Sender
from tests.support.functions import Deployment, event
from tests.support.ids import LONDON, PARIS, RESOURCE, SECRETS
from tests.support.receiver import LoopbackReceiver

SECRET = 'marker-secret-"é\\-0123456789abcdef'
HEADER = 'Bearer marker-header-"ü\\-0123456789'
BODY: dict[str, Any] = {
    "plugin": "webhook",
    "plugin_config": {"resource_id": RESOURCE, "secret": SECRET, "headers": {"Authorization": HEADER}},
}


class Story:
    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.answers: list[Any] = []

    def api(self, name: str, body: Any = None) -> Any:
        request = event(f"api_{name}")
        if body is not None:
            request["body"] = body if isinstance(body, str) else json.dumps(body)
        answer = self.deployment.invoke("endpoints_api", request)
        self.answers.append(answer)
        return answer

    def register(self, endpoint_id: str, url: str) -> None:
        SECRETS[endpoint_id] = SECRET
        body = {**BODY, "plugin_config": {**BODY["plugin_config"], "url": url}}
        self.deployment.register(endpoint_id, plugin_config=body["plugin_config"])

    def report(self, name: str) -> None:
        """Send a status event. What the function raises goes to the log, as in Lambda."""
        try:
            self.answers.append(self.deployment.invoke("endpoint_status", event(name)))
        except Exception:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]

    def delivered(self) -> int:
        return len(self.deployment.receiver.requests)


def play(story: Story, patch: pytest.MonkeyPatch) -> None:
    receiver = story.deployment.receiver

    # Success.
    story.register(PARIS, receiver.url)
    story.report("status_winner")
    assert story.delivered() == 1
    assert receiver.requests[0].header("Authorization").encode("latin-1").decode() == HEADER

    # Refused registrations: 422, 400, 409.
    bad = {**BODY, "plugin_config": {**BODY["plugin_config"], "url": "ftp://x", "headers": {"Host": HEADER}}}
    assert story.api("create", bad)["statusCode"] == 422
    long = {**BODY["plugin_config"], "url": receiver.url, "headers": {"Authorization": HEADER * 200}}
    assert story.api("create", {**BODY, "plugin_config": long})["statusCode"] == 422
    assert story.api("create", json.dumps(BODY)[:-2])["statusCode"] == 400
    assert story.api("create", json.dumps(SECRET))["statusCode"] == 422

    # Changes: refused as invalid, refused because of what is stored, accepted with two secrets; then a key rotation.
    config = {"secret": SECRET, "headers": {"Authorization": HEADER}}
    assert story.api("change", {"plugin_config": {**config, "headers": {"Host": HEADER}}})["statusCode"] == 422
    assert story.api("change", {"plugin_config": {"secret": SECRET}})["statusCode"] == 422
    assert story.api("change", {"plugin_config": {**config, "url": receiver.url + "/x"}})["statusCode"] == 409
    assert story.api("change", json.dumps(config)[:-2])["statusCode"] == 400
    until = time.time_ns() // 1_000_000 + 60_000
    for later in (until, until + 1):
        status = story.api("change", {"plugin_config": {**config, "previous_secret_until": later}})["statusCode"]
        assert status == (200 if later == until else 409)
    story.answers.append(story.deployment.invoke("key_rotation", {}))
    assert story.api("redeliver")["statusCode"] == 204

    def no_key(self: Any, ciphertext: bytes, bound_to: dict[str, str]) -> bytes:
        raise ClientError({"Error": {"Code": "KMSInvalidStateException", "Message": str(config)}}, "ReEncrypt")

    with patch.context() as failing:
        failing.setattr("link.store.vault.Vault.reencrypt", no_key)
        try:
            story.deployment.invoke("key_rotation", {})
        except Unfinished:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]

    # KMS refuses.
    def denied(self: Any, ciphertext: bytes, bound_to: dict[str, str]) -> None:
        error = {"Code": "AccessDeniedException", "Message": "not authorized to perform kms:Decrypt"}
        raise ClientError({"Error": error}, "Decrypt")  # type: ignore[arg-type]

    with patch.context() as denying:
        denying.setattr("link.store.vault.Vault.decrypt", denied)
        story.report("status_failing")
    # The sender crashes, with all that it knows in the error's text.

    def crash(self: Sender, url: str, body: bytes, headers: dict[str, str], *, not_after: int) -> Result:
        raise ValueError(f"{headers} {SECRET} {HEADER}")

    with patch.context() as crashing:
        crashing.setattr(Sender, "post", crash)
        story.report("status_recovering")
    # TLS to a receiver without TLS.
    story.register(LONDON, receiver.url.replace("http:", "https:"))
    story.report("status_loser")

    # The store fails: the message comes back and ends as a dead letter.
    def throttled(self: Any, resource_id: str) -> None:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "GetItem")

    with patch.context() as failing:
        failing.setattr("link.store.locks.Locks.read", throttled)
        story.report("status_stepping_down")
    dead = event("status_stepping_down")["Records"][0]["body"]
    story.deployment.sqs.create_queue(QueueName="dead-letters")
    story.deployment.sqs.send_message(QueueUrl="dead-letters", MessageBody=dead)
    # An event that can never succeed, and everything the API shows.
    story.report("status_malformed")
    for name in ("show", "list", "preview", "key_rotation", "failover", "delete"):
        story.api(name)


def main() -> None:
    patch = pytest.MonkeyPatch()
    with mock_aws(), LoopbackReceiver() as receiver:
        deployment = Deployment(receiver, patch)
        story = Story(deployment)
        play(story, patch)
        stored: dict[str, Any] = {"answers": story.answers, "requests": [r.path for r in receiver.requests]}
        for table in ("locks", "endpoints", "transitions"):
            stored[table] = deployment.dynamodb.scan(TableName=table)["Items"]
        for queue in ("wake-up", "rejected", "dead-letters"):
            found = deployment.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
            stored[queue] = [message["Body"] for message in found]

    def readable(value: Any) -> str:
        return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)

    with open(sys.argv[1], "w") as file:
        json.dump(stored, file, default=readable)


if __name__ == "__main__":
    main()
