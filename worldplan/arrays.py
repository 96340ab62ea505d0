"""Arrays of numbers, and the checks that turn a caller's argument into one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldplan.errors import InvalidInput

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8]

ROUNDING = 1e-9  # relative size up to which a difference between matrix entries counts as rounding
MOST = 2**25  # numbers of an array that an option asks for: planners make some ten of the kind, of 256 MiB each
FEW = 32  # numbers of a control step: below, a loop in Python is faster than calls of NumPy


def finite_array(name: str, value: ArrayLike) -> Floats:
    """A float64 copy of `value`. Raises InvalidInput if it is no array of real numbers, or an entry is not finite."""
    try:
        array = np.array(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} is not an array of numbers: {error}") from error
    if array.dtype.kind not in "fiu":
        raise InvalidInput(f"{name} must hold real numbers, got dtype {array.dtype}")
    array = array.astype(np.float64, copy=False)  # `np.array` has copied
    if not all_finite(array):
        raise InvalidInput(f"{name} has entries that are not finite")
    return array


def all_finite(array: Floats) -> bool:
    """Whether every entry is finite.

    In the few numbers of a control step, a loop in Python takes a fifth of the time of two calls of NumPy.
    """
    few = array.size <= FEW
    return all(map(math.isfinite, array.ravel().tolist())) if few else bool(np.isfinite(array).all())


def check_memory(what: str, shape: tuple[int, ...]) -> None:
    """Raise InvalidInput, before any memory is taken, for an array of more than `MOST` numbers."""
    if math.prod(shape) > MOST:
        raise InvalidInput(f"{what} asks for arrays of {math.prod(shape) / 2**27:.2g} GiB; take less")


def not_overflown(name: str, result: Floats) -> Floats:
    """`result`, which finite numbers gave. Raises InvalidInput if it is not finite: they were too large for float64."""
    if not all_finite(np.asarray(result)):
        raise InvalidInput(f"{name} overflows: the numbers that it is made of are too large")
    return result


def some(flags: NDArray[np.bool_]) -> bool:
    """Whether one of the flags is set. For the few of a control step, a tenth of the time of NumPy's `any`."""
    return True in flags.ravel().tolist() if flags.size <= FEW else bool(flags.any())


def finite_vectors(name: str, value: ArrayLike, length: int) -> Floats:
    """Like `finite_array`, for vectors (..., length). Raises InvalidInput too if the last axis has another length."""
    array = finite_array(name, value)
    if array.ndim == 0 or array.shape[-1] != length:
        raise InvalidInput(f"{name} must have shape (..., {length}), got {array.shape}")
    return array


def varies(rows: Floats) -> NDArray[np.bool_]:
    """Which coordinates, along the last axis, differ between rows by more than rounding of their size.

    A collapsed encoder seldom gives exactly one value: sums of other batches round otherwise.
    """
    axes = tuple(range(rows.ndim - 1))
    return np.asarray(np.ptp(rows, axis=axes) > ROUNDING * np.abs(rows).max(axis=axes))


def action_limits(low: ArrayLike, high: ArrayLike, m: int) -> tuple[Floats, Floats]:
    """Lowest and highest actions, read-only (m,) each, from numbers or (m,); they may be infinite.

    Raises:
        InvalidInput: no numbers of this shape, NaN, or a lowest action above the highest.
    """
    found = []
    for name, value in (("action_low", low), ("action_high", high)):
        try:
            limit = np.array(np.broadcast_to(np.asarray(value, dtype=np.float64), (m,)))
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidInput(f"{name} must be a number or ({m},): {error}") from error
        if np.isnan(limit).any():
            raise InvalidInput(f"{name} is NaN")
        limit.flags.writeable = False
        found.append(limit)
    if (found[0] > found[1]).any() or np.isposinf(found[0]).any() or np.isneginf(found[1]).any():
        raise InvalidInput(f"action_low must not lie above action_high, got {found[0]} and {found[1]}")
    return found[0], found[1]


def semidefinite(name: str, value: ArrayLike, *, definite: bool = False) -> Floats:
    """A read-only symmetric matrix, positive semidefinite (or definite).

    Raises:
        InvalidInput: it is not square, not symmetric, or has an eigenvalue below (or at) zero, beyond rounding.
    """
    matrix = finite_array(name, value)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise InvalidInput(f"{name} must be a square matrix, got shape {matrix.shape}")
    size = float(np.abs(matrix).max())
    if np.abs(matrix - matrix.T).max() > ROUNDING * size:
        raise InvalidInput(f"{name} must be symmetric; pass ({name} + {name}.T) / 2")
    matrix = (matrix + matrix.T) / 2
    lowest = float(np.linalg.eigvalsh(matrix)[0])
    if definite and lowest <= len(matrix) * np.finfo(np.float64).eps * size:
        raise InvalidInput(f"{name} must be positive definite, but its lowest eigenvalue is {lowest:.3g}")
    if lowest < -ROUNDING * size:
        raise InvalidInput(f"{name} must be positive semidefinite, but its lowest eigenvalue is {lowest:.3g}")
    matrix.flags.writeable = False
    return matrix
