"""A deployment: its API, with requests signed by the usual AWS credentials, and its event bus."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import boto3
import requests
from botocore import session as botocore_session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from linkctl.errors import Refused, Unreachable

TIMEOUT_SECONDS = 30
CONNECT_SECONDS = 5


def open_session(profile: str | None, region: str | None, profile_file: Path | None) -> Any:
    """Return the AWS session of a profile; with `profile_file`, of that file only, whatever the environment says.

    Raises a BotoCoreError if there is no such profile, or if a file cannot be read as one.
    """
    core = botocore_session.Session()
    if profile_file is None:
        return boto3.Session(region_name=region, profile_name=profile, botocore_session=core)
    # A profile that is named goes before the keys in the environment.
    core.set_config_variable("profile", profile or "default")
    core.set_config_variable("config_file", str(profile_file))
    core.set_config_variable("credentials_file", str(profile_file))
    return boto3.Session(region_name=region or core.get_scoped_config().get("region"), botocore_session=core)


class Answer(dict[str, Any]):
    """The JSON of an answer. A member that is missing says that something else than the API answered."""

    def __init__(self, content: dict[str, Any], url: str) -> None:
        super().__init__(content)
        self._url = url

    def __missing__(self, name: str) -> Any:
        raise Unreachable(f"{self._url} is not the API of link-webhook: its answer has no {name!r}")


@dataclass
class Deployment:
    """Where the deployment is. `api_url` and `event_bus` default to the outputs of the stack."""

    stack: str
    api_url: str | None = None
    event_bus: str | None = None
    endpoint_url: str | None = None
    session: Any = field(default_factory=boto3.Session)

    @cached_property
    def description(self) -> dict[str, Any]:
        """What CloudFormation says about the stack; needs cloudformation:DescribeStacks."""
        try:
            found: dict[str, Any] = self.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"][0]
        except (ClientError, BotoCoreError) as error:
            raise Unreachable(
                f"the outputs of the stack {self.stack!r} cannot be read: {error}\n"
                "Give --stack, or --api-url (and --event-bus to report), and AWS credentials with a region."
            ) from None
        return found

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs of the stack."""
        return {output["OutputKey"]: output["OutputValue"] for output in self.description.get("Outputs", [])}

    def output(self, name: str) -> str:
        """Return one output of the stack."""
        try:
            return self.outputs[name]
        except KeyError:
            raise Unreachable(
                f"the stack {self.stack!r} has no output {name}: give --stack with the name of a stack of link-webhook"
            ) from None

    @cached_property
    def url(self) -> str:
        """The URL of the API, without a slash at its end."""
        if self.api_url:
            return self.api_url.rstrip("/")
        if self.endpoint_url:
            # The host name in ApiUrl exists in AWS only.
            return f"{self.endpoint_url.rstrip('/')}/restapis/{self.output('ApiId')}/v3/_user_request_"
        return self.output("ApiUrl").rstrip("/")

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
        if answer.status_code >= 400:
            raise Refused(_reason(answer.status_code, content))
        if answer.status_code >= 300 or not isinstance(content, dict if method == "GET" else dict | None):
            raise Unreachable(f"{self.url} is not the API of link-webhook: it answered {answer.status_code}, not JSON")
        return None if content is None else Answer(content, self.url)

    def forward(self, method: str, url: str, data: bytes, headers: dict[str, str]) -> requests.Response:
        """Sign and send a request; return the answer, also when it is an error."""
        request = AWSRequest(method=method, url=url, data=data, headers=headers)
        try:
            credentials, region = self.session.get_credentials(), self.session.region_name
            if credentials is None:
                raise Unreachable("there are no AWS credentials: run `aws configure`, or set AWS_PROFILE")
            if region is None:
                raise Unreachable("there is no region: set AWS_REGION, or give --region")
            SigV4Auth(credentials, "execute-api", region).add_auth(request)
        except (BotoCoreError, ClientError) as error:
            raise Unreachable(f"there are no AWS credentials: {error}{self.way_to_credentials()}") from None
        try:
            return requests.request(
                method,
                url,
                data=data,
                headers=dict(request.headers.items()),
                # It is signed. Without an auth, requests would put one from .netrc in the signature's place.
                auth=lambda signed: signed,
                timeout=(CONNECT_SECONDS, TIMEOUT_SECONDS),
                allow_redirects=False,
                proxies={"http": "", "https": ""} if _loopback(url) else None,
            )
        except requests.RequestException as error:
            # Only the name of its class: the error's text repeats the request.
            raise Unreachable(f"{self.url} cannot be reached: {type(error).__name__}") from None

    def way_to_credentials(self) -> str:
        """Return what to do if a profile of IAM Identity Center has no valid token, or nothing."""
        settings = self.session._session.get_scoped_config()
        if "sso_session" not in settings and "sso_start_url" not in settings:
            return ""
        return f"\nRun: aws sso login --profile {self.session.profile_name}"

    def report(self, detail: dict[str, Any]) -> None:
        """Put one status event on the bus."""
        entry = {
            "EventBusName": self.event_bus or self.output("EventBusName"),
            "Source": "link",
            "DetailType": "Endpoint Status Change",
            "Detail": json.dumps(detail),
        }
        try:
            answer = self.client("events").put_events(Entries=[entry])
        except (ClientError, BotoCoreError) as error:
            raise Unreachable(f"the event bus did not accept the event: {error}{self.way_to_credentials()}") from None
        if answer["FailedEntryCount"]:
            raise Unreachable(f"the event bus did not accept the event: {answer['Entries'][0].get('ErrorMessage')}")

    def client(self, service: str) -> Any:
        """Return a client of an AWS service that gives up soon."""
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=TIMEOUT_SECONDS,
            retries={"total_max_attempts": 2},
            proxies={} if _loopback(self.endpoint_url or "") else None,
        )
        return self.session.client(service, endpoint_url=self.endpoint_url, config=config)


def _loopback(url: str) -> bool:
    """Return whether a URL is on this machine's loopback, which a proxy cannot reach."""
    return urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")


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
