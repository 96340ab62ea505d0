"""Checks of single arguments. This module needs no NumPy, so that the options of the command line can use it."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral

from worldplan.errors import InvalidInput, UnknownName


def positive_int(name: str, value: object) -> int:
    """`value` as an int that is at least 1. Raises InvalidInput if it is not; `True` and `3.0` are not either."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InvalidInput(f"{name} must be an integer >= 1, got {value!r}")
    return int(value)


def checked_seed(seed: object) -> int:
    """A seed that `SeedSequence` takes and JSON holds. Raises InvalidInput if it is no integer, or negative."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise InvalidInput(f"seed must be an integer >= 0, got {seed!r}")
    return int(seed)


def check_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise UnknownName for a name that is not among the known ones."""
    if name not in known:
        raise UnknownName(kind, name, known)
