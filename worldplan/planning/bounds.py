"""Bounds on how far a computed value function is from the least cost, true to the last digit of the arithmetic.

For a gain K and a symmetric P, let `defect = W + K' R K + (A - B K)' P' (A - B K) - P`, where P' is the value one step
later (P itself for an infinite horizon). With `S = R + B' P' B`, `slope = R K - B' P' (A - B K)` and any Z >= 0:

- above: if `Z - (A - B K)' Z' (A - B K) >= defect`, following K costs at most P + Z (telescope the sum);
- below: if `Z - (A - B K)' Z' (A - B K) >= -defect + g' (S - B' Z' B)^-1 g` with `g = slope + B' Z' (A - B K)`, no
  control costs less than P - Z: the minimum of a quadratic is its value at K less `g' (...)^-1 g`.

Both hold for every K and P, however these were computed. Sources: Hewer 1971, IEEE TAC 16(4), for the first; the
comparison theorem for Riccati equations (Lancaster & Rodman, Algebraic Riccati Equations, 1995, chapter 13) for the
second. The defect is a difference of large numbers, so its rounding is bounded and added to it. Where that is too much,
it is computed in a wider format: the widest of the machine, or decimals of 60 digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Context, Decimal, localcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from worldplan.arrays import Floats

DIGITS = 60
DOUBLINGS = 60  # a loop of radius 1 - 1e-16 has forgotten its start
Arithmetic = type[np.float64] | type[np.longdouble] | type[Decimal]
Precise = NDArray[Any]  # in one of these


@contextmanager
def many_digits() -> Iterator[None]:
    """Within it, decimal arithmetic has `DIGITS` digits and answers what is not finite instead of raising."""
    with localcontext(Context(prec=DIGITS, traps=[])):
        yield


def precise(M: NDArray[Any], arithmetic: Arithmetic) -> Precise:
    """The same numbers in an arithmetic; Decimal needs `many_digits`."""
    if arithmetic is not Decimal:
        return M.astype(arithmetic)
    return np.asarray(np.frompyfunc(Decimal, 1, 1)(M), dtype=object)


def arithmetic_of(M: Precise) -> Arithmetic:
    """That of an array which `precise` made."""
    return Decimal if M.dtype == object else M.dtype.type


class System(NamedTuple):
    """A (d, d), B (d, m), W (d, d) and R (m, m) of a problem, unchecked."""

    A: Floats
    B: Floats
    W: Floats
    R: Floats


class Step(NamedTuple):
    """What one step of a feedback does to a value function, for one step or a stack of them.

    Attributes:
        loop: (..., d, d) A - B K.
        defect: (..., d, d), see above; rounded to float64 at last.
        rounding: (...) bound on the Frobenius norm of the error of `defect`.
        slope: (..., m, d), see above.
        loop_rounding: (..., d, d) bounds on the errors of the entries of `loop`, which may be differences of much
            larger numbers.
        slope_rounding: (...) bound on the Frobenius norm of the error of `slope`.
    """

    loop: Precise
    defect: Floats
    rounding: Floats
    slope: Floats
    loop_rounding: Floats
    slope_rounding: Floats


def feedback_step(system: System, K: Floats, later: NDArray[Any], now: Precise) -> Step:
    """One step of the gain K (..., m, d), from the value `now` to the value `later`, (..., d, d) each.

    The arithmetic is that of `now`.
    """
    A, B, W, R, gain, later = (precise(M, arithmetic_of(now)) for M in (*system, K, later))
    turned = np.swapaxes(gain, -1, -2)
    loop = A - B @ gain
    effort, ahead = R @ gain, later @ loop
    defect = W + turned @ effort + np.swapaxes(loop, -1, -2) @ ahead - now
    # The same sums with every term positive bound all roundings; this needs no accuracy of its own.
    a, b, w, r, k, p, q = (np.abs(M.astype(np.float64)) for M in (A, B, W, R, gain, later, now))
    reach = a + b @ k
    sizes = w + np.swapaxes(k, -1, -2) @ r @ k + 3 * np.swapaxes(reach, -1, -2) @ p @ reach + q
    unit = _unit(now) * (2 * (len(A) + B.shape[1]) + 4)
    defect, slope = defect.astype(np.float64), (effort - B.T @ ahead).astype(np.float64)
    return Step(
        loop,
        (defect + np.swapaxes(defect, -1, -2)) / 2,
        unit * np.linalg.norm(sizes, axis=(-2, -1)),
        slope,
        unit * reach,
        unit * np.linalg.norm(r @ k + 2 * b.T @ p @ reach, axis=(-2, -1)),
    )


def _unit(M: Precise) -> float:
    return 10.0 ** (1 - DIGITS) if M.dtype == object else float(np.finfo(M.dtype).eps)


def summed(M: NDArray[Any], loop: Precise) -> Precise:
    """`sum_t loop'^t M loop^t`, (d, d), the solution of `X = M + loop' X loop`, by doubling (Smith 1968).

    In the arithmetic of `loop`. Not finite, or far too large, if the loop is unstable.
    """
    total = M if M.dtype == loop.dtype else precise(M, arithmetic_of(loop))
    with np.errstate(all="ignore"):
        for _ in range(DOUBLINGS):
            more = loop.T @ total @ loop
            total, loop = total + more, loop @ loop
            if not np.abs(more.astype(np.float64)).max() > 1e-17 * np.abs(total.astype(np.float64)).max():
                break  # also where something is not a number
    return np.asarray((total + total.T) / 2)


class Bound(NamedTuple):
    """`P - below Z <= optimum <= cost of K <= P + above Z`, with Z (d, d) >= 0; also that the loop is stable."""

    Z: Floats
    below: float
    above: float


def bounded(system: System, P: Precise, step: Step) -> Bound | None:
    """The bounds for a value P (d, d) of an infinite horizon, and the step of a gain from P to P.

    None if this arithmetic shows neither, or does not show that the gain stabilises.
    """
    loop = step.loop
    with np.errstate(all="ignore"):
        near = summed(np.eye(len(P)), loop)
        if loop.dtype == np.longdouble:
            near = near + summed(np.eye(len(P)) - near + loop.T @ near @ loop, loop)
        # X > 0 with X - loop' X loop > 0 is Lyapunov's proof that the loop is stable. X need not be exact for it.
        decrease, X = (near - loop.T @ near @ loop).astype(np.float64), near.astype(np.float64)
        near_loop, doubt, sizes = loop.astype(np.float64), step.loop_rounding, np.abs(X)
        size = np.abs(near_loop) + doubt
        slack = _unit(loop) * (4 * len(P) + 4) * float(np.linalg.norm(size.T @ sizes @ size))
        slack += float(np.linalg.norm(doubt.T @ sizes @ (2 * size)))  # of the loop itself
        if not (np.isfinite(decrease).all() and np.isfinite(X).all() and np.isfinite(slack + step.rounding)):
            return None
        least = float(np.linalg.eigvalsh((decrease + decrease.T) / 2)[0]) - slack
        if not (least > 0.5 and np.linalg.eigvalsh((X + X.T) / 2)[0] > 0.5):
            return None
        defect = float(np.linalg.norm(step.defect) + step.rounding)
        try:
            curve = np.linalg.cholesky(system.R + system.B.T @ P.astype(np.float64) @ system.B)
        except LinAlgError:
            return None
        root = np.linalg.inv(curve)
        inputs = root @ system.B.T
        slope = float(np.linalg.norm(root @ step.slope) + np.linalg.norm(root) * step.slope_rounding)
        steep = float(np.linalg.norm(inputs @ X @ near_loop) + np.linalg.norm(np.abs(inputs) @ sizes @ doubt))
        # With S - B' Z B >= S / 2, g' (...)^-1 g <= 2 (slope + below steep)^2 <= 4 slope^2 + 4 below^2 steep^2.
        need = 1.01 * (defect + 4 * slope**2)
        below = 2 * need / least
        if not (4 * (below * steep) ** 2 <= need and below * np.linalg.norm(inputs @ X @ inputs.T) <= 0.4):
            return None
    return Bound(X, below, 1.01 * defect / least)


def bounded_finite(system: System, step: Step, later: Floats) -> Floats | None:
    """Z (T, d, d) with `P_t - Z_t <= optimum <= cost of the gains <= P_t + Z_t`, for a finite horizon.

    Args:
        system: the problem.
        step: the T steps of the recursion, see `feedback_step`.
        later: (T, d, d) values P_1 ... P_T; P_T is exact.

    None if this arithmetic does not show it.
    """
    loops, defects = step.loop.astype(np.float64), np.linalg.norm(step.defect, axis=(1, 2)) + step.rounding
    curves = np.linalg.cholesky(system.R + system.B.T @ later @ system.B)
    roots = np.linalg.inv(curves)
    inputs, slopes = roots @ system.B.T, roots @ step.slope
    doubts = np.linalg.norm(roots, axis=(1, 2)) * step.slope_rounding
    bounds, Z, eye = np.zeros_like(loops), np.zeros(loops.shape[1:]), np.eye(loops.shape[1])
    with np.errstate(all="ignore"):
        for t in reversed(range(len(loops))):
            # Invariant: Z bounds the value at t + 1.
            reach = inputs[t] @ Z
            if not np.linalg.norm(reach @ inputs[t].T) <= 0.4:
                return None
            # With S - B' Z B >= S / 2, g' (...)^-1 g <= 2 |S^-1/2 g|^2.
            off = step.loop_rounding[t]
            steep = np.linalg.norm(slopes[t] + reach @ loops[t]) + doubts[t] + np.linalg.norm(np.abs(reach) @ off)
            need = defects[t] + 2 * steep**2 + 101 * np.linalg.norm(off.T @ np.abs(Z) @ off)  # (1 + e)^2 and (1 + 1/e)
            Z = 1.01 * (loops[t].T @ Z @ loops[t]) + 1.01 * need * eye
            bounds[t] = Z
    return bounds if np.isfinite(bounds).all() else None
