"""SIGTERM, by which schedulers ask a process to end: it ends at once, or where its work can go on later."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

STATUS = 75  # exit status of a command that the same command with --resume goes on with: EX_TEMPFAIL of sysexits.h


class Stopped(KeyboardInterrupt):
    """SIGTERM asked the process to end."""


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Context manager in which SIGTERM ends worker processes and raises Stopped, once; later ones are ignored.

    The command line works in it. A script of yours may, around `pretrain` and others that can be resumed. Python lets
    only the main thread answer signals: in other threads nothing changes.
    """
    with answered_as_before():
        if _in_main_thread():
            signal.signal(signal.SIGTERM, _stop)
        yield


@contextmanager
def answered_as_before() -> Iterator[None]:
    """Context manager after which SIGTERM is answered as before it, whoever took the signal meanwhile."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if _in_main_thread():
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def postponed() -> Iterator[Callable[[], bool]]:
    """Context manager in which SIGTERM raises nothing; it gives a function that tells whether one came.

    For work that ends in good order by itself. Without `ending_on_sigterm` around it, the answer is always no.
    """
    asked: list[int] = []
    if not _in_main_thread() or signal.getsignal(signal.SIGTERM) is not _stop:
        yield lambda: False
        return
    with answered_as_before():
        signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
        yield lambda: bool(asked)


def _stop(number: int, frame: Any) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one would cut the clean-up short
    for worker in multiprocessing.active_children():
        with suppress(AttributeError):  # joblib's workers have no such method; it ends them and their children itself
            worker.kill()  # they write nothing, and a pool would wait for what they are at
    raise Stopped


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
