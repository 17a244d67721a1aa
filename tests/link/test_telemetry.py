"""Log lines and metrics as Lambda's runtime gets them: each is one line, even if other threads write, too."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import threading
import time

import pytest

from link import telemetry
from link.election.result import Result, ResultKind

THREADS, LINES = 10, 150


bootstrap = pytest.importorskip("awslambdaric.bootstrap", reason="Lambda's runtime interface client is for Linux")


class Switching(bootstrap.Unbuffered):  # type: ignore[misc]
    """Stdout as the runtime interface client wraps it. Other threads get their turn between any two writes."""

    def write(self, text: str) -> None:
        super().write(text)
        time.sleep(0)


def test_ten_threads_break_no_line() -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(Switching(written))
    handler.setFormatter(telemetry.logger.registered_formatter)
    telemetry.logger.addHandler(handler)

    def work(thread: int) -> None:
        for number in range(LINES):
            telemetry.logger.info("webhook.attempted", number=number, by=thread)
            telemetry.metric("Webhooks", result="delivered", reason="delivered")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    try:
        with contextlib.redirect_stdout(Switching(written)):
            for one in threads:
                one.start()
            for one in threads:
                one.join()
    finally:
        telemetry.logger.removeHandler(handler)

    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert sum("_aws" in line for line in lines) == THREADS * LINES
    assert sum(line.get("message") == "webhook.attempted" for line in lines) == THREADS * LINES


def test_a_metric_is_one_emf_document() -> None:
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        telemetry.metric("UndeliveredSeconds", 1.5, unit=telemetry.MetricUnit.Seconds, result="refused")

    (line,) = written.getvalue().splitlines()
    emf = json.loads(line)
    assert emf["UndeliveredSeconds"] == [1.5]
    assert emf["result"] == "refused"
    (directive,) = emf["_aws"]["CloudWatchMetrics"]
    assert directive["Metrics"] == [{"Name": "UndeliveredSeconds", "Unit": "Seconds"}]
    assert sorted(directive["Dimensions"][0]) == ["result", "service"]


def test_a_receiver_cannot_choose_how_many_metrics_exist() -> None:
    answers = [Result(ResultKind.ANSWERED, f"status_{code}", code) for code in range(400, 1_000)]
    faults = [Result(ResultKind.UNREADABLE, f"secret_unreadable_{code}") for code in ("AccessDenied", "Disabled")]
    categories = {result.category for result in (*answers, *faults)}
    assert categories == {f"status_{hundred}xx" for hundred in range(4, 10)} | {"secret_unreadable"}
