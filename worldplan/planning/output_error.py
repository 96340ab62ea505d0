"""Coefficients of linear dynamics by the error of whole predictions, for plants on which one-step errors say little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worldplan.arrays import Floats
from worldplan.errors import InvalidInput

ROUNDS = 60  # of Gauss-Newton; it is done after some ten
HALVINGS = 12  # of a step that does not lower the error
SETTLED = 1e-10  # share of the error by which a step must lower it
CHUNK = 256  # stretches whose slopes are in memory at once
FEWEST = 4  # numbers seen over coefficients sought


class Structure(Protocol):
    """`x' = D x + E w'`, `w' = theta [x; u; 1]`."""

    @property
    def E(self) -> Floats:
        """(d, n)."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which columns of theta count; the others are zero."""

    def assemble(self, theta: Floats) -> tuple[Floats, Floats, Floats]:
        """The `A`, `B` and `c` of theta."""


def refine(
    episodes: list[tuple[Floats, Floats]], structure: Structure, starts: list[Floats], horizon: int
) -> tuple[Floats, float]:
    """The theta whose predictions of stretches of `horizon` steps miss the latents least, and the root mean square.

    A stretch starts anywhere (its first state is free), and its latents are predicted from its actions alone. White
    noise of the latents therefore adds to the error without moving the minimum much, where a one-step error asks for
    differences of noisy latents: an unstable plant is not told from noise by these. This is the output-error method
    (Ljung 1999, System Identification, section 7.2), with the first states eliminated (variable projection, Golub and
    Pereyra 1973) and Gauss-Newton for the rest. Every step commutes with a rotation of the latents.

    Args:
        episodes: latents (T + 1, n), unwrapped on circles, and actions (T, m); stretches are cut from those of at least
            `horizon` steps, one after the other.
        structure: what theta (n, d + m + 1) stands for.
        starts: where to search from; the best end wins.
        horizon: steps, at least 2.

    Raises:
        InvalidInput: too few stretches, or every search diverged.
    """
    stretches = _Stretches.cut(episodes, horizon)
    numbers, sought = stretches.latents.size, starts[0].size + len(stretches.latents) * structure.E.shape[0]
    if numbers < FEWEST * starts[0].size or numbers <= sought:
        raise InvalidInput(
            f"{len(stretches.latents)} stretches of {horizon} steps are too few to fit {starts[0].size} coefficients; "
            "collect more or longer episodes, or take a shorter horizon"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        ends = [end for end in (_search(stretches, structure, start) for start in starts) if end is not None]
    if not ends:
        raise InvalidInput(f"no model predicts {horizon} steps of these episodes; collect more, or larger actions")
    theta, error = min(ends, key=lambda end: end[1])
    return theta, float(np.sqrt(error / numbers))


@dataclass(frozen=True, eq=False)
class _Stretches:
    """Latents (S, T + 1, n) and actions (S, T, m) of S stretches of T steps."""

    latents: Floats
    actions: Floats

    @classmethod
    def cut(cls, episodes: list[tuple[Floats, Floats]], horizon: int) -> _Stretches:
        places = [(h, u, t) for h, u in episodes for t in range(0, len(u) - horizon + 1, horizon)]
        if not places:
            longest = max(len(u) for _, u in episodes)
            raise InvalidInput(f"no episode has the {horizon} steps of the horizon, the longest has {longest}")
        latents = np.stack([h[t : t + horizon + 1] for h, _, t in places])
        return cls(latents, np.stack([u[t : t + horizon] for _, u, t in places]))


@dataclass(frozen=True, eq=False)
class _Guess:
    """A theta, the first states (S, d) that suit it best, what is missed (S, (T + 1) n), and its sum of squares."""

    theta: Floats
    firsts: Floats
    missed: Floats
    basis: Floats
    error: float


def _search(data: _Stretches, structure: Structure, theta: Floats) -> tuple[Floats, float] | None:
    """Gauss-Newton from theta; None if it starts at numbers that are not finite."""
    best = _judge(data, structure, theta)
    if best is None:
        return None
    for _ in range(ROUNDS):
        step = _step(data, structure, best)
        if step is None:
            break
        found = None
        for k in range(HALVINGS):
            found = _judge(data, structure, best.theta + step / 2**k)
            if found is not None and found.error < best.error:
                break
        else:
            break
        assert found is not None
        gain, best = best.error - found.error, found
        if gain < SETTLED * best.error:
            break
    return best.theta, best.error


def _judge(data: _Stretches, structure: Structure, theta: Floats) -> _Guess | None:
    """What theta misses when every stretch starts where it suits theta best."""
    A, B, c = structure.assemble(theta)
    count, rows, n = data.latents.shape
    d = len(A)
    free = _simulate(A, B, c, np.zeros((count, d)), data.actions)[:, :, :n]
    answers = [np.eye(d)]
    for _ in range(rows - 1):
        answers.append(A @ answers[-1])
    seen = np.stack(answers)[:, :n].reshape(rows * n, d)
    if not (np.isfinite(seen).all() and np.isfinite(free).all()):
        return None
    left = (data.latents - free).reshape(count, -1)
    try:
        firsts: Floats = np.asarray(np.linalg.lstsq(seen, left.T, rcond=None)[0].T, dtype=np.float64)
        basis = np.linalg.svd(seen, full_matrices=False)[0]
    except np.linalg.LinAlgError:
        return None
    missed = left - firsts @ seen.T
    return _Guess(theta, firsts, missed, basis, float(np.square(missed).sum()))


def _step(data: _Stretches, structure: Structure, guess: _Guess) -> Floats | None:
    """The Gauss-Newton step for theta, first states following; None if nothing determines it."""
    A, B, c = structure.assemble(guess.theta)
    known, E = structure.known, structure.E
    n, d = data.latents.shape[2], len(A)
    size = n * int(known.sum())
    gram, slope = np.zeros((size, size)), np.zeros(size)
    for s in range(0, len(data.latents), CHUNK):
        u, missed = data.actions[s : s + CHUNK], guess.missed[s : s + CHUNK]
        states = _simulate(A, B, c, guess.firsts[s : s + CHUNK], u)
        inputs = np.concatenate([states[:, :-1], u, np.ones((*u.shape[:2], 1))], axis=2)[:, :, known]
        moved, slopes = np.zeros((len(u), d, size)), [np.zeros((len(u), n, size))]
        for t in range(u.shape[1]):  # invariant: moved is the slope of states[:, t] in theta
            pushed = np.einsum("ia,sb->siab", E, inputs[:, t]).reshape(len(u), d, size)
            moved = np.matmul(A, moved) + pushed
            slopes.append(moved[:, :n])
        J = np.stack(slopes, axis=1).reshape(len(u), -1, size)
        J -= np.matmul(guess.basis, np.matmul(guess.basis.T, J))
        gram += np.einsum("srp,srq->pq", J, J, optimize=True)
        slope += np.einsum("srp,sr->p", J, missed)
    if not (np.isfinite(gram).all() and np.isfinite(slope).all()):
        return None
    try:
        found = np.linalg.lstsq(gram, slope, rcond=None)[0]
    except np.linalg.LinAlgError:
        return None
    step = np.zeros_like(guess.theta)
    step[:, known] = found.reshape(n, -1)
    return step


def _simulate(A: Floats, B: Floats, c: Floats, first: Floats, actions: Floats) -> Floats:
    """States (S, T + 1, d) from the first ones (S, d) and actions (S, T, m)."""
    states = [first]
    pushes = actions @ B.T + c
    for t in range(actions.shape[1]):
        states.append(states[-1] @ A.T + pushes[:, t])
    return np.stack(states, axis=1)
