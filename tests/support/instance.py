"""An EC2 instance's metadata service (IMDSv2) on loopback."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Instance:
    """Gives a token for a PUT, then the notice, if there is one. Use as a context manager."""

    notice: str = ""
    token: str = "one"
    requests: list[str] = field(default_factory=list)

    def __enter__(self) -> Instance:
        instance = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                given = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
                self.answer(200 if given.isdigit() else 400, instance.token)

            def do_GET(self) -> None:
                if self.headers.get("X-aws-ec2-metadata-token") != instance.token:
                    self.answer(401, "")
                else:
                    self.answer(200 if instance.notice else 404, instance.notice)

            def answer(self, status: int, body: str) -> None:
                instance.requests.append(f"{self.command} {self.path} {status}")
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
