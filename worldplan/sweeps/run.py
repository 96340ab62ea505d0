"""Run jobs: those that are done are read, the others run on an engine, and each is kept as it ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldplan.checks import positive_int
from worldplan.data.files import held
from worldplan.errors import InvalidInput
from worldplan.progress import Progress, silent
from worldplan.sweeps.engines import find_engine
from worldplan.sweeps.jobs import Job, ResultFolder


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a job.

    Attributes:
        job: the job.
        result: its JSON value; of a job that failed what it handed on (`JobFailed.result`), or None.
        reason: why it failed, in a line, with the file and line of your code if it arose there; empty otherwise.
        done: whether there is a result; neither done nor failed is a job of another shard that has not ended yet.
    """

    job: Job
    result: Any = None
    reason: str = ""
    done: bool = False


def run_jobs(
    jobs: Iterable[Job],
    folder: Path | str,
    *,
    on: str = "processes",
    processes: int = 1,
    shard: tuple[int, int] = (1, 1),
    progress: Progress = silent,
) -> list[Outcome]:
    """Run the jobs that have no result in the folder, and return what became of all of them, in order.

    A job that fails costs only its own result. It runs again at the next call, as do those that were under way when a
    call was killed. So the same call goes on where the last one ended, and does nothing where all is done. Each job
    computes with one thread, so that its bytes do not depend on where it runs.

    Args:
        jobs: jobs; equal ones run once.
        folder: where results are kept: `results/KEY.json`, and `work/KEY` for what a job writes itself.
        on: `processes` of this machine, `ray` (the cluster that this machine belongs to), or `ray://HOST:PORT`.
        processes: jobs at the same time on this machine; 1 runs them in this process. A cluster takes one a core.
        shard: (k, n): only every n-th of the jobs, from the k-th on, for n calls that share a folder.
        progress: wraps the iterator of jobs as they end.

    Raises:
        InvalidInput: no such engine or shard, or arguments that JSON does not hold.
        BadFile: another call runs the same shard, or a result in the folder is damaged.
        ClusterUnavailable: no such cluster can be reached, or it runs another version.
        MissingExtra: Ray is not installed.
    """
    jobs, place = list(jobs), ResultFolder(folder)
    try:
        k, n = shard
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"a shard is a pair (K, N), got {shard!r}") from error
    if not 1 <= positive_int("a shard", k) <= positive_int("the number of shards", n):
        raise InvalidInput(f"a shard is K of N with K from 1 to N, got {k} of {n}")
    engine = find_engine(on, processes)
    failed = dict[str, tuple[Any, str]]()
    with held(place.folder / "shards" / f"{k}-of-{n}"):
        wanted = place.missing(list({job.key: job for job in jobs}.values())[k - 1 :: n])
        if wanted:
            folders = {job.key: place.work(job) for job in wanted}
            for job, result, reason in progress(engine(wanted, folders), len(wanted)):
                if not reason:
                    try:
                        place.write(job, result)
                    except InvalidInput as error:
                        result, reason = None, str(error)
                if reason:
                    failed[job.key] = result, reason
    left = {job.key for job in place.missing(jobs)}
    ended = []
    for job in jobs:
        if job.key in left:
            result, reason = failed.get(job.key, (None, ""))
            ended.append(Outcome(job, result, reason))
        else:
            ended.append(Outcome(job, place.read(job), done=True))
    return ended
