"""A deployment: its API, with requests signed by the usual AWS credentials, and its event bus."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

import boto3
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError

from linkctl.errors import Refused, Unreachable

TIMEOUT_SECONDS = 30


@dataclass
class Deployment:
    """Where the deployment is. `api_url` and `event_bus` default to the outputs of the stack."""

    stack: str
    api_url: str | None = None
    event_bus: str | None = None
    endpoint_url: str | None = None
    session: Any = field(default_factory=boto3.Session)

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The outputs of the stack; needs cloudformation:DescribeStacks."""
        try:
            found = self._client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"][0]
        except (ClientError, BotoCoreError) as error:
            raise Unreachable(
                f"the outputs of the stack {self.stack!r} cannot be read: {error}\n"
                "Give --stack, or --api-url (and --event-bus to report), and AWS credentials with a region."
            ) from None
        return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}

    @cached_property
    def url(self) -> str:
        """The URL of the API, without a slash at its end."""
        if self.api_url:
            return self.api_url.rstrip("/")
        if self.endpoint_url:
            # The host name in ApiUrl exists in AWS only.
            return f"{self.endpoint_url.rstrip('/')}/restapis/{self.outputs['ApiId']}/v3/_user_request_"
        return self.outputs["ApiUrl"].rstrip("/")

    def call(
        self, method: str, path: str, body: object = None, *, idempotency_key: str | None = None, **query: str | None
    ) -> Any:
        """Call the API and return the JSON of its answer."""
        given = {name: value for name, value in query.items() if value is not None}
        target = self.url + path + (f"?{urlencode(given, quote_via=quote)}" if given else "")
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        answer = self.forward(method, target, data, headers)
        try:
            content = answer.json() if answer.content else None
        except ValueError:
            content = answer.text[:500]
        if not answer.ok:
            raise Refused(_reason(answer.status_code, content))
        return content

    def forward(self, method: str, url: str, data: bytes, headers: dict[str, str]) -> requests.Response:
        """Sign and send a request; return the answer, also when it is an error."""
        credentials = self.session.get_credentials()
        if credentials is None:
            raise Unreachable("there are no AWS credentials: run `aws configure`, or set AWS_PROFILE")
        region = self.session.region_name
        if region is None:
            raise Unreachable("there is no region: set AWS_REGION, or give --region")
        request = AWSRequest(method=method, url=url, data=data, headers=headers)
        SigV4Auth(credentials, "execute-api", region).add_auth(request)
        try:
            return requests.request(
                method,
                url,
                data=data,
                headers=dict(request.headers.items()),
                # It is signed. Without an auth, requests would put one from .netrc in the signature's place.
                auth=lambda signed: signed,
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            # Only the name of its class: the error's text repeats the request.
            raise Unreachable(f"{self.url} cannot be reached: {type(error).__name__}") from None

    def report(self, detail: dict[str, Any]) -> None:
        """Put one status event on the bus."""
        entry = {
            "EventBusName": self.event_bus or self.outputs["EventBusName"],
            "Source": "link",
            "DetailType": "Endpoint Status Change",
            "Detail": json.dumps(detail),
        }
        try:
            answer = self._client("events").put_events(Entries=[entry])
        except (ClientError, BotoCoreError) as error:
            raise Unreachable(f"the event bus did not accept the event: {error}") from None
        if answer["FailedEntryCount"]:
            raise Unreachable(f"the event bus did not accept the event: {answer['Entries'][0].get('ErrorMessage')}")

    def _client(self, service: str) -> Any:
        return self.session.client(service, endpoint_url=self.endpoint_url)


def _reason(status: int, answer: Any) -> str:
    """Return the text of an error answer: one line per field, or one with the HTTP status."""
    if isinstance(answer, dict) and isinstance(answer.get("errors"), dict):
        return "\n".join(f"{name}: {text}" for name, texts in answer["errors"].items() for text in texts)
    if isinstance(answer, dict):
        text = answer.get("error") or answer.get("message") or answer.get("Message") or json.dumps(answer)
    else:
        text = str(answer)
    hint = "\nDo these credentials have execute-api:Invoke on the API?" if status == 403 else ""
    return f"{text} ({status}){hint}"
