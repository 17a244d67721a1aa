"""Processes that report at the same moment. Each has the real code and its own connections."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from typing import Any

from link import deployment
from link.election.state import Status
from link.errors import Contended
from link.reports import Report
from scripts.cloud import Cloud

THREADS = 4
SECONDS = 120


def deployed_environment(cloud: Cloud) -> dict[str, str]:
    """The environment of the deployed functions."""
    function = cloud.outputs["ReconcileFunctionName"]
    answer = cloud.client("lambda").get_function_configuration(FunctionName=function)
    variables: dict[str, str] = answer["Environment"]["Variables"]
    return variables


def work(
    cloud: Cloud,
    environment: dict[str, str],
    resource_id: str,
    endpoint_ids: list[str],
    barrier: Any,
    rounds: int,
    done: Any,
) -> None:
    """One process: each thread reports ACTIVATED for its endpoint in every round, when all threads are ready."""
    reconciler = deployment.reconciler(environment, client=cloud.client)

    def thread(endpoint_id: str) -> None:
        for number in range(rounds):
            barrier.wait(SECONDS)  # The judge has prepared the round.
            barrier.wait(SECONDS)
            at = time.time_ns() // 1_000_000
            try:
                report = Report(endpoint_id, Status.ACTIVATED, at, resource_id, None, f"round-{number}")
                while True:
                    # On a busy machine the time for a commit can end; then SQS delivers the report again.
                    with contextlib.suppress(Contended):
                        reconciler.receive(report, lambda: 30.0)
                        break
                done.put((number, endpoint_id, at, ""))
            except Exception as error:
                done.put((number, endpoint_id, at, repr(error)))
            barrier.wait(SECONDS)

    threads = [threading.Thread(target=thread, args=(endpoint_id,)) for endpoint_id in endpoint_ids]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def start(cloud: Cloud, resource_id: str, endpoint_ids: list[str], rounds: int) -> tuple[Any, Any, list[Any]]:
    """Start the processes. Return the barrier of all threads and the judge, the queue of reports, and the processes."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(endpoint_ids) + 1)
    done = context.Queue()
    environment = deployed_environment(cloud)
    shares = [endpoint_ids[n : n + THREADS] for n in range(0, len(endpoint_ids), THREADS)]
    processes = [
        context.Process(target=work, args=(cloud, environment, resource_id, share, barrier, rounds, done), daemon=True)
        for share in shares
    ]
    for process in processes:
        process.start()
    return barrier, done, processes
