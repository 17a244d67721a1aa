"""A receiver for a host, with the standard library only. A proxy in front of it does TLS.

Put the kit (layers/shared/link/receiver.py) beside it as link_receiver.py and one of ../switches as switch.py, then run

SECRETS='{"paris": "…", "london": "…"}' RESOURCE_ID=floating-ip-203.0.113.7 SLOTS_FILE=slots.sqlite python server.py
"""

from __future__ import annotations

import json
import os
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from link_receiver import SQLiteStore, Unverified, WebhookError, apply, parse_and_validate_webhook
from switch import switch_to

MAX_BODY_BYTES = 65_536
# In production, read your secret store.
SECRETS = json.loads(os.environ["SECRETS"])
store = SQLiteStore(os.environ["SLOTS_FILE"])


def secrets(request: Unverified) -> str | None:
    """The secret of the host that the request names: its signature then proves the host."""
    return SECRETS.get(request.host) if request.resource_id == os.environ["RESOURCE_ID"] else None


class Receiver(BaseHTTPRequestHandler):
    """Answers 204, or 401, 500 or 503 with the reason."""

    timeout = 10

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return self._answer(413, f"a body needs a Content-Length of at most {MAX_BODY_BYTES}")
        body = self.rfile.read(int(length))
        try:
            apply(store, parse_and_validate_webhook(secrets, self.headers.items(), body), switch_to)
        except WebhookError as error:
            return self._answer(error.http_status, str(error))
        except Exception:
            # The webhook comes again.
            traceback.print_exc()
            return self._answer(500, "the switch failed: see the log of the receiver")
        self._answer(204)

    def _answer(self, status: int, text: str = "") -> None:
        self.send_response(status)
        if text:
            self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8080), Receiver).serve_forever()
