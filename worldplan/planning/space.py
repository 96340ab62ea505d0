"""Latent spaces of circles and lines, `G = T^k x R^l`: differences, paths without jumps, goals the shorter way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldplan.arrays import Floats, finite_array, finite_vectors, not_overflown, some
from worldplan.checks import positive_int
from worldplan.errors import InvalidInput

KINDS = ("circle", "line")
TURN = 2 * np.pi
MOST_LINES = 1_000_000


class LatentSpace:
    """A product of circles (radians, modulo a turn) and lines: `LatentSpace("circle", "line")`.

    A joint that turns without limit is a circle, and no continuous map to a line tells its angle everywhere. The space
    is a commutative group; `difference` is its subtraction, and lies in [-pi, pi) on circles. On lines all methods are
    those of vectors, to the bit.

    Args:
        *kinds: `circle` or `line`, one for each coordinate of the latent.

    Raises:
        InvalidInput: no coordinate, or one of another kind.

    Example:
        >>> space = LatentSpace("circle", "line")
        >>> space.difference([-3.0, 1.0], [3.0, 5.0]).round(3).tolist()
        [0.283, -4.0]
    """

    def __init__(self, *kinds: str) -> None:
        wrong = [kind for kind in kinds if kind not in KINDS]
        if wrong or not kinds:
            raise InvalidInput(f"a latent space is one or more of {' and '.join(KINDS)}, got {kinds}")
        self.kinds = tuple(kinds)
        self.circles: NDArray[np.bool_] = np.array([kind == "circle" for kind in kinds])
        self._flat = not self.circles.any()
        self._half = np.where(self.circles, np.pi, np.nan)  # nothing lies beyond NaN

    @classmethod
    def lines(cls, count: int) -> LatentSpace:
        """The space R^count. Raises InvalidInput if `count` is no positive integer, or larger than any latent is."""
        number = positive_int("the number of lines", count)
        if number > MOST_LINES:
            raise InvalidInput(f"a latent has {MOST_LINES} coordinates at most, got {count}")
        return cls(*["line"] * number)

    @property
    def dim(self) -> int:
        """n, the number of coordinates."""
        return len(self.kinds)

    @property
    def flat(self) -> bool:
        """Whether there is no circle."""
        return bool(self._flat)

    def difference(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """`a (-) b` of latents (..., n): the shortest way from b to a.

        Raises InvalidInput for another width, or if it overflows.
        """
        a, b = finite_vectors("a latent", a, self.dim), finite_vectors("a latent", b, self.dim)
        with np.errstate(over="ignore"):
            return self._wrap(not_overflown("the difference", a - b))

    def wrap(self, latents: ArrayLike) -> Floats:
        """Latents (..., n) with their circles in [-pi, pi). Raises InvalidInput for another width."""
        return self._wrap(finite_vectors("a latent", latents, self.dim))

    def _wrap(self, latents: Floats) -> Floats:
        """`wrap` of latents that were checked, which are changed."""
        beyond = self._beyond(latents)
        if some(beyond):
            wrapped = np.remainder(latents[beyond] + np.pi, TURN) - np.pi
            wrapped[wrapped >= np.pi] = -np.pi  # of rounding
            latents[beyond] = wrapped
        return latents

    def _beyond(self, latents: Floats) -> NDArray[np.bool_]:
        """Which coordinates are to be wrapped. In control, hardly any; the others stay as they are, to the bit."""
        return np.asarray(np.abs(latents) >= self._half)

    def lift(self, goal: ArrayLike, near: ArrayLike) -> Floats:
        """The representative of a goal (..., n) that lies nearest to latents `near` (..., n), which need no wrapping.

        On the lifted goal, planners for vectors go the short way round.
        """
        goal, near = finite_vectors("a goal", goal, self.dim), finite_vectors("a latent", near, self.dim)
        if self.flat:
            return goal
        way = goal - near
        return np.where(self._beyond(way), near + self._wrap(way), goal)

    def unwrap(self, latents: ArrayLike) -> Floats:
        """Latents (T, n) of one episode as a path without jumps, from the first on.

        Steps count as the shortest way: a circle must move less than half a turn a step.
        """
        path = finite_vectors("latents", latents, self.dim)
        if not self.flat:
            path[..., self.circles] = np.unwrap(path[..., self.circles], axis=-2)
        return path

    def centre(self, latents: ArrayLike) -> Floats:
        """The mean (n,) of latents (N, n): the circular mean on circles.

        Raises:
            InvalidInput: no latents, or another width.
        """
        rows = finite_vectors("latents", latents, self.dim)
        if rows.ndim != 2 or not len(rows):
            raise InvalidInput(f"need latents (N, {self.dim}), N > 0, got {rows.shape}")
        around = np.arctan2(np.sin(rows).mean(axis=0), np.cos(rows).mean(axis=0))
        return np.asarray(np.where(self.circles, around, rows.mean(axis=0)))

    def chart(self, latents: ArrayLike, centre: ArrayLike | None = None) -> Floats:
        """Latents (N, n) as vectors: circles are cut opposite to `centre` (n,), by default that of the latents.

        For what knows vectors only, such as a regression. Latents beyond the cut appear on its other side.
        """
        rows = finite_vectors("latents", latents, self.dim)
        if self.flat:
            return rows
        middle = self.centre(rows.reshape(-1, self.dim)) if centre is None else finite_array("centre", centre)
        return self.lift(rows, np.broadcast_to(middle, rows.shape))

    def embed(self, latents: ArrayLike) -> Floats:
        """Latents (..., n) as vectors (..., n + k) without a cut: cosines of the k circles in place, their sines last.

        For what learns from vectors, such as a policy. Raises InvalidInput for another width.
        """
        rows = finite_vectors("latents", latents, self.dim)
        around = rows[..., self.circles]
        rows[..., self.circles] = np.cos(around)
        return np.concatenate([rows, np.sin(around)], axis=-1)

    def __repr__(self) -> str:
        return f"LatentSpace({', '.join(map(repr, self.kinds))})"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, LatentSpace) and self.kinds == other.kinds

    def __hash__(self) -> int:
        return hash(self.kinds)
