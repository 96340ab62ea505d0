"""Convex programs in standard form: minimise `y' P y / 2 + c' y` over `A y + s = b`, s in K, and their KKT conditions.

K is a product of zeros, half-lines and second-order cones. A pair (y, z) of any origin bounds the optimum by weak
duality (Boyd & Vandenberghe, Convex Optimization, 2004, section 5.9). So a solver need not be believed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import lu_factor, lu_solve
from scipy.sparse import csc_matrix, triu

from worldplan.arrays import Floats

# CVXPY has defaults of its own, and time-based rho adaptation makes iterates depend on the machine: set everything.
# `BoxQP.active_set` polishes: it also improves what OSQP's polishing rejects, and costs less.
OSQP_SETTINGS: dict[str, Any] = {
    "eps_abs": 1e-6,
    "eps_rel": 1e-6,
    "max_iter": 20_000,
    "adaptive_rho": 1,
    "adaptive_rho_interval": 50,
    "polishing": False,
}
# Where OSQP does not converge, which is where A is unstable over the horizon, an interior point method often does.
CLARABEL_SETTINGS: dict[str, Any] = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
COMPILING = threading.RLock()  # CVXPY numbers variables by a counter that threads share
OPTIMAL, INFEASIBLE, UNBOUNDED = "optimal", "infeasible", "unbounded"  # statuses
SOFT, NEARLY = 1e-7, 1e-9  # of `_polished`
UNKNOWN_CONES = ("exp", "psd", "p3d", "pnd")


class KKT(NamedTuple):
    """How far a pair (y, z) is from the optimality conditions, z moved to the nearest in the dual cone of K.

    With f the cost, `f(v) >= f(y) - products + gradient' (v - y) + (v - y)' P (v - y) / 2` for every feasible v.

    Attributes:
        violation: the most by which y breaks a row, in that row's units.
        products: sum of `|z_i s_i|` over rows and of `|z' s|` over second-order cones, with its rounding and that of f.
        gradient: `P y + c + A' z`, of the Lagrangian.
        rounding: bound on the error of each entry of `gradient`.
        reach: (k,) bound on how much of `gradient' (v - y)` counts for each entry, in units of `v - y`: infinite, but
            finite where a limit of that entry alone has a multiplier that can take up the entry's gradient.
        largest: largest of these products, without rounding.
    """

    violation: float
    products: float
    gradient: Floats
    rounding: Floats
    reach: Floats
    largest: float


class StandardForm(NamedTuple):
    """A program: P (k, k), c (k,), A (r, k), b (r,), and the lengths of the parts of K in the order of the rows."""

    P: Any
    c: Floats
    A: Any
    b: Floats
    zeros: int
    halflines: int
    cones: tuple[int, ...] = ()

    @property
    def finite(self) -> bool:
        """Whether all its numbers are, for the solvers, which take 1e20 for infinity."""
        return all(bool((np.abs(M) < 1e20).all()) for M in (self.P.data, self.c, self.A.data, self.b))

    def osqp(self, settings: Mapping[str, Any], workspace: Any = None) -> tuple[Floats, Floats, str, Any]:
        """OSQP's y, z, status and workspace, for a program without second-order cones.

        A workspace of the same P and A goes on from its last iterates.
        """
        import osqp

        low = np.where(np.arange(len(self.b)) < self.zeros, self.b, -np.inf)
        if workspace is None:
            workspace = osqp.OSQP()
            workspace.setup(csc_matrix(triu(self.P)), self.c, csc_matrix(self.A), low, self.b, **settings)
        else:
            workspace.update(q=self.c, l=low, u=self.b)
        found = workspace.solve(raise_error=False)
        solved = found.info.status_val == osqp.SolverStatus.OSQP_SOLVED
        y, z, status = _checked(found.x, found.y, OPTIMAL if solved else str(found.info.status))
        return *(self._polished(y, z) if solved else (y, z)), status, workspace

    def _polished(self, y: Floats, z: Floats) -> tuple[Floats, Floats]:
        """The solution if the rows that seem to hold with equality do, or y and z if they do not.

        OSQP can do it too (Stellato et al. 2020, arXiv 1711.08013, section 5.2), but prints where no row does.
        """
        met = (np.arange(len(z)) < self.zeros) | (z > self.b - self.A @ y)
        rows, k = self.A.tocsr()[met].toarray(), len(y)
        system = np.block([[self.P.toarray(), rows.T], [rows, np.zeros((len(rows), len(rows)))]])
        right, found = np.concatenate([-self.c, self.b[met]]), np.concatenate([y, z[met]])
        # What is not unique stays nearly where it was, and each round takes up what is left.
        factors = lu_factor(system + SOFT * np.diag(np.repeat([1.0, -1.0], [k, len(rows)])))
        for _ in range(3):
            found = found + lu_solve(factors, right - system @ found)
        new_z = np.zeros(len(z))
        new_z[met] = found[k:]
        room, forces = self.b - self.A @ found[:k], new_z[self.zeros :]
        kept = np.abs(room[: self.zeros]).max(initial=0.0) <= NEARLY and room.min(initial=0.0) >= -NEARLY
        return (found[:k], new_z) if kept and forces.min(initial=0.0) >= -NEARLY else (y, z)

    def clarabel(self, settings: Mapping[str, Any]) -> tuple[Floats, Floats, str]:
        """Clarabel's y, z and status, which is "optimal" too where it stops early: the certificate decides."""
        import clarabel

        options = clarabel.DefaultSettings()
        for name, value in settings.items():
            setattr(options, name, value)
        kinds = [clarabel.ZeroConeT(self.zeros)] * bool(self.zeros)
        kinds += [clarabel.NonnegativeConeT(self.halflines)] * bool(self.halflines)
        kinds += [clarabel.SecondOrderConeT(size) for size in self.cones]
        P, A = csc_matrix(triu(self.P)), csc_matrix(self.A)
        found = clarabel.DefaultSolver(P, self.c, A, self.b, kinds, options).solve()
        status = {"PrimalInfeasible": INFEASIBLE, "DualInfeasible": UNBOUNDED}.get(
            str(found.status).removeprefix("Almost"), OPTIMAL
        )
        return _checked(found.x, found.z, status)

    def value(self, y: Floats) -> float:
        """The cost of y (k,)."""
        return float(y @ (self.P @ y) / 2 + self.c @ y)

    def kkt(self, y: Floats, z: Floats) -> KKT:
        """The conditions at any y (k,) and multipliers z (r,)."""
        z = self._dual(z)
        s = self.b - self.A @ y
        eps, (P, A) = float(np.finfo(np.float64).eps), (abs(M) for M in (self.P, self.A))
        gradient = self.P @ y + self.c + self.A.T @ z
        steep, sizes = P @ np.abs(y) + np.abs(self.c), np.abs(self.b) + A @ np.abs(y)
        # A sum of j products errs by at most (j + 1) eps times that of their sizes.
        across, along = np.diff(self.P.indptr) + np.diff(A.indptr), np.bincount(A.indices, minlength=len(z))
        rounding = eps * (across + 3) * (steep + A.T @ np.abs(z))
        linear = self.zeros + self.halflines
        broken = [np.abs(s[: self.zeros]), -s[self.zeros : linear]]
        products = [np.abs(z[:linear] * s[:linear])]
        for cone in self._slices():
            broken.append(np.atleast_1d(np.linalg.norm(s[cone][1:]) - s[cone][0]))
            products.append(np.atleast_1d(abs(z[cone] @ s[cone])))
        each = np.concatenate(products)
        doubt = eps * float(np.abs(z) @ ((along + 3) * sizes) + np.abs(y) @ ((across + 3) * steep))
        return KKT(
            violation=float(np.concatenate(broken).max(initial=0.0)) + 0.0,
            products=float(each.sum()) + doubt,
            gradient=gradient,
            rounding=rounding,
            reach=self._reach(s, z, np.abs(gradient) + rounding),
            largest=float(each.max(initial=0.0)),
        )

    def _reach(self, s: Floats, z: Floats, steep: Floats) -> Floats:
        """See `KKT.reach`: that multiplier moves by `steep / |a|`, the gradient is 0 then, and z' s grows so."""
        reach, rows = np.full(len(self.c), np.inf), self.A.tocsr()
        limits = self.zeros + np.flatnonzero(np.diff(rows.indptr)[self.zeros : self.zeros + self.halflines] == 1)
        entries, a = rows.indices[rows.indptr[limits]], np.abs(rows.data[rows.indptr[limits]])
        enough = (a > 0) & (z[limits] * a >= steep[entries])
        np.minimum.at(reach, entries[enough], np.abs(s[limits[enough]]) / a[enough])
        return reach

    def _dual(self, z: Floats) -> Floats:
        """The nearest multipliers in the dual cone."""
        near, linear = z.copy(), self.zeros + self.halflines
        near[self.zeros : linear] = np.maximum(z[self.zeros : linear], 0.0)
        for cone in self._slices():
            first, rest = z[cone][0], z[cone][1:]
            size = float(np.linalg.norm(rest))
            if size > abs(first):
                near[cone] = (first + size) / 2 * np.concatenate([[1.0], rest / size])
            elif first < 0:
                near[cone] = 0.0
        return near

    def _slices(self) -> list[slice]:
        """The rows of each second-order cone."""
        ends = np.cumsum([self.zeros + self.halflines, *self.cones]).tolist()
        return [slice(start, end) for start, end in pairwise(ends)]


def _checked(y: Any, z: Any, status: str) -> tuple[Floats, Floats, str]:
    y, z = np.array(y, dtype=np.float64), np.array(z, dtype=np.float64)
    finite = bool(np.isfinite(y).all() and np.isfinite(z).all())
    return y, z, status if finite or status != OPTIMAL else "solver_error"
