"""Where a result came from, and results as plain JSON values."""

from __future__ import annotations

import math
import platform
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from worldplan.version import __version__

_PACKAGES = ("numpy", "scipy", "torch", "mujoco", "dm_control", "gymnasium")
_COMMITS: dict[str, str] = {}


def provenance(command: str, seed: int) -> dict[str, Any]:
    """What one needs to get a result again: command line, seed, versions, and commits behind addresses of the hub."""
    versions = {"worldplan": __version__, "python": platform.python_version()}
    facts = {"command": command, "seed": seed, "versions": versions | {name: version(name) for name in _PACKAGES}}
    return facts | ({"hub": dict(_COMMITS)} if _COMMITS else {})


def record_commit(address: str, commit: str) -> None:
    """From now on, provenance tells that this process read `commit` where somebody wrote `address`."""
    _COMMITS[address] = commit


def pinned(name: Path | str) -> str:
    """A name as text; an address of the hub that was read, with its commit."""
    text = str(name)
    return f"{text.partition('@')[0]}@{_COMMITS[text]}" if text in _COMMITS else text


def processor() -> str:
    """The model of the CPU, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Result:
    """A dataclass of what was measured, with its JSON values.

    Attributes:
        derived: properties that stand beside the fields, in the JSON of whatever holds the result too.
        digits: significant digits that are kept.
    """

    derived: ClassVar[tuple[str, ...]] = ()
    digits: ClassVar[int] = 9

    def to_dict(self) -> dict[str, Any]:
        """JSON values: see `plain`."""
        return dict(plain(self, self.digits))


def plain(value: Any, digits: int = 9) -> Any:
    """A value as JSON knows it: dataclasses become objects, arrays lists, numbers that are not finite null.

    Args:
        value: dataclasses, dictionaries, sequences, arrays, numbers, text, paths.
        digits: significant digits that are kept.
    """
    if is_dataclass(value) and not isinstance(value, type):
        names = (*(field.name for field in fields(value)), *getattr(value, "derived", ()))
        return {name: plain(getattr(value, name), digits) for name in names}
    if isinstance(value, dict):
        return {str(key): plain(item, digits) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), digits)
    if isinstance(value, list | tuple):
        return [plain(item, digits) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item(), digits)
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def restored(kind: Any, value: Any) -> Any:
    """The value of a type that `plain` wrote: dataclasses, arrays, tuples, numbers, words.

    Fields that are missing keep their defaults. Null is NaN where a number is expected.
    """
    if value is None:
        return math.nan if kind is float else None
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return restored(next(one for one in arguments if one is not NoneType), value)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        names = [field.name for field in fields(kind) if field.name in value]
        return kind(**{name: restored(hints[name], value[name]) for name in names})  # type: ignore[operator]
    if origin is np.ndarray:
        return np.array(value, dtype=get_args(arguments[1])[0])
    if origin is tuple:
        kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else arguments
        return tuple(restored(one, item) for one, item in zip(kinds, value, strict=True))
    return value
