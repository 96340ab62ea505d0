"""Paths of T points between two latents: the straight line at constant speed, and the cheapest path.

The cost is `J(x) = sum_t ||x_t - goal||^2 + sum_t ||x_{t+1} - x_t||^2` with fixed ends x_0 = start, x_{T-1} = goal.
Klindt, LeCun and Balestriero (2026, arXiv 2605.26379) use it as the control cost and plan by the straight line. For T =
8 and ends at distance d, the line costs 3.00 d^2. The minimiser, faster at first, costs 1.618 d^2.

Both paths lie on the segment between the ends, at fractions that depend on T alone, so affine maps preserve them. Only
decoding to joint angles can tell a rotated latent from a sheared one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_banded

from worldplan.arrays import Floats, finite_array
from worldplan.checks import positive_int
from worldplan.errors import InvalidInput


def straight_line(start: ArrayLike, goal: ArrayLike, points: int = 8) -> Floats:
    """Equally spaced points (..., points, n) on the line from start (..., n) to goal (..., n), both ends included.

    Raises:
        InvalidInput: shapes differ, an entry is not finite, or there are fewer than two points.

    Example:
        >>> straight_line([0.0, 0.0], [2.0, 4.0], points=3).tolist()
        [[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]
    """
    start, goal = _ends(start, goal)
    return _along(start, goal, 1 - np.arange(_count(points)) / (_count(points) - 1))


def cheapest_path(start: ArrayLike, goal: ArrayLike, points: int = 8) -> Floats:
    """The path (..., points, n) of least `path_cost` from start (..., n) to goal (..., n), both ends included.

    With `x_t = goal + c_t (start - goal)` the cost is `d^2 (sum c_t^2 + sum (c_{t+1} - c_t)^2)`. Its gradient vanishes
    where `3 c_t = c_{t-1} + c_{t+1}`, `c_0 = 1`, `c_{T-1} = 0`: a tridiagonal, positive definite system.

    Raises:
        InvalidInput: as for `straight_line`.

    Example:
        >>> path = cheapest_path([1.0], [0.0], points=8)
        >>> round(float(path_cost(path)), 3), round(float(path_cost(straight_line([1.0], [0.0], points=8))), 3)
        (1.618, 3.0)
    """
    start, goal = _ends(start, goal)
    share = np.zeros(_count(points))
    share[0] = 1.0
    if len(share) > 2:
        bands = np.full((3, len(share) - 2), -1.0)  # above the diagonal, on it, and below
        bands[1] = 3.0
        share[1:-1] = solve_banded((1, 1), bands, share[:-2])  # share[0] is the first row's right-hand side
    return _along(start, goal, share)


def path_cost(path: ArrayLike) -> Floats:
    """`sum_t ||x_t - x_{T-1}||^2 + sum_t ||x_{t+1} - x_t||^2`: (...) for paths (..., T, n) that end at their goal.

    Raises:
        InvalidInput: no array (..., T, n) of finite numbers with T >= 2.
    """
    path = finite_array("path", path)
    if path.ndim < 2 or path.shape[-2] < 2:
        raise InvalidInput(f"a path has shape (..., T, n) with T >= 2, got {path.shape}")
    away, steps = path - path[..., -1:, :], np.diff(path, axis=-2)
    return np.asarray(np.square(away).sum(axis=(-2, -1)) + np.square(steps).sum(axis=(-2, -1)))


def _ends(start: ArrayLike, goal: ArrayLike) -> tuple[Floats, Floats]:
    start, goal = finite_array("start", start), finite_array("goal", goal)
    if start.shape != goal.shape or start.ndim == 0:
        raise InvalidInput(f"start and goal must both be (..., n), got {start.shape} and {goal.shape}")
    return start, goal


def _count(points: int) -> int:
    if positive_int("points", points) < 2:
        raise InvalidInput(f"a path needs its two ends at least, got points = {points}")
    return int(points)


def _along(start: Floats, goal: Floats, share: Floats) -> Floats:
    """`goal + c_t (start - goal)` for the shares c (T,), with exact ends."""
    path = goal[..., None, :] + share[:, None] * (start - goal)[..., None, :]
    path[..., 0, :] = start
    return path
