"""The one thread of a process that draws with OpenGL, and how it draws fast."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import cache
from queue import SimpleQueue
from typing import Any

from worldplan.envs.workers import APT_LINE, select_backend
from worldplan.errors import RenderingUnavailable


class DrawingThread:
    """One thread that draws for all threads of a process, in turn.

    OpenGL's context stays with its thread. With a renderer in each of two threads, one got the other's frames, without
    a word.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        # Not an executor: it would end its thread before contexts are freed at exit, which only that thread can do.
        self._thread = threading.Thread(target=_work, args=(self._jobs,), daemon=True, name="worldplan-draws")
        self._thread.start()

    @property
    def here(self) -> bool:
        """Whether this is the process in which the thread runs."""
        return os.getpid() == self._process

    def do(self, job: Callable[[], Any]) -> Any:
        """Do it in the thread that draws, and wait for the result.

        Raises RenderingUnavailable in a fork of the process that made this: the thread did not come along.
        """
        if not self.here:
            raise RenderingUnavailable(
                "this process was forked from one that had drawn frames; start it by spawn or forkserver "
                "(`gymnasium.vector.AsyncVectorEnv(..., context='spawn')`)"
            )
        if threading.current_thread() is self._thread:  # a finaliser, between two jobs
            return job()
        done: Future[Any] = Future()
        self._jobs.put((done, job))
        return done.result()


def _open_display() -> None:
    """Let MuJoCo open the display first, as Gymnasium's renderer would later.

    Whoever opens it registers to close it at exit, and what was registered first comes last: after our contexts.
    """
    with suppress(Exception):  # OpenGL bindings raise many unrelated types; the first frame will tell
        if select_backend() == "egl":
            from mujoco.egl import GLContext

            GLContext(1, 1).free()


def _work(jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]]]) -> None:
    _open_display()
    while True:
        done, job = jobs.get()
        try:
            done.set_result(job())
        except BaseException as error:  # whoever asked gets it
            done.set_exception(error)


_MAKING = threading.Lock()


def drawing_thread() -> DrawingThread:
    """The thread of this process that draws."""
    with _MAKING:
        return _thread()


@cache
def _thread() -> DrawingThread:
    return DrawingThread()


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Pause the cyclic garbage collector.

    Suppose it collects a stock environment after dm_control has made our context current, and before the drawing. The
    environment's finaliser then leaves no context current: the frame is an old one, or the process dies.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def plain_quality(model: Any, size: int) -> None:
    """One sample a pixel, small shadow maps, and a buffer of this size: about six times as fast, and .6/255 off.

    Before the context is made, which reads these once.
    """
    model.vis.quality.shadowsize = 256
    model.vis.quality.offsamples = 0
    model.vis.global_.offwidth = model.vis.global_.offheight = size


def unavailable(error: Exception) -> RenderingUnavailable:
    """The error for a back end of OpenGL that fails."""
    backend = os.environ.get("MUJOCO_GL")
    return RenderingUnavailable(f"OpenGL back end {backend!r} failed ({error}); run `worldplan doctor`, or: {APT_LINE}")
