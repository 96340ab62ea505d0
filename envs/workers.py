"""Worker processes that draw with software OpenGL, and the choice of an OpenGL back end."""

from __future__ import annotations

import ctypes.util
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from worldplan.checks import positive_int
from worldplan.errors import RenderingUnavailable
from worldplan.llvm import settle_triton
from worldplan.processes import end_with_parent

Start = Callable[..., Callable[[], Any]]

APT_LINE = "apt-get install -y libegl1 libgl1 libgl1-mesa-dri"


def select_backend() -> str:
    """Choose a headless OpenGL back end (EGL, then OSMesa) before MuJoCo is imported; return its name.

    `MUJOCO_GL` is kept if it is set. Raises RenderingUnavailable if neither library is installed.
    """
    chosen = os.environ.get("MUJOCO_GL")
    if not chosen:
        libraries = {"egl": "EGL", "osmesa": "OSMesa"}
        chosen = next((name for name, library in libraries.items() if ctypes.util.find_library(library)), None)
        if chosen is None:
            raise RenderingUnavailable(f"no headless OpenGL library found; run: {APT_LINE}")
        os.environ["MUJOCO_GL"] = chosen
    settle_triton()
    return chosen


@contextmanager
def spawned_pool(processes: int, begin: Callable[[], None] | None = None) -> Iterator[ProcessPoolExecutor]:
    """A pool of spawned processes that run `begin` first and draw with one thread; the exit cancels pending work."""
    with suppress(RenderingUnavailable):  # not all of them draw
        select_backend()
    before = os.environ.get("LP_NUM_THREADS")
    os.environ["LP_NUM_THREADS"] = "1"  # inherited: software GL must not fight over the cores
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), begin or end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        os.environ.pop("LP_NUM_THREADS") if before is None else os.environ.__setitem__("LP_NUM_THREADS", before)


@contextmanager
def worker_pool(processes: int, *, torch: bool = True) -> Iterator[Start]:
    """Context manager that gives `start(function, *arguments) -> result`; `result()` waits for the function's value.

    A single process is this one, and works when `result` is called. More are spawned (`__main__` must be importable),
    with one torch thread each, or without `torch`: it takes seconds to load. Raises InvalidInput if `processes` is not
    an integer >= 1.
    """
    if positive_int("processes", processes) == 1:
        yield partial
        return
    with spawned_pool(processes, _begin if torch else end_with_parent) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result


def _begin() -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(1)
