"""The Spot interruption notice in the instance's metadata (IMDSv2): two minutes before EC2 takes the instance."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from urllib.parse import urlsplit

ENDPOINT = "http://169.254.169.254"
POLL_SECONDS = 5.0
"""AWS advises to look this often."""
TIMEOUT_SECONDS = 1.0
MAX_BYTES = 4_096
_TOKEN_SECONDS = 21_600


class Metadata:
    """Looks for the notice. `None` of `of`: the environment turns instance metadata off."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._address = (parts.hostname or "", parts.port or 80)
        self._token: str | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Metadata | None:
        """Return what the environment says about instance metadata, in the variables that the SDKs read, too."""
        if environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return None
        return cls(environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or ENDPOINT)

    def notice(self) -> str | None:
        """Return the announced action (terminate, stop, hibernate), or None without one; raise OSError otherwise."""
        if self._token is None:
            status, token = self._call(
                "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
            )
            if status != 200:
                raise OSError(f"status {status} for a token")
            self._token = token
        status, body = self._call(
            "GET", "/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": self._token}
        )
        if status == 404:
            return None
        if status != 200:
            self._token = None  # 401: it ended
            raise OSError(f"status {status}")
        try:
            return str(json.loads(body)["action"])
        except (ValueError, KeyError, TypeError):
            raise OSError("an answer that is not a notice") from None

    def _call(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(MAX_BYTES).decode("utf-8", "replace")
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(type(error).__name__) from None
        finally:
            connection.close()
