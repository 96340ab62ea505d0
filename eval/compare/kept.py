"""Trials of encoders as jobs: each row is kept as it ends, so that a comparison resumes, shards and merges."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from worldplan.errors import BadFile, JobFailed
from worldplan.eval.compare.entrants import Entrant, source
from worldplan.progress import Progress, silent
from worldplan.provenance import plain, restored
from worldplan.sweeps.jobs import Job
from worldplan.sweeps.run import run_jobs


def try_all(
    attempt: Callable[..., Any],
    entrants: Sequence[Entrant],
    kind: Any,
    trial: Callable[[Entrant], dict[str, Any]],
    context: Mapping[str, Any],
    *,
    folder: Path | str | None = None,
    on: str = "processes",
    processes: int = 1,
    shard: tuple[int, int] = (1, 1),
    progress: Progress = silent,
) -> dict[str, Any]:
    """What `attempt(entrant, trial=..., **context)` gives for each entrant, by name: a row, and more.

    Objects handed over in Python are tried in this process, each time: they have no address.

    Args:
        attempt: a function of a module.
        entrants: encoders.
        kind: type of what it gives: a tuple that begins with a row, which has `name`, `kind`, `status` and `reason`.
        trial: all that decides an entrant's row, as JSON values.
        context: the same as live objects.
        folder: where rows are kept; None keeps nothing.
        on: as for `run_jobs`.
        processes: as for `run_jobs`.
        shard: as for `run_jobs`.
        progress: wraps the iterator of encoders as they end.

    Raises:
        BadFile: a kept result that is no row.
        Others are those of `run_jobs`.
    """
    tried = {c.name: attempt(c, trial=trial(c), **context) for c in entrants if c.kind == "object"}
    jobs = [
        Job(_try, {"name": c.name, "source": source(c), "trial": trial(c)}, {"call": (attempt, c, kind, dict(context))})
        for c in entrants
        if c.kind != "object"
    ]
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(TemporaryDirectory()) if folder is None else folder
        ended = run_jobs(jobs, kept, on=on, processes=processes, shard=shard, progress=progress)
    for outcome in ended:
        entrant = outcome.job.context["call"][1]
        if outcome.result is not None:
            try:
                tried[entrant.name] = restored(kind, outcome.result)
            except (TypeError, ValueError, AttributeError) as error:
                reason = f"the kept result of {entrant.name} ({outcome.job.key}) is no row ({error}); remove it"
                raise BadFile(Path(kept), reason) from error
            continue
        row, *more = get_args(kind)
        status, reason = ("failed", outcome.reason) if outcome.reason else ("waiting", "another shard tries it")
        tried[entrant.name] = (row(entrant.name, entrant.kind, status, reason), *(None for _ in more))
    return tried


def _try(name: str, source: str, trial: dict[str, Any], call: Any, folder: Path) -> Any:
    attempt, entrant, _, context = call
    tried = attempt(entrant, trial=trial, **context)
    kept = plain(tried, digits=17)
    if tried[0].status != "ok":
        raise JobFailed(tried[0].reason, kept)  # so that it is tried again once it is mended
    return kept
