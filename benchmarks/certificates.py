"""Are certificates true? Random systems, plans with limits, and unstable horizons, held against 60 to 100 digits.

    python benchmarks/certificates.py [--systems 10000 --plans 2000 --horizons 200]

The oracle is of another library (mpmath) and of another method. For LQR it is doubling with 100 digits. For MPC it
solves the plan's own active set exactly and looks at the signs of the multipliers. What is *well scaled* is told from
the family it was drawn from, before anything is solved. The families ask for what solvers find hard: modes that the
actions reach not at all or hardly, units that differ by 10^16, weights that see nothing, controls that cost next to
nothing, A that grows by up to 10^7 over the horizon.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import mpmath
import numpy as np
import tyro
from scipy.linalg import block_diag
from tqdm import tqdm

from worldplan.arrays import Floats
from worldplan.data.files import atomic_write, write_json
from worldplan.errors import NotStabilizable, WorldplanError
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.lqr import VALUE_TOLERANCE, LQRSolution, solve_lqr
from worldplan.planning.mpc import TOLERANCE, MPCProblem, Plan, solve_mpc
from worldplan.planning.rotation import random_rotation

Exact = np.ndarray[Any, Any]  # of mpmath.mpf


@dataclass(frozen=True)
class Options:
    """How many of each."""

    systems: int = 600
    """Infinite-horizon problems."""
    plans: int = 200
    """MPC problems with limits."""
    horizons: int = 40
    """MPC problems on unstable plants over long horizons."""
    seed: int = 0
    out: Path = Path("benchmarks/results")


def main(options: Options) -> None:
    """Draw, solve, judge, print, write."""
    begin, load = perf_counter(), os.getloadavg()[0]
    parts = {
        "systems": (options.systems, system, judge_system),
        "plans": (options.plans, limited, judge_plan),
        "unstable horizons": (options.horizons, unstable_horizon, judge_plan),
    }
    facts: dict[str, Any] = {"seed": options.seed, "load": round(load, 2)}
    for part, (count, draw, judge) in parts.items():
        streams = np.random.SeedSequence([options.seed, len(part)]).spawn(count)
        table: dict[str, Counter[str]] = defaultdict(Counter)
        for k, stream in enumerate(tqdm(streams, desc=part, mininterval=5)):
            kind, problem = draw(k, np.random.default_rng(stream))
            table[kind][judge(problem)] += 1
        facts[part] = {kind: dict(found) for kind, found in table.items()}
    facts["seconds"] = round(perf_counter() - begin)
    write_json(options.out / "certificates.json", facts)
    text = "\n".join(lines(facts))
    with atomic_write(options.out / "certificates.md") as stream:
        stream.write((text + "\n").encode())
    print(text)


# Systems --------------------------------------------------------------------------------------------------------------

System = tuple[LinearDynamics, QuadraticCost]


def spread(rng: np.random.Generator, d: int, condition: float = 100.0) -> Floats:
    """A random definite matrix (d, d) with eigenvalues from 1 to `condition`."""
    Q = random_rotation(d, rng) if d > 1 else np.eye(1)
    return (Q * np.exp(rng.uniform(0, np.log(condition), d))) @ Q.T


def growing(rng: np.random.Generator, d: int, radius: float) -> Floats:
    """A random (d, d) of a spectral radius."""
    A = rng.standard_normal((d, d))
    return np.asarray(A * radius / np.abs(np.linalg.eigvals(A)).max())


def plain(rng: np.random.Generator, radius: float) -> System:
    """Dense, well scaled."""
    d, m = int(rng.integers(2, 8)), int(rng.integers(1, 4))
    return LinearDynamics(growing(rng, d, radius), rng.standard_normal((d, m))), QuadraticCost(
        spread(rng, d), spread(rng, m)
    )


def hidden(rng: np.random.Generator, rate: float, push: float) -> System:
    """A mode of growth `rate` that B reaches by `push`, in random coordinates."""
    dynamics, cost = plain(rng, 0.9)
    d, m = dynamics.state_dim, dynamics.action_dim
    A, B = block_diag(rate, dynamics.A), np.vstack([push * np.ones((1, m)), dynamics.B])
    A[1:, 0] = 0.3 * rng.standard_normal(d)
    Q = random_rotation(d + 1, rng) if rng.random() < 0.5 else np.eye(d + 1)
    return LinearDynamics(Q @ A @ Q.T, Q @ B), QuadraticCost(spread(rng, d + 1), cost.R)


def in_units(rng: np.random.Generator) -> System:
    """A plain system whose states have units from 1e-8 to 1e8."""
    dynamics, cost = plain(rng, rng.uniform(0.5, 1.3))
    units = 10.0 ** rng.uniform(-8, 8, dynamics.state_dim)
    return LinearDynamics(dynamics.A * units / units[:, None], dynamics.B / units[:, None]), QuadraticCost(
        cost.W * np.outer(units, units), cost.R
    )


def with_weights(rng: np.random.Generator, W: Callable[[int], Floats], R: float = 1.0) -> System:
    """A plain system with other weights."""
    dynamics, cost = plain(rng, rng.uniform(0.5, 1.5))
    return dynamics, QuadraticCost(W(dynamics.state_dim), R * cost.R)


def blind(rng: np.random.Generator, rate: float) -> System:
    """A mode of growth `rate` that W does not see."""
    dynamics, cost = plain(rng, 0.9)
    d = dynamics.state_dim
    A = block_diag(rate, dynamics.A)
    A[0, 1:] = 0.3 * rng.standard_normal(d)
    B = np.vstack([rng.standard_normal((1, dynamics.action_dim)), dynamics.B])
    return LinearDynamics(A, B), QuadraticCost(block_diag(0.0, cost.W), cost.R)


def chain(rng: np.random.Generator) -> System:
    """One Jordan block, pushed at its end."""
    d, rate = int(rng.integers(2, 7)), float(rng.choice([0.0, 0.9, 1.0, 1.1]))
    return LinearDynamics(rate * np.eye(d) + np.eye(d, k=1), np.eye(d)[:, -1:]), QuadraticCost(
        spread(rng, d), np.eye(1)
    )


FAMILIES: dict[str, tuple[str, Callable[[np.random.Generator], System]]] = {
    "stable": ("well scaled", lambda r: plain(r, r.uniform(0.1, 0.95))),
    "marginal": ("well scaled", lambda r: plain(r, 1.0)),
    "unstable": ("well scaled", lambda r: plain(r, r.uniform(1.05, 2.0))),
    "units from 1e-8 to 1e8": ("well scaled", in_units),
    "W of rank one": ("well scaled", lambda r: with_weights(r, lambda d: np.outer(*[r.standard_normal(d)] * 2))),
    "W = 0": ("well scaled", lambda r: with_weights(r, lambda d: np.zeros((d, d)))),
    "Jordan chain": ("well scaled", chain),
    "cheap control, 1e-20 to 1e-6": ("hard", lambda r: with_weights(r, np.eye, 10.0 ** r.uniform(-20, -6))),
    "dear control, 1e6 to 1e20": ("hard", lambda r: with_weights(r, np.eye, 10.0 ** r.uniform(6, 20))),
    "hardly reached, 1e-3": ("hard", lambda r: hidden(r, r.choice([1.0, 1.001, 1.5]), 1e-3)),
    "hardly reached, 1e-6": ("hard", lambda r: hidden(r, r.choice([1.0, 1.001, 1.5]), 1e-6)),
    "unseen, unstable": ("hard", lambda r: blind(r, r.choice([1.05, 2.0]))),
    "unseen, close to 1": ("hard", lambda r: blind(r, 1 + r.choice([-1e-7, 1e-7, 1e-6, 1e-4]))),
    "out of reach": ("no solution", lambda r: hidden(r, r.choice([1.0, 1.001, 1.5, -1.0]), 0.0)),
    "unseen, at 1": ("no solution", lambda r: blind(r, 1.0)),
}


def system(k: int, rng: np.random.Generator) -> tuple[str, System]:
    """The k-th system: one of each family in turn."""
    kind = list(FAMILIES)[k % len(FAMILIES)]
    return f"{kind} ({FAMILIES[kind][0]})", FAMILIES[kind][1](rng)


def judge_system(problem: System) -> str:
    """What became of it."""
    try:
        solution = solve_lqr(*problem)
    except NotStabilizable:
        return "not stabilisable"
    except WorldplanError:
        return "refused"
    if not solution.certified:
        return "not certified"
    value, loss = lqr_errors(*problem, solution)
    stated = value <= solution.value_error and loss <= solution.gain_loss + 1e-60
    return "certified" if stated and max(value, loss) <= VALUE_TOLERANCE else "FALSE"


def exact(M: Floats) -> Exact:
    """The same numbers in mpmath."""
    return np.vectorize(mpmath.mpf, otypes=[object])(M)


def inverse(M: Exact) -> Exact:
    """By LU decomposition."""
    return np.array((mpmath.matrix(M.tolist()) ** -1).tolist(), dtype=object)


def norm(M: Exact) -> Any:
    """Frobenius."""
    return mpmath.sqrt((M**2).sum())


def lqr_errors(dynamics: LinearDynamics, cost: QuadraticCost, solution: LQRSolution) -> tuple[float, float]:
    """Relative error of the value, and relative loss of the gain, by doubling with 100 digits."""
    with mpmath.workdps(100):
        A, B, W, R, P, K = (
            exact(M) for M in (dynamics.A, dynamics.B, cost.W, cost.R, solution.value_matrix, solution.gain)
        )
        a, G, eye = A, B @ inverse(R) @ B.T, exact(np.eye(len(A)))
        # Where W does not see a mode, a tiny weight makes doubling find the stabilising solution, after many doublings.
        unseen = np.linalg.matrix_rank(cost.W) < len(cost.W)
        truth = W + (mpmath.mpf(10) ** -30 * eye if unseen else 0)
        for k in range(400):
            both = inverse(eye + G @ truth)
            more = a.T @ truth @ both @ a
            G, a, truth = G + a @ both @ G @ a.T, a @ both @ a, truth + more
            if norm(more) <= mpmath.mpf(10) ** -60 * norm(truth) and (k > 45 or not unseen):
                break
        total, loop = W + K.T @ R @ K, A - B @ K
        for _ in range(400):
            more = loop.T @ total @ loop
            total, loop = total + more, loop @ loop
            if norm(more) <= mpmath.mpf(10) ** -60 * norm(total):
                break
        size, least = norm(truth) or 1, truth.trace() or 1
        if norm(truth) <= mpmath.mpf(10) ** -25:  # W = 0 and A decays: the truth is 0
            return float(norm(P)), float(total.trace())
        return float(norm(P - truth) / size), float(max(total.trace() / least - 1, 0))


# Plans ----------------------------------------------------------------------------------------------------------------

Query = tuple[MPCProblem, Floats, Floats]


def limited(k: int, rng: np.random.Generator) -> tuple[str, Query]:
    """A problem whose limits bind, most of the time."""
    kinds: dict[str, tuple[float, float, float]] = {  # radius, size of the state, weight of actions
        "plain": (0.9, 5.0, 1.0),
        "unstable": (1.2, 5.0, 1.0),
        "far away": (0.95, 1e6, 1.0),
        "close by": (0.95, 1e-8, 1.0),
        "cheap control": (1.0, 5.0, 1e-10),
    }
    kind = list(kinds)[k % len(kinds)]
    radius, size, weight = kinds[kind]
    d, m, horizon = int(rng.integers(1, 6)), int(rng.integers(1, 3)), int(rng.integers(1, 16))
    dynamics = LinearDynamics(growing(rng, d, radius), rng.standard_normal((d, m)), 0.1 * rng.standard_normal(d))
    problem = MPCProblem(dynamics, QuadraticCost(spread(rng, d), weight * spread(rng, m)), horizon, terminal="stage")
    return kind, (problem, size * rng.standard_normal(d), np.zeros(d) if size < 1 else rng.standard_normal(d))


def unstable_horizon(k: int, rng: np.random.Generator) -> tuple[str, Query]:
    """A grows by up to 1e7 over the horizon; limits are far away, or bind."""
    d, m = int(rng.integers(1, 5)), int(rng.integers(1, 3))
    horizon, limit = int(rng.integers(20, 50)), float(rng.choice([1.0, 1e9]))
    radius = float(np.exp(rng.uniform(3, np.log(1e7)) / horizon))
    dynamics = LinearDynamics(growing(rng, d, radius), rng.standard_normal((d, m)))
    problem = MPCProblem(dynamics, QuadraticCost(spread(rng, d), spread(rng, m)), horizon, -limit, limit, "stage")
    return "limits bind" if limit == 1 else "limits far away", (problem, 5 * rng.standard_normal(d), np.zeros(d))


def judge_plan(query: Query) -> str:
    """What became of it."""
    problem, state, goal = query
    try:
        plan = solve_mpc(problem, state, goal)
    except WorldplanError:
        return "refused"
    if not plan.certified:
        return "not certified"
    with mpmath.workdps(60):
        cost, best, distance = plan_truth(problem, state, goal, plan)
        if best is None:
            return "certified, active set not exact"
        close = cost - best <= TOLERANCE * best or distance <= TOLERANCE
        true = cost - best <= plan.gap + mpmath.mpf(10) ** -40 and abs(cost - plan.cost) <= TOLERANCE * abs(cost)
        return "certified" if close and true else "FALSE"


def plan_truth(problem: MPCProblem, state: Floats, goal: Floats, plan: Plan) -> tuple[Any, Any, Any]:
    """Cost of the plan, least cost, and distance to the best actions; None where its active set is not the best."""
    A, B, c, W, R, P_f, x, g, u = (
        exact(M)
        for M in (problem.dynamics.A, problem.dynamics.B, problem.dynamics.intercept, problem.cost.W, problem.cost.R)
        + (problem.solver.terminal_weight, state, goal, plan.actions)
    )
    N, m = plan.actions.shape
    low, high = (np.tile(limit, N) for limit in problem.limits)

    def roll(first: Exact, actions: Exact, drift: Exact) -> Iterator[Exact]:
        yield (e := first)
        for action in actions:
            yield (e := A @ e + B @ action + drift)

    weights = [W] * N + [P_f]
    zero, drift = 0 * x, A @ g + c - g
    # Columns: the errors that each unit action makes, and those without any.
    units = [np.array(list(roll(zero, unit.reshape(N, m), zero))) for unit in exact(np.eye(N * m))]
    free = np.array(list(roll(x - g, 0 * u, drift)))
    weighted = np.array([[w @ e for w, e in zip(weights, unit, strict=True)] for unit in units]).reshape(N * m, -1)
    flat = np.array([unit.ravel() for unit in units])
    H = weighted @ flat.T + np.kron(exact(np.eye(N)), R)
    q, v = weighted @ free.ravel(), u.ravel()
    rest = sum(e @ w @ e for w, e in zip(weights, free, strict=True))
    cost = v @ H @ v + 2 * q @ v + rest
    inside = (low < plan.actions.ravel()) & (plan.actions.ravel() < high)
    best = np.where(inside, 0 * v, v)
    if inside.any():
        best[inside] = -(inverse(H[np.ix_(inside, inside)]) @ (q + H @ best)[inside])
    gradient = H @ best + q
    ends = (
        (best >= low) & (best <= high) & (inside | np.where(best <= low, gradient >= 0, gradient <= 0) | (low == high))
    )
    if not ends.all():
        return cost, None, None
    return cost, best @ H @ best + 2 * q @ best + rest, norm(v - best)


def lines(facts: dict[str, Any]) -> list[str]:
    """The table as Markdown."""
    out = [f"Seed {facts['seed']}, {facts['seconds']} s, load {facts['load']} at the start.", ""]
    for part, table in facts.items():
        if not isinstance(table, dict):
            continue
        columns = sorted({name for found in table.values() for name in found} | {"FALSE"})
        out += [f"| {part} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        out += [f"| {kind} | {' | '.join(str(found.get(c, 0)) for c in columns)} |" for kind, found in table.items()]
        total = Counter[str]()
        for found in table.values():
            total.update(found)
        out += [f"| all | {' | '.join(str(total[c]) for c in columns)} |", ""]
    return out


if __name__ == "__main__":
    main(tyro.cli(Options))
