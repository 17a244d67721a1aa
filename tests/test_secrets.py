"""No secret and no header value where it does not belong, whatever goes wrong (promise 9)."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.secrets_story import HEADER, SECRET

ROOT = Path(__file__).parents[1]


def disguises(marker: str) -> dict[str, bytes]:
    """The marker in every form it could lie about in."""
    raw = marker.encode()
    # Base64 of a text that holds it depends on where it starts: three ways, without the characters at the seams.
    shifted = {
        f"base64 at {n}": base64.b64encode(b"x" * n + raw)[(4 if n else 0) :].rstrip(b"=")[:-2] for n in range(3)
    }
    return {
        "raw": raw,
        "JSON": json.dumps(marker)[1:-1].encode(),
        "JSON, not ASCII": json.dumps(marker, ensure_ascii=False)[1:-1].encode(),
        "JSON in JSON": json.dumps(json.dumps(marker)[1:-1])[1:-1].encode(),
        "repr": repr(marker)[1:-1].encode(),
        "latin-1": marker.encode("latin-1"),
        **shifted,
    }


def found(where: bytes) -> list[str]:
    return [
        f"{name} {form}"
        for name, marker in (("secret", SECRET), ("header", HEADER))
        for form, needle in disguises(marker).items()
        if needle in where
    ]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """(everything printed, everything stored or answered)."""
    stored = tmp_path_factory.mktemp("story") / "stored.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.secrets_story", str(stored)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'layers/shared'}:{ROOT}", "POWERTOOLS_LOG_LEVEL": "DEBUG"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed.decode()[-3000:]
    return printed, stored.read_bytes()


def test_the_story_went_wrong_in_every_way(story: tuple[bytes, bytes]) -> None:
    printed, stored = story
    for trace in (
        b"secret_unreadable_AccessDeniedException",
        b"webhook.crashed",
        b'"tls"',
        b"ThrottlingException",
        b"key_rotation.failed",
        b"KMSInvalidStateException",
    ):
        assert trace in printed, trace
    kept = json.loads(stored)
    assert len(kept["endpoints"]) >= 1 and kept["transitions"] and kept["rejected"] and kept["dead-letters"]
    assert {answer.get("statusCode") for answer in kept["answers"]} >= {200, 204, 400, 409, 422}


def test_no_secret_in_any_log_line_or_error(story: tuple[bytes, bytes]) -> None:
    assert found(story[0]) == []


def test_no_secret_in_any_table_queue_or_answer(story: tuple[bytes, bytes]) -> None:
    stored = json.loads(story[1])
    for row in stored["endpoints"]:
        # moto's ciphertext is no encryption: it holds the plaintext, in the one place that may.
        row.pop("ciphertext")
        row.pop("previous_ciphertext", None)
    assert found(json.dumps(stored, ensure_ascii=False).encode()) == []
    assert found(json.dumps(stored).encode()) == []


@pytest.mark.parametrize("form", disguises(SECRET))
def test_the_search_would_find_it(form: str) -> None:
    """A search that cannot find anything proves nothing."""
    needle = disguises(SECRET)[form]
    assert f"secret {form}" in found(b"before " + needle + b" after")
    for n in range(3):
        assert found(base64.b64encode(b"y" * n + SECRET.encode() + b" and more"))
