"""Checks of single arguments. This module needs no NumPy, so that the options of the command line can use it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from worldplan.errors import InvalidInput, UnknownName


def positive_int(name: str, value: object) -> int:
    """`value` as an int that is at least 1. Raises InvalidInput if it is not; `True` and `3.0` are not either."""
    return _integer(name, value, 1)


def natural_int(name: str, value: object) -> int:
    """`value` as an int that is at least 0. Raises InvalidInput if it is not."""
    return _integer(name, value, 0)


def positive_number(name: str, value: object) -> float:
    """`value` as a finite float above 0. Raises InvalidInput if it is not."""
    number = _scalar(value)
    if isinstance(number, bool) or not isinstance(number, Real) or not (_finite(number) and float(number) > 0):
        raise InvalidInput(f"{name} must be a finite number > 0, got {value!r}")
    return float(number)


def checked_seed(seed: object) -> int:
    """A seed that `SeedSequence` takes and JSON holds. Raises InvalidInput if it is no integer, or negative."""
    return natural_int("seed", seed)


def episode_seed(seed: object) -> int | None:
    """A seed of Gymnasium's `reset`, which takes Python's integers only; None stays None. Raises InvalidInput."""
    return None if seed is None else checked_seed(seed)


def reset_options(options: Any, known: Iterable[str]) -> dict[str, Any]:
    """A copy of reset options. Raises InvalidInput if they are no dictionary, UnknownName for other names."""
    if not (options is None or isinstance(options, Mapping)):
        raise InvalidInput(f"reset options are a dictionary, got {options!r}")
    for name in options or {}:
        check_name("reset option", name, known)
    return dict(options or {})


def _integer(name: str, value: object, least: int) -> int:
    number = _scalar(value)
    if isinstance(number, bool) or not isinstance(number, Integral) or number < least:
        raise InvalidInput(f"{name} must be an integer >= {least}, got {value!r}")
    return int(number)


def _finite(number: Any) -> bool:
    return bool(-sys.float_info.max <= number <= sys.float_info.max)  # also of integers that no float holds


def _scalar(value: Any) -> Any:
    """A number or array () of NumPy's as a number of Python's; others as they are."""
    return value.item() if getattr(value, "shape", None) == () else value


def check_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise UnknownName for a name that is not among the known ones."""
    if not isinstance(name, str) or name not in known:
        raise UnknownName(kind, name, known)


def check_fields(config: Any) -> None:
    """Make numbers, words, flags, and tuples of them in a frozen dataclass what their annotations say.

    NumPy's numbers become Python's, so that JSON holds them. Raises InvalidInput for other types, and for numbers that
    are not finite. Fields of other annotations are left alone.
    """
    hints = get_type_hints(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        try:
            object.__setattr__(config, field.name, _plain(hints[field.name], value))
        except TypeError as error:
            raise InvalidInput(f"{field.name} must be {_words(hints[field.name])}, got {value!r}") from error


def _plain(kind: Any, value: Any) -> Any:
    """A value of an annotation, in Python's own types. Raises TypeError if it is none."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        for one in arguments:
            try:
                return _plain(one, value)
            except TypeError:
                continue
        raise TypeError
    if origin is tuple:
        if isinstance(value, str):
            raise TypeError
        items = tuple(value)
        kinds = (arguments[0],) * len(items) if arguments[1:] == (...,) else arguments
        if len(kinds) != len(items):
            raise TypeError
        return tuple(map(_plain, kinds, items))
    if kind not in _KINDS:
        return value
    value = _scalar(value)
    right = isinstance(value, _KINDS[kind]) and isinstance(value, bool) == (kind is bool)
    if not right or (kind is float and not _finite(value)):
        raise TypeError
    return value


_KINDS = {int: Integral, float: Real, bool: bool, str: str, NoneType: NoneType}
_WORDS = {int: "an integer", float: "a finite number", bool: "True or False", str: "text", NoneType: "None"}
_MANY = {int: "integers", float: "finite numbers", bool: "truth values", str: "texts"}


def _words(kind: Any) -> str:
    """An annotation in words."""
    if kind in _WORDS:
        return _WORDS[kind]
    arguments = get_args(kind)
    parts = [_words(one) for one in arguments if one is not ...]
    if get_origin(kind) is not tuple:
        return " or ".join(parts) or str(kind)
    if len(set(parts)) > 1 or arguments[0] not in _MANY:
        return f"a tuple of {', '.join(parts)}"
    return f"a tuple of {_MANY[arguments[0]]}" if ... in arguments else f"{len(parts)} {_MANY[arguments[0]]}"
