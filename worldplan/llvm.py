"""Two libraries that do not go together in every order: software OpenGL (Mesa) and Triton each bring an LLVM."""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def settle_triton() -> None:
    """Load Triton where torch has brought it, as its CUDA builds do; keep it out where Mesa came first.

    A process that has Mesa's LLVM dies when torch then loads Triton, such as for an optimiser. In the other order both
    work. Without Triton, torch computes as its CPU builds do.
    """
    if "triton" in sys.modules:
        return
    if "libLLVM" in _maps():
        sys.modules["triton"] = None  # type: ignore[assignment]  # an import raises ImportError, which torch expects
        return
    with suppress(ImportError):
        importlib.import_module("triton")


def _maps() -> str:
    """Libraries of this process, as Linux lists them; empty elsewhere."""
    try:
        return Path("/proc/self/maps").read_text()
    except OSError:
        return ""
