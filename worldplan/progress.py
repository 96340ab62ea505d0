"""How long work tells whoever watches that it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Progress = Callable[[Iterator[Any], int], Iterator[Any]]
"""Wraps an iterator of pieces of work, whose number is given: a progress bar."""


def silent(items: Iterator[Any], total: int) -> Iterator[Any]:
    """No progress bar."""
    return items
