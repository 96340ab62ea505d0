"""Where jobs run: joblib's processes on one machine, Ray's tasks on a cluster."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from worldplan.checks import positive_int
from worldplan.errors import ClusterUnavailable, InvalidInput, JobFailed, MissingExtra
from worldplan.failure import failure
from worldplan.processes import end_with_parent
from worldplan.stopping import answered_as_before, postponed
from worldplan.sweeps.jobs import Job
from worldplan.version import __version__

Ended = tuple[Job, Any, str]
"""A job, its result, and why it has none."""
Engine = Callable[[Sequence[Job], Mapping[str, Path]], Iterator[Ended]]
"""Jobs, and a folder for each, to jobs as they end."""
KNOCK = 10.0  # seconds in which a cluster must answer
RETRIES = 5  # of a task whose node died
CONNECTIONS = 3  # tries: the server that Ray starts for each client may die as it is forked
CLOSING = 5.0  # seconds that a Ray client that found no server may take to close


def find_engine(on: str, processes: int) -> Engine:
    """The engine of a name; see `run_jobs`."""
    positive_int("processes", processes)
    if on == "processes":
        return partial(_processes, processes)
    if on == "ray" or str(on).startswith("ray://"):
        return partial(_ray, on)
    raise InvalidInput(f"jobs run on processes, ray or ray://HOST:PORT, got {on!r}")


def _processes(count: int, jobs: Sequence[Job], folders: Mapping[str, Path]) -> Iterator[Ended]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    by_key = {job.key: job for job in jobs}
    if count > 1:
        os.environ.setdefault("LP_NUM_THREADS", "1")  # workers that draw in software must not fight over the cores
    try:
        # Unordered: each result is kept as soon as it is there.
        ended = Parallel(n_jobs=count, return_as="generator_unordered", batch_size=1)(
            delayed(_in_a_worker)(os.getpid(), sys.path, job.function, _options(job, folders), job.key, __version__)
            for job in jobs
        )
        for key, result, reason in ended:
            yield by_key.pop(key), result, reason
    except TerminatedWorkerError:
        reason = "its process died, or that of a job beside it: out of memory? Try --processes 1"
        yield from ((job, None, reason) for job in by_key.values())


def _in_a_worker(parent: int, path: list[str], *arguments: Any) -> tuple[str, Any, str]:
    """`_attempt`, in a process that finds the modules of the one that asked, and ends with it."""
    if os.getpid() != parent:
        sys.path[:] = path  # a worker may be left from an earlier call
        end_with_parent()
    return _attempt(*arguments)


def _ray(address: str, jobs: Sequence[Job], folders: Mapping[str, Path]) -> Iterator[Ended]:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("a Ray cluster", "ray") from error
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, address)
    try:
        # Tasks of Ray itself, not joblib's pool over Ray: Ray runs a task again when its node dies, a pool does not.
        attempt = ray.remote(num_cpus=1, max_retries=RETRIES)(_attempt)
        running = {attempt.remote(job.function, _options(job, folders), job.key, __version__): job for job in jobs}
        while running:
            with postponed() as asked:  # Ray makes a plain KeyboardInterrupt of what a signal raises within its calls
                ended, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
            if asked():
                signal.raise_signal(signal.SIGTERM)
            for one in ended:
                try:
                    _, result, reason = ray.get(one)
                except Exception as error:
                    result, reason = None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                yield running.pop(one), result, reason
    finally:
        if ours:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """Connect to a cluster. Raises ClusterUnavailable."""
    place = os.environ.get("RAY_ADDRESS", "") if address == "ray" else address
    host, _, port = place.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():  # knock first: Ray itself waits for many minutes
            socket.create_connection((host.strip("[]"), int(port)), KNOCK).close()
        for left in reversed(range(CONNECTIONS)):
            try:
                with answered_as_before(), _closing():  # Ray takes SIGTERM
                    ray.init("auto" if address == "ray" else address, log_to_driver=False, logging_level="ERROR")
                break
            except ConnectionError as error:
                # Without a timeout the cluster is there, and had no server for this client.
                if address == "ray" or "timeout" in str(error) or not left:
                    raise
    except Exception as error:  # Ray raises many types for a cluster that is not there
        raise ClusterUnavailable(
            f"no Ray cluster at {place or address} ({' '.join(str(error).split())[:200]}); start one with `ray start "
            "--head`, name its address, or leave --on out"
        ) from error


@contextmanager
def _closing() -> Iterator[None]:
    """End the wait of a Ray client that found no server: its `close` joins a log stream that has nobody to end it."""
    from ray.util.client import ray as client

    connected = threading.Event()

    def watch() -> None:
        closing = 0.0
        while not connected.wait(1.0):
            worker = client.get_context().client_worker
            closing = closing + 1.0 if getattr(worker, "closed", False) else 0.0
            if closing > CLOSING and (channel := worker.channel) is not None:
                channel.close()

    watcher = threading.Thread(target=watch, name="worldplan-ray", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        connected.set()
        watcher.join()


def _options(job: Job, folders: Mapping[str, Path]) -> dict[str, Any]:
    return {**job.arguments, **job.context, "folder": folders[job.key]}


def _attempt(function: Callable[..., Any], options: dict[str, Any], key: str, version: str) -> tuple[str, Any, str]:
    """Where the job runs: its key, and its result or why it has none."""
    if version != __version__:
        return key, None, f"this node has worldplan {__version__}, the call came from {version}: install the same"
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return key, function(**options), ""
    except JobFailed as error:
        return key, error.result, str(error)
    except (Exception, SystemExit) as error:  # a job's error costs only its own result
        return key, None, failure(error)
    finally:
        torch.set_num_threads(before)
