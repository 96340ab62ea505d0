"""Work side by side in processes that draw with software OpenGL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from os import environ
from typing import Any

import torch

from worldplan.cost import positive_int
from worldplan.envs.rendering import end_with_parent, select_backend

Start = Callable[..., Callable[[], Any]]


@contextmanager
def worker_pool(processes: int) -> Iterator[Start]:
    """Context manager giving `start(function, *arguments) -> result`, `result()` waits for what the function returns.

    With one process the work is done in this one, when it is asked for. More are spawned (`__main__` must be
    importable), with one thread each; at the end those that have not begun are given up.

    Raises:
        InvalidInput: `processes` is not an integer >= 1.
    """
    if positive_int("processes", processes) == 1:
        yield partial
        return
    select_backend()
    before = environ.get("LP_NUM_THREADS")
    environ["LP_NUM_THREADS"] = "1"  # inherited: software GL must not fight over the cores
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin)
    try:
        yield lambda function, *arguments: pool.submit(function, *arguments).result
    finally:
        pool.shutdown(cancel_futures=True)
        environ.pop("LP_NUM_THREADS") if before is None else environ.__setitem__("LP_NUM_THREADS", before)


def _begin() -> None:
    end_with_parent()
    torch.set_num_threads(1)
